"""The registry of architectures: a row each, and one function that builds from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import nn

from geoxt.errors import InputError
from geoxt.models.unet import UNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the registry knows of one architecture."""

    name: str
    """The name that `create` takes."""
    task: str
    """The kind of task it is made for, such as `"segmentation"`."""
    build: Callable[..., nn.Module]
    """Makes the module: takes `in_chans`, `classes` and the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Every option and its default. Values are plain, so that a checkpoint can carry them."""
    reference: str
    """Where it was published."""


_UNET = "Ronneberger et al. 2015, https://doi.org/10.1007/978-3-319-24574-4_28"

ARCHITECTURES: Mapping[str, Architecture] = {
    row.name: row
    for row in (
        Architecture(
            name="unet",
            task="segmentation",
            build=UNet,
            options={
                "encoder": "tu-resnet18",
                "weights": None,
                "depth": 3,
                "decoder": (64, 32, 16),
                "detail": 32,
                "dropout": 0.2,
            },
            reference=_UNET,
        ),
        Architecture(
            name="test_unet",
            task="segmentation",
            build=UNet,
            options={
                "encoder": "tu-test_resnet",
                "weights": None,
                "depth": 2,
                "decoder": (8, 8),
                "detail": 8,
                "dropout": 0.0,
            },
            reference=_UNET,
        ),
    )
}
"""All architectures, by name. `test_*` are the tiny ones that tests build."""


def names(*, task: str | None = None) -> tuple[str, ...]:
    """Return the names that `create` takes, for one task or for all of them.

    Examples
    --------
    >>> names(task="segmentation")
    ('unet', 'test_unet')
    """
    return tuple(row.name for row in ARCHITECTURES.values() if task in (None, row.task))


def create(name: str, *, in_chans: int, classes: int, **options: Any) -> nn.Module:
    """Build a model by name.

    Parameters
    ----------
    name
        One of `names()`.
    in_chans
        Number of bands of an input image.
    classes
        Number of classes: channels of the output.
    options
        The architecture's own options; `ARCHITECTURES[name].options` lists them with their defaults.

    Returns
    -------
    torch.nn.Module
        For segmentation it maps float32 (N, `in_chans`, H, W) to logits (N, `classes`, H, W), for any H and W.

    Raises
    ------
    InputError
        Where the name or an option is unknown, or a number is below one.

    Examples
    --------
    >>> import torch
    >>> model = create("test_unet", in_chans=4, classes=3).eval()
    >>> model(torch.zeros(1, 4, 30, 41)).shape
    torch.Size([1, 3, 30, 41])
    """
    row = _row(name)
    if in_chans < 1 or classes < 1:
        msg = f"Cannot build {name!r} with in_chans={in_chans} and classes={classes}: pass 1 or more of each."
        raise InputError(msg)
    unknown = sorted(set(options) - set(row.options))
    if unknown:
        msg = f"Cannot build {name!r} with the option {unknown[0]!r}: pass some of {', '.join(row.options)}."
        raise InputError(msg)
    return row.build(in_chans=in_chans, classes=classes, **{**row.options, **options})


def _row(name: str) -> Architecture:
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    close = get_close_matches(name, ARCHITECTURES, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    msg = f"Cannot build a model named {name!r}. {hint}Pass one of {', '.join(ARCHITECTURES)}."
    raise InputError(msg)
