"""Legends: the class codes of a categorical layer with names and colours, as values and as CF attributes."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geoxt.errors import LabelError, did_you_mean
from geoxt.reprs import abbreviate, html_table
from geoxt.types import Array

__all__ = ["HasAttrs", "Legend", "palette"]

_UNFOLDED = 20
"""Maximum number of classes that HTML shows without folding."""
_MAX_SHOWN = 8
"""Maximum number of codes in an error."""
_GOLDEN = 0.618033988749895
"""Golden ratio minus one: hues at multiples of it (modulo 1) stay well separated for any number of classes."""


class HasAttrs(Protocol):
    """Any object with attributes, such as a DataArray or Dataset."""

    @property
    def attrs(self) -> Mapping[Any, Any]:
        """Attributes by name."""


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of a categorical layer, in display order.

    Underscores in names become blanks, so that names survive CF `flag_meanings`, where underscores join words.

    Raises
    ------
    LabelError
        If lengths differ, a code is repeated, a name is empty or a colour is not `#rrggbb`.
    """

    codes: tuple[int, ...]
    """Unique pixel values."""
    names: tuple[str, ...] = ()
    """Name of each code; several codes may share one. The codes by default."""
    colors: tuple[str, ...] = ()
    """Colour of each code, `#rrggbb`; distinct colours by default."""

    def __post_init__(self) -> None:
        codes = tuple(int(code) for code in self.codes)
        names = tuple(_name(name) for name in self.names) or tuple(map(str, codes))
        colors = tuple(color.lower() for color in self.colors) or palette(len(codes))
        _check(codes, names, colors)
        for field, value in (("codes", codes), ("names", names), ("colors", colors)):
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        classes = (f"{code} {name}" for code, name in zip(self.codes, self.names, strict=True))
        return f"<Legend: {len(self)} classes: {abbreviate(classes)}>"

    def _repr_html_(self) -> str:
        """Return the classes with their colors; beyond 20, folded."""
        rows = [
            f"<div><span style='background:{color};display:inline-block;width:1.2em;height:0.8em'></span> "
            f"{code} {escape(name)}</div>"
            for code, name, color in zip(self.codes, self.names, self.colors, strict=True)
        ]
        more = "".join(rows[_UNFOLDED:])
        more = more and f"<details><summary>{len(rows) - _UNFOLDED} more</summary>{more}</details>"
        return html_table(f"Legend: {len(self)} classes", {}, below="".join(rows[:_UNFOLDED]) + more)

    @classmethod
    def of(cls, layer: HasAttrs) -> Legend:
        """Return the legend in a layer's CF attributes.

        Raises
        ------
        LabelError
            If the layer has no `flag_values`, or they contradict `flag_meanings` or `flag_colors`.
        """
        attrs = layer.attrs
        if "flag_values" not in attrs:
            name = getattr(layer, "name", None) or "the layer"
            problem = f"Cannot read the classes of {name!r}: it has no attribute flag_values."
            raise LabelError(problem, remedy="Pass {legend}.", argument="legend")
        codes = tuple(int(code) for code in np.atleast_1d(np.asarray(attrs["flag_values"])).tolist())
        names = str(attrs.get("flag_meanings") or " ".join(map(str, codes))).split()
        return cls(codes, tuple(names), tuple(str(attrs.get("flag_colors", "")).split()))

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, str, str]]) -> Legend:
        """Return the legend of (code, name, colour) rows."""
        table = list(rows)
        return cls(*zip(*table, strict=True)) if table else cls((), ())

    @classmethod
    def from_colormap(
        cls,
        colormap: Mapping[int, tuple[int, ...]],
        names: Mapping[int, str] | None = None,
        *,
        codes: Iterable[int] | None = None,
    ) -> Legend:
        """Return the legend of a raster file's colour table.

        Parameters
        ----------
        colormap
            Red, green, blue and optionally alpha (0-255) by code, as returned by rasterio's `colormap(1)`.
        names
            Name by code; codes without one are named by their number.
        codes
            Codes of the legend. By default those with a name, or without names those that are not black: GDAL fills
            gaps of a colour table with black.
        """
        if codes is None:
            codes = names or (code for code, color in colormap.items() if any(color[:3]))
        sorted_codes = tuple(sorted(int(code) for code in codes))
        colors = tuple("#{:02x}{:02x}{:02x}".format(*colormap.get(code, (0, 0, 0))[:3]) for code in sorted_codes)
        return cls(sorted_codes, tuple((names or {}).get(code, str(code)) for code in sorted_codes), colors)

    def attrs(self) -> dict[str, Any]:
        """Return the CF attributes `flag_values` and `flag_meanings`, and `flag_colors`, which CF does not define."""
        ends = (min(self.codes), max(self.codes)) if self.codes else (0,)
        small = np.result_type(*map(np.min_scalar_type, ends))
        return {
            "flag_values": np.array(self.codes, dtype=small),
            "flag_meanings": " ".join(name.replace(" ", "_") for name in self.names),
            "flag_colors": " ".join(self.colors),
        }

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Return red, green, blue and alpha (0-255) by code, as for rasterio's `write_colormap`."""
        return {code: (*_rgb(color), 255) for code, color in zip(self.codes, self.colors, strict=True)}

    def encode(self, values: Array, *, missing: int | None = None) -> npt.NDArray[np.int64]:
        """Return the class index of each value, 0 to `len(legend) - 1`.

        Parameters
        ----------
        values
            Codes, of any shape.
        missing
            Index of values that are not codes of the legend; by default they raise.

        Raises
        ------
        LabelError
            If a value is not a code of the legend and `missing` is None.
        """
        codes = np.asarray(self.codes or (0,))  # searchsorted needs one code; an empty legend matches none
        order = np.argsort(codes)
        ordered = codes[order]
        index = np.minimum(np.searchsorted(ordered, values), len(codes) - 1)
        is_class = (ordered[index] == values) & bool(self.codes)
        if missing is None and not is_class.all():
            unknown = np.unique(np.asarray(values)[~is_class])
            shown = ", ".join(str(value) for value in unknown[:_MAX_SHOWN]) + (
                ", ..." if len(unknown) > _MAX_SHOWN else ""
            )
            problem = f"Cannot encode all pixels: {shown} not among the legend's {len(self)} codes."
            raise LabelError(problem, remedy="Pass a legend that has them. Or pass {missing}.", argument="missing")
        return np.where(is_class, order[index], -1 if missing is None else missing).astype(np.int64)

    def decode(self, positions: Array) -> npt.NDArray[np.int64]:
        """Return the code of each class index: the inverse of `encode`."""
        return np.asarray(self.codes, dtype=np.int64)[positions]

    def rgb(self, values: Array, *, missing: str = "#000000") -> npt.NDArray[np.uint8]:
        """Return the colour of each value, (..., 3) uint8; values that are not codes get the colour `missing`."""
        table = np.array([*map(_rgb, self.colors), _rgb(missing)], dtype=np.uint8)
        return np.asarray(table[self.encode(values, missing=len(self))])

    def only(self, codes: Iterable[int]) -> Legend:
        """Return the legend of a subset of the codes, in the order of this legend."""
        selected = set(codes)
        rows = [row for row in zip(self.codes, self.names, self.colors, strict=True) if row[0] in selected]
        return Legend.from_rows(rows)

    def covering(self, codes: Iterable[int]) -> Legend:
        """Return the legend of some codes; unknown codes come last, named by number, in unused colours.

        Examples
        --------
        >>> Legend((1, 2), ("corn", "rice"), ("#ff0000", "#00ff00")).covering([2, 7]).names
        ('rice', '7')
        """
        unique = list(dict.fromkeys(codes))
        existing = self.only(unique)
        new = [code for code in unique if code not in self.codes]
        unused = [color for color in palette(len(unique)) if color not in existing.colors][: len(new)]
        return Legend((*existing.codes, *new), (*existing.names, *map(str, new)), (*existing.colors, *unused))

    @property
    def distinct_names(self) -> tuple[str, ...]:
        """Unique names: a name that several classes share has the code appended, `"corn (1)"`.

        Examples
        --------
        >>> Legend((1, 2, 5), ("corn", "rice", "corn")).distinct_names
        ('corn (1)', 'rice', 'corn (5)')
        """
        full = tuple(f"{name} ({code})" for code, name in zip(self.codes, self.names, strict=True))
        distinct = tuple(
            long if self.names.count(name) > 1 else name for name, long in zip(self.names, full, strict=True)
        )
        return distinct if len(set(distinct)) == len(distinct) else full

    def name(self, code: int) -> str:
        """Return the name of a code, or the code as text if the legend lacks it."""
        return self.names[self.codes.index(code)] if code in self.codes else str(code)

    def code(self, name: str) -> int:
        """Return the code of a class by its name, or by its name in `distinct_names`.

        Raises
        ------
        LabelError
            If no class or several classes have the name.

        Examples
        --------
        >>> Legend((1, 5), ("corn", "winter wheat")).code("winter wheat")
        5
        """
        names = self.names if _name(name) in self.names else self.distinct_names
        codes = [code for code, known in zip(self.codes, names, strict=True) if known == _name(name)]
        if len(codes) == 1:
            return codes[0]
        reason = f"the codes {', '.join(map(str, codes))} have this name" if codes else "the legend has no such class"
        problem = f"Cannot look up the code of {name!r}: {reason}."
        known = f"Pass {{name}}, one of {abbreviate(self.distinct_names)}."
        remedy = f"{known} {did_you_mean(name, self.distinct_names)}".rstrip()
        raise LabelError(problem, remedy=remedy, value=name, argument="name")


def palette(count: int) -> tuple[str, ...]:
    """Return `count` colours `#rrggbb` that differ in hue and lightness; a longer palette begins with a shorter one.

    Examples
    --------
    >>> palette(2)
    ('#2e76b8', '#c2d864')
    """
    colors = (colorsys.hls_to_rgb(0.58 + _GOLDEN * at, (0.45, 0.62, 0.33)[at % 3], 0.6) for at in range(count))
    return tuple("#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in color)) for color in colors)


def _name(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _check(codes: tuple[int, ...], names: tuple[str, ...], colors: tuple[str, ...]) -> None:
    problem = remedy = None
    if not len(codes) == len(names) == len(colors):
        problem = f"{len(codes)} codes, {len(names)} names and {len(colors)} colours"
        remedy = "Pass as many of each."
    elif len(set(codes)) < len(codes):
        repeated = sorted({code for code in codes if codes.count(code) > 1})
        problem = f"codes {', '.join(map(str, repeated))} are repeated"
        remedy = "Pass each code once."
    elif not all(names):
        problem = f"the name of code {codes[names.index('')]} is empty"
        remedy = "Pass a name for each code."
    elif invalid := [color for color in colors if not re.fullmatch("#[0-9a-f]{6}", color)]:
        problem = f"{invalid[0]!r} is not a colour"
        remedy = "Write colours as #rrggbb."
    if problem and remedy:
        raise LabelError(f"Cannot make a legend: {problem}.", remedy=remedy)
