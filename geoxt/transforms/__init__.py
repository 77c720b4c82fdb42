"""Transforms of batches: augmentation that keeps geometry true, scaling, spectral indices, radar, occlusion, mixing.

Each takes a batch as the bridge's loader makes it (a dict of tensors) and returns another one, so they fit
`loader(transform=)`, `torch.nn.Sequential` and a training step on the GPU alike.
"""

from geoxt.transforms.augment import Augment
from geoxt.transforms.crops import CenterCrop, RandomCrop, crop
from geoxt.transforms.formulas import INDICES, Index
from geoxt.transforms.mixing import CutMix, MixUp, SlideMix, cutmix, mixup, slide
from geoxt.transforms.occlusion import Clouds, DropBands, cloud_opacity, occlude
from geoxt.transforms.radar import Decibel, Lee, from_decibel, lee, to_decibel
from geoxt.transforms.scaling import Normalize, denormalize, normalize
from geoxt.transforms.spectral import AppendIndices
from geoxt.transforms.turns import RandomTurn, turn, turned

__all__ = [
    "INDICES",
    "AppendIndices",
    "Augment",
    "CenterCrop",
    "Clouds",
    "CutMix",
    "Decibel",
    "DropBands",
    "Index",
    "Lee",
    "MixUp",
    "Normalize",
    "RandomCrop",
    "RandomTurn",
    "SlideMix",
    "cloud_opacity",
    "crop",
    "cutmix",
    "denormalize",
    "from_decibel",
    "lee",
    "mixup",
    "normalize",
    "occlude",
    "slide",
    "to_decibel",
    "turn",
    "turned",
]
