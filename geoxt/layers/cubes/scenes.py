"""Scenes of a data cube: one for each time step, with the planes of its bands as assets."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.layers.assemble import LayerMetadata, representable
from geoxt.layers.cubes.planes import Band
from geoxt.layers.exclude import SomeFlags, quality_of
from geoxt.layers.files.product_scenes import product_metadata
from geoxt.layers.products import Band as ProductBand
from geoxt.layers.products import Product, resolve_bands
from geoxt.layers.radiometry import baseline_of, is_scale_unknown, product_radiometry, usable_baseline
from geoxt.legend import Legend
from geoxt.pixels.scaled_array import ScaledArray
from geoxt.source import Asset, Scene
from geoxt.source.embedding_attrs import QUANTIZATION, common_embedding_attrs, from_convention, is_unit_length
from geoxt.source.scene_assets import PlaneArray

AssetArray = tuple[str, GeoBox, PlaneArray | None]
"""Address of a variable, its grid, and the array that it is read from."""


def choose_bands(
    bands: Sequence[Band], names: Sequence[str] | None, product: Product | None
) -> tuple[list[Band], tuple[ProductBand, ...]]:
    """Return bands by name, and the bands of the product that they correspond to.

    Raises
    ------
    InputError
        If a name is missing, or the bands differ in time steps.
    """
    if product is not None:
        requested = resolve_bands(product, names)
        by_band = {band.name: _of_product(band, bands) for band in requested}
        absent = [name for name, band in by_band.items() if band is None]
        if names is None:
            requested = tuple(band for band in requested if band.name not in absent)
        if absent and (names is not None or not requested):
            raise _missing_bands_error(absent, bands)
        selected = [band for w in requested if (band := by_band[w.name]) is not None]
    else:
        requested = ()
        by_name = {band.name: band for band in bands}
        if len(by_name) < len(bands):
            by_name = {f"{band.variable.name}_{band.name}": band for band in bands}
        missing = [name for name in names or () if name not in by_name]
        if missing:
            raise _missing_bands_error(missing, bands)
        selected = list(bands) if names is None else [by_name[name] for name in names]
    for band in selected[1:]:
        _require_same_times(selected[0], band)
    return selected, requested


def _of_product(requested: ProductBand, bands: Sequence[Band]) -> Band | None:
    names = _spellings(requested)
    return next((band for band in bands if band.name.lower() in names), None)


def _spellings(band: ProductBand) -> set[str]:
    return {name.lower() for name in (band.name, *band.files, *band.assets)}


def band_names(product: Product | None, name: str) -> set[str]:
    """Return the names that variables of a product's band may have, in lower case."""
    known_bands = [] if product is None else [band for band in product.bands if band.name == name]
    return {name.lower()}.union(*map(_spellings, known_bands))


def _missing_bands_error(names: Sequence[str], bands: Sequence[Band]) -> InputError:
    available = [band.name for band in bands]
    problem = f"Cannot open the bands {list(names)}: the cube has {available[:20]}{', …' * (len(available) > 20)}."
    return InputError(problem, remedy="Pass {bands} from these.", value=list(names), argument="bands")


def _require_same_times(first: Band, other: Band) -> None:
    if (first.times is None) != (other.times is None):
        static, dated = (first, other) if first.times is None else (other, first)
        problem = f"Cannot open {dated.name!r} and {static.name!r} as one layer: only the former has a time dimension."
        raise InputError(problem, remedy="Pass {bands} of one of the two.", argument="bands")
    if first.times is not None and other.times is not None and not np.array_equal(first.times, other.times):
        problem = f"Cannot open {first.name!r} and {other.name!r} as one layer: their times differ."
        raise InputError(problem, remedy="Pass {bands} of equal times.", argument="bands")


def scenes_of(
    bands: Sequence[Band],
    product: Product | None,
    product_bands: Sequence[ProductBand],
    *,
    locate: Callable[[Band], AssetArray],
    name: str,
    nodata: float | None,
    quality: Sequence[Band] = (),
    exclude: SomeFlags = (),
    baseline: str | None = None,
    rescale: bool = False,
) -> list[Scene]:
    """Return one scene for each time step of the bands, with the quality bands of excluded flags."""
    of_product: Sequence[ProductBand | None] = product_bands or [None] * len(bands)
    columns = [
        assets_of(band, locate(band), product, known_band, nodata, baseline=baseline, rescale=rescale)
        for band, known_band in zip(bands, of_product, strict=True)
    ]
    times = bands[0].times
    masks = {band.variable.name.lower(): _quality_assets(band, bands[0], locate(band)) for band in quality}
    scenes = []
    for step, assets in enumerate(zip(*columns, strict=True)):
        start = None if times is None else times[step]
        label = "" if start is None else f" {np.datetime_as_string(start, unit='s')}"

        def asset_of(qa: str, step: int = step) -> Asset:
            return next(masks[spelling][step] for spelling in band_names(product, qa) if spelling in masks)

        excluded = quality_of(product, exclude, name, asset_of)
        scenes.append(Scene(id=f"{name}{label}", assets=assets, start=start, end=start, quality=excluded))
    return scenes


def _quality_assets(quality: Band, band: Band, located: AssetArray) -> list[Asset]:
    """Return the asset of a quality band for each time step of a band."""
    if quality.variable.dtype.kind not in "iu":
        problem = f"Cannot exclude pixels by {quality.variable.path!r}: it has the data type {quality.variable.dtype}."
        raise InputError(problem, remedy="Leave {exclude} out.", argument="exclude")
    assets = assets_of(quality, located, None, None, None)
    if quality.times is None:
        return assets * len(band.planes)
    _require_same_times(band, quality)
    return assets


def assets_of(
    band: Band,
    located: AssetArray,
    product: Product | None,
    of_product: ProductBand | None,
    nodata: float | None,
    *,
    baseline: str | None = None,
    rescale: bool = False,
) -> list[Asset]:
    """Return the asset of each time step of a band.

    `baseline` is the processing baseline of a cube that states none, and `rescale` whether its scale is required.
    """
    href, grid, array = located
    attrs, dtype = band.variable.attrs, str(band.variable.dtype.newbyteorder("="))
    _require_plain(band, attrs)
    if isinstance(array, ScaledArray):
        planes = band.planes
        return [
            Asset(href=href, band=plane, grid=grid, dtype="float32", nodata=np.nan, array=array) for plane in planes
        ]
    quantization = product.quantization(dtype) if product else None
    if quantization is None:
        _require_not_quantized(band)
    markers = [*_numbers(attrs.get("_FillValue")), *_numbers(attrs.get("missing_value"))]
    if not markers:
        default = nodata if nodata is not None or product is None else product.nodata
        markers = [] if default is None else [default]
    markers = [m for m in dict.fromkeys(markers) if representable(m, dtype) is not None]
    finite = [m for m in markers[1:] if not math.isnan(m)]
    extra = (*(_to_stored_dtype(m, dtype) for m in finite), *(product.ignore if product is not None else ()))
    scale, offset = _scale(attrs)
    unknown = False
    if scale is None:
        scale, offset = 1.0, 0.0
        decoded = {"scale_factor", "add_offset"} & set(getattr(band.variable.array, "encoding", ()))
        if product is not None and of_product is not None and not decoded:
            baseline = usable_baseline(_stated_baseline(band, href), baseline)
            rule = product_radiometry(
                product, of_product, None, dtype=dtype, baseline=baseline, strict=rescale, scene=href
            )
            scale, offset = (rule.scale, rule.offset) if rule is not None else (1.0, 0.0)
            unknown = rule is None and is_scale_unknown(product, of_product.name, dtype=dtype, baseline=baseline)
    return [
        Asset(
            href=href, band=plane, grid=grid, dtype=dtype, nodata=markers[0] if markers else None, extra_nodata=extra,
            scale=scale, offset=offset, scale_unknown=unknown, array=array, quantization=quantization,
        )
        for plane in band.planes
    ]  # fmt: skip


def _stated_baseline(band: Band, href: str) -> str | None:
    """Return the processing baseline of Sentinel-2 that attributes of a store, or its name, state."""
    for scope in band.variable.scopes:
        item = scope.get("stac_discovery")
        item = item if isinstance(item, Mapping) else {"properties": scope}
        properties = item.get("properties")
        baseline = baseline_of(properties if isinstance(properties, Mapping) else {}, str(item.get("id", "")))
        if baseline is not None:
            return baseline
    return baseline_of({}, href)


def _require_plain(band: Band, attrs: Mapping[Hashable, Any]) -> None:
    signed = {
        "true": ("i", "unsigned integers as signed", "unsigned"),
        "false": ("u", "signed integers as unsigned", "signed"),
    }
    kind, stores, dtype_text = signed.get(str(attrs.get("_Unsigned", "")).lower(), ("", "", ""))
    if band.variable.dtype.kind == kind:
        problem = f"Cannot open {band.variable.path!r}: it stores {stores} ones (_Unsigned)."
        raise InputError(problem, remedy=f"Write it again with its {dtype_text} type.")


def _require_not_quantized(band: Band) -> None:
    """Raise if a store states that the integers of embeddings are quantized in a way that is not read."""
    variable = band.variable
    quantization = next((scope[QUANTIZATION] for scope in variable.scopes if scope.get(QUANTIZATION)), None)
    if quantization is None or variable.dtype.kind not in "iu" or "scale_factor" in variable.attrs:
        return
    method = (
        quantization.get("method", quantization.get("formula", "unknown"))
        if isinstance(quantization, Mapping)
        else quantization
    )
    problem = f"Cannot open {variable.path!r}: its {variable.dtype} are quantized embeddings (method {method!r})."
    raise InputError(
        problem, remedy="Dequantize them with xarray, as the store's documentation states, and write them."
    )


def _numbers(value: Any) -> list[float]:
    """Return the numbers of an attribute, integers as int; text that is a number counts."""
    if isinstance(value, str):
        with suppress(ValueError):
            return [float(value)]
        return []
    if value is None:
        return []
    return [number for number in np.atleast_1d(np.asarray(value)).tolist() if isinstance(number, (int, float))]


def _to_stored_dtype(marker: float, dtype: str) -> float:
    """Return a marker as pixels store it: float32 rounds the double of an attribute."""
    return int(marker) if np.dtype(dtype).kind in "iu" else float(np.dtype(dtype).type(marker))


def _scale(attrs: Mapping[Hashable, Any]) -> tuple[float | None, float]:
    """Return scale and offset by CF; `None` as scale if neither is stated."""
    scale, offset = attrs.get("scale_factor"), attrs.get("add_offset")
    if scale is None and offset is None:
        return None, 0.0
    return 1.0 if scale is None else float(np.asarray(scale).item()), float(np.asarray(offset or 0).item())


def metadata_of(
    bands: Sequence[Band],
    product: Product | None,
    product_bands: Sequence[ProductBand],
    *,
    categorical: bool | None,
) -> LayerMetadata:
    """Return names, classes and attributes of a layer.

    Raises
    ------
    InputError
        If class codes and other bands are mixed, or there are several bands of class codes.
    """
    units = [str(band.variable.attrs.get("units", "1")) for band in bands]
    if product is not None:
        names = [band.name for band in product_bands]
        metadata = product_metadata(names, product, dict(zip(names, units, strict=True)), categorical=categorical)
        return replace(metadata, attrs={**metadata.attrs, **product.split_version(_embedding_attrs(bands))})
    flagged = [band for band in bands if "flag_values" in band.variable.attrs]
    if categorical is None:
        categorical = bool(flagged)
    if categorical and len(bands) > 1:
        problem = f"Cannot take {[band.name for band in bands]} as class codes: there are {len(bands)} bands."
        raise InputError(problem, remedy="Pass {bands} with one of them.", argument="bands")
    legend = Legend.of(bands[0].variable) if categorical and flagged else None
    attrs: dict[Hashable, Any] = {}
    if len(bands) == 1:
        attrs = {k: v for k, v in bands[0].variable.attrs.items() if k in {"long_name", "standard_name", "units"}}
    attrs |= _embedding_attrs(bands)
    names = [band.name for band in bands]
    return LayerMetadata(
        bands=tuple(names), legend=legend, categorical=categorical, attrs=attrs, units=tuple(units),
        unit_length=len(names) if is_unit_length(attrs) else 0,
    )  # fmt: skip


def _embedding_attrs(bands: Sequence[Band]) -> dict[Hashable, Any]:
    """Return attributes of embeddings that the store states."""
    variables = {band.variable.path: band.variable for band in bands}
    return common_embedding_attrs({repr(path): from_convention(v.scopes) for path, v in variables.items()})
