"""Bands and time steps of a variable: the planes of rows and columns along its other dimensions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoxt.errors import InputError
from geoxt.layers.cubes.variable import Variable
from geoxt.types import Array

BAND_DIMS = frozenset({"band", "bands", "channel", "channels"})
"""Names of dimensions whose labels are bands."""
Select = Mapping[str, Any]
"""Labels by dimension, or lists of labels, which become bands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A band of a variable."""

    name: str
    """Name of the variable, or of the label along its band dimension."""
    variable: Variable
    """The variable."""
    planes: tuple[int, ...]
    """Plane number of each time step, from 1."""
    times: Array | None
    """datetime64[ns] of the time steps; `None` without a time dimension."""


def bands_of(variable: Variable, select: Select) -> list[Band]:
    """Return the bands of a variable.

    Parameters
    ----------
    variable
        Variable with dimensions y and x.
    select
        Labels along dimensions other than time; a list of labels becomes bands.

    Raises
    ------
    InputError
        If a dimension is neither selected nor time nor bands, or a label is missing.
    """
    others = [i for i in range(len(variable.dims)) if i not in variable.axes]
    time = next((i for i in others if _is_time(variable, i) and variable.dims[i] not in select), None)
    selected: dict[int, list[tuple[int, str]]] = {}
    for axis in others:
        if axis != time:
            selected[axis] = _labels(variable, axis, select)
    sizes = [variable.shape[axis] for axis in others]
    several = [axis for axis, labels in selected.items() if len(labels) > 1 or variable.dims[axis] in BAND_DIMS]
    bands = []
    for combination in np.ndindex(*(len(labels) for labels in selected.values())):
        label_of = {axis: labels[i] for (axis, labels), i in zip(selected.items(), combination, strict=True)}
        suffix = "_".join(label_of[axis][1] for axis in several)
        only_band_dims = bool(several) and all(variable.dims[axis] in BAND_DIMS for axis in several)
        name = (
            suffix
            if only_band_dims and not suffix.isdigit()
            else f"{variable.name}_{suffix}"
            if suffix
            else variable.name
        )
        steps = range(1 if time is None else variable.shape[time])
        planes = []
        for step in steps:
            index = [step if axis == time else label_of[axis][0] for axis in others]
            planes.append(1 + (int(np.ravel_multi_index(index, sizes)) if others else 0))
        times = None if time is None else variable.coords[variable.dims[time]].to_numpy().astype("datetime64[ns]")
        bands.append(Band(name=name, variable=variable, planes=tuple(planes), times=times))
    return bands


def _is_time(variable: Variable, axis: int) -> bool:
    dim = variable.dims[axis]
    return dim in variable.coords.variables and variable.coords[dim].dtype.kind == "M"


def _labels(variable: Variable, axis: int, select: Select) -> list[tuple[int, str]]:
    """Return index and text of the selected labels of a dimension."""
    dim, size = variable.dims[axis], variable.shape[axis]
    values = variable.coords[dim].to_numpy() if dim in variable.coords.variables else np.arange(size)
    texts = [_text(value) for value in values]
    if dim in select:
        labels = select[dim]
        single = isinstance(labels, str) or not isinstance(labels, (Sequence, np.ndarray))
        return [
            (index := _find(variable, dim, values, label), texts[index]) for label in ([labels] if single else labels)
        ]
    if size == 1 or dim in BAND_DIMS:
        return list(enumerate(texts))
    shown = ", ".join(texts[:5]) + (", …" if size > 5 else "")
    problem = f"Cannot open {variable.path!r}: it has the dimension {dim!r} ({shown}) beside time, band, y and x."
    if str(getattr(variable.coords.get(dim), "dtype", "")) == "object" or dim == "time":
        problem = (
            f"Cannot open {variable.path!r}: the labels of {dim!r} ({shown}) are not dates of the standard calendar."
        )
    remedy = (
        f"Pass {{select}} with a label, such as select={{{{{dim!r}: {_literal(values[0])}}}}}, or a list of labels."
    )
    raise InputError(problem, remedy=remedy, argument="select")


def _find(variable: Variable, dim: str, values: Array, label: Hashable) -> int:
    """Return the index of a label; numbers match to 1e-6 of their size, as float32 coordinates round them."""
    for index, value in enumerate(values):
        if value == label or _text(value) == str(label) or _close(value, label):
            return index
    shown = ", ".join(_text(v) for v in values[:8]) + (", …" if len(values) > 8 else "")
    problem = f"Cannot select {dim}={label!r} of {variable.path!r}: its labels are {shown}."
    raise InputError(problem, remedy="Pass {select} with one of them.", value=label, argument="select")


def _close(value: Any, label: Any) -> bool:
    try:
        return math.isclose(float(value), float(label), rel_tol=1e-6)
    except (TypeError, ValueError):
        return False


def _text(value: Any) -> str:
    """Return a label as text, a date without its zero time."""
    if isinstance(value, np.datetime64):
        return str(value).removesuffix(".000000000").removesuffix("T00:00:00")
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def _literal(value: Any) -> str:
    return repr(
        value.item()
        if isinstance(value, (int, float, np.integer, np.floating)) and hasattr(value, "item")
        else str(value)
    )
