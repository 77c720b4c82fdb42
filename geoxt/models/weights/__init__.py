"""Registry of pretrained weights: `names()` lists them, `get(name)` returns one, `load` loads one into a model."""

from geoxt.models.weights.band_mapping import ALIASES
from geoxt.models.weights.loading import Loaded, load
from geoxt.models.weights.table import Weights, describe, get, names

__all__ = ["ALIASES", "Loaded", "Weights", "describe", "get", "load", "names"]
