"""Splits on disk: GeoJSON and GeoParquet features in WGS 84, with the exact pixels beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import MissingDependency, OutputError, ReadError
from geoxt.grid import transformer
from geoxt.samplers.sampler_files import grid_facts, grid_from
from geoxt.types import SomePath

PARTS = ("train", "val", "test")
_WGS84 = CRS("EPSG:4326")
_FIELDS = ("row", "col", "height", "width")
_JSON, _PARQUET = {".geojson", ".json"}, {".parquet", ".geoparquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a split says, as plain values by part."""

    grid: GeoBox
    """The grid of all parts."""
    rows: dict[str, list[tuple[int, int, int, int]]]
    """Row, column, height, width of each rectangle."""
    joined: dict[str, bool]
    """Whether windows may lie across rectangles."""
    margin: dict[str, int | None]
    """Pixels around each rectangle that no other part uses."""
    times: dict[str, list[str] | None]
    """Time steps, ISO 8601."""
    gap: int | None
    """Least time between steps of two parts, nanoseconds."""

    @property
    def head(self) -> dict[str, Any]:
        """All but the rectangles."""
        own = {"joined": self.joined, "margin": self.margin, "times": self.times, "gap": self.gap}
        return {"format": "geoxt split 1", "grid": grid_facts(self.grid), **own}


def save_facts(path: SomePath, facts: Mapping[str, Facts]) -> None:
    """Write a split, in the format that the end of the name says; a file of that name is replaced when all is written.

    Parameters
    ----------
    path
        Ends in .geojson, .json, .parquet or .geoparquet.
    facts
        Of each child of a tree by its node; of one grid, alone under an empty name.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        match target.suffix.lower():
            case end if end in _JSON:
                features = [
                    {"type": "Feature", "properties": fields, "geometry": shapely.geometry.mapping(polygon)}
                    for fields, polygon in zip(*_features(facts), strict=True)
                ]
                text = json.dumps({"type": "FeatureCollection", "geoxt": _head(facts), "features": features})
                partial.write_text(text)
            case end if end in _PARQUET:
                frame_of(facts).assign(geoxt=json.dumps(_head(facts))).to_parquet(partial, index=False)
            case end:
                msg = f"Cannot save a split to a file that ends in {end!r}: pass one in .geojson or .parquet."
                raise OutputError(msg)
        partial.replace(target)
    except ImportError as error:
        msg = "Cannot write GeoParquet without pyarrow: pip install pyarrow, or save to .geojson."
        raise MissingDependency(msg) from error
    except OSError as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OutputError):
            raise
        msg = f"Cannot save the split to {str(path)!r}: {error}. Pass a path in a folder that can be written."
        raise OutputError(msg) from error


def load_facts(path: SomePath) -> dict[str, Facts]:
    """Read a split: of each child of a tree by its node, or of one grid under an empty name."""
    try:
        if Path(path).suffix.lower() in _PARQUET:
            table = _geopandas().read_parquet(path)
            fields = [c for c in ("node", "part", *_FIELDS) if c in table.columns]
            head, properties = json.loads(table["geoxt"].iloc[0]), table[fields].to_dict("records")
        else:
            found = json.loads(Path(path).read_text())
            head, properties = found["geoxt"], [f["properties"] for f in found["features"]]
        heads = head.get("nodes", {"": head})
        return {node: _facts(own, [p for p in properties if p.get("node", "") == node]) for node, own in heads.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        msg = f"Cannot load a split from {str(path)!r}: {error}. Pass a file that Split.save wrote."
        raise ReadError(msg) from error


def _facts(head: dict[str, Any], properties: list[dict[str, Any]]) -> Facts:
    rows: dict[str, list[tuple[int, int, int, int]]] = {name: [] for name in PARTS}
    for one in properties:
        rows[one["part"]].append((int(one["row"]), int(one["col"]), int(one["height"]), int(one["width"])))
    options = {name: head[name] for name in ("joined", "margin", "times", "gap")}
    return Facts(grid=grid_from(head["grid"]), rows=rows, **options)


def _head(facts: Mapping[str, Facts]) -> dict[str, Any]:
    if list(facts) == [""]:
        return facts[""].head
    return {"format": "geoxt split 1", "nodes": {node: one.head for node, one in facts.items()}}


def frame_of(facts: Mapping[str, Facts]) -> Any:
    """Return the rectangles as a GeoDataFrame."""
    fields, polygons = _features(facts)
    names = ("part", *_FIELDS) if list(facts) == [""] else ("node", "part", *_FIELDS)
    columns = {name: [one[name] for one in fields] for name in names}
    return _geopandas().GeoDataFrame(columns, geometry=polygons, crs="EPSG:4326")


def _features(facts: Mapping[str, Facts]) -> tuple[list[dict[str, Any]], list[shapely.Polygon]]:
    """Return the properties of all rectangles, and the rectangles in longitude and latitude."""
    fields: list[dict[str, Any]] = []
    polygons: list[shapely.Polygon] = []
    for node, one in facts.items():
        own = {"node": node} if node else {}
        found = [
            {**own, "part": part, **dict(zip(_FIELDS, row, strict=True))} for part in PARTS for row in one.rows[part]
        ]
        fields += found
        polygons += _polygons(one.grid, found)
    return fields, polygons


def _polygons(grid: GeoBox, fields: list[dict[str, Any]]) -> list[shapely.Polygon]:
    table = np.array([[one[f] for f in _FIELDS] for one in fields], "float64").reshape(-1, 4)
    row, col, low, right = table[:, 0], table[:, 1], table[:, 0] + table[:, 2], table[:, 1] + table[:, 3]
    x, y = np.stack((col, col, right, right, col), 1), np.stack((row, low, low, row, row), 1)
    a = grid.affine
    x, y = a.a * x + a.b * y + a.c, a.d * x + a.e * y + a.f
    x, y = transformer(grid.crs, _WGS84).transform(x, y)
    rings = np.stack((np.round(x, 8), np.round(y, 8)), axis=-1)
    return [shapely.Polygon(ring) for ring in rings]


def _geopandas() -> Any:
    try:
        import geopandas as gpd
    except ImportError as error:
        msg = "Cannot make a GeoDataFrame without geopandas: pip install 'geoxt[vector]'."
        raise MissingDependency(msg) from error
    return gpd
