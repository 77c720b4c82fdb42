"""Metrics: confusion matrices, multi-label and regression scores, average precision, accuracy of maps."""

from geoxt.metrics.maps import score

__all__ = ["score"]
