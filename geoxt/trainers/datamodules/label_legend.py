"""The legend of a label layer: class codes that occur in it, with names and colors."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geoxt.alignment.label_roles import UNKNOWN, require_codes
from geoxt.errors import InputError, LabelError, LabelWarning
from geoxt.legend import Legend
from geoxt.models.registry import ARCHITECTURES, TIMM, get, require_options
from geoxt.source import VectorSource, is_categorical, view_of
from geoxt.tasks import TaskKind
from geoxt.trees import SomeData, layers_of
from geoxt.types import Array
from geoxt.windows import Window

MAX_CODES = 256
"""Default maximum number of classes: layers with more distinct values hold measurements, not class codes."""
_MAX_BACKGROUND = 0.95
"""Fraction of background among the pixels of a vector layer with several classes above which a warning is given."""
_BLOCK = 1024
"""Height and width of the windows in which a layer is read, in pixels."""


def legend_of_labels(layer: SomeData, *, max_codes: int = MAX_CODES) -> Legend:
    """Return the classes that occur in a label layer; reads all of it.

    Parameters
    ----------
    layer
        Class codes (y, x): integers, or whole numbers in floating point. Names and colors come from its CF attributes;
        a code without a name is named by its number. Negative codes are unknown, as is 255 where the legend of the
        layer lacks it. Of a tree: the classes of all nodes.
    max_codes
        Maximum number of classes.

    Raises
    ------
    InputError
        If integers were interpolated, such as class codes opened without `categorical=True` and aligned.
    LabelError
        If values are not whole numbers, more than `max_codes` codes occur, or no pixel is valid.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.trainers import legend_of_labels
    >>> labels = make_layer(np.array([[1, 1], [5, 5]], dtype="uint8"))
    >>> legend_of_labels(labels).codes
    (1, 5)
    """
    layers = list(layers_of(layer).values())
    name = "the layer" if layers[0].name is None else layers[0].name
    counts: Counter[int] = Counter()
    for da in layers:
        if da.dtype.kind not in "iubf":
            msg = f"Cannot use {name!r} as labels: its dtype is {da.dtype}."
            raise LabelError(msg, remedy="Pass a raster of integer class codes.")
        require_codes(da, name)
        counts += _code_counts(da, max_codes)
    legends = [legend for da in layers if is_categorical(da) and (legend := Legend.of(da)).codes]
    codes = _without_unknown(set(counts), legends, name)
    if not codes:
        msg = f"Cannot use {name!r} as labels: it has no valid pixel within the image."
        raise LabelError(msg, remedy="Pass labels that cover the image.")
    if len(codes) > max_codes:
        first = ", ".join(map(str, sorted(codes)[:6]))
        msg = f"Cannot use {name!r} as labels: it has more than {max_codes} classes, among them the codes {first}."
        raise LabelError(msg, remedy="Pass a raster of class codes. Or pass a higher {max_codes}.")
    return _merge_legends(legends).covering(sorted(codes))


def require_card_options(kind: TaskKind, model: str, options: Mapping[str, Any], dates: int) -> None:
    """Raise if an option is unknown to an architecture, or a single-date task gets windows of several dates."""
    if model in ARCHITECTURES or model.startswith(TIMM):  # else a network of the caller
        try:
            require_options(get(model), options)
        except InputError as error:
            if not {"classes", "class_names", "num_classes"} & set(options):
                raise
            raise InputError(
                error.problem, remedy="Pass {legend}, a Legend of codes and names.", argument="legend"
            ) from None
    if kind.dates == 1 and dates > 1:
        problem = f"Cannot train {kind.name} on windows of {dates} dates."
        raise InputError(problem, remedy="Pass {task:'change'} or 'time-series'.", value=kind.name, argument="task")


def _without_unknown(codes: set[int], legends: Sequence[Legend], name: object) -> set[int]:
    """Return the codes that are classes: neither negative, nor 255 where a legend of classes lacks it.

    Negative codes (-1, -100) and 255 mark unknown pixels by convention. Without a legend 255 may be a class, as in
    masks of 0 and 255.
    """
    classes = {code for code in codes if code >= 0}
    if UNKNOWN not in classes:
        return classes
    if legends and not any(UNKNOWN in legend.codes for legend in legends):
        return classes - {UNKNOWN}
    if not legends and len(classes) > 2 and max(classes - {UNKNOWN}) < UNKNOWN - 1:  # a gap below it
        msg = f"{name!r} has the code 255, which is taken as a class. If it marks unknown pixels, assign it as nodata: "
        warnings.warn(msg + "layer.assign_attrs(_FillValue=255).", LabelWarning, stacklevel=3)
    return classes


def _merge_legends(legends: Sequence[Legend]) -> Legend:
    """Return the classes of several legends; a code has the name and color of the first legend that has it."""
    rows: dict[int, tuple[int, str, str]] = {}
    for legend in legends:
        for row in zip(legend.codes, legend.names, legend.colors, strict=True):
            rows.setdefault(row[0], row)
    return Legend.from_rows(rows.values())


def _code_counts(layer: xr.DataArray, max_codes: int) -> Counter[int]:
    """Return the valid pixels of each code; stops reading once there are more than `max_codes`."""
    view = view_of(layer)
    rows, cols = view.grid.shape
    counts: Counter[int] = Counter()
    for row in range(0, rows, _BLOCK):
        for col in range(0, cols, _BLOCK):
            values, valid = view.read(Window(row, col, min(_BLOCK, rows - row), min(_BLOCK, cols - col)))
            codes, pixels = np.unique(values[valid], return_counts=True)
            counts.update(dict(zip(_integers(codes, layer), pixels.tolist(), strict=True)))
            if len(counts) > max_codes:
                return counts
    _warn_of_background(layer, view.source, counts)
    return counts


def _warn_of_background(layer: xr.DataArray, source: Any, counts: Counter[int]) -> None:
    """Warn if nearly all pixels of a vector layer are of its background, which is a class by default."""
    if not isinstance(source, VectorSource) or source.column is None or source.nodata == source.background:
        return
    fraction = counts[source.background] / max(counts.total(), 1)
    if fraction > _MAX_BACKGROUND:
        msg = (
            f"{fraction:.1%} of the pixels of {layer.name!r} lie in no feature, and are the class {source.background}. "
        )
        msg += f"If their class is unknown, as around training polygons, pass open_vector(nodata={source.background})."
        warnings.warn(msg, LabelWarning, stacklevel=2)


def _integers(values: Array, layer: xr.DataArray) -> list[int]:
    """Return values as integers; GIS software exports class codes as floating point, too."""
    fractions = values[values != np.round(values)] if values.dtype.kind == "f" else values[:0]
    if len(fractions):
        msg = f"Cannot use {layer.name!r} as labels: its dtype is {layer.dtype}, and {fractions[0]:g} is not a whole "
        raise LabelError(msg + "number.", remedy="Pass a raster of class codes.")
    return [int(value) for value in values]
