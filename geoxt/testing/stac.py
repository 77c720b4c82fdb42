"""Static STAC catalogs and ItemCollections that describe rasters on disk."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import shapely
import shapely.geometry
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from shapely.affinity import translate

from geoxt.crs import crs_name

__all__ = ["Band", "Category", "make_item", "write_catalog", "write_items"]

_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_PROJECTION, _RASTER = _SCHEMA.format("projection/v2.0.0"), _SCHEMA.format("raster/v1.1.0")
_EO, _CLASSIFICATION = _SCHEMA.format("eo/v1.1.0"), _SCHEMA.format("classification/v2.0.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """STAC metadata of a spectral band."""

    name: str
    """Band name of the producer, such as "SR_B4"."""
    common_name: str
    """STAC common name, such as "red"."""
    wavelength: float
    """Center wavelength, in micrometers."""
    scale: float = 1.0
    """Physical value = stored value * scale + offset."""
    offset: float = 0.0
    """See `scale`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A class of a classification asset."""

    value: int
    """Class code."""
    name: str
    """Class name."""
    color: str
    """"#rrggbb"."""


def make_item(
    name: str,
    files: Mapping[str, str | Path],
    *,
    time: datetime | tuple[datetime, datetime],
    collection: str | None = None,
    bands: Mapping[str, Band] | None = None,
    categories: Sequence[Category] = (),
    footprint: Sequence[tuple[float, float]] | None = None,
    **properties: Any,
) -> pystac.Item:
    """
    Return a STAC item of rasters on disk.

    Grids, dtypes and nodata are read from the files' headers. ``proj:code`` is a property of the item if
    all files have it, else of each asset; ``proj:shape`` and ``proj:transform`` are fields of each asset.

    Parameters
    ----------
    name
        The item's id.
    files
        Path of each asset by key. Hrefs are absolute; `write_catalog` makes them relative.
    time
        Time of acquisition, or (start, end) of a period. Naive times are UTC.
    collection
        Id of the collection.
    bands
        Spectral band of each asset by key.
    categories
        Classes of the assets without a band.
    footprint
        Corners of the valid area, in the CRS of the first raster; by default the raster's corners.
    properties
        Further properties. A double underscore stands for a colon: ``eo__cloud_cover=3``.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import datetime
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from geoxt.testing import make_grid, write_cog
    >>> path = write_cog(Path(tempfile.mkdtemp(), "red.tif"), np.ones((64, 64), "uint8"), grid=make_grid((64, 64)))
    >>> item = make_item("scene-1", {"red": path}, time=datetime(2020, 7, 1))
    >>> item.assets["red"].extra_fields["proj:shape"]
    [64, 64]
    """
    headers = {key: _header(Path(path)) for key, path in files.items()}
    first = next(iter(headers.values())).grid
    geometry, bbox = _geographic(footprint or first.extent.exterior.coords[:-1], str(first.crs))
    moment, start, end = (None, *time) if isinstance(time, tuple) else (time, None, None)
    item = pystac.Item(
        id=name,
        geometry=geometry,
        bbox=bbox,
        datetime=_utc(moment),
        start_datetime=_utc(start),
        end_datetime=_utc(end),
        properties={key.replace("__", ":"): value for key, value in properties.items()},
        collection=collection,
        stac_extensions=[_PROJECTION, _RASTER],
    )
    item.stac_extensions += [_EO] if bands else []
    item.stac_extensions += [_CLASSIFICATION] if categories else []
    codes = {_code(header.grid) for header in headers.values()}
    if len(codes) == 1:
        item.properties["proj:code"] = codes.pop()
    for key, header in headers.items():
        fields = header.fields(bands.get(key) if bands else None, categories)
        if codes:
            fields["proj:code"] = _code(header.grid)
        words = _words(header, key, bands)
        item.add_asset(key, pystac.Asset(href=str(header.path.absolute()), extra_fields=fields, **words))
    return item


def write_catalog(
    root: str | Path, items: Iterable[pystac.Item], *, name: str = "catalog", titles: Mapping[str, str] | None = None
) -> Path:
    """
    Write a self-contained static catalog: ``catalog.json``, and a folder per collection and item.

    Parameters
    ----------
    root
        Folder of ``catalog.json``. Hrefs are relative, so that a folder of rasters and catalog can be moved.
    items
        Items, all of them with a collection or all without.
    name
        Id of the catalog.
    titles
        Title of each collection by id.

    Returns
    -------
    Path
        ``catalog.json``.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import datetime
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from geoxt.testing import make_grid, write_cog
    >>> folder = Path(tempfile.mkdtemp())
    >>> path = write_cog(folder / "red.tif", np.ones((64, 64), "uint8"), grid=make_grid((64, 64)))
    >>> item = make_item("scene-1", {"red": path}, time=datetime(2020, 7, 1))
    >>> write_catalog(folder, [item]).name
    'catalog.json'
    """
    titles = titles or {}
    catalog = pystac.Catalog(id=name, description=titles.get(name, "Generated rasters."))
    groups: dict[str | None, list[pystac.Item]] = {}
    for item in items:
        groups.setdefault(item.collection_id, []).append(item.clone())
    for key, members in groups.items():
        parent = catalog if key is None else _collection(key, members, titles.get(key, key))
        if parent is not catalog:
            catalog.add_child(parent)
        for member in members:
            parent.add_item(member)
    catalog.normalize_hrefs(str(Path(root).absolute()))
    catalog.make_all_asset_hrefs_relative()
    catalog.save(pystac.CatalogType.SELF_CONTAINED)
    return Path(root) / "catalog.json"


def write_items(path: str | Path, items: Iterable[pystac.Item], *, relative: bool = False) -> Path:
    """
    Write a STAC ItemCollection: a GeoJSON file of items.

    Parameters
    ----------
    path
        Path of the file.
    items
        The items.
    relative
        Whether hrefs are relative to the file. By default they are absolute, since the specification defines no base
        of relative hrefs in an ItemCollection.

    Examples
    --------
    >>> import tempfile
    >>> from datetime import datetime
    >>> item = pystac.Item("scene-1", geometry=None, bbox=None, datetime=datetime(2020, 7, 1), properties={})
    >>> write_items(Path(tempfile.mkdtemp(), "items.json"), [item]).name
    'items.json'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    features = []
    for item in items:
        feature = item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []}
        for asset in feature["assets"].values() if relative else ():
            asset["href"] = Path(os.path.relpath(asset["href"], path.parent)).as_posix()
        features.append(feature)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}, indent=1), encoding="utf-8")
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """Header of a raster."""

    path: Path
    grid: GeoBox
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]

    def fields(self, band: Band | None, categories: Sequence[Category]) -> dict[str, Any]:
        """Return the fields of the projection, raster, eo and classification extensions."""
        layers = [
            {"data_type": dtype} | ({} if nodata is None else {"nodata": nodata})
            for dtype, nodata in zip(self.dtypes, self.nodata, strict=True)
        ]
        fields: dict[str, Any] = {"proj:shape": list(self.grid.shape.yx), "proj:transform": list(self.grid.affine[:6])}
        if band is not None:
            layers = [layer | {"scale": band.scale, "offset": band.offset} for layer in layers]
            words = {"name": band.name, "common_name": band.common_name, "center_wavelength": band.wavelength}
            fields["eo:bands"] = [words]
        elif categories:
            fields["classification:classes"] = [_class(category) for category in categories]
        return fields | {"raster:bands": layers}


def _header(path: Path) -> _Header:
    with rasterio.open(path) as file:
        grid = GeoBox(file.shape, Affine(*file.transform[:6]), file.crs and file.crs.to_wkt())
        return _Header(path=path, grid=grid, dtypes=file.dtypes, nodata=file.nodatavals)


def _geographic(corners: Sequence[tuple[float, float]], crs: str) -> tuple[dict[str, Any], list[float]]:
    """Return GeoJSON and bounding box of a ring, cut at the antimeridian (RFC 7946, sections 3.1.9 and 5.2)."""
    ring = np.array([*corners, corners[0]])
    steps = np.linspace(0, 1, 8, endpoint=False)[:, np.newaxis]
    dense = np.concatenate([start + steps * (end - start) for start, end in itertools.pairwise(ring)])
    west, south = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*dense.T)
    ring = shapely.Polygon(np.column_stack([np.unwrap(west, period=360), south]))
    left, bottom, right, top = ring.bounds
    turn = 360 if left < -180 else -360 if right > 180 else 0
    if not turn:
        return dict(shapely.geometry.mapping(ring)), [left, bottom, right, top]
    near, far = shapely.box(-180, -90, 180, 90), shapely.box(-180 - turn, -90, 180 - turn, 90)
    area = shapely.union_all([ring & near, translate(ring & far, xoff=turn)])
    left, right = (left + 360, right) if turn > 0 else (left, right - 360)
    return dict(shapely.geometry.mapping(area)), [left, bottom, right, top]


def _words(header: _Header, key: str, bands: Mapping[str, Band] | None) -> dict[str, Any]:
    media = pystac.MediaType.COG if header.path.suffix.lower() in (".tif", ".tiff") else None
    return {"media_type": media, "roles": ["data"], "title": bands[key].common_name if bands and key in bands else key}


def _class(category: Category) -> dict[str, Any]:
    name = category.name.replace(" ", "_")
    return {"value": category.value, "name": name, "title": category.name, "color_hint": category.color.lstrip("#")}


def _code(grid: GeoBox) -> str | None:
    name = crs_name(grid.crs)
    return name if name.startswith("EPSG:") else None


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _collection(name: str, items: Sequence[pystac.Item], title: str) -> pystac.Collection:
    return pystac.Collection(
        id=name, title=title, description=title, license="other", extent=pystac.Extent.from_items(items)
    )
