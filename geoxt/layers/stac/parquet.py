"""Items of a stac-geoparquet file: a row an item, its properties as columns (github.com/stac-utils/stac-geoparquet)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import shapely
import shapely.geometry

from geoxt.errors import InputError, MissingDependency, ReadError

ENDINGS = (".parquet", ".geoparquet")
_OWN = ("type", "stac_version", "stac_extensions", "id", "collection", "links", "assets", "geometry", "bbox")
BATCH = 1000
"""Rows read at once."""


def read_parquet(path: str) -> Iterator[dict[str, Any]]:
    """Read items as dicts, batch by batch.

    Raises
    ------
    MissingDependency
        Where pyarrow is not installed.
    ReadError, InputError
        Where the file cannot be read, or does not hold items.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        msg = f"Cannot read {path!r}: stac-geoparquet takes pyarrow. Install it with pip install 'geoxt[stac]'."
        raise MissingDependency(msg) from error
    try:
        with parquet.ParquetFile(path) as file:
            lacking = {"id", "assets", "geometry"} - set(file.schema_arrow.names)
            if lacking:
                msg = f"Cannot read items from {path!r}: it has no columns {sorted(lacking)}. Pass stac-geoparquet."
                raise InputError(msg)
            for batch in file.iter_batches(batch_size=BATCH):
                yield from map(_item, batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        msg = f"Cannot read stac-geoparquet from {path!r}: {error}. Is the file whole?"
        raise ReadError(msg) from error


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    properties = {k: _plain(v) for k, v in row.items() if k not in _OWN and v is not None}
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
        "assets": {key: _plain(asset) for key, asset in assets.items() if asset is not None},
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; fields that are null stand for fields that other rows have."""
    match value:
        case datetime():
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return value.isoformat()
        case Mapping():
            return {k: _plain(v) for k, v in value.items() if v is not None}
        case list():
            return [_plain(v) for v in value]
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
