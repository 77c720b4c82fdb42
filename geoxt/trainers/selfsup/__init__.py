"""Self-supervised training of encoders on unlabeled images: BYOL, SimCLR, MoCo, MAE and Tile2Vec."""

from geoxt.trainers.datamodules.unlabeled import UnlabeledDataModule
from geoxt.trainers.selfsup.encoder import Encoder, encoder_weights
from geoxt.trainers.selfsup.masking import MAE
from geoxt.trainers.selfsup.methods import BYOL, METHODS, MoCo, SimCLR, Tile2Vec
from geoxt.trainers.selfsup.module import SelfSupervised
from geoxt.trainers.selfsup.views import Views

__all__ = [
    "BYOL",
    "MAE",
    "METHODS",
    "Encoder",
    "MoCo",
    "SelfSupervised",
    "SimCLR",
    "Tile2Vec",
    "UnlabeledDataModule",
    "Views",
    "encoder_weights",
]
