"""A legend: the codes of a categorical layer with their names and colours, as CF attributes and as values."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from geoxt.errors import LabelError
from geoxt.types import Array

_SHOWN = 8
_GOLDEN = 0.618033988749895
"""The golden ratio less one: steps of it round the colour circle never come close to each other."""


class HasAttrs(Protocol):
    """Whatever carries attributes: a `DataArray`, a `Dataset`."""

    @property
    def attrs(self) -> Mapping[Any, Any]:
        """Attributes by name."""


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of a categorical layer, in the order in which they are shown.

    Names are kept with blanks: an underscore in one is read as a blank, so that CF's
    `flag_meanings`, which join words by underscores, give the same names back.

    Raises
    ------
    LabelError
        If lengths differ, a code stands twice, a name is empty or a colour is not `#rrggbb`.
    """

    codes: tuple[int, ...]
    """Pixel values, each once."""
    names: tuple[str, ...]
    """A name for each code; two codes may share one."""
    colors: tuple[str, ...] = ()
    """A colour for each code, `#rrggbb`; left out, colours that differ well."""

    def __post_init__(self) -> None:
        codes, names = tuple(int(code) for code in self.codes), tuple(_name(name) for name in self.names)
        colors = tuple(color.lower() for color in self.colors) or palette(len(codes))
        _check(codes, names, colors)
        for field, value in (("codes", codes), ("names", names), ("colors", colors)):
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    def of(cls, layer: HasAttrs) -> Legend:
        """Return the legend that a layer's CF attributes describe.

        Raises
        ------
        LabelError
            If the layer has no `flag_values`, or they contradict `flag_meanings` or `flag_colors`.
        """
        attrs = layer.attrs
        if "flag_values" not in attrs:
            name = getattr(layer, "name", None) or "the layer"
            msg = f"Cannot read the classes of {name!r}: it has no attribute flag_values. Pass a legend."
            raise LabelError(msg)
        codes = tuple(int(code) for code in np.atleast_1d(np.asarray(attrs["flag_values"])).tolist())
        names = str(attrs.get("flag_meanings") or " ".join(map(str, codes))).split()
        return cls(codes, tuple(names), tuple(str(attrs.get("flag_colors", "")).split()))

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[int, str, str]]) -> Legend:
        """Return the legend of a table of code, name and colour."""
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
        """Return the legend of a file's colour table.

        Parameters
        ----------
        colormap
            Red, green, blue and perhaps alpha (0-255) by code, as rasterio's `colormap(1)` gives it.
        names
            A name by code; a code without one is named by its number.
        codes
            The codes to take; left out, those that have a name, or without any names those that
            are not black (GDAL fills a colour table's gaps with black).
        """
        if codes is None:
            codes = names or (code for code, color in colormap.items() if any(color[:3]))
        chosen = tuple(sorted(int(code) for code in codes))
        colors = tuple("#{:02x}{:02x}{:02x}".format(*colormap.get(code, (0, 0, 0))[:3]) for code in chosen)
        return cls(chosen, tuple((names or {}).get(code, str(code)) for code in chosen), colors)

    def attrs(self) -> dict[str, Any]:
        """Return CF's `flag_values` and `flag_meanings`, and `flag_colors` (no CF name stands for them)."""
        ends = (min(self.codes), max(self.codes)) if self.codes else (0,)
        small = np.result_type(*map(np.min_scalar_type, ends))
        return {
            "flag_values": np.array(self.codes, dtype=small),
            "flag_meanings": " ".join(name.replace(" ", "_") for name in self.names),
            "flag_colors": " ".join(self.colors),
        }

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Return red, green, blue and alpha (0-255) by code, as rasterio's `write_colormap` takes it."""
        return {code: (*_rgb(color), 255) for code, color in zip(self.codes, self.colors, strict=True)}

    def encode(self, values: Array, *, missing: int | None = None) -> npt.NDArray[np.int64]:
        """Return the position of each value's class, 0 to `len(legend) - 1`.

        Parameters
        ----------
        values
            Codes, of any shape.
        missing
            What stands for a value that is no code; left out, such a value is an error.

        Raises
        ------
        LabelError
            If a value is no code of the legend, and nothing was given to stand for it.
        """
        codes = np.asarray(self.codes or (0,))  # a legend of no classes looks up in one code, and finds nothing
        order = np.argsort(codes)
        ordered = codes[order]
        at = np.minimum(np.searchsorted(ordered, values), len(codes) - 1)
        known = (ordered[at] == values) & bool(self.codes)
        if missing is None and not known.all():
            strange = np.unique(np.asarray(values)[~known])
            shown = ", ".join(str(value) for value in strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
            msg = (
                f"Cannot name the classes of all pixels: {shown} not among the legend's {len(self)} codes. "
                "Pass a legend that has them, or missing=."
            )
            raise LabelError(msg)
        return np.where(known, order[at], -1 if missing is None else missing).astype(np.int64)

    def decode(self, positions: Array) -> npt.NDArray[np.int64]:
        """Return the code at each position: the way back from `encode`."""
        return np.asarray(self.codes, dtype=np.int64)[positions]

    def rgb(self, values: Array, *, missing: str = "#000000") -> npt.NDArray[np.uint8]:
        """Return the colour of each value, (..., 3); what is no code gets the colour `missing`."""
        table = np.array([*map(_rgb, self.colors), _rgb(missing)], dtype=np.uint8)
        return np.asarray(table[self.encode(values, missing=len(self))])

    def only(self, codes: Iterable[int]) -> Legend:
        """Return the legend of some of the codes, in this one's order; others are left out."""
        keep = set(codes)
        rows = [row for row in zip(self.codes, self.names, self.colors, strict=True) if row[0] in keep]
        return Legend.from_rows(rows)

    def covering(self, codes: Iterable[int]) -> Legend:
        """Return the legend of some codes; those that this one lacks come last, named by number, in colours not taken.

        Examples
        --------
        >>> Legend((1, 2), ("corn", "rice"), ("#ff0000", "#00ff00")).covering([2, 7]).names
        ('rice', '7')
        """
        wanted = list(dict.fromkeys(codes))
        kept = self.only(wanted)
        new = [code for code in wanted if code not in self.codes]
        free = [color for color in palette(len(wanted)) if color not in kept.colors][: len(new)]
        return Legend((*kept.codes, *new), (*kept.names, *map(str, new)), (*kept.colors, *free))

    @property
    def distinct_names(self) -> tuple[str, ...]:
        """The names, each once: those that several classes share are told apart by their codes, `"corn (1)"`.

        Examples
        --------
        >>> Legend((1, 2, 5), ("corn", "rice", "corn")).distinct_names
        ('corn (1)', 'rice', 'corn (5)')
        """
        full = tuple(f"{name} ({code})" for code, name in zip(self.codes, self.names, strict=True))
        told = tuple(long if self.names.count(name) > 1 else name for name, long in zip(self.names, full, strict=True))
        return told if len(set(told)) == len(told) else full

    def name(self, code: int) -> str:
        """Return the name of a code, or the code itself as text where the legend has no such code."""
        return self.names[self.codes.index(code)] if code in self.codes else str(code)


def palette(count: int) -> tuple[str, ...]:
    """Return a number of colours, `#rrggbb`, that differ in hue and lightness; the first ones never change."""
    colors = (colorsys.hls_to_rgb(0.58 + _GOLDEN * at, (0.45, 0.62, 0.33)[at % 3], 0.6) for at in range(count))
    return tuple("#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in color)) for color in colors)


def _name(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _check(codes: tuple[int, ...], names: tuple[str, ...], colors: tuple[str, ...]) -> None:
    problem = None
    if not len(codes) == len(names) == len(colors):
        problem = f"{len(codes)} codes, {len(names)} names and {len(colors)} colours. Pass as many of each"
    elif len(set(codes)) < len(codes):
        twice = sorted({code for code in codes if codes.count(code) > 1})
        problem = f"codes {', '.join(map(str, twice))} stand twice. Pass each code once"
    elif not all(names):
        problem = f"the name of code {codes[names.index('')]} is empty. Pass a name for each code"
    elif wrong := [color for color in colors if not re.fullmatch("#[0-9a-f]{6}", color)]:
        problem = f"{wrong[0]!r} is no colour. Write colours as #rrggbb"
    if problem:
        msg = f"Cannot make a legend: {problem}."
        raise LabelError(msg)
