"""Architectures: plain torch modules for any bands, built by name; pretrained weights; and trained networks."""

from geoxt.models.card import Card
from geoxt.models.network import Network, from_checkpoint
from geoxt.models.registry import ARCHITECTURES, Architecture, create, info, names
from geoxt.models.weights import ALIASES, Loaded, Weights, load, weights_info, weights_names

__all__ = [
    "ALIASES",
    "ARCHITECTURES",
    "Architecture",
    "Card",
    "Loaded",
    "Network",
    "Weights",
    "create",
    "from_checkpoint",
    "info",
    "load",
    "names",
    "weights_info",
    "weights_names",
]
