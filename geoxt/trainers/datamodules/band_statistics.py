"""What training has to know of pixels beforehand: mean and deviation of each band, and which class codes there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from geoxt.errors import InputError, LabelError
from geoxt.legend import Legend
from geoxt.source import is_categorical, view_of
from geoxt.trees import layers_of
from geoxt.types import Array, Floats
from geoxt.windows import Window

MOST_CODES = 256
"""More distinct values than this are no class codes: no legend could tell them apart."""
_BLOCK = 1024
"""Pixels: side of the windows in which a whole layer is read."""


def band_statistics(layer: xr.DataArray | xr.DataTree, windows: Iterable[Window]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of each band, float64, over the valid pixels of some windows.

    Pixels that lie in several windows count as often. A band that does not vary gets a deviation of one. Of a tree with
    a layer in each child, windows say their child.

    Raises
    ------
    InputError
        Where a band has no valid pixel, or the children of a tree have different numbers of bands.

    References
    ----------
    Chan et al. 1979, https://doi.org/10.1007/978-3-642-51461-6_3 (merging of moments, exact for large offsets)
    """
    layers = layers_of(layer)
    views = {node: view_of(one) for node, one in layers.items()}
    bands = {view.shape[1] for view in views.values()}
    if len(bands) > 1:
        held = {node: view.shape[1] for node, view in views.items()}
        msg = f"Cannot scale the bands of a tree whose children have different ones: {held}. Choose the same in each."
        raise InputError(msg)
    count = np.zeros(bands.pop())
    mean, spread = np.zeros_like(count), np.zeros_like(count)
    for window in windows:
        view = views[window.node]
        values, valid = (np.moveaxis(part, 1, 0).reshape(len(count), -1) for part in view.read(window))
        number = valid.sum(axis=1)
        filled = np.where(valid, values, 0).astype("float64")
        own = filled.sum(axis=1) / np.maximum(number, 1)
        total, step = np.maximum(count + number, 1), own - mean
        spread += np.where(valid, (filled - own[:, None]) ** 2, 0).sum(axis=1) + step**2 * count * number / total
        mean, count = mean + step * number / total, count + number
    if not count.all():
        name = next(iter(layers.values())).name
        msg = f"Cannot scale band {int(count.argmin()) + 1} of {name!r}: it has no valid pixel. Leave it out."
        raise InputError(msg)
    deviation = np.sqrt(spread / count)
    return mean, np.where(deviation > 0, deviation, 1.0)


def legend_of(layer: xr.DataArray | xr.DataTree, *, most: int = MOST_CODES) -> Legend:
    """Return the classes that a label layer really holds, by reading all of it.

    Parameters
    ----------
    layer
        Class codes (y, x): integers, or floating point that holds whole numbers. Names and colours come from its CF
        attributes, where it has them; a code that they lack is named by its number. Of a tree with a layer in each
        child: the classes of all of them.
    most
        Classes that there may be at most.

    Raises
    ------
    LabelError
        Where pixels are no class codes: not whole numbers, more than `most` distinct ones, or none at all.
    """
    layers = list(layers_of(layer).values())
    name = "the layer" if layers[0].name is None else layers[0].name
    codes: list[int] = []
    for one in layers:
        if one.dtype.kind not in "iubf":
            msg = f"Cannot take {name!r} as labels: its type is {one.dtype}. Pass a raster of integer class codes."
            raise LabelError(msg)
        codes = sorted({*codes, *_codes(one, most)})
    if not codes:
        msg = f"Cannot take {name!r} as labels: it has no valid pixel where the image lies. Pass labels that cover it."
        raise LabelError(msg)
    if len(codes) > most:
        msg = f"Cannot take {name!r} as labels: it has more than the {most} classes expected, such as the codes "
        shown = ", ".join(map(str, codes[:6]))
        raise LabelError(msg + f"{shown}. Pass a raster of class codes, or allow more by most= (--classes).")
    known = _together([Legend.of(one) for one in layers if is_categorical(one)])
    return known.covering(codes)


def _together(legends: Sequence[Legend]) -> Legend:
    """Return the classes of several legends; a code is named as in the first that has it."""
    rows: dict[int, tuple[int, str, str]] = {}
    for legend in legends:
        for row in zip(legend.codes, legend.names, legend.colors, strict=True):
            rows.setdefault(row[0], row)
    return Legend.from_rows(rows.values())


def _codes(layer: xr.DataArray, most: int) -> list[int]:
    """Return the distinct valid codes, ascending; reading stops once there are too many."""
    view = view_of(layer)
    rows, cols = view.grid.shape
    found: set[int] = set()
    for row in range(0, rows, _BLOCK):
        for col in range(0, cols, _BLOCK):
            values, valid = view.read(Window(row, col, min(_BLOCK, rows - row), min(_BLOCK, cols - col)))
            found |= set(_whole(np.unique(values[valid]), layer))
            if len(found) > most:
                return sorted(found)
    return sorted(found)


def _whole(values: Array, layer: xr.DataArray) -> list[int]:
    """Return values as integers; GIS software exports class codes as floating point, too."""
    broken = values[values != np.round(values)] if values.dtype.kind == "f" else values[:0]
    if len(broken):
        msg = f"Cannot take {layer.name!r} as labels: its type is {layer.dtype}, and {broken[0]:g} is no whole number."
        raise LabelError(msg + " Pass a raster of class codes.")
    return [int(value) for value in values]
