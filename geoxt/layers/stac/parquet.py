"""Items of a stac-geoparquet file: one row per item, properties as columns (github.com/stac-utils/stac-geoparquet)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import numpy as np
import shapely
import shapely.geometry

from geoxt.errors import InputError, ReadError, optional_import
from geoxt.layers.area import Area
from geoxt.layers.stac.filters import Selection
from geoxt.pixels.credentials import redact_url
from geoxt.types import Array

EXTENSIONS = (".parquet", ".geoparquet")
FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "links", "assets", "geometry", "bbox")
SIDES = ("xmin", "ymin", "xmax", "ymax")
_TIMES = ("datetime", "start_datetime", "end_datetime")
_SCALARS = frozenset({str, int, float, bool, type(None)})
_POLYGON = 3
"""Number of the type in shapely."""
BATCH = 1000
"""Rows per read."""
SLACK = 1e-3
"""Degrees by which a bounding box may be smaller than its geometry: boxes are often stored as float32."""


def dict_rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table as items in JSON."""
    geometries = geometries_of(batch["geometry"].to_pylist())
    return map(_item_of, batch.drop_columns(["geometry"]).to_pylist(), geometries)


def read_parquet(
    path: str,
    selection: Selection | None = None,
    collections: set[str] | None = None,
    convert: Callable[[Any], Iterator[Any]] = dict_rows,
) -> Iterator[Any]:
    """Yield items, as dicts unless `convert` returns others for a batch of rows.

    Rows are compared with the selection by their columns of collection, bounding box and time, and only those that may
    match are converted. The items that are yielded have still to be compared with the selection by their geometry.
    The ids of all collections of the rows are added to `collections`.

    Raises
    ------
    MissingDependency
        If pyarrow is not installed, or fsspec with aiohttp for a file over HTTP.
    ReadError, InputError
        If the file cannot be read, or lacks the columns of items.
    """
    with optional_import("pyarrow", "stac", f"read stac-geoparquet from {path!r}"):
        import pyarrow as pa
        from pyarrow import parquet
    selection = selection or Selection()
    collections = set() if collections is None else collections
    try:
        with _open_file(path) as opened, parquet.ParquetFile(opened) as file:
            missing = {"id", "assets", "geometry"} - set(file.schema_arrow.names)
            if missing:
                problem = f"Cannot read items from {redact_url(path)!r}: it has no columns {sorted(missing)}."
                raise InputError(problem, remedy="Pass a stac-geoparquet file.")
            for group in range(file.num_row_groups):
                candidates = _candidates(file, group, selection, collections)
                for batch in _batches(file, group, candidates):
                    yield from convert(batch)
    except (OSError, pa.ArrowException, shapely.errors.ShapelyError) as error:
        problem = f"Cannot read stac-geoparquet from {redact_url(path)!r}: {redact_url(str(error))}."
        raise ReadError(problem, remedy="Check that the file is complete.") from error


def time_range(path: str) -> tuple[np.datetime64, np.datetime64] | None:
    """Return the earliest and the latest time of the items of a file (UTC); `None` if its columns state none."""
    import pyarrow as pa
    from pyarrow import parquet

    with _open_file(path) as opened, parquet.ParquetFile(opened) as file:
        schema = file.schema_arrow
        names = [name for name in _TIMES if name in schema.names and pa.types.is_timestamp(schema.field(name).type)]
        table = file.read(columns=names)
    times = np.concatenate(
        [[np.datetime64("NaT", "ns")], *(table[n].to_numpy().astype("datetime64[ns]") for n in names)]
    )
    known = times[~np.isnat(times)]
    return (known.min(), known.max()) if len(known) else None


@contextmanager
def _open_file(path: str) -> Iterator[Any]:
    """Yield the path, or a file that is read by HTTP range requests."""
    if not path.startswith(("http://", "https://")):
        yield path
        return
    with optional_import("fsspec, aiohttp", "stac", f"read stac-geoparquet from {redact_url(path)!r}"):
        import aiohttp
        from fsspec.implementations.http import HTTPFileSystem
    try:
        with HTTPFileSystem(block_size=2**20).open(path) as file:
            yield file
    except aiohttp.ClientError as error:
        raise OSError(redact_url(str(error))) from None


def _batches(file: Any, group: int, candidates: Array) -> Iterator[Any]:
    """Yield the candidate rows of a row group, a batch at a time."""
    if not candidates.any():
        return
    first = 0
    for batch in file.iter_batches(batch_size=BATCH, row_groups=[group]):
        selected = np.flatnonzero(candidates[first : first + batch.num_rows])
        if len(selected):
            yield batch if len(selected) == batch.num_rows else batch.take(selected)
        first += batch.num_rows
        if not candidates[first:].any():
            return


def _candidates(file: Any, group: int, selection: Selection, collections: set[str]) -> Array:
    """Return which rows of a row group may match, and add their collections to a set."""
    columns = [] if selection.collections is None else ["collection"]
    columns += [] if selection.times is None else _TIMES
    columns += [] if selection.area is None else ["bbox"]
    columns = [name for name in columns if name in file.schema_arrow.names]
    candidates = np.ones(file.metadata.row_group(group).num_rows, bool)
    if not columns:
        return candidates
    table = file.read_row_group(group, columns=columns)
    if "collection" in columns:
        names = np.asarray(table["collection"].to_pandas(), object)
        collections.update(map(str, set(names.tolist())))
        candidates &= np.isin(names.astype(str), list(selection.collections or ()))
    if selection.times is not None:
        candidates &= _within_times(table, *selection.times)
    if selection.area is not None and "bbox" in columns:
        candidates &= _near(table["bbox"], selection.area)
    return candidates


def _within_times(table: Any, first: np.datetime64 | None, last: np.datetime64 | None) -> Array:
    """Return which rows overlap an interval of time; True for rows whose times are missing or of another type."""
    import pyarrow as pa

    present = [name for name in _TIMES if name in table.column_names]
    if not present or any(not pa.types.is_timestamp(table[name].type) for name in present):
        return np.ones(table.num_rows, bool)
    none = np.full(table.num_rows, np.datetime64("NaT", "ns"))
    times = {name: table[name].to_numpy().astype("datetime64[ns]") for name in present}
    moment = times.get("datetime", none)
    start, end = (np.where(np.isnat(t), moment, t) for t in (times.get(name, none) for name in _TIMES[1:]))
    late = False if last is None else start > last
    early = False if first is None else end < first
    return ~(np.zeros(table.num_rows, bool) | late | early)


def _near(boxes: Any, area: Area) -> Array:
    """Return which bounding boxes overlap the bounds of a part of an area; True for missing or unreadable boxes."""
    import pyarrow as pa

    if not pa.types.is_struct(boxes.type) or not {*SIDES} <= {field.name for field in boxes.type}:
        return np.ones(len(boxes), bool)
    structs = boxes.combine_chunks()
    xmin, ymin, xmax, ymax = (structs.field(side).to_numpy(zero_copy_only=False).astype(float) for side in SIDES)
    missing = ~np.isfinite(xmin + ymin + xmax + ymax) | ~structs.is_valid().to_numpy(zero_copy_only=False)
    crosses = (xmin > xmax) | (xmax - xmin > 180)  # across the antimeridian: its geometry decides
    near = np.zeros(len(boxes), bool)
    for west, south, east, north in shapely.bounds(shapely.get_parts(area.shape)) + SLACK * np.array([-1, -1, 1, 1]):
        inside = crosses.copy()
        for shift in (-360, 0, 360):
            inside |= (xmin + shift <= east) & (xmax + shift >= west)
        near |= inside & (ymin <= north) & (ymax >= south)
    return near | missing


def _item_of(row: Mapping[str, Any], geometry: Any) -> dict[str, Any]:
    properties = {k: to_json(v) for k, v in row.items() if k not in FIELDS and v is not None}
    properties.setdefault("datetime", None)
    assets = json.loads(row["assets"]) if isinstance(row["assets"], str) else row["assets"]
    return {
        "type": "Feature",
        "stac_version": row.get("stac_version") or "1.0.0",
        "stac_extensions": list(row.get("stac_extensions") or ()),
        "id": str(row["id"]),
        "collection": row.get("collection"),
        "properties": properties,
        "geometry": geometry,
        "bbox": json_box(row.get("bbox")),
        "links": [],
        "assets": {key: to_json(asset) for key, asset in assets.items() if asset is not None},
    }


def to_json(value: Any) -> Any:
    """Return a JSON value; null fields, which belong to other rows, are dropped."""
    if type(value) in _SCALARS:
        return value
    match value:
        case datetime():
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {k: to_json(v) for k, v in value.items() if v is not None}
        case list() if not _SCALARS.issuperset(map(type, value)):
            return [to_json(v) for v in value]
        case _:
            return value


def geometries_of(values: list[Any]) -> list[dict[str, Any] | None]:
    """Return geometries that are WKB or dicts as GeoJSON."""
    if not all(value is None or isinstance(value, bytes) for value in values):
        return [_geometry(v if v is None or isinstance(v, dict) else shapely.from_wkb(v)) for v in values]
    shapes: Array = np.asarray(shapely.from_wkb(np.array([*values, None], object)))[:-1]
    plain = (
        (shapely.get_type_id(shapes) == _POLYGON)
        & ~shapely.has_z(shapes)
        & (shapely.get_num_interior_rings(shapes) == 0)
    )
    plain &= ~shapely.is_empty(shapes)
    points = iter(shapely.get_coordinates(shapes[plain]).tolist())
    counts = shapely.get_num_coordinates(shapes).tolist()
    return [
        {"type": "Polygon", "coordinates": (tuple(map(tuple, islice(points, count))),)}
        if is_plain
        else _geometry(shape)
        for shape, is_plain, count in zip(shapes, plain.tolist(), counts, strict=True)
    ]


def _geometry(value: Any) -> dict[str, Any] | None:
    return value if value is None or isinstance(value, dict) else dict(shapely.geometry.mapping(value))


def json_box(value: Any) -> list[float] | None:
    """Return the `bbox` of an item, stored as a struct or as a list."""
    if isinstance(value, Mapping):
        return [float(value[side]) for side in SIDES]
    return None if value is None else [float(side) for side in value]
