"""Saved splits: GeoJSON and GeoParquet features in WGS 84, with exact pixels, grids and time steps beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import transformer
from geoxt.errors import MissingDependency, OutputError, ReadError, optional_import
from geoxt.grid import pix2wld
from geoxt.regions.region import GridRegion, Region
from geoxt.samplers.sampler_files import grid_from_json, grid_to_json
from geoxt.storage import atomic_write
from geoxt.types import SomePath
from geoxt.windows import Window

PARTS = ("train", "val", "test")
"""Names of the parts of a split."""
_WGS84 = CRS("EPSG:4326")
_FORMAT = "geoxt split 1"
_RECTANGLE = ("row", "col", "height", "width")
_COLUMNS = ("node", "part", *_RECTANGLE)
_JSON, _PARQUET = {".geojson", ".json"}, {".parquet", ".geoparquet"}


def save_parts(path: SomePath, parts: Mapping[str, Region], gap: np.timedelta64 | None) -> None:
    """Write the regions of a split in the format of the path's suffix, atomically.

    Parameters
    ----------
    path
        Ends in .geojson, .json, .parquet or .geoparquet.
    parts
        Regions by name: train, val, test.
    gap
        Minimum time between time steps of two parts.

    Raises
    ------
    OutputError
        If the file cannot be written, or its name has another suffix.
    MissingDependency
        For GeoParquet, if geopandas or pyarrow is missing.
    """
    path = Path(path)
    header = {"format": _FORMAT, "nodes": {node: _node_header(node, parts, gap) for node in parts["train"].nodes}}
    suffix = path.suffix.lower()
    if suffix not in _JSON | _PARQUET:
        raise OutputError(
            f"Cannot save a split to a file that ends in {suffix!r}.",
            remedy="Pass {path} in .geojson or .parquet.",
            argument="path",
        )
    try:
        with atomic_write(path) as temporary:
            if suffix in _JSON:
                features = [
                    {"type": "Feature", "properties": properties, "geometry": shapely.geometry.mapping(polygon)}
                    for properties, polygon in _features(parts)
                ]
                temporary.write_text(json.dumps({"type": "FeatureCollection", "geoxt": header, "features": features}))
            else:
                to_geodataframe(parts).assign(geoxt=json.dumps(header)).to_parquet(temporary, index=False)
    except MissingDependency:
        raise
    except ImportError as error:
        raise MissingDependency(
            "Cannot write GeoParquet without pyarrow.", remedy="pip install pyarrow, or save to .geojson."
        ) from error
    except OSError as error:
        raise OutputError(
            f"Cannot save the split to {str(path)!r}: {error}.",
            remedy="Pass {path} in a folder that can be written.",
            argument="path",
        ) from error


def load_parts(path: SomePath) -> tuple[dict[str, Region], np.timedelta64 | None]:
    """Read the regions by part, and the gap, of a saved split.

    Raises
    ------
    ReadError
        If the file is missing or holds no split.
    """
    try:
        if Path(path).suffix.lower() in _PARQUET:
            table = _geopandas().read_parquet(path)
            columns = [column for column in _COLUMNS if column in table.columns]
            header, rows = json.loads(table["geoxt"].iloc[0]), table[columns].to_dict("records")
        else:
            collection = json.loads(Path(path).read_text())
            header, rows = collection["geoxt"], [feature["properties"] for feature in collection["features"]]
        # before splits had nodes, the header of a file was that of its only grid
        headers = header.get("nodes") or {"": header}
        regions = {part: Region(_regions_from_json(part, headers, rows)) for part in PARTS}
        gaps = {node_header["gap"] for node_header in headers.values()}
        gap = gaps.pop()
        return regions, None if gap is None else np.timedelta64(gap, "ns")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ReadError(
            f"Cannot load a split from {str(path)!r}: {error}.",
            remedy="Pass {path} a file that Split.save wrote.",
            argument="path",
        ) from error


def _node_header(node: str, parts: Mapping[str, Region], gap: np.timedelta64 | None) -> dict[str, Any]:
    """Return the grid of a node and the attributes of its regions: joined, margin, times, gap."""
    regions = {part: region.nodes[node] for part, region in parts.items()}
    times = {part: region.times for part, region in regions.items()}
    return {
        "grid": grid_to_json(regions["train"].grid),
        "joined": {part: region.joined for part, region in regions.items()},
        "margin": {part: region.margin for part, region in regions.items()},
        "times": {
            part: None if stamps is None else [str(t.astype("M8[ns]")) for t in stamps]
            for part, stamps in times.items()
        },
        "gap": None if gap is None else int(gap.astype("m8[ns]").astype("int64")),
    }


def _regions_from_json(
    part: str, headers: Mapping[str, dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, GridRegion]:
    """Return the region of each node in one part."""
    windows: dict[str, list[Window]] = {node: [] for node in headers}
    for row in rows:
        if row["part"] == part:
            top, left, height, width = (int(row[name]) for name in _RECTANGLE)
            windows[row.get("node", "")].append(Window(top, left, height, width))
    regions = {}
    for node, header in headers.items():
        times = header["times"][part]
        regions[node] = GridRegion(
            grid_from_json(header["grid"]),
            tuple(windows[node]),
            joined=header["joined"][part],
            margin=header["margin"][part],
            times=None if times is None else tuple(np.datetime64(t, "ns") for t in times),
        )
    return regions


def to_geodataframe(parts: Mapping[str, Region]) -> Any:
    """Return the rectangles of all parts and nodes as a GeoDataFrame in WGS 84."""
    features = _features(parts)
    columns = {name: [properties[name] for properties, _ in features] for name in _COLUMNS}
    return _geopandas().GeoDataFrame(columns, geometry=[polygon for _, polygon in features], crs="EPSG:4326")


def _features(parts: Mapping[str, Region]) -> list[tuple[dict[str, Any], shapely.Polygon]]:
    """Return the properties of each rectangle, and its polygon in longitude and latitude."""
    features: list[tuple[dict[str, Any], shapely.Polygon]] = []
    for node, grid in parts["train"].grids.items():
        rectangles = [(part, w) for part, region in parts.items() for w in region.nodes[node].on(grid)]
        table = np.array([(w.row, w.col, w.height, w.width) for _, w in rectangles], "int64").reshape(-1, 4)
        for (part, _), row, polygon in zip(rectangles, table.tolist(), _polygons(grid, table), strict=True):
            features.append(({"node": node, "part": part, **dict(zip(_RECTANGLE, row, strict=True))}, polygon))
    return features


def _polygons(grid: GeoBox, table: np.ndarray[Any, Any]) -> list[shapely.Polygon]:
    """Return rectangles (n, 4) of a grid as polygons in longitude and latitude."""
    row, col, height, width = table.astype("float64").T
    bottom, right = row + height, col + width
    x, y = np.stack((col, col, right, right, col), 1), np.stack((row, bottom, bottom, row, row), 1)
    x, y = transformer(grid.crs, _WGS84).transform(*pix2wld(grid, x, y))
    rings = np.stack((np.round(x, 8), np.round(y, 8)), axis=-1)  # 1e-8 degrees is a millimetre
    return [shapely.Polygon(ring) for ring in rings]


def _geopandas() -> Any:
    with optional_import("geopandas", "vector", "make a GeoDataFrame"):
        import geopandas as gpd
    return gpd
