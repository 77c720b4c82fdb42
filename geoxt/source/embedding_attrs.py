"""Attributes of layers of embeddings: their identity, which must agree, and those of the Zarr convention.

The convention is `geoemb:` (https://github.com/geo-embeddings/embeddings-zarr-convention, v1).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import grid_of

_OTHERS = ("patch_size", "normalization")
_DATA_TYPE = "data_type"
NAMES = ("model", "version", *_OTHERS, _DATA_TYPE)
"""Attributes that identify embeddings: those of two layers can be compared only if these are equal."""
_TYPE = "embedding_type"
_MODEL, _SOURCE = "geoemb:model", "geoemb:source_data"
QUANTIZATION = "geoemb:quantization"
"""Attribute of the convention: how stored integers were computed from the numbers of the embeddings."""
_URN = "urn:geoxt:"
_REPOSITORY = "geo-embeddings/embeddings-zarr-convention"
UNIT_LENGTH = "unit length"
"""Normalization of vectors whose Euclidean length is 1."""
_BY_BAND = frozenset({"mode", "min", "max", "median"})
"""Resampling methods and composites that select a pixel for each band separately."""
CONVENTION = {
    "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
    "name": "geoemb:",
    "description": "Geoembeddings convention for geospatial embedding arrays with model provenance",
    "schema_url": f"https://raw.githubusercontent.com/{_REPOSITORY}/refs/tags/v1/schema.json",
    "spec_url": f"https://github.com/{_REPOSITORY}/blob/v1/README.md",
}
"""Entry of the convention in `zarr_conventions`."""


def require_equal_embeddings(first: Mapping[Any, Any], other: Mapping[Any, Any], titles: tuple[str, str]) -> None:
    """Raise if two mappings of attributes name different models, versions, patch sizes or normalizations.

    Raises
    ------
    InputError
        If both name one, and they differ; or if one names a model, and the other holds integers of an unknown model.
    """
    for name in NAMES:
        values = [_text(name, attrs[name]) if attrs.get(name) is not None else "" for attrs in (first, other)]
        if all(values) and values[0] != values[1]:
            title = name.replace("_", " ")
            msg = f"Cannot combine embeddings: the {title} of {titles[0]} is {values[0]!r}, that of {titles[1]} "
            msg += f"is {values[1]!r}."
            remedy = "Use embeddings of one model, version, patch size and normalization."
            raise InputError(msg, remedy=remedy, value=other[name])
    for stated, title, model, model_title in (
        (first, titles[0], other, titles[1]),
        (other, titles[1], first, titles[0]),
    ):
        if stated.get(_DATA_TYPE) == "int8" and not stated.get("model") and model.get("model"):
            msg = f"Cannot combine embeddings: {title} holds int8 of no stated model, {model_title} those of "
            msg += f"{model['model']!r}."
            remedy = "Open quantized files by their product, such as open_cogs(..., product='alphaearth'). Or assign "
            remedy += "attrs['model'] if the numbers are comparable."
            raise InputError(msg, remedy=remedy, value="int8")


def identity_of(layer: xr.DataArray) -> Mapping[Hashable, Any]:
    """Return the attributes of a layer, with its data type if it holds int8 and states no model.

    Embeddings are published as int8 that are not proportional to the numbers of their vectors.
    """
    is_quantized = layer.dtype == np.int8 and not layer.attrs.get("model")
    return {**layer.attrs, _DATA_TYPE: "int8"} if is_quantized else layer.attrs


def _text(name: str, value: Any) -> str:
    """Return a value of an attribute as text; sizes, which may be arrays or texts of lists, as "16 x 16"."""
    return " x ".join(map(str, _list(value))) if name == "patch_size" else str(value)


def common_embedding_attrs(layers: Mapping[str, Mapping[Any, Any]]) -> dict[Hashable, Any]:
    """Return the attributes of embeddings that are equal in all layers, from the attributes of each by its title.

    Raises
    ------
    InputError
        If two layers name different models, versions, patch sizes or normalizations.
    """
    (title, first), *others = layers.items()
    for other_title, other in others:
        require_equal_embeddings(first, other, (title, other_title))
    return {
        name: first[name]
        for name in (*NAMES, _TYPE, "dimensions", "source_data")
        if name in first and all(_text(name, other.get(name, "")) == _text(name, first[name]) for _, other in others)
    }


def to_convention(layer: xr.DataArray) -> dict[str, Any]:
    """Return the attributes of a layer of embeddings by the convention; empty for other layers.

    The version of the model is the fragment of its URI. A model or source without a URI gets one under `urn:geoxt:`.
    """
    attrs = layer.attrs
    if _TYPE not in attrs or not attrs.get("model") or "band" not in layer.dims:
        return {}
    model = str(attrs["model"]) if ":" in str(attrs["model"]) else f"{_URN}model:{attrs['model']}"
    sources = np.atleast_1d(attrs.get("source_data", "unknown")).tolist()
    result: dict[str, Any] = {
        "geoemb:type": str(attrs[_TYPE]),
        "geoemb:dimensions": layer.sizes["band"],
        _MODEL: f"{model}#{attrs['version']}" if attrs.get("version") else model,
        _SOURCE: [source if ":" in source else f"{_URN}layer:{source}" for source in map(str, sources)],
        "geoemb:data_type": layer.dtype.name,
    }
    grid = grid_of(layer)
    if grid.crs is not None and grid.crs.projected:
        result["geoemb:gsd"] = abs(grid.affine.a)
    if attrs[_TYPE] == "chip" and "patch_size" in attrs:
        side = [int(length) for length in attrs["patch_size"]]
        result["geoemb:chip_layout"] = {"layout_type": "regular_grid", "chip_size": side, "stride": side}
    result |= {name: attrs[name] for name in _OTHERS if name in attrs}
    if is_unit_length(attrs) and not unit_length_of(layer):
        del result["normalization"]  # of some components of the vectors
    return result


def unit_length_of(layer: xr.DataArray) -> int:
    """Return the number of bands of a layer of vectors of unit length; 0 for others, and for a part of their bands."""
    count = layer.sizes.get("band", 0)
    return count if is_unit_length(layer.attrs) and layer.attrs.get("dimensions") == count else 0


def is_unit_length(attrs: Mapping[Any, Any]) -> bool:
    """Return whether attributes state that vectors have unit length."""
    return attrs.get("normalization") == UNIT_LENGTH


def require_whole_vectors(attrs: Mapping[Any, Any], method: str | None, argument: str) -> None:
    """Raise if a resampling method or composite selects each band of embeddings from another pixel.

    Raises
    ------
    InputError
        If attributes are those of embeddings, and the method is "mode", "min", "max" or "median".
    """
    if method in _BY_BAND and (_TYPE in attrs or is_unit_length(attrs)):
        msg = f"Cannot take the {method} of vectors of embeddings: each band would be taken from another pixel."
        alternatives = "{composite:'mean'} or 'first'"
        if argument == "resampling":
            alternatives = "{resampling:'average'}, 'bilinear' or 'nearest'"
        remedy = f"Pass {alternatives}."
        raise InputError(msg, remedy=remedy, value=method, argument=argument)


def to_tags(layer: xr.DataArray) -> dict[str, str]:
    """Return the attributes by the convention as GDAL metadata, whose keys have no colon: `geoemb_model`."""
    return {key.replace(":", "_"): str(value) for key, value in to_convention(layer).items()}


def to_stac(layer: xr.DataArray) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return the properties and links of a STAC item of embeddings by the embedding extension; empty for others.

    The extension is https://github.com/geo-embeddings/embeddings-stac-specification.
    """
    stated = to_convention(layer)
    names = {"geoemb:type": "emb:type", "geoemb:dimensions": "emb:dimensions", "geoemb:data_type": "data_type"}
    names |= {"geoemb:gsd": "gsd", "geoemb:chip_layout": "emb:chip_layout"}
    properties = {name: stated[key] for key, name in names.items() if key in stated}
    parameters = {name: stated[name] for name in _OTHERS if name in stated}
    links = [{"rel": "emb:source-data", "href": href} for href in stated.get(_SOURCE, ())]
    links += [{"rel": "emb:model", "href": stated[_MODEL]}] if stated else []
    return properties | ({"emb:runtime_parameters": parameters} if parameters else {}), links


def from_tags(tags: Mapping[str, str]) -> dict[Hashable, Any]:
    """Return attributes of a layer from GDAL metadata."""
    return from_convention([{re.sub("^geoemb_", "geoemb:", key): value for key, value in tags.items()}])


def from_convention(scopes: Iterable[Mapping[Any, Any]]) -> dict[Hashable, Any]:
    """Return attributes of a layer from those of its store, the innermost first; empty if they name no model."""
    stated = next((scope for scope in scopes if scope.get(_MODEL)), None)
    if stated is None:
        return {}
    model, _, version = str(stated[_MODEL]).partition("#")
    sources = [source.removeprefix(f"{_URN}layer:") for source in map(str, _list(stated.get(_SOURCE, ())))]
    result: dict[Hashable, Any] = {"model": model.removeprefix(f"{_URN}model:")}
    result |= {"version": version} if version else {}
    result |= {"dimensions": int(stated["geoemb:dimensions"])} if "geoemb:dimensions" in stated else {}
    result |= {_TYPE: str(stated.get("geoemb:type", "pixel"))}
    result |= {"source_data": sources} if sources else {}
    result |= {"patch_size": _list(stated["patch_size"])} if "patch_size" in stated else {}
    return result | ({"normalization": str(stated["normalization"])} if "normalization" in stated else {})


def scale_array(scopes: Iterable[Mapping[Any, Any]]) -> tuple[str, float] | None:
    """Return the name of the array of the scales of pixels, and the scale of missing ones; `None` without such scales.

    An earlier form of the convention states `scale_array` and `nodata` without `scale`.
    """
    stated = next((scope[QUANTIZATION] for scope in scopes if scope.get(QUANTIZATION)), None)
    if not isinstance(stated, Mapping) or stated.get("method") != "per_pixel_scale":
        return None
    scale = stated.get("scale", stated)
    scale = scale if isinstance(scale, Mapping) else {}
    name = scale.get("array_name", scale.get("scale_array"))
    return None if name is None else (str(name), float(scale.get("nodata", "nan")))


def _list(value: Any) -> list[Any]:
    """Return a list, parsed if it is a text of GDAL metadata."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            return [value]
    return list(np.atleast_1d(value).tolist())
