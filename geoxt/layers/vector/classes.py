"""Classes of a vector layer: codes of attribute values, their legend, and their data type."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geoxt.errors import InputError, LabelError, LabelWarning
from geoxt.legend import Legend, palette
from geoxt.pixels.vector_file import VectorHeader, read_column
from geoxt.reprs import abbreviate
from geoxt.source.feature_index import Value, factorize

SHOWN = 5
"""Maximum number of values in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """Class codes of an attribute's values."""

    codes: tuple[tuple[Value, int], ...]
    """Value and code."""
    names: dict[int, str]
    """Name of each code."""


def coding_of(header: VectorHeader, column: str | None, classes: Any, legend: Legend | None, title: str) -> Coding:
    """Return class codes and names for the values of an attribute.

    Raises
    ------
    InputError, LabelError
        If classes are given without an attribute, or cannot be derived from its values.
    """
    if column is None:
        if classes is not None:
            problem = f"Cannot give classes to {header.path!r}: no attribute was chosen."
            raise InputError(problem, remedy=f"Pass {{column}}, one of {list(header.columns)}.", argument="column")
        return Coding(codes=((None, 1),), names={1: legend.name(1) if legend and 1 in legend.codes else title})
    indices, values = factorize(read_column(header, column))
    if classes is None:
        pairs = _automatic(header, column, values, int((indices < 0).sum()))
    else:
        pairs = _explicit_codes(header, column, values, classes, missing=bool((indices < 0).any()))
    names: dict[int, str] = {}
    for value, code in pairs:
        is_class = legend is not None and code in legend.codes
        names.setdefault(code, legend.name(code) if legend and is_class else "missing" if value is None else str(value))
    return Coding(codes=tuple(pairs), names=dict(sorted(names.items())))


def _automatic(header: VectorHeader, column: str, values: list[Value], missing: int) -> list[tuple[Value, int]]:
    problem = f"Cannot derive the classes of {header.path!r} from {column!r}"
    if missing:
        problem += f": {missing} of {header.count} features have no value."
        remedy = "Pass {classes} with the values to draw; others are left out, and None stands for a missing value."
        raise LabelError(problem, remedy=remedy, argument="classes")
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return [(v, int(v)) for v in values if v is not None]
    invalid = [v for v in values if not isinstance(v, str)]
    if invalid:
        problem += f": its value {invalid[0]!r} is neither a text nor an integer."
        raise LabelError(problem, remedy="Pass {classes} with a code for each value.", argument="classes")
    return [(v, code) for code, v in enumerate(values, 1)]


def _explicit_codes(
    header: VectorHeader, column: str, values: list[Value], classes: Any, *, missing: bool
) -> list[tuple[Value, int]]:
    """Return value and code for each entry of `classes=`."""
    rows = classes.items() if isinstance(classes, Mapping) else ((v, code) for code, v in enumerate(classes, 1))
    pairs = [(v.item() if isinstance(v, np.generic) else v, int(code)) for v, code in rows]
    present = {*values, *([None] if missing else [])}
    if not present & {v for v, _ in pairs}:
        shown = ", ".join(map(repr, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")
        examples = [v for v, _ in pairs][:SHOWN]
        problem = f"Cannot find any of the classes {examples} in {column!r} of {header.path!r}: it holds {shown}."
        raise LabelError(problem, remedy="Pass {classes} from these.", argument="classes")
    _warn_of_absent(header, column, [v for v, _ in pairs], list(present))
    return pairs


def _warn_of_absent(header: VectorHeader, column: str, classes: list[Value], values: list[Value]) -> None:
    """Warn if a class has no feature while features of other values are left out, as after a misspelling."""
    absent, left_out = [v for v in classes if v not in values], [v for v in values if v not in classes]
    if absent and left_out:
        msg = f"No feature of {header.path!r} has the class {abbreviate(map(repr, absent))} in {column!r}; features of "
        warnings.warn(f"{msg}{abbreviate(sorted(map(repr, left_out)))} are left out.", LabelWarning, stacklevel=4)


def require_free_background(coding: Coding, background: int, header: VectorHeader) -> None:
    """Raise if a class has the code of the background."""
    if background in coding.names:
        problem = f"Cannot tell features of {header.path!r} from the background: class {coding.names[background]!r} "
        raise LabelError(f"{problem}has its code {background}.", remedy="Pass another {background}. Or pass {classes}.")


def legend_of(coding: Coding, background: int, nodata: int | None, legend: Legend | None) -> Legend:
    """Return the classes of the layer without nodata; the background comes first."""
    codes = list(coding.names)
    colors = dict(zip(codes, palette(len(codes)), strict=True))
    if legend is not None:
        colors |= {code: color for code, color in zip(legend.codes, legend.colors, strict=True) if code in colors}
    rows = [(code, coding.names[code], colors[code]) for code in codes]
    first = legend.name(background) if legend is not None and background in legend.codes else "background"
    return Legend.from_rows(row for row in [(background, first, "#000000"), *rows] if row[0] != nodata)


def smallest_dtype(codes: Sequence[int]) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds all codes."""
    for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32"):
        limits = np.iinfo(name)
        if limits.min <= min(codes) and max(codes) <= limits.max:
            return np.dtype(name)
    return np.dtype("int64")
