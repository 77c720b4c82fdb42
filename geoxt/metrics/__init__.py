"""Metrics: confusion matrices, multi-label and regression scores, average precision, accuracy of maps."""

from geoxt.metrics.maps import score
from geoxt.metrics.scores import Scores

__all__ = ["Scores", "score"]
