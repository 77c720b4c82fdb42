"""Transforms of batches: augmentation with exact geometry, normalization, spectral indices, SAR, occlusion, mixing.

Each transform takes a batch as the loader yields it (a dict of tensors) and returns a new one, so that it works in
`loader(transform=)`, in `torch.nn.Sequential` and in a training step on a GPU.
"""

from geoxt.transforms.append_indices import AppendIndices
from geoxt.transforms.augment import Augment
from geoxt.transforms.crops import CenterCrop, RandomCrop, crop
from geoxt.transforms.flip_rotate import RandomFlipRotate, flip_rotate, flip_rotate_tensor
from geoxt.transforms.mixing import CutMix, MixUp, SlideMix, cutmix, mixup, roll
from geoxt.transforms.normalize import Normalize, denormalize, normalize
from geoxt.transforms.occlusion import Clouds, DropBands, cloud_opacity, occlude
from geoxt.transforms.radar import Decibel, Lee, from_decibel, lee, to_decibel
from geoxt.transforms.spectral_indices import INDICES, Index

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
    "RandomFlipRotate",
    "SlideMix",
    "cloud_opacity",
    "crop",
    "cutmix",
    "denormalize",
    "flip_rotate",
    "flip_rotate_tensor",
    "from_decibel",
    "lee",
    "mixup",
    "normalize",
    "occlude",
    "roll",
    "to_decibel",
]
