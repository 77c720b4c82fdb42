"""Optional model libraries (timm, segmentation_models_pytorch) and their options for images of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from geoxt.errors import InputError, optional_import

ANY_SHAPE: Mapping[str, Mapping[str, Any]] = {
    "vit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "deit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "test_vit": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "swin": {"strict_img_size": False},
    "swinv2": {"strict_img_size": False},
}
"""timm options for transformers that accept images of any shape, by the first part of the model name."""

LOADING = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "encoder_name",
        "encoder_weights",
        "exportable",
        "feature_cfg",
        "kwargs_filter",
        "model_cfg",
        "no_jit",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_custom_load",
        "pretrained_filter_fn",
        "pretrained_model_args",
        "pretrained_strict",
        "scriptable",
    }
)
"""Options by which timm and segmentation-models-pytorch load weights of a file or an address, or replace the model."""


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
    with optional_import("timm", "train", "build this model"):
        import timm
    return timm


def smp() -> Any:
    """Import and return segmentation_models_pytorch.

    Raises
    ------
    MissingDependency
        If it is not installed.
    """
    with optional_import("segmentation-models-pytorch", "train", "build this model"):
        import segmentation_models_pytorch
    return segmentation_models_pytorch


def encoder_of(name: str, **options: Any) -> nn.Module:
    """Build a timm model with random weights.

    Raises
    ------
    InputError
        If timm has no such model, or the model no such option.
    """
    library = timm()
    require_model_options(options)
    try:
        _require_timm_name(name)
        module: nn.Module = library.create_model(name, pretrained=False, **{**any_shape(name), **options})
    except (RuntimeError, TypeError, ValueError) as error:
        msg = f"Cannot build timm's {name!r} ({error})."
        remedy = "Pass {encoder}, one of timm.list_models(), with options of that model."
        raise InputError(msg, remedy=remedy, value=name, argument="encoder") from error
    return module


def require_model_options(options: Mapping[str, Any]) -> None:
    """Raise if options of an untrusted checkpoint are not plain values, or make a library load weights.

    Raises
    ------
    InputError
        If an option is not allowed.
    """
    for name, value in options.items():
        if name in LOADING or not _is_plain(value):
            msg = f"Cannot build a model with the option {name}={value!r}."
            remedy = "Pass options of the architecture as numbers, text or lists."
            raise InputError(msg, remedy=remedy, value=name)


def require_encoder(name: str) -> None:
    """Raise if segmentation-models-pytorch lacks an encoder; names of hubs and folders are invalid.

    Raises
    ------
    ValueError
        If the encoder is unknown.
    """
    if name.startswith("tu-"):
        _require_timm_name(name.removeprefix("tu-"))
    elif name not in smp().encoders.get_encoder_names():
        msg = f"unknown encoder {name!r}"
        raise ValueError(msg)


def _require_timm_name(name: str) -> None:
    # create_model() also accepts addresses (hf-hub:) and folders (local-dir:), from which it loads configurations
    if ":" in name or not timm().is_model(name):
        msg = f"unknown model {name!r}"
        raise ValueError(msg)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
