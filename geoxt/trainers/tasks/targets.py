"""Targets: what a model shall learn, found in a batch; the unknown is `IGNORE` among classes, NaN among values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.metrics.label_codes import Codes

Batch = dict[str, Any]
"""A batch of samples: tensors by name, and for layers `<name>_valid`."""
_Over = Callable[..., Tensor]
"""`torch.any` or `torch.all`."""


def entry(batch: Batch, name: str) -> Any:
    """Return an entry of a batch.

    Raises
    ------
    InputError
        Where the batch has none of that name.
    """
    if name not in batch:
        found = ", ".join(map(str, batch))
        msg = f"Cannot learn from a sample without {name!r}: it has {found}. Rename one, or pass Task(names=) the name."
        raise InputError(msg)
    return batch[name]


def validity(batch: Batch, name: str) -> Tensor | None:
    """Return which pixels of a layer are valid, bool (N, H, W) or (N, T, H, W); None where all are."""
    found: Tensor | None = batch.get(f"{name}_valid")
    return found


def mask_nonfinite(batch: Batch, image: str) -> Batch:
    """Return a batch in which numbers of the image that are not finite are not valid; where there is none, as it is."""
    pixels: Tensor = entry(batch, image)
    if not isinstance(pixels, Tensor):
        shapes = sorted({tuple(one.shape) for one in pixels})
        msg = f"Cannot stack {image!r} into one batch: samples have the shapes {shapes[:4]}. Pass batch_size=1 and "
        raise InputError(msg + "eval_size=1, or datasets whose images have one size.")
    if not pixels.is_floating_point() or bool(pixels.sum().isfinite()):  # one pass; any that is not makes the sum such
        return batch
    bands = pixels.ndim > 3
    finite = pixels.isfinite().all(dim=-3) if bands else pixels.isfinite()
    known = validity(batch, image)
    return {**batch, f"{image}_valid": finite if known is None else finite & known}


def pixel_classes(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N, H, W); `IGNORE` where image or label is not valid, or the code is of no class.

    A series is valid where it is at one date or more: `image_valid` (N, T, H, W) is false at dates that are masked
    (clouds) or that only fill up a shorter series, where the image stands at the mean of every band.
    """
    return _classes(batch, image, target, codes, torch.any)


def change_classes(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices as `pixel_classes` does; `IGNORE` also where any one date is not valid.

    What has changed can only be told where it was seen before and after.
    """
    return _classes(batch, image, target, codes, torch.all)


def pixel_values(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return values float32 (N, K, H, W); NaN where image or value is not valid."""
    del codes
    values = entry(batch, target).float()
    values = values[:, None] if values.ndim == 3 else values
    known = _known(batch, image, target, torch.any)
    return values if known is None else values.where(known[:, None], torch.nan)


def image_class(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N,); `IGNORE` where the code is of no class.

    Labels that were mixed, float (N, codes from 0), become shares of the classes, float32 (N, K).
    """
    del image
    label = entry(batch, target)
    if label.is_floating_point() and label.ndim == 2:
        shares: Tensor = label.float()[:, codes.codes]
        return shares
    indices: Tensor = codes(label.long())
    return indices


def image_labels(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return 0, 1 or NaN (unknown: a negative number), float32 (N, K)."""
    del image, codes
    labels = entry(batch, target).float()
    return labels.where(labels >= 0, torch.nan)


def image_values(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return values float32 (N, K); NaN where they are not known."""
    del image, codes
    values = entry(batch, target).float()
    return values[:, None] if values.ndim == 1 else values


def _classes(batch: Batch, image: str, target: str, codes: Codes, over: _Over) -> Tensor:
    mask = _flat(entry(batch, target), target).long()
    indices: Tensor = codes(mask, _known(batch, image, target, over))
    return indices


def _flat(mask: Tensor, name: str) -> Tensor:
    """Return labels (N, H, W), which may come with a dimension of one band or one time."""
    while mask.ndim > 3 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3:
        msg = f"Cannot learn {name!r} of the shape {tuple(mask.shape)}: one map of classes a sample is wanted. Choose "
        raise InputError(msg + "one of its bands or times, e.g. mask.isel(time=-1).")
    return mask


def _known(batch: Batch, image: str, target: str, over: _Over) -> Tensor | None:
    """Return where both layers are valid, bool (N, H, W); `over` says at which of several times the image must be."""
    label, picture = validity(batch, target), validity(batch, image)
    parts = [None if label is None else label.all(dim=1) if label.ndim == 4 else label]
    parts += [None if picture is None else over(picture, dim=1) if picture.ndim == 4 else picture]
    found = [part for part in parts if part is not None]
    return None if not found else found[0] if len(found) == 1 else found[0] & found[1]
