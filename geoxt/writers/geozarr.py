"""Attributes of Zarr groups by GeoZarr's conventions: CRS (proj:), position (spatial:) and overviews (multiscales)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs

_HOST, _RAW = "https://github.com/zarr-conventions", "https://raw.githubusercontent.com/zarr-conventions"


def _convention(name: str, uuid: str, repository: str, description: str) -> dict[str, str]:
    return {
        "uuid": uuid, "name": name, "description": description,
        "schema_url": f"{_RAW}/{repository}/refs/tags/v1/schema.json",
        "spec_url": f"{_HOST}/{repository}/blob/v1/README.md",
    }  # fmt: skip


_CONVENTIONS = (
    _convention("proj:", "f17cb550-5864-4468-aeb7-f3180cfb622f", "geo-proj",
                "Coordinate reference system information for geospatial data"),
    _convention("spatial:", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "spatial", "Spatial coordinate information"),
)  # fmt: skip
_MULTISCALES = _convention("multiscales", "d35379db-88df-4056-af3a-620245f8e347", "multiscales",
                           "Multiscale layout of zarr datasets")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """An overview of an array."""

    path: str
    """Path of its array in the group."""
    factor: int
    """Full-resolution pixels per pixel along y and x."""
    grid: GeoBox
    """Grid of its pixels; the last row and column may reach beyond the full resolution."""
    source: str
    """Path of the array that it is computed from."""
    source_factor: int
    """Factor of that array; 1 is the full resolution."""


def levels_of(grid: GeoBox, name: str, *, cascade: bool, side: int) -> tuple[Level, ...]:
    """Return overviews by powers of 2, down to at most `side` rows and columns, as GDAL makes them for a COG.

    Parameters
    ----------
    grid
        Grid of the full resolution.
    name
        Name of the array.
    cascade
        Whether each overview is computed from the one before, or from the full resolution.
    side
        Pixels.
    """
    levels: list[Level] = []
    factor, path = 1, name
    while max(-(-size // factor) for size in grid.shape) > side:
        source, source_factor = (path, factor) if cascade else (name, 1)
        factor *= 2
        shape = (-(-grid.shape[0] // factor), -(-grid.shape[1] // factor))
        path = f"ovr_{factor}x/{name}"
        coarse = GeoBox(shape, grid.affine @ Affine.scale(factor), grid.crs)
        levels.append(Level(path=path, factor=factor, grid=coarse, source=source, source_factor=source_factor))
    return tuple(levels)


def position_attrs(grid: GeoBox) -> dict[str, Any]:
    """Return CRS and position of a grid by the proj: and spatial: conventions."""
    assert grid.crs is not None
    code = grid.crs.to_epsg()
    exact = code is not None and parse_crs(f"EPSG:{code}") == grid.crs  # a code of a similar CRS is not a match
    return {
        "zarr_conventions": [dict(convention) for convention in _CONVENTIONS],
        **({"proj:code": f"EPSG:{code}"} if exact else {"proj:wkt2": grid.crs.proj.to_wkt("WKT2_2019")}),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.affine[:6]),
    }


def multiscales_attrs(
    grid: GeoBox, name: str, levels: Sequence[Level], dims: Sequence[str], resampling: str
) -> dict[str, Any]:
    """Return the attributes of a group whose array `name` has overviews, by all three conventions.

    The layout lists arrays, with one scale for each of their dimensions.
    """
    attrs = position_attrs(grid)
    if not levels:
        return attrs
    attrs["zarr_conventions"].append(dict(_MULTISCALES))
    layout: list[dict[str, Any]] = [{"asset": name, "transform": _transform(1, dims), **_position(grid)}]
    layout += [
        {
            "asset": level.path, "derived_from": level.source,
            "transform": _transform(level.factor // level.source_factor, dims), **_position(level.grid),
        }
        for level in levels
    ]  # fmt: skip
    return attrs | {"multiscales": {"layout": layout, "resampling_method": resampling}}


def _transform(factor: int, dims: Sequence[str]) -> dict[str, list[float]]:
    return {
        "scale": [float(factor) if dim in {"y", "x"} else 1.0 for dim in dims],
        "translation": [0.0] * len(dims),
    }


def _position(grid: GeoBox) -> dict[str, Any]:
    return {"spatial:shape": list(grid.shape), "spatial:transform": list(grid.affine[:6])}
