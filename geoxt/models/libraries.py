"""The optional libraries that architectures are built with, and what their encoders need for images of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from geoxt.errors import InputError, MissingDependency

ANY_SHAPE: Mapping[str, Mapping[str, Any]] = {
    "vit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "deit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "test_vit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "swin": {"strict_img_size": False},
    "swinv2": {"strict_img_size": False},
}
"""Options of timm with which its transformers take images of any shape, by the first part of a model's name."""

_WITHOUT = "Cannot build this model without {}: pip install 'geoxt[train]'."


def any_shape(encoder: str) -> dict[str, Any]:
    """Return the options with which timm's model of that name takes images of any shape."""
    parts = encoder.split(".", maxsplit=1)[0].split("_")
    starts = ("_".join(parts[:count]) for count in (2, 1))
    return next((dict(ANY_SHAPE[start]) for start in starts if start in ANY_SHAPE), {})


def timm() -> Any:
    """Return the module timm.

    Raises
    ------
    MissingDependency
        Where it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        msg = _WITHOUT.format("timm")
        raise MissingDependency(msg) from error
    return timm


def smp() -> Any:
    """Return the module segmentation_models_pytorch.

    Raises
    ------
    MissingDependency
        Where it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        msg = _WITHOUT.format("segmentation-models-pytorch")
        raise MissingDependency(msg) from error
    return segmentation_models_pytorch


def encoder_of(name: str, **options: Any) -> nn.Module:
    """Build a model of timm, without pretrained weights.

    Raises
    ------
    InputError
        Where timm knows no such model, or the model no such option.
    """
    library = timm()
    try:
        module: nn.Module = library.create_model(name, pretrained=False, **{**any_shape(name), **options})
    except (RuntimeError, TypeError) as error:
        msg = f"Cannot build timm's {name!r} ({error}): pass encoder= one of timm.list_models(), and its options."
        raise InputError(msg) from error
    return module
