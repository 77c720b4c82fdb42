"""The legend of a label layer: class codes that occur in it, with names and colors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from geoxt.errors import LabelError
from geoxt.legend import Legend
from geoxt.source import is_categorical, view_of
from geoxt.trees import SomeData, layers_of
from geoxt.types import Array
from geoxt.windows import Window

MAX_CODES = 256
"""Default maximum number of classes: layers with more distinct values hold measurements, not class codes."""
_BLOCK = 1024
"""Height and width of the windows in which a layer is read, in pixels."""


def legend_of_labels(layer: SomeData, *, max_codes: int = MAX_CODES) -> Legend:
    """Return the classes that occur in a label layer; reads all of it.

    Parameters
    ----------
    layer
        Class codes (y, x): integers, or whole numbers in floating point. Names and colors come from its CF attributes;
        a code without a name is named by its number. Of a tree: the classes of all nodes.
    max_codes
        Maximum number of classes.

    Raises
    ------
    LabelError
        If values are not whole numbers, more than `max_codes` codes occur, or no pixel is valid.
    """
    layers = list(layers_of(layer).values())
    name = "the layer" if layers[0].name is None else layers[0].name
    codes: set[int] = set()
    for da in layers:
        if da.dtype.kind not in "iubf":
            msg = f"Cannot use {name!r} as labels: its dtype is {da.dtype}."
            raise LabelError(msg, remedy="Pass a raster of integer class codes.")
        codes |= _codes(da, max_codes)
    if not codes:
        msg = f"Cannot use {name!r} as labels: it has no valid pixel within the image."
        raise LabelError(msg, remedy="Pass labels that cover the image.")
    if len(codes) > max_codes:
        first = ", ".join(map(str, sorted(codes)[:6]))
        msg = f"Cannot use {name!r} as labels: it has more than {max_codes} classes, among them the codes {first}."
        raise LabelError(msg, remedy="Pass a raster of class codes. Or pass a higher {max_codes}.")
    return _merged([Legend.of(da) for da in layers if is_categorical(da)]).covering(sorted(codes))


def _merged(legends: Sequence[Legend]) -> Legend:
    """Return the classes of several legends; a code has the name and color of the first legend that has it."""
    rows: dict[int, tuple[int, str, str]] = {}
    for legend in legends:
        for row in zip(legend.codes, legend.names, legend.colors, strict=True):
            rows.setdefault(row[0], row)
    return Legend.from_rows(rows.values())


def _codes(layer: xr.DataArray, max_codes: int) -> set[int]:
    """Return the distinct valid codes; stops reading once there are more than `max_codes`."""
    view = view_of(layer)
    rows, cols = view.grid.shape
    codes: set[int] = set()
    for row in range(0, rows, _BLOCK):
        for col in range(0, cols, _BLOCK):
            values, valid = view.read(Window(row, col, min(_BLOCK, rows - row), min(_BLOCK, cols - col)))
            codes |= set(_integers(np.unique(values[valid]), layer))
            if len(codes) > max_codes:
                return codes
    return codes


def _integers(values: Array, layer: xr.DataArray) -> list[int]:
    """Return values as integers; GIS software exports class codes as floating point, too."""
    fractions = values[values != np.round(values)] if values.dtype.kind == "f" else values[:0]
    if len(fractions):
        msg = f"Cannot use {layer.name!r} as labels: its dtype is {layer.dtype}, and {fractions[0]:g} is not a whole "
        raise LabelError(msg + "number.", remedy="Pass a raster of class codes.")
    return [int(value) for value in values]
