"""Samples that lie on Earth as one layer, through `open_cogs`: file names tell sample and band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.datasets.assets import Raster
from geoxt.datasets.entries import Entry
from geoxt.datasets.spec import Spec
from geoxt.errors import InputError
from geoxt.layers import Product, open_cogs
from geoxt.layers.headers import headers
from geoxt.layers.products import Band


def open_layer(
    spec: Spec, root: Path, entries: Sequence[Entry], key: str | None, options: Mapping[str, Any]
) -> xr.DataArray:
    """Open the files of an asset of some samples as one layer."""
    key = key or next((k for k, a in spec.assets.items() if isinstance(a, Raster)), "")
    asset = spec.assets.get(key)
    if not spec.georeferenced or not isinstance(asset, Raster):
        known = [k for k, a in spec.assets.items() if isinstance(a, Raster)] if spec.georeferenced else []
        why = f"it has {', '.join(known)}" if known else "its images have no place on Earth"
        msg = f"Cannot open {key or 'an image'!r} of {spec.name!r} as a layer: {why}. "
        raise InputError(msg + "Pass key= of an image." if known else msg + "Use its samples.")
    if asset.colors or asset.fix or any(stored != code for stored, code in (asset.codes or {}).items()):
        msg = f"Cannot open {key!r} of {spec.name!r} as a layer: its files hold other numbers than the class codes. "
        raise InputError(msg + "Use its samples, which are decoded.")
    found = [str(root / path) for entry in entries if key in entry.files for path in entry.paths(key, asset).values()]
    paths = list(dict.fromkeys(found))  # windows of one image share its files
    chosen: dict[str, Any] = {"source_crs": spec.crs, **options} if spec.crs else dict(options)
    if any("%" in asset.templates[0].form(field) for field in asset.templates[0].names):
        chosen = {"groupby": "time", **chosen}
    if asset.own_size and not {"resolution", "grid"} & set(chosen):
        first = headers(paths[: len(asset.bands)], crs=spec.crs)
        chosen["resolution"] = min(abs(header.grid.resolution.x) for header in first)
    layer: xr.DataArray = open_cogs(paths, product=layer_spec(spec, key, asset), **{"name": key, **chosen})
    return layer


def layer_spec(spec: Spec, key: str, asset: Raster) -> Product:
    """Return an asset as what is known of a layer."""
    template = asset.templates[0]
    choices = template.choices("band")
    if choices:
        bands = tuple(replace(band, files=(name,), index=1) for band, name in zip(asset.bands, choices, strict=True))
    else:
        given = asset.bands or (Band(name=key),)
        bands = tuple(replace(band, files=(), index=at) for at, band in enumerate(given, start=asset.channel or 1))
    return Product(
        name=spec.name,
        title=spec.title,
        kind="labels" if asset.is_mask else "image",
        bands=bands,
        files=asset.templates,
        nodata=asset.ignore[0] if asset.is_mask and asset.ignore else asset.nodata,
        ignore=asset.ignore,
        legend=spec.classes if asset.is_mask and asset.value == "code" else None,
        licence=spec.licence,
        cite=spec.cite,
    )
