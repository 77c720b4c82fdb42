"""Architectures: plain torch modules for any number of bands, built by name from a registry; and trained networks."""

from geoxt.models.card import Card
from geoxt.models.network import Network, from_checkpoint
from geoxt.models.registry import ARCHITECTURES, Architecture, create, names

__all__ = ["ARCHITECTURES", "Architecture", "Card", "Network", "create", "from_checkpoint", "names"]
