"""Collate samples into a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from geoxt.bridge.read_batch import Sample

PER_OBJECT = frozenset({"boxes", "labels", "masks"})
"""Keys with one row per object: always a list, even if all samples of a batch have the same number of objects."""
GEOMETRY = frozenset({"bounds", "transform"})
"""Keys in CRS units, which float32 cannot hold to the pixel: numbers become float64."""


def collate(samples: Sequence[Mapping[str, Any]]) -> Sample:
    """Collate samples into a batch; use as `DataLoader(collate_fn=collate)`.

    Parameters
    ----------
    samples
        Dicts of tensors, arrays, numbers or other values. Keys that a sample lacks are left out of the batch.

    Returns
    -------
    dict
        Tensors and arrays of equal shape are stacked along a new first dimension; of unequal shapes they are a list of
        tensors, as torchvision's detectors take them. `boxes`, `labels` and `masks` are always such lists. Numbers
        become one tensor (float32; float64 for `bounds` and `transform`), other values a list.

    Examples
    --------
    >>> batch = collate([{"image": torch.zeros(3, 8, 8), "label": 1}, {"image": torch.ones(3, 8, 8), "label": 2}])
    >>> tuple(batch["image"].shape), batch["label"].tolist()
    ((2, 3, 8, 8), [1, 2])
    """
    keys = [key for key in samples[0] if all(key in sample for sample in samples)]
    return {str(key): _stack(str(key), [sample[key] for sample in samples]) for key in keys}


def _stack(key: str, values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, np.ndarray | torch.Tensor) or key in PER_OBJECT:
        tensors = [torch.as_tensor(value) for value in values]
        equal = key not in PER_OBJECT and all(tensor.shape == tensors[0].shape for tensor in tensors)
        return torch.stack(tensors) if equal else tensors
    if isinstance(first, bool | int | float | np.generic):
        floating = torch.float64 if key in GEOMETRY else torch.float32
        return torch.tensor(values, dtype=floating if isinstance(first, float) else None)
    return values
