"""A batch as transforms see it: which tensors are layers, what is valid in them, and what belongs to its boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError

Sample = dict[str, Any]
"""A batch of windows, as the bridge's loader makes it: tensors by name, and `bounds`, `transform` and `crs`."""
VALID = "_valid"
"""What the name of a layer's validity ends in."""
PLACED = ("bounds", "transform")
"""Where the windows lie, (batch, 4) and (batch, 6) float64."""
BOXES = "boxes"
"""A tensor (number, 4) a sample: left, top, right, bottom in pixels from the upper left corner of the window."""
MASKS = "masks"
"""A tensor (number, height, width) a sample: the outlines of its boxes' instances."""


def layers_of(sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the layers of a batch and their validity: all tensors (batch, …, height, width), by name.

    Raises
    ------
    InputError
        Where it is one sample and no batch, has no layer, or they differ in height, width or number.
    """
    bounds: Any = sample.get("bounds")
    if isinstance(bounds, Tensor) and bounds.ndim == 1:
        msg = f"Cannot transform one sample: bounds has the shape {tuple(bounds.shape)}. Pass a batch: give the "
        raise InputError(msg + "transform to loader(), or make one with torch.utils.data.default_collate.")
    found = {
        name: value
        for name, value in sample.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and name not in {BOXES, MASKS}
    }
    sizes = {name: (len(value), *value.shape[-2:]) for name, value in found.items()}
    if len(set(sizes.values())) != 1:
        held = sizes or sorted(sample)
        msg = f"Cannot find layers of one size (batch, height, width) in the batch: it has {held}. "
        raise InputError(msg + "Pass tensors (batch, band, height, width) and (batch, height, width) of one grid.")
    return found


def size_of(layers: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Return number of samples, height and width of layers."""
    first = next(iter(layers.values()))
    return len(first), *first.shape[-2:]


def is_labels(values: Tensor) -> bool:
    """Tell whether a layer holds class codes or truth values, as the bridge types them: never interpolated."""
    return values.dtype in {torch.int64, torch.bool}


def image_of(sample: Mapping[str, Any], name: str) -> Tensor:
    """Return a layer with bands, (batch, band, height, width) or (batch, time, band, height, width).

    Raises
    ------
    InputError
        Where the batch has no such layer, or it has no bands or is not floating point.
    """
    values = sample.get(name)
    if not isinstance(values, Tensor) or values.ndim < 4 or not values.is_floating_point():
        tensors = {key: v for key, v in sample.items() if isinstance(v, Tensor)}
        shown = ", ".join(f"{key} {tuple(v.shape)} {str(v.dtype)[6:]}" for key, v in tensors.items())
        msg = f"Cannot find the floating point layer {name!r} (batch, [time,] band, height, width). The batch has "
        msg += f"{shown or 'no tensors'}. Pass image= the name of one, and dtype='float32' to loader()."
        raise InputError(msg)
    return values


def valid_of(sample: Mapping[str, Any], name: str) -> Tensor:
    """Return which pixels of a layer are valid, without its bands: all of them where the batch does not say.

    Without `<name>_valid`, class codes have no bands and other layers have them.
    """
    values, known = sample[name], sample.get(name + VALID)
    if isinstance(known, Tensor):
        return known
    bands = not is_labels(values) and values.ndim > 3
    shape = (*values.shape[:-3], *values.shape[-2:]) if bands else values.shape
    return torch.ones(shape, dtype=torch.bool, device=values.device)


def over_bands(valid: Tensor, values: Tensor) -> Tensor:
    """Return a tensor without bands (validity) with a dimension for them where the layer has one, to be broadcast."""
    return valid.unsqueeze(-3) if values.ndim > valid.ndim else valid


def per_sample(flags: Tensor, like: Tensor) -> Tensor:
    """Return numbers (batch,) shaped to be broadcast over a tensor (batch, …), on its device."""
    return flags.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def boxes_of(sample: Mapping[str, Any]) -> list[Tensor] | None:
    """Return the boxes of each sample, or `None` where the batch has none.

    Raises
    ------
    InputError
        Where they are not a list of tensors (number, 4).
    """
    boxes = sample.get(BOXES)
    if boxes is None:
        return None
    if not isinstance(boxes, list | tuple) or any(one.ndim != 2 or one.shape[1] != 4 for one in boxes):
        msg = f"Cannot move boxes, a {type(boxes).__name__}: pass boxes as a list of tensors (number, 4)."
        raise InputError(msg)
    return list(boxes)


def beside_boxes(sample: Mapping[str, Any], choose: Callable[[Tensor, int], Tensor]) -> Sample:
    """Return what has an entry for each box (`labels`, `masks`, scores): `choose(entry, sample)` of each sample."""
    boxes = boxes_of(sample)
    if boxes is None:
        return {}
    counts = [len(one) for one in boxes]
    return {
        name: [choose(one, place) for place, one in enumerate(value)]
        for name, value in sample.items()
        if name != BOXES
        and isinstance(value, list)
        and all(isinstance(one, Tensor) and one.ndim for one in value)
        and [len(one) for one in value] == counts
    }
