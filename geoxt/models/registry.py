"""The registry of architectures: one function that builds any of them by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from geoxt.errors import InputError
from geoxt.models.architecture import Architecture
from geoxt.models.catalog import ARCHITECTURES, classifier
from geoxt.models.libraries import timm

__all__ = ["ARCHITECTURES", "TIMM", "Architecture", "create", "info", "names"]

TIMM = "timm/"
"""What stands before the name of any model of timm."""


def names(*, task: str | None = None) -> tuple[str, ...]:
    """Return the names that `create` takes, for one task or for all; `"timm/"` and a name of timm's work as well.

    Examples
    --------
    >>> names(task="change")[:3]
    ('fc_ef', 'fc_siam_conc', 'fc_siam_diff')
    """
    return tuple(row.name for row in ARCHITECTURES.values() if task is None or task in row.tasks)


def info(name: str) -> Architecture:
    """Return what is known of an architecture: its tasks, shapes, options and reference.

    Raises
    ------
    InputError
        Where the name is unknown.

    Examples
    --------
    >>> info("fc_siam_diff").takes, info("fc_siam_diff").gives
    ('(N, 2, C, H, W)', '(N, K, H, W); features (N, F, H, W)')
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    if name.startswith(TIMM) and timm().is_model(name.removeprefix(TIMM)):
        return classifier(name, name.removeprefix(TIMM), "timm, https://doi.org/10.5281/zenodo.4414861")
    known = [f"{TIMM}{one}" for one in timm().list_models()] if name.startswith(TIMM) else list(ARCHITECTURES)
    close = get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    others = ", ".join(one for one in ARCHITECTURES if not one.startswith("test_"))
    msg = f"Cannot build a model named {name!r}. {hint}Pass one of {others}, or 'timm/' and a name of timm's."
    raise InputError(msg)


def create(
    name: str,
    *,
    in_chans: int | None = None,
    bands: Sequence[str] | None = None,
    classes: int | None = None,
    **options: Any,
) -> nn.Module:
    """Build a model by name.

    Parameters
    ----------
    name
        One of `names()`, or `"timm/"` and the name of any model of timm, for classification.
    in_chans
        Number of bands of an input image.
    bands
        Names of the bands instead, in order; `geoxt.models.load` then knows them.
    classes
        Number of classes, or of numbers to be regressed: channels of the output.
    options
        The architecture's own options; `info(name).options` lists them with their defaults.

    Returns
    -------
    torch.nn.Module
        `info(name)` says what it takes and gives. For segmentation it maps float32 (N, `in_chans`, H, W) to logits
        (N, `classes`, H, W), for any H and W.

    Raises
    ------
    InputError
        Where the name or an option is unknown, or a number is missing or below one.

    Examples
    --------
    >>> import torch
    >>> model = create("test_unet", in_chans=4, classes=3).eval()
    >>> model(torch.zeros(1, 4, 30, 41)).shape
    torch.Size([1, 3, 30, 41])
    """
    row = info(name)
    count = _count(name, in_chans, bands)
    if count < 1 or (classes is not None and classes < 1):
        msg = f"Cannot build {name!r} with in_chans={count} and classes={classes}: pass 1 or more of each."
        raise InputError(msg)
    if classes is None and not row.headless:
        msg = f"Cannot build {name!r} without knowing the length of its output: pass classes=."
        raise InputError(msg)
    unknown = sorted(set(options) - set(row.options))
    if unknown and not row.open:
        msg = f"Cannot build {name!r} with the option {unknown[0]!r}: pass some of {', '.join(row.options)}."
        raise InputError(msg)
    model = row.build(in_chans=count, classes=classes, **{**row.options, **options})
    if bands is not None:
        object.__setattr__(model, "bands", tuple(bands))
    return model


def _count(name: str, in_chans: int | None, bands: Sequence[str] | None) -> int:
    if bands is None:
        if in_chans is None:
            msg = f"Cannot build {name!r} without knowing its bands: pass in_chans= or bands=."
            raise InputError(msg)
        return in_chans
    if isinstance(bands, str) or len(set(bands)) != len(bands):
        msg = f"Cannot build {name!r} for bands={bands!r}: pass a list of names, each once."
        raise InputError(msg)
    if in_chans not in {None, len(bands)}:
        msg = f"Cannot build {name!r} with in_chans={in_chans} for {len(bands)} bands: pass only one of the two."
        raise InputError(msg)
    return len(bands)
