"""Area to cut a layer to: bounds or a geometry in longitude and latitude."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import shapely.affinity
import shapely.geometry
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name
from geoxt.errors import GeoxtError, InputError, OverlapError
from geoxt.footprints import overlap, wrapped_overlap
from geoxt.grid import window_grid

SomeBounds = Sequence[float]
"""West, south, east, north in degrees; west is greater than east across the antimeridian."""
LARGEST_SCENE = 60.0
"""Degrees: extent below which a ring with longitudes of both signs is that of a scene across the antimeridian."""
SomeGeometry = Any
"""A GeoJSON geometry or feature, a shapely geometry, or an object with `__geo_interface__`; in degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A part of the Earth, in degrees of EPSG:4326."""

    shape: shapely.Geometry
    """Geometry, split at the antimeridian."""
    bounds: tuple[float, float, float, float]
    """West, south, east, north; east is above 180 if the area crosses the antimeridian."""
    bbox: tuple[float, float, float, float] | None = None
    """Bounds of a box as STAC has them: west is above east across the antimeridian. `None` for a geometry."""

    @property
    def grid(self) -> GeoBox:
        """The bounds as a grid of one pixel."""
        west, south, east, north = self.bounds
        return GeoBox((1, 1), Affine(east - west, 0, west, 0, south - north, north), "EPSG:4326")

    @property
    def label(self) -> str:
        """The bounds as text, for messages."""
        west, south, east, north = self.bounds
        return f"{west:g} to {east:g} E, {south:g} to {north:g} N"

    def intersects(self, geometry: Mapping[str, Any] | None) -> bool:
        """Return whether a GeoJSON geometry intersects the area; True for a missing geometry."""
        if geometry is None:
            return True
        shape = _unwrap_ring(shapely.geometry.shape(dict(geometry)))
        west, _, east, _ = shape.bounds if not shape.is_empty else (0.0, 0.0, 0.0, 0.0)
        # footprints in catalogs and geometries of users may have longitudes beyond 180 degrees
        shifts = [0, *([360] if west < 0 else []), *([-360] if east > 0 else [])]
        return any(shapely.intersects(self.shape, shapely.affinity.translate(shape, shift)) for shift in shifts)

    def overlaps(self, grid: GeoBox) -> bool:
        """Return whether the bounds of the area overlap a grid."""
        return overlap(grid, self.grid) is not None

    def cut(self, grid: GeoBox) -> GeoBox:
        """Return the part of a grid that covers the area, in whole pixels; contiguous across the ends of the grid.

        Raises
        ------
        OverlapError
            If grid and area do not overlap.
        """
        window = wrapped_overlap(grid, self.grid)
        if window is None:
            problem = f"Cannot cut the layer to {self.label}: its scenes do not overlap it ({crs_name(grid.crs)})."
            raise OverlapError(problem, remedy="Pass another {bbox} or {intersects}.")
        return window_grid(grid, window)


def _unwrap_ring(shape: shapely.Geometry) -> shapely.Geometry:
    """Return a scene's footprint wider than 180 degrees as a polygon across the antimeridian.

    RFC 7946 requires two parts there; many catalogs write one ring with longitudes of both signs.
    """
    west, _, east, _ = shape.bounds if not shape.is_empty else (0.0, 0.0, 0.0, 0.0)
    if shape.geom_type != "Polygon" or east - west <= 180 or west <= -180 or east >= 180:
        return shape
    unwrapped = shapely.transform(shape, lambda p: np.c_[np.where(p[:, 0] < 0, p[:, 0] + 360, p[:, 0]), p[:, 1]])
    left, bottom, right, top = unwrapped.bounds
    of_scene = right - left < LARGEST_SCENE and top - bottom < LARGEST_SCENE  # else of a product of half the Earth
    return shapely.make_valid(unwrapped) if of_scene else shape


def _wrap_longitudes(shape: shapely.Geometry) -> shapely.Geometry:
    """Return a geometry with longitudes of -180 to 180, split at the antimeridian (RFC 7946, 3.1.9).

    It may have longitudes of 0 to 360 or beyond 180, or rings across the antimeridian with longitudes of both signs.
    """
    members, parts = shapely.get_parts(shape).tolist(), list[shapely.Geometry]()
    unwrapped = [_unwrap_ring(part) for part in members]
    if unwrapped == members and shape.bounds[0] >= -180 and shape.bounds[2] <= 180:
        return shape
    for outline in unwrapped:
        part = outline
        west, south, east, north = part.bounds
        if west >= -180 and east <= 180:
            parts.append(part)
            continue
        if east - west >= 360 and part.geom_type == "Polygon":
            east = west + 360
            part = shapely.intersection(part, shapely.box(west, south, east, north))
        for revolution in range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1):
            strip = shapely.box(360 * revolution - 180, south - 1, 360 * revolution + 180, north + 1)
            cut = shapely.intersection(shapely.make_valid(part), strip)
            pieces = [p for p in shapely.get_parts(cut) if shapely.get_dimensions(p) == shapely.get_dimensions(part)]
            parts += [shapely.affinity.translate(piece, -360 * revolution) for piece in pieces if not piece.is_empty]
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def area_of(bbox: SomeBounds | None, intersects: SomeGeometry | None) -> Area | None:
    """Return the area of bounds or a geometry; `None` if neither is given.

    Raises
    ------
    InputError
        If both are given, or one is invalid.
    """
    if bbox is not None and intersects is not None:
        problem = "Cannot cut a layer to two areas: bounds and a geometry are both given."
        raise InputError(problem, remedy="Pass either {bbox} or {intersects}.")
    if bbox is not None:
        return _of_bounds(bbox)
    return None if intersects is None else _of_geometry(intersects)


def _of_bounds(bbox: SomeBounds) -> Area:
    numbers = [float(n) for n in bbox]
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    valid = len(numbers) == 4 and bool(np.isfinite(numbers).all())
    if not valid or numbers[1] >= numbers[3] or numbers[0] == numbers[2] or max(map(abs, numbers[1::2])) > 90:
        problem = f"Cannot read the bounds {list(bbox)!r}."
        remedy = "Pass {bbox} as west, south, east and north in degrees."
        raise InputError(problem, remedy=remedy, value=bbox, argument="bbox")
    west, south, east, north = numbers
    if min(west, east) < -180 or max(west, east) > 180:  # longitudes of 0 to 360, for example
        width = min(east - west, 360) if west < east else (east - west) % 360
        west = -180.0 if width == 360 else (west + 180) % 360 - 180
        east = west + width - (360 if west + width > 180 else 0)
    if west < east:
        sides = (west, south, east, north)
        return Area(shape=shapely.box(*sides), bounds=sides, bbox=sides)
    halves = [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
    bounds = (west, south, east + 360, north)
    return Area(shape=shapely.MultiPolygon(halves), bounds=bounds, bbox=(west, south, east, north))


def _of_geometry(geometry: SomeGeometry) -> Area:
    try:
        interface = getattr(geometry, "__geo_interface__", geometry)
        interface = interface.get("geometry", interface) if isinstance(interface, Mapping) else interface
        shape = shapely.geometry.shape(interface or {})
    except (GeoxtError, AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        problem = f"Cannot read a geometry from {geometry!r}."
        remedy = "Pass {intersects} as GeoJSON or a shapely geometry, in degrees."
        raise InputError(problem, remedy=remedy, value=geometry, argument="intersects") from error
    if shape.is_empty:
        problem = "Cannot cut a layer to an empty geometry."
        raise InputError(problem, remedy="Pass {intersects} with a geometry that is not empty.", argument="intersects")
    if not np.isfinite(shape.bounds).all():
        problem = f"Cannot cut a layer to a geometry with the bounds {shape.bounds}."
        raise InputError(problem, remedy="Pass {intersects} with finite coordinates.", argument="intersects")
    shape = _wrap_longitudes(shape)
    parts = shapely.get_parts(shape)
    # western parts are shifted by 360 degrees if that makes the bounds narrower: across the antimeridian
    shifted = [shapely.affinity.translate(part, 360) if part.centroid.x < 0 else part for part in parts]
    bounds, shifted_bounds = (shapely.total_bounds(np.asarray(group)) for group in (parts, shifted))
    narrower = min(bounds, shifted_bounds, key=lambda sides: sides[2] - sides[0])
    west, south, east, north = narrower.tolist()
    min_extent = 1e-9  # degrees, of a point or a line along a meridian
    return Area(shape=shape, bounds=(west, south, max(east, west + min_extent), max(north, south + min_extent)))
