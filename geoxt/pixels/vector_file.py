"""Headers and features of vector files, read by pyogrio or, for GeoParquet, by pyarrow."""

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

from geoxt.crs import geographic_or_projected, parse_crs
from geoxt.errors import CRSError, InputError, MissingDependency, ReadError, optional_import
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.file_version import file_version
from geoxt.pixels.remote import SETTINGS, is_remote
from geoxt.retry import DEFAULT
from geoxt.types import Array, SomeCRS, SomePath

PARQUET = (".parquet", ".geoparquet")
REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")
Bounds = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorHeader:
    """Metadata of one layer of a vector file, read without its features."""

    path: str
    """Path or URL."""
    layer: str | None
    """Name of the layer in the file; `None` for GeoParquet, which has no layers."""
    crs: CRS
    """Coordinate reference system of the geometries."""
    columns: tuple[str, ...]
    """Names of the attributes."""
    count: int
    """Number of features."""
    bounds: Bounds | None
    """Extent in the CRS, if the file states it."""
    version: Any = None
    """Sizes, times and inodes of a local file and its sidecars when the header was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features read from a file."""

    ids: Array
    """(features,) int64: feature id (FID) in the file, or row number in GeoParquet."""
    geometry: Array
    """(features,): shapely geometries; `None` for features without one."""
    columns: dict[str, Array]
    """(features,) values of each requested attribute."""


def read_vector_header(path: SomePath, *, layer: str | None = None, crs: SomeCRS | None = None) -> VectorHeader:
    """Read the header of a vector file.

    Parameters
    ----------
    path
        Path or URL of a file that pyogrio opens, or of a GeoParquet file.
    layer
        Name of the layer, for files with several.
    crs
        CRS of a file without one; never overrides the file's CRS.

    Raises
    ------
    InputError
        If the file does not exist, lacks the layer, or has several layers and `layer` is None.
    CRSError
        If it has no CRS and `crs` is None.
    ReadError
        If it cannot be opened.
    """
    href = os.fspath(path)
    version = file_version(href)
    if not href.startswith(REMOTE) and not Path(href).exists():
        msg = f"Cannot find the vector file {redact_url(href)!r}."
        raise InputError(msg, remedy="Pass the path of an existing file.")
    file_crs, columns, count, bounds, layer = _parquet_header(href) if _is_parquet(href) else _ogr_header(href, layer)
    own_crs = geographic_or_projected(file_crs)
    if own_crs is None and crs is None:
        lacks = "no CRS" if file_crs is None else "a CRS that is neither geographic nor projected"
        problem = f"Cannot georeference {redact_url(href)!r}: the file has {lacks}."
        raise CRSError(problem, remedy="Pass {source_crs:'EPSG:4326'}, or another CRS.", argument="source_crs")
    chosen_crs = parse_crs(crs) if own_crs is None else own_crs
    return VectorHeader(
        path=href, layer=layer, crs=chosen_crs, columns=columns, count=count, bounds=bounds,
        version=version and version.token,
    )  # fmt: skip


def read_column(header: VectorHeader, column: str) -> Array:
    """Read one attribute of all features of a file, without their geometries."""
    with _as_read_error(header.path):
        if _is_parquet(header.path):
            table = _parquet().ParquetFile(header.path).read(columns=[column])
            return np.asarray(table[column].to_pandas())
        _, _, _, fields = _pyogrio(header.path).raw.read(
            header.path, layer=header.layer, columns=[column], read_geometry=False
        )
        return np.asarray(fields[0])


def read_features(header: VectorHeader, *, columns: Sequence[str] = (), bounds: Bounds | None = None) -> Features:
    """Read the features of a file whose extent intersects a rectangle, in the order of their ids.

    Parameters
    ----------
    header
        Header of the file.
    columns
        Attributes to read.
    bounds
        Left, bottom, right, top in the file's CRS; `None` for all features.

    Raises
    ------
    ReadError
        If the file cannot be read.
    """
    names = list(dict.fromkeys(columns))
    with _as_read_error(header.path):
        if _is_parquet(header.path):
            ids, geometry, values = _read_parquet(header.path, names, bounds)
        else:
            info, ids, geometry, fields = _pyogrio(header.path).raw.read(
                header.path, layer=header.layer, columns=names, bbox=bounds, return_fids=True, force_2d=True
            )
            values = dict(zip(map(str, info["fields"]), fields, strict=True))  # in the file's order
        geometries = shapely.force_2d(shapely.from_wkb(geometry))
    order = np.argsort(ids, kind="stable")  # a spatial index returns them unordered
    columns_by_name = {name: column[order] for name, column in values.items()}
    geometries = np.atleast_1d(geometries)[order]
    return Features(ids=np.asarray(ids, np.int64)[order], geometry=geometries, columns=columns_by_name)


def _is_parquet(href: str) -> bool:
    return href.lower().endswith(PARQUET)


@contextmanager
def _as_read_error(href: str) -> Iterator[None]:
    """Raise errors of pyogrio, pyarrow and shapely as a ReadError that names the file."""
    try:
        yield
    except MissingDependency:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, shapely.errors.ShapelyError) as error:
        problem = f"Cannot read the vector file {redact_url(href)!r}: {redact_url(str(error))}"
        cause = error if redact_url(str(error)) == str(error) else None  # its message may hold a signed URL
        raise ReadError(problem, remedy="Check that it is complete, or convert it to GeoPackage.") from cause


def _pyogrio(href: str) -> Any:
    with optional_import("pyogrio", "vector", "read vector files"):
        import pyogrio
    if is_remote(href):  # pyogrio's wheel bundles a GDAL of its own, which has process-wide options only
        options = {
            **SETTINGS,
            "GDAL_HTTP_MAX_RETRY": str(DEFAULT.retries),
            "GDAL_HTTP_RETRY_DELAY": str(DEFAULT.delay),
        }
        unset = {k: v for k, v in options.items() if pyogrio.get_gdal_config_option(k) is None}
        pyogrio.set_gdal_config_options(unset)
    return pyogrio


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        msg = "Cannot read GeoParquet without pyarrow."
        raise MissingDependency(msg, remedy="Install it: pip install pyarrow. Or pass a GeoPackage.") from error
    return parquet


HeaderValues = tuple[SomeCRS | None, tuple[str, ...], int, Bounds | None, str | None]
"""CRS, attributes, number of features, extent and layer of a file."""


def _ogr_header(href: str, layer: str | None) -> HeaderValues:
    pyogrio = _pyogrio(href)
    with _as_read_error(href):
        names = [str(name) for name in pyogrio.list_layers(href)[:, 0]]
    if not names or (layer is not None and layer not in names):
        missing = f"layer {layer!r}" if names else "any layer"
        problem = f"Cannot find {missing} in {redact_url(href)!r}: it has {names}."
        raise InputError(problem, remedy="Pass one of the listed layers as {layer}.", argument="layer")
    if layer is None and len(names) > 1:
        problem = f"Cannot choose one layer of {redact_url(href)!r}: it has {names}."
        raise InputError(problem, remedy="Pass one of the listed layers as {layer}.", argument="layer")
    chosen = layer or names[0]
    with _as_read_error(href):
        info = pyogrio.read_info(href, layer=chosen, force_feature_count=True, force_total_bounds=True)
    stated, bounds = info["total_bounds"], None
    if stated is not None and np.isfinite(stated).all():
        left, bottom, right, top = map(float, stated)
        bounds = left, bottom, right, top
    return info["crs"], tuple(map(str, info["fields"])), int(info["features"]), bounds, chosen


def _parquet_header(href: str) -> HeaderValues:
    with _as_read_error(href):
        file = _parquet().ParquetFile(href)
        geo, geometry = _geo(file)
        column = geo["columns"][geometry]
        names = tuple(name for name in file.schema_arrow.names if name != geometry)
    crs = column.get("crs", "OGC:CRS84")  # default of the GeoParquet 1.0 specification
    box = column.get("bbox")
    half = len(box) // 2 if box else 0
    bounds = (box[0], box[1], box[half], box[half + 1]) if box else None
    crs = json.dumps(crs) if isinstance(crs, dict) else crs
    return crs, names, int(file.metadata.num_rows), bounds, None


def _geo(file: Any) -> tuple[dict[str, Any], str]:
    """Return GeoParquet's metadata and the name of the primary geometry column."""
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
    """Return ids, WKB geometries and attributes; row groups outside the bounds are skipped."""
    file = _parquet().ParquetFile(href)
    geo, geometry = _geo(file)
    bbox_columns = _bbox_columns(file, geo["columns"][geometry])
    ids, geometries = [np.empty(0, np.int64)], [np.empty(0, object)]
    values: dict[str, list[Array]] = {name: [] for name in names}
    row = 0
    for group in range(file.metadata.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if bounds is None or _intersects(file.metadata.row_group(group), bbox_columns, bounds):
            table = file.read_row_group(group, columns=[geometry, *names])
            ids.append(np.arange(row, row + count))
            geometries.append(np.asarray(table[geometry].to_pandas(), object))
            for name in names:
                values[name].append(np.asarray(table[name].to_pandas()))
        row += count
    joined = {name: np.concatenate(chunks) if chunks else np.empty(0, object) for name, chunks in values.items()}
    return np.concatenate(ids), np.concatenate(geometries), joined


def _bbox_columns(file: Any, column: dict[str, Any]) -> list[int]:
    """Return the indices of the columns left, bottom, right and top (GeoParquet 1.1 "covering"), or none."""
    paths = column.get("covering", {}).get("bbox")
    if not paths:
        return []
    stored = [file.schema.column(i).path for i in range(len(file.schema))]
    return [stored.index(".".join(paths[side])) for side in ("xmin", "ymin", "xmax", "ymax")]


def _intersects(group: Any, bbox_columns: list[int], bounds: Bounds) -> bool:
    """Return whether a row group may hold features in a rectangle, by its statistics; True without statistics."""
    statistics = [group.column(index).statistics for index in bbox_columns]
    if not statistics or any(s is None or not s.has_min_max for s in statistics):
        return True
    (left, bottom, right, top), (xmin, ymin, xmax, ymax) = bounds, statistics
    return bool(xmin.min <= right and xmax.max >= left and ymin.min <= top and ymax.max >= bottom)
