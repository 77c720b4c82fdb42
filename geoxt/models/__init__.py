"""Architectures as plain torch modules for any bands, built by name; pretrained weights; trained networks."""

from geoxt.models import weights
from geoxt.models.card import Card
from geoxt.models.checkpoint import from_checkpoint
from geoxt.models.encoders import Encoder, EncoderDecoder, encoder_names
from geoxt.models.load_pretrained import load
from geoxt.models.model_export import export
from geoxt.models.model_file import from_file
from geoxt.models.network import Network
from geoxt.models.registry import ARCHITECTURES, Architecture, create, describe, get, names
from geoxt.models.weights import ALIASES, Loaded, Weights

__all__ = [
    "ALIASES",
    "ARCHITECTURES",
    "Architecture",
    "Card",
    "Encoder",
    "EncoderDecoder",
    "Loaded",
    "Network",
    "Weights",
    "create",
    "describe",
    "encoder_names",
    "export",
    "from_checkpoint",
    "from_file",
    "get",
    "load",
    "names",
    "weights",
]
