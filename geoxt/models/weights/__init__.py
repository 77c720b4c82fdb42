"""Pretrained weights as data: what they are, where they lie, and how they come into a model with other bands."""

from geoxt.models.weights.band_mapping import ALIASES
from geoxt.models.weights.loading import Loaded, load
from geoxt.models.weights.table import Weights, weights_info, weights_names

__all__ = ["ALIASES", "Loaded", "Weights", "load", "weights_info", "weights_names"]
