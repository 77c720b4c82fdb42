"""Layers in configuration files: raster files, STAC items or vector files, with the options of their opener."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from geoxt.errors import InputError
from geoxt.layers import open_cogs, open_stac, open_vector, open_xarray, open_zarr
from geoxt.trainers.config.unknown_keys import require_known_keys

SomeLayer = str | list[str] | dict[str, Any]
"""Paths and glob patterns of raster files; or a mapping with `files`, `stac`, `vector`, `zarr` or `xarray`, and options
of `open_cogs`, `open_stac`, `open_vector`, `open_zarr` or `open_xarray`: `{"stac": "items.json", "bands": ["red"]}`."""
Layer = xr.DataArray | xr.DataTree

OPENERS: Mapping[str, Callable[..., Any]] = {
    "files": open_cogs, "stac": open_stac, "vector": open_vector, "zarr": open_zarr, "xarray": open_xarray,
}  # fmt: skip
"""Function that opens a layer, by the key of its source."""
_TUPLES = frozenset({"bbox", "datetime", "resolution"})
"""Options that are tuples in Python; YAML has only lists."""


def open_layer(description: SomeLayer, *, name: str, like: Layer | None = None, **default: Any) -> Layer:
    """Open a layer lazily by its description in a configuration.

    Parameters
    ----------
    description
        Source and options of the layer.
    name
        Name of the layer.
    like
        Layer on whose grid vector files are rasterized.
    default
        Options that apply if the opener accepts them and `description` does not set them.

    Raises
    ------
    InputError
        If the description has no source, several, or an unknown option.
    """
    options: dict[str, Any] = dict(description) if isinstance(description, Mapping) else {"files": description}
    sources = [key for key in OPENERS if key in options]
    if len(sources) != 1:
        msg = f"Cannot open the layer {name!r} from {options!r}: it has {' and '.join(sources) or 'none'} of files, "
        remedy = f"Pass {{{{files: PATTERN}}}}, {{{{stac: ITEMS}}}} or {{{{vector: FILE, column: NAME}}}} for {name}."
        raise InputError(msg + "stac, vector, zarr and xarray.", remedy=remedy, argument=name)
    (source,) = sources
    opener, location = OPENERS[source], options.pop(source)
    accepted = _options_of(opener)
    require_known_keys(options, accepted, prefix=f"{name}.")
    options = {key: tuple(v) if key in _TUPLES and isinstance(v, list) else v for key, v in options.items()}
    options |= {"name": name, **({"like": like} if source == "vector" else {})}
    layer: Layer = opener(location, **{k: v for k, v in default.items() if k in accepted} | options)
    return layer


def _options_of(opener: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(opener).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY} - {"grid", "like", "name"}
