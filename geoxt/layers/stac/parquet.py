"""Items of a stac-geoparquet file: one row per item, properties as columns (github.com/stac-utils/stac-geoparquet)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import shapely
import shapely.geometry

from geoxt.errors import InputError, ReadError, optional_import

EXTENSIONS = (".parquet", ".geoparquet")
_FIELDS = ("type", "stac_version", "stac_extensions", "id", "collection", "links", "assets", "geometry", "bbox")
BATCH = 1000
"""Rows per read."""


def read_parquet(path: str) -> Iterator[dict[str, Any]]:
    """Yield items as dicts; rows are read in batches.

    Raises
    ------
    MissingDependency
        If pyarrow is not installed.
    ReadError, InputError
        If the file cannot be read, or lacks the columns of items.
    """
    with optional_import("pyarrow", "stac", f"read stac-geoparquet from {path!r}"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            missing = {"id", "assets", "geometry"} - set(file.schema_arrow.names)
            if missing:
                problem = f"Cannot read items from {path!r}: it has no columns {sorted(missing)}."
                raise InputError(problem, remedy="Pass a stac-geoparquet file.")
            for batch in file.iter_batches(batch_size=BATCH):
                yield from map(_item_of, batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        problem = f"Cannot read stac-geoparquet from {path!r}: {error}."
        raise ReadError(problem, remedy="Check that the file is complete.") from error


def _item_of(row: Mapping[str, Any]) -> dict[str, Any]:
    properties = {k: _to_json(v) for k, v in row.items() if k not in _FIELDS and v is not None}
    properties.setdefault("datetime", None)
    assets = json.loads(row["assets"]) if isinstance(row["assets"], str) else row["assets"]
    return {
        "type": "Feature",
        "stac_version": row.get("stac_version") or "1.0.0",
        "stac_extensions": list(row.get("stac_extensions") or ()),
        "id": str(row["id"]),
        "collection": row.get("collection"),
        "properties": properties,
        "geometry": _geometry(row["geometry"]),
        "bbox": _bbox(row.get("bbox")),
        "links": [],
        "assets": {key: _to_json(asset) for key, asset in assets.items() if asset is not None},
    }


def _to_json(value: Any) -> Any:
    """Return a JSON value; null fields, which belong to other rows, are dropped."""
    match value:
        case datetime():
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {k: _to_json(v) for k, v in value.items() if v is not None}
        case list():
            return [_to_json(v) for v in value]
        case _:
            return value


def _geometry(value: Any) -> dict[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    return dict(shapely.geometry.mapping(shapely.from_wkb(value)))


def _bbox(value: Any) -> list[float] | None:
    if isinstance(value, Mapping):
        return [float(value[side]) for side in ("xmin", "ymin", "xmax", "ymax")]
    return None if value is None else [float(side) for side in value]
