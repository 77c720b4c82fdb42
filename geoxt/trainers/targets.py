"""Targets: what a model shall learn, found in a batch; the unknown is `IGNORE` among classes, NaN among values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.trainers.codes import IGNORE, Codes

Batch = dict[str, Any]
"""A batch of samples: tensors by name, and for layers `<name>_valid`."""


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


def pixel_classes(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N, H, W); `IGNORE` where image or label is not valid, or the code is of no class."""
    mask = _flat(entry(batch, target))
    indices: Tensor = codes(mask.long())
    known = _known(batch, image, target)
    return indices if known is None else indices.where(known, IGNORE)


def pixel_values(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return values float32 (N, K, H, W); NaN where image or value is not valid."""
    del codes
    values = entry(batch, target).float()
    values = values[:, None] if values.ndim == 3 else values
    known = _known(batch, image, target)
    return values if known is None else values.where(known[:, None], torch.nan)


def image_class(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N,); `IGNORE` where the code is of no class."""
    del image
    indices: Tensor = codes(entry(batch, target).long())
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


def _flat(mask: Tensor) -> Tensor:
    """Return labels (N, H, W), which may come with a dimension of one band or one time."""
    while mask.ndim > 3 and mask.shape[1] == 1:
        mask = mask[:, 0]
    return mask


def _known(batch: Batch, image: str, target: str) -> Tensor | None:
    """Return where both layers are valid; of several times, at least one of the image's."""
    parts = [validity(batch, name) for name in (target, image)]
    found = [part.any(dim=1) if part.ndim == 4 else part for part in parts if part is not None]
    return None if not found else found[0] if len(found) == 1 else found[0] & found[1]
