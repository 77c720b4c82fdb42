"""Summary of a layer as a table: product, bands, dates, grid, nodata and classes, each with its source."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.crs import crs_name
from geoxt.grid import grid_of, pixel_offset
from geoxt.layers import products
from geoxt.layers.products import Product, match_path
from geoxt.pixels.credentials import redact_url
from geoxt.source import Asset, Mosaic, Scene, is_categorical, nodata_of, resampling_of, view_of

_Row = tuple[str, str]


def describe(layer: xr.DataArray) -> pd.DataFrame:
    """Return a summary of a layer: product, bands, dates, CRS, grid and nodata, each with the reason.

    No pixel is read.

    Parameters
    ----------
    layer
        A layer from any opener. Reasons are complete for layers of raster files.

    Returns
    -------
    pandas.DataFrame
        `value` and `reason` of the rows "product", "bands", "dates", "CRS", "grid", "dtype", "nodata", "categorical"
        and "scale".

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> describe(make_layer(np.zeros((4, 4), "uint8"))).loc["CRS", "value"]
    'EPSG:32615'
    """
    source = view_of(layer).source
    scenes = source.scenes if isinstance(source, Mosaic) else ()
    assets = [asset for scene in scenes for asset in scene.assets if asset is not None]
    product = _product(layer)
    rows = {
        "product": _product_row(layer, product, assets),
        "bands": _bands_row(layer, product, assets),
        "dates": _dates_row(layer, scenes),
        "CRS": _crs_row(layer, assets),
        "grid": _grid_row(layer, assets),
        "dtype": _dtype_row(layer, assets),
        "nodata": _nodata_row(layer, product, assets),
        "categorical": _categorical_row(layer, product),
        "scale": _scale_row(layer, product),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "reason"])


def _product(layer: xr.DataArray) -> Product | None:
    title = layer.attrs.get("long_name")
    registered = (products.get(name) for name in products.names())
    return next((product for product in registered if product.title == title), None)


def _product_row(layer: xr.DataArray, product: Product | None, assets: list[Asset]) -> _Row:
    href = assets[0].href if assets else ""
    file = redact_url(href).rsplit("/", 1)[-1]
    if product is None and "long_name" in layer.attrs:
        return str(layer.attrs["long_name"]), "the attribute long_name, of no registered product"
    if product is not None:
        form = next((str(t) for t in product.files if href and t.match(href.split("?", 1)[0], tail=True)), None)
        reason = f"file names such as {file!r} have its form" if form else "as product= or the STAC collection states"
        return f"{product.name} ({product.title})", reason
    matches = ", ".join(f"product={match.name!r}" for match in match_path(href)) if href else ""
    if matches:
        return "unknown", f"the name {file!r} has the form of known files: pass {matches}"
    return "unknown", "no file name has the form of a known product: pass product= and pattern= if it is one"


def _bands_row(layer: xr.DataArray, product: Product | None, assets: list[Asset]) -> _Row:
    if "band" not in layer.coords or layer.coords["band"].ndim == 0:
        return "1", "the layer has no band dimension"
    names = [str(name) for name in layer.band.to_numpy()]
    common = [str(name) for name in layer.coords["common_name"].to_numpy()] if "common_name" in layer.coords else []
    shown = [f"{n} ({c})" if c and c != n else n for n, c in zip(names, common or [""] * len(names), strict=True)]
    stems = [asset.href.rsplit("/", 1)[-1] for asset in assets]
    if product is not None:
        reason = f"bands of {product.name}"
    elif all(name.startswith("band_") for name in names):
        reason = "numbered: neither descriptions nor file names name them"
    elif all(any(name in stem for stem in stems) for name in names):
        reason = "parts in which the file names differ"
    else:
        reason = "descriptions of the bands, or names in the catalog"
    return ", ".join(shown), reason


def _dates_row(layer: xr.DataArray, scenes: tuple[Scene, ...]) -> _Row:
    starts = [scene.start for scene in scenes if scene.start is not None]
    steps = layer.sizes.get("time", 0)
    if "time" in layer.dims and steps:
        first, last = (np.datetime_as_string(layer.time.to_numpy()[i].astype("datetime64[s]")) for i in (0, -1))
        return f"{steps} steps, {first} to {last}", f"{len(scenes)} scenes, grouped by groupby="
    if not starts:
        return "none", "neither file names of a product nor a catalog state dates"
    first, last = np.datetime_as_string(np.array([min(starts), max(starts)], "datetime64[s]"))
    return f"{first} to {last}", f"{len(scenes)} scenes in one mosaic: groupby= separates their dates"


def _crs_row(layer: xr.DataArray, assets: list[Asset]) -> _Row:
    crs = grid_of(layer).crs
    stored = dict.fromkeys(crs_name(grid.crs) for grid in {id(a.grid): a.grid for a in assets}.values())
    if not stored:
        return crs_name(crs), "the layer's coordinates"
    same = list(stored) == [crs_name(crs)]
    return crs_name(crs), "that of all files" if same else f"files in {', '.join(stored)} are resampled"


def _grid_row(layer: xr.DataArray, assets: list[Asset]) -> _Row:
    grid = grid_of(layer)
    value = f"{grid.shape[0]} x {grid.shape[1]} pixels of {abs(grid.resolution.x):g} x {abs(grid.resolution.y):g}"
    grids = {id(a.grid): a.grid for a in assets}.values()
    if not grids:
        return value, "the layer's coordinates"
    copied = all(g.crs == grid.crs and pixel_offset(g, grid) is not None for g in grids)
    return (
        value,
        "pixels of the files, copied" if copied else f"files of other grids are resampled by {resampling_of(layer)}",
    )


def _dtype_row(layer: xr.DataArray, assets: list[Asset]) -> _Row:
    stored = dict.fromkeys(asset.dtype for asset in assets)
    if not stored:
        return str(layer.dtype), "the layer's array"
    if list(stored) == [str(layer.dtype)]:
        return str(layer.dtype), "that of the files"
    kind = "physical values" if "physical" in layer.attrs.get("radiometry", "") else "a type that holds them and nodata"
    return str(layer.dtype), f"files store {', '.join(stored)}; {kind}"


def _nodata_row(layer: xr.DataArray, product: Product | None, assets: list[Asset]) -> _Row:
    nodata = nodata_of(layer)
    value = "none" if nodata is None else f"{nodata:g}"
    stated = {None if a.header is None else a.header[0] for a in assets if a.array is None}
    if any(asset.masked for asset in assets):
        reason = "a mask or alpha band of the files states which pixels are valid"
    elif assets and None not in stated:
        reason = "stated by the files"
    elif any(a.nodata is not None for a in assets):
        of_product = product is not None and product.nodata is not None and any(a.header for a in assets)
        reason = f"of {product.name}: the files state none" if product and of_product else "of the catalog, or nodata="
    else:
        reason = (
            "the files state none: NaN, if any, and gaps between files are missing pixels; pass nodata= for another"
        )
    return value, reason


def _categorical_row(layer: xr.DataArray, product: Product | None) -> _Row:
    if is_categorical(layer):
        count = np.size(layer.attrs["flag_values"])
        value = f"yes, {count} classes" if count else "yes"
        return value, f"{product.name} holds class codes" if product else "color table or class names of the file"
    return "no", f"{product.name} holds measurements" if product else "no color table other than a ramp of grays"


def _scale_row(layer: xr.DataArray, product: Product | None) -> _Row:
    if "scales" in layer.attrs:
        pairs = dict.fromkeys(zip(layer.attrs["scales"], layer.attrs["offsets"], strict=True))
        return ", ".join(f"* {s:g} + {o:g}" for s, o in pairs), "stored values: rescale=True applies it"
    if (
        product is not None
        and any(rule.since or rule.until for rule in product.rules)
        and str(layer.attrs.get("radiometry", "unknown")).endswith("unknown")
    ):
        return "unknown", "it depends on the processing baseline: pass baseline=, or scale= and offset="
    text = str(layer.attrs.get("radiometry", ""))
    return ("see reason", text) if text else ("none", "neither files nor the product state one")
