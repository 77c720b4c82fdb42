"""Registry of architectures: `names()` lists them, `get(name)` returns one, `create(name, ...)` builds a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from geoxt.errors import InputError, did_you_mean
from geoxt.models.architecture import Architecture
from geoxt.models.catalog import ARCHITECTURES, classifier
from geoxt.models.libraries import timm

__all__ = ["ARCHITECTURES", "TIMM", "Architecture", "create", "describe", "get", "names"]

TIMM = "timm/"
"""Prefix of names of timm models."""


def names(*, task: str | None = None) -> tuple[str, ...]:
    """Return the names of the architectures, optionally of one task only. `"timm/"` plus a timm name is valid as well.

    Examples
    --------
    >>> names(task="change")[:3]
    ('fc_ef', 'fc_siam_conc', 'fc_siam_diff')
    """
    return tuple(row.name for row in ARCHITECTURES.values() if task is None or task in row.tasks)


def get(name: str) -> Architecture:
    """Return an architecture by name: its tasks, shapes, options and reference.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> get("fc_siam_diff").input_shape, get("fc_siam_diff").output_shape
    ('(N, 2, C, H, W)', '(N, K, H, W); features (N, F, H, W)')
    """
    if not isinstance(name, str):
        msg = f"Cannot take a {type(name).__name__} as the name of an architecture."
        remedy = "Pass {model}, a name. Train other modules in a loop of PyTorch, and pass them to predict."
        raise InputError(msg, remedy=remedy, argument="model")
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if name.startswith(TIMM) and timm().is_model(name.removeprefix(TIMM)):
        return classifier(name, name.removeprefix(TIMM), "timm, https://doi.org/10.5281/zenodo.4414861")
    names = [f"{TIMM}{model}" for model in timm().list_models()] if name.startswith(TIMM) else list(ARCHITECTURES)
    listed = ", ".join(key for key in ARCHITECTURES if not key.startswith("test_"))
    msg = f"Cannot build a model named {name!r}. {did_you_mean(name, names, count=1)}".rstrip()
    raise InputError(msg, remedy=f"Pass one of {listed}, or 'timm/' plus a timm model name.", value=name)


def describe(name: str) -> str:
    """Return tasks, shapes, options and reference of an architecture as text.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> print(describe("fcn"))
    fcn: segmentation, pixelwise-regression
    <BLANKLINE>
    input       (N, C, H, W)
    output      (N, K, H, W); features (N, F, H, W)
    options     width=64, layers=5
    reference   Long et al. 2015, https://doi.org/10.1109/CVPR.2015.7298965
    """
    row = get(name)
    options = ", ".join(f"{option}={value!r}" for option, value in row.options.items())
    fields = {"input": row.input_shape, "output": row.output_shape, "options": options, "reference": row.reference}
    return "\n".join([f"{row.name}: {', '.join(row.tasks)}", "", *(f"{k:<12}{v}" for k, v in fields.items() if v)])


def create(
    name: str,
    *,
    in_chans: int | None = None,
    bands: Sequence[str] | None = None,
    num_classes: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a model by name, with random weights.

    Parameters
    ----------
    name
        One of `names()`, or `"timm/"` plus the name of any timm model, for classification.
    in_chans
        Number of input bands.
    bands
        Names of the input bands, in order, instead of `in_chans`; `geoxt.models.load` then needs no `bands`.
    num_classes
        Number of output channels: classes or regressed quantities.
    options
        Options of the architecture; `get(name).options` lists them with their defaults.

    Returns
    -------
    torch.nn.Module
        Its input and output shapes are `get(name).input_shape` and `.output_shape`. Segmentation models map float32
        (N, `in_chans`, H, W) to logits (N, `num_classes`, H, W), for any H and W.

    Raises
    ------
    InputError
        If the name or an option is unknown, or a number is missing or less than 1.

    Examples
    --------
    >>> import torch
    >>> model = create("test_unet", in_chans=4, num_classes=3).eval()
    >>> model(torch.zeros(1, 4, 30, 41)).shape
    torch.Size([1, 3, 30, 41])
    """
    row = get(name)
    channels = _channels(name, in_chans, bands)
    if channels < 1 or (num_classes is not None and num_classes < 1):
        msg = f"Cannot build {name!r} with in_chans={channels} and num_classes={num_classes}."
        raise InputError(msg, remedy="Pass {in_chans} and {classes} of 1 or more.")
    if num_classes is None and not row.headless:
        msg = f"Cannot build {name!r} without the number of output channels."
        raise InputError(msg, remedy="Pass {num_classes}.", argument="num_classes")
    require_options(row, options)
    model = row.build(in_chans=channels, num_classes=num_classes, **{**row.options, **options})
    if bands is not None:
        object.__setattr__(model, "bands", tuple(bands))  # not a submodule or buffer: stays out of the state dict
    return model


def require_options(row: Architecture, options: Iterable[str]) -> None:
    """Raise if an option is unknown to an architecture."""
    unknown = sorted(set(options) - set(row.options))
    if unknown and not row.accepts_options:
        msg = f"Cannot build {row.name!r} with the option {unknown[0]!r}."
        raise InputError(msg, remedy=f"Pass some of {', '.join(row.options)}.", value=unknown[0])


def _channels(name: str, in_chans: int | None, bands: Sequence[str] | None) -> int:
    if bands is None:
        if in_chans is None:
            msg = f"Cannot build {name!r} without the number of input bands."
            raise InputError(msg, remedy="Pass {in_chans}. Or pass {bands}.", argument="in_chans")
        return in_chans
    if isinstance(bands, str) or len(set(bands)) != len(bands):
        msg = f"Cannot build {name!r} for bands={bands!r}."
        raise InputError(msg, remedy="Pass {bands} as a list of distinct names.", value=bands, argument="bands")
    if in_chans not in {None, len(bands)}:
        msg = f"Cannot build {name!r} with in_chans={in_chans} for {len(bands)} bands."
        raise InputError(msg, remedy="Pass only one of in_chans= and bands=.", value=in_chans, argument="in_chans")
    return len(bands)
