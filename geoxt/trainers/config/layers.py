"""Layers as a configuration names them: files, STAC items or shapes, with the options of what opens them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from geoxt.errors import InputError
from geoxt.layers import open_cogs, open_stac, open_vector

SomeLayer = str | list[str] | dict[str, Any]
"""Paths and patterns of raster files; or `files`, `stac` or `vector` and the options of `open_cogs`, `open_stac` or
`open_vector`: `{"stac": "items.json", "bands": ["red", "nir"]}`."""
Layer = xr.DataArray | xr.DataTree

OPENERS: Mapping[str, Callable[..., Any]] = {"files": open_cogs, "stac": open_stac, "vector": open_vector}
"""What opens a layer, by the key that says where it is."""


def open_named(described: SomeLayer, *, name: str, like: Layer | None = None, **default: Any) -> Layer:
    """Open a layer; no pixel is read.

    Parameters
    ----------
    described
        Where it is, and options.
    name
        What the layer is called.
    like
        On whose grid shapes are drawn.
    default
        Options that are passed to what takes them, unless the description has them.

    Raises
    ------
    InputError
        Where the description names no place, or several, or options that there are not.
    """
    plain: dict[str, Any] = dict(described) if isinstance(described, Mapping) else {"files": described}
    places = [key for key in OPENERS if key in plain]
    if len(places) != 1:
        msg = f"Cannot open {name} as {plain!r}: it has {' and '.join(places) or 'none'} of files, stac and vector. "
        raise InputError(msg + f"Pass {name}: {{files: PATTERN}}, {{stac: ITEMS}} or {{vector: FILE, column: NAME}}.")
    (key,) = places
    opener, place = OPENERS[key], plain.pop(key)
    takes = _options(opener)
    unknown = sorted(set(plain) - takes)
    if unknown:
        msg = f"Cannot open {name} with {unknown[0]!r}: {opener.__name__} takes {', '.join(sorted(takes))}. Mend it."
        raise InputError(msg)
    plain |= {"name": name, **({"like": like} if key == "vector" else {})}
    given = {option: value for option, value in default.items() if option in takes} | _exact(plain)
    layer: Layer = opener(place, **given)
    return layer


def _options(opener: Callable[..., Any]) -> set[str]:
    own = inspect.signature(opener).parameters.values()
    return {one.name for one in own if one.kind is inspect.Parameter.KEYWORD_ONLY} - {"grid", "like", "name"}


def _exact(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with pairs and boxes as tuples: YAML has lists only."""
    pairs = {"bbox", "resolution", "datetime"}
    return {key: tuple(value) if key in pairs and isinstance(value, list) else value for key, value in options.items()}
