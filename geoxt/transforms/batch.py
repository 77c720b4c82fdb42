"""Batches of samples: their layers, valid masks, bounding boxes and per-box entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.torch_devices import same_device

Sample = dict[str, Any]
"""A batch as the loader yields it: tensors by layer name, and `bounds`, `transform` and `crs` of the windows."""
VALID = "_valid"
"""Suffix of the key of a layer's valid mask."""
GEOREFERENCE = ("bounds", "transform")
"""Keys of the windows' georeference: bounds (batch, 4) and affine coefficients (batch, 6), float64."""
BOXES = "boxes"
"""Key of a list of tensors (n, 4): left, top, right, bottom in pixels from the window's upper left corner."""
MASKS = "masks"
"""Key of a list of tensors (n, height, width): the instance mask of each box."""


def layers_of(sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the layers and valid masks of a batch: all tensors (batch, …, height, width), by name.

    Raises
    ------
    InputError
        If a single sample is passed, or the batch has no layers of one size.
    """
    bounds: Any = sample.get("bounds")
    if isinstance(bounds, Tensor) and bounds.ndim == 1:
        msg = f"Cannot transform a single sample: bounds has the shape {tuple(bounds.shape)}, not (batch, 4)."
        remedy = "Pass the transform to loader(), or collate samples with torch.utils.data.default_collate."
        raise InputError(msg, remedy=remedy)
    layers = {
        name: value
        for name, value in sample.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and name not in {BOXES, MASKS}
    }
    sizes = {name: (len(value), *value.shape[-2:]) for name, value in layers.items()}
    if len(set(sizes.values())) != 1:
        msg = f"Cannot find layers of one size (batch, height, width) in the batch: it has {sizes or sorted(sample)}."
        remedy = "Pass tensors (batch, band, height, width) and (batch, height, width) of one grid."
        raise InputError(msg, remedy=remedy)
    return layers


def size_of(layers: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Return the batch size, height and width of layers."""
    first = next(iter(layers.values()))
    return len(first), *first.shape[-2:]


def is_labels(values: Tensor) -> bool:
    """Whether a layer holds class codes or booleans by its dtype. Such layers are never interpolated."""
    return values.dtype in {torch.int64, torch.bool}


def image_of(sample: Mapping[str, Any], name: str) -> Tensor:
    """Return a layer with bands, (batch, band, height, width) or (batch, time, band, height, width).

    Raises
    ------
    InputError
        If the batch has no such layer, or it has no bands or is not floating point.
    """
    values = sample.get(name)
    if not isinstance(values, Tensor) or values.ndim < 4 or not values.is_floating_point():
        tensors = {key: v for key, v in sample.items() if isinstance(v, Tensor)}
        listed = ", ".join(f"{key} {tuple(v.shape)} {str(v.dtype)[6:]}" for key, v in tensors.items())
        msg = f"Cannot find the floating point layer {name!r} (batch, [time,] band, height, width). "
        msg += f"The batch has {listed or 'no tensors'}."
        remedy = "Pass the name of such a layer as {image}. Or read floats, by loader(dtype='float32')."
        raise InputError(msg, remedy=remedy)
    return values


def valid_of(sample: Mapping[str, Any], name: str) -> Tensor:
    """Return the valid mask of a layer, without a band dimension; all true if the batch has no `<name>_valid`.

    Without `<name>_valid`, layers of class codes are assumed to have no band dimension, other layers to have one.
    """
    values, valid = sample[name], sample.get(name + VALID)
    if isinstance(valid, Tensor):
        return valid
    has_bands = not is_labels(values) and values.ndim > 3
    shape = (*values.shape[:-3], *values.shape[-2:]) if has_bands else values.shape
    return torch.ones(shape, dtype=torch.bool, device=values.device)


def expand_bands(valid: Tensor, values: Tensor) -> Tensor:
    """Return a valid mask with a band dimension of length 1 if the layer has bands, for broadcasting."""
    return valid.unsqueeze(-3) if values.ndim > valid.ndim else valid


def broadcast_per_sample(flags: Tensor, like: Tensor) -> Tensor:
    """Return a tensor (batch,) reshaped for broadcasting over a tensor (batch, …), on its device."""
    return same_device(flags, like).reshape(-1, *[1] * (like.ndim - 1))


def boxes_of(sample: Mapping[str, Any]) -> list[Tensor] | None:
    """Return the boxes of each sample, or `None` if the batch has none.

    Raises
    ------
    InputError
        If the boxes are not a list of tensors (n, 4).
    """
    boxes = sample.get(BOXES)
    if boxes is None:
        return None
    if not isinstance(boxes, list | tuple) or any(tensor.ndim != 2 or tensor.shape[1] != 4 for tensor in boxes):
        msg = f"Cannot transform boxes given as {type(boxes).__name__}."
        raise InputError(msg, remedy="Pass boxes as a list of tensors (n, 4): one for each sample.")
    return list(boxes)


def select_box_entries(sample: Mapping[str, Any], choose: Callable[[Tensor, int], Tensor]) -> Sample:
    """Return `choose(entries, index)` of all lists with one entry for each box (`labels`, `masks`, scores)."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    counts = [len(tensor) for tensor in boxes]
    return {
        name: [choose(entries, index) for index, entries in enumerate(value)]
        for name, value in sample.items()
        if name != BOXES
        and isinstance(value, list)
        and all(isinstance(entries, Tensor) and entries.ndim for entries in value)
        and [len(entries) for entries in value] == counts
    }
