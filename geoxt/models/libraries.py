"""Optional model libraries (timm, segmentation_models_pytorch) and their options for images of any shape."""

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
"""timm options for transformers that accept images of any shape, by the first part of the model name."""

_MISSING = "Cannot build this model without {}."
_INSTALL = "Install it: pip install 'geoxt[train]'."


def any_shape(encoder: str) -> dict[str, Any]:
    """Return the options with which a timm model accepts images of any shape."""
    parts = encoder.split(".", maxsplit=1)[0].split("_")
    families = ("_".join(parts[:count]) for count in (2, 1))
    return next((dict(ANY_SHAPE[family]) for family in families if family in ANY_SHAPE), {})


def timm() -> Any:
    """Import and return timm.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise MissingDependency(_MISSING.format("timm"), remedy=_INSTALL) from error
    return timm


def smp() -> Any:
    """Import and return segmentation_models_pytorch.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        raise MissingDependency(_MISSING.format("segmentation-models-pytorch"), remedy=_INSTALL) from error
    return segmentation_models_pytorch


def encoder_of(name: str, **options: Any) -> nn.Module:
    """Build a timm model with random weights.

    Raises
    ------
    InputError
        If timm has no such model, or the model no such option.
    """
    library = timm()
    try:
        module: nn.Module = library.create_model(name, pretrained=False, **{**any_shape(name), **options})
    except (RuntimeError, TypeError) as error:
        msg = f"Cannot build timm's {name!r} ({error})."
        remedy = "Pass {encoder}, one of timm.list_models(), with options of that model."
        raise InputError(msg, remedy=remedy, value=name, argument="encoder") from error
    return module
