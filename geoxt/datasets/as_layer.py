"""Open georeferenced samples as one layer by `open_cogs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs
from geoxt.datasets.assets import Raster
from geoxt.datasets.entries import Entry
from geoxt.datasets.read_sample import Reader
from geoxt.datasets.spec import Spec
from geoxt.errors import InputError
from geoxt.layers import Product, open_cogs
from geoxt.layers.assemble import SIMILAR_RESOLUTION
from geoxt.layers.extent import pixel_size_in
from geoxt.layers.headers import headers
from geoxt.layers.products import Band
from geoxt.source import Mosaic, view_of
from geoxt.trees import layers_of


def open_layer(reader: Reader, entries: Sequence[Entry], key: str | None, options: Mapping[str, Any]) -> xr.DataArray:
    """Open the files of an asset of samples as one layer, with the bands that the reader selects."""
    spec, root = reader.spec, reader.root
    key = key or next((k for k, a in spec.assets.items() if isinstance(a, Raster)), "")
    asset, bands = spec.assets.get(key), reader.bands.get(key, ())
    if not spec.georeferenced or not isinstance(asset, Raster):
        images = [k for k, a in spec.assets.items() if isinstance(a, Raster)] if spec.georeferenced else []
        reason = f"its images are {', '.join(images)}" if images else "its images are not georeferenced"
        msg = f"Cannot open {key or 'an image'!r} of {spec.name!r} as a layer: {reason}."
        raise InputError(msg, remedy="Pass {key} of an image." if images else "Use its samples.")
    if asset.colors or asset.convert or any(stored != code for stored, code in (asset.codes or {}).items()):
        msg = f"Cannot open {key!r} of {spec.name!r} as a layer: its files store other values than the class codes."
        raise InputError(msg, remedy="Use its samples, which are decoded.")
    files = [str(root / path) for entry in entries if key in entry.files for path in entry.paths(key, asset).values()]
    paths = list(dict.fromkeys(files))  # windows of one image share its files
    open_options: dict[str, Any] = {"source_crs": spec.crs, **options} if spec.crs else dict(options)
    if any("%" in asset.templates[0].form(field) for field in asset.templates[0].names):
        open_options = {"groupby": "time", **open_options}
    if bands:
        open_options = {"bands": [asset.bands[index].name for index in bands], **open_options}
    open_options = {"product": asset_product(spec, key, asset), "name": key, **open_options}
    if not asset.mixed_resolution or {"resolution", "grid", "like"} & set(open_options):
        return open_cogs(paths, **open_options)
    crs, first = open_options.get("crs"), [header.grid for header in headers(paths[: len(asset.bands)], crs=spec.crs)]
    resolution = _finest_resolution(first, crs)
    layer: xr.DataArray = open_cogs(paths, **open_options, resolution=resolution)
    # Later samples may have smaller pixels; the opened layer holds the headers of all files.
    sources = [view_of(opened).source for opened in layers_of(layer).values()]
    grids = {id(a.grid): a.grid for s in sources if isinstance(s, Mosaic) for x in s.scenes for a in x.assets if a}
    finest = _finest_resolution(list(grids.values()), crs)
    is_finer = finest[0] < (1 - SIMILAR_RESOLUTION) * resolution[0]
    return open_cogs(paths, **open_options, resolution=finest) if is_finer else layer


def _finest_resolution(grids: Sequence[GeoBox], crs: Any) -> tuple[float, float]:
    """Return the smallest pixel size of grids in units of a CRS, or in units of the grids for `None` and "native"."""
    finest = min(grids, key=lambda grid: abs(grid.resolution.x))
    target: Any = finest.crs if crs is None or crs == "native" else parse_crs(crs)
    if target == finest.crs:
        return abs(float(finest.resolution.x)), abs(float(finest.resolution.y))
    return pixel_size_in(finest, target)


def asset_product(spec: Spec, key: str, asset: Raster) -> Product:
    """Return the product that describes a raster asset for `open_cogs`."""
    template = asset.templates[0]
    choices = template.choices("band")
    if choices:
        bands = tuple(replace(band, files=(name,), index=1) for band, name in zip(asset.bands, choices, strict=True))
    else:
        asset_bands = asset.bands or (Band(name=key),)
        bands = tuple(
            replace(band, files=(), index=index) for index, band in enumerate(asset_bands, start=asset.channel or 1)
        )
    return Product(
        name=spec.name,
        title=spec.title,
        kind="labels" if asset.is_mask else "image",
        bands=bands,
        files=asset.templates,
        nodata=asset.ignore[0] if asset.is_mask and asset.ignore else asset.nodata,
        ignore=asset.ignore,
        legend=spec.classes if asset.is_mask and not asset.instances else None,
        license=spec.license,
        cite=spec.cite,
    )
