"""Vector files: what a header says, and the features near a place, read by pyogrio or (GeoParquet) by pyarrow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS

from geoxt.errors import CRSError, InputError, MissingDependency, ReadError
from geoxt.grid import parse_crs
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.remote import SETTINGS, is_remote
from geoxt.retry import DEFAULT
from geoxt.types import Array, SomeCRS, SomePath

PARQUET = (".parquet", ".geoparquet")
REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")
Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorHeader:
    """What is known of one layer of a vector file before any of its features is read."""

    path: str
    """Path or URL."""
    layer: str | None
    """Name of the layer in the file; `None` for GeoParquet, which has one."""
    crs: CRS
    """Coordinate reference system of the geometries."""
    columns: tuple[str, ...]
    """Names of the attributes."""
    count: int
    """Features."""
    bounds: Bounds | None
    """Extent in the CRS, where the file says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features as they stand in a file."""

    ids: Array
    """(features,) int64: the file's own number of each, or its row in GeoParquet."""
    geometry: Array
    """(features,): shapely geometries; `None` where one has none."""
    columns: dict[str, Array]
    """(features,) for each attribute that was asked for."""


def read_vector_header(path: SomePath, *, layer: str | None = None, crs: SomeCRS | None = None) -> VectorHeader:
    """Return what is known of a vector file.

    Parameters
    ----------
    path
        Path or URL of anything that pyogrio opens, or of a GeoParquet file.
    layer
        Which layer of a file that has several.
    crs
        CRS of a file that has none.

    Raises
    ------
    InputError
        Where the file is not there, or has several layers and none was chosen.
    CRSError
        Where it has no CRS and none is given.
    ReadError
        Where it cannot be opened.
    """
    href = os.fspath(path)
    if not href.startswith(REMOTE) and not Path(href).exists():
        msg = f"Cannot find the vector file {redact_url(href)!r}. Pass the path of one that is there."
        raise InputError(msg)
    own, columns, count, bounds, layer = _parquet_header(href) if _is_parquet(href) else _ogr_header(href, layer)
    if own is None and crs is None:
        msg = f"Cannot place {redact_url(href)!r} on Earth: the file has no CRS."
        raise CRSError(msg + " Pass source_crs=, e.g. source_crs='EPSG:4326'.")
    return VectorHeader(
        path=href, layer=layer, crs=parse_crs(crs if own is None else own), columns=columns, count=count, bounds=bounds
    )


def read_column(header: VectorHeader, column: str) -> Array:
    """Return one attribute of all features of a file, without their geometries."""
    with _readable(header.path):
        if _is_parquet(header.path):
            table = _parquet().ParquetFile(header.path).read(columns=[column])
            return np.asarray(table[column].to_pandas())
        found = _pyogrio(header.path).raw.read(header.path, layer=header.layer, columns=[column], read_geometry=False)
        return np.asarray(found[3][0])


def read_features(header: VectorHeader, *, columns: Sequence[str] = (), bounds: Bounds | None = None) -> Features:
    """Return the features of a file whose extent meets a rectangle, by their numbers.

    Parameters
    ----------
    header
        The file.
    columns
        Attributes to read.
    bounds
        Left, bottom, right, top in the file's CRS; `None` reads all.

    Raises
    ------
    ReadError
        Where the file cannot be read.
    """
    names = list(dict.fromkeys(columns))
    with _readable(header.path):
        if _is_parquet(header.path):
            ids, geometry, values = _read_parquet(header.path, names, bounds)
        else:
            said, ids, geometry, fields = _pyogrio(header.path).raw.read(
                header.path, layer=header.layer, columns=names, bbox=bounds, return_fids=True, force_2d=True
            )
            values = dict(zip(map(str, said["fields"]), fields, strict=True))  # in the file's order, not in ours
        shapes = shapely.force_2d(shapely.from_wkb(geometry))
    order = np.argsort(ids, kind="stable")  # a spatial index gives them as it finds them
    values = {name: found[order] for name, found in values.items()}
    return Features(ids=np.asarray(ids, np.int64)[order], geometry=np.atleast_1d(shapes)[order], columns=values)


def _is_parquet(href: str) -> bool:
    return href.lower().endswith(PARQUET)


@contextmanager
def _readable(href: str) -> Iterator[None]:
    """Turn what libraries raise of a file into a ReadError that names it."""
    try:
        yield
    except MissingDependency:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, shapely.errors.ShapelyError) as error:
        said = f"{redact_url(href)!r}: {redact_url(str(error))}"
        msg = f"Cannot read the vector file {said} Check that it is whole, or convert it to GeoPackage."
        raise ReadError(msg) from (error if redact_url(str(error)) == str(error) else None)


def _pyogrio(href: str) -> Any:
    try:
        import pyogrio
    except ImportError as error:
        msg = "Cannot read vector files without pyogrio. Install it: pip install 'geoxt[vector]'."
        raise MissingDependency(msg) from error
    if is_remote(href):  # pyogrio has a GDAL of its own, whose settings are for the whole process
        patience = {
            **SETTINGS,
            "GDAL_HTTP_MAX_RETRY": str(DEFAULT.retries),
            "GDAL_HTTP_RETRY_DELAY": str(DEFAULT.delay),
        }
        unset = {k: v for k, v in patience.items() if pyogrio.get_gdal_config_option(k) is None}
        pyogrio.set_gdal_config_options(unset)
    return pyogrio


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        msg = "Cannot read GeoParquet without pyarrow. Install it (pip install pyarrow), or pass a GeoPackage."
        raise MissingDependency(msg) from error
    return parquet


Found = tuple[SomeCRS | None, tuple[str, ...], int, Bounds | None, str | None]
"""CRS, attributes, number of features, extent and layer of a file."""


def _ogr_header(href: str, layer: str | None) -> Found:
    pyogrio = _pyogrio(href)
    with _readable(href):
        names = [str(name) for name in pyogrio.list_layers(href)[:, 0]]
    if not names or (layer is not None and layer not in names):
        what = f"layer {layer!r}" if names else "any layer"
        msg = f"Cannot find {what} in {redact_url(href)!r}: it has {names}. Pass layer= one of these."
        raise InputError(msg)
    if layer is None and len(names) > 1:
        msg = f"Cannot choose one layer of {redact_url(href)!r}: it has {names}. Pass layer= one of these."
        raise InputError(msg)
    chosen = layer or names[0]
    with _readable(href):
        info = pyogrio.read_info(href, layer=chosen, force_feature_count=True, force_total_bounds=True)
    stated, bounds = info["total_bounds"], None
    if stated is not None and np.isfinite(stated).all():
        left, bottom, right, top = map(float, stated)
        bounds = left, bottom, right, top
    return info["crs"], tuple(map(str, info["fields"])), int(info["features"]), bounds, chosen


def _parquet_header(href: str) -> Found:
    with _readable(href):
        file = _parquet().ParquetFile(href)
        geo, geometry = _geo(file)
        column = geo["columns"][geometry]
        names = tuple(name for name in file.schema_arrow.names if name != geometry)
    crs = column.get("crs", "OGC:CRS84")  # the GeoParquet specification: left out, it is CRS84
    box = column.get("bbox")
    half = len(box) // 2 if box else 0
    bounds = (box[0], box[1], box[half], box[half + 1]) if box else None
    crs = json.dumps(crs) if isinstance(crs, dict) else crs
    return crs, names, int(file.metadata.num_rows), bounds, None


def _geo(file: Any) -> tuple[dict[str, Any], str]:
    """Return GeoParquet's metadata, and the name of the column of geometries."""
    stored = (file.schema_arrow.metadata or {}).get(b"geo")
    if stored is None:
        msg = "it has no 'geo' metadata, so it is not GeoParquet."
        raise ValueError(msg)
    geo = json.loads(stored)
    name = geo["primary_column"]
    if geo["columns"][name]["encoding"] != "WKB":
        msg = f"its geometries are {geo['columns'][name]['encoding']}, not WKB."
        raise ValueError(msg)
    return geo, name


def _read_parquet(href: str, names: list[str], bounds: Bounds | None) -> tuple[Array, Array, dict[str, Array]]:
    """Return ids, geometries as WKB and attributes; row groups that lie elsewhere are passed over."""
    file = _parquet().ParquetFile(href)
    geo, geometry = _geo(file)
    places = _covering(file, geo["columns"][geometry])
    ids, shapes = [np.empty(0, np.int64)], [np.empty(0, object)]
    values: dict[str, list[Array]] = {name: [] for name in names}
    row = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if bounds is None or _meets(file.metadata.row_group(group), places, bounds):
            table = file.read_row_group(group, columns=[geometry, *names])
            ids.append(np.arange(row, row + count))
            shapes.append(np.asarray(table[geometry].to_pandas(), object))
            for name in names:
                values[name].append(np.asarray(table[name].to_pandas()))
        row += count
    joined = {name: np.concatenate(some) if some else np.empty(0, object) for name, some in values.items()}
    return np.concatenate(ids), np.concatenate(shapes), joined


def _covering(file: Any, column: dict[str, Any]) -> list[int]:
    """Return where the columns of left, bottom, right and top stand in a row group; none where there are none."""
    paths = column.get("covering", {}).get("bbox")
    if not paths:
        return []
    stored = [file.schema.column(i).path for i in range(len(file.schema))]
    return [stored.index(".".join(paths[side])) for side in ("xmin", "ymin", "xmax", "ymax")]


def _meets(group: Any, places: list[int], bounds: Bounds) -> bool:
    """Tell whether a row group may hold features in a rectangle, as far as its statistics say."""
    said = [group.column(place).statistics for place in places]
    if not said or any(s is None or not s.has_min_max for s in said):
        return True
    left, bottom, right, top = bounds
    return bool(said[0].min <= right and said[2].max >= left and said[1].min <= top and said[3].max >= bottom)
