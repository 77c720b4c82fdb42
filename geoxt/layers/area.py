"""Area: the part of the Earth that a layer is cut to, by longitudes and latitudes or by a geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
import shapely.affinity
import shapely.geometry
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import GeoxtError, InputError, OverlapError
from geoxt.footprints import overlap
from geoxt.grid import crs_name, full_window

SomeBounds = Sequence[float]
"""West, south, east, north in degrees; west is greater than east across the antimeridian."""
SomeGeometry = Any
"""A GeoJSON geometry or feature, a shapely geometry, or what has `__geo_interface__`; longitudes and latitudes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A place on Earth, in degrees of EPSG:4326."""

    shape: shapely.Geometry
    """Its outline, cut at the antimeridian."""
    bounds: tuple[float, float, float, float]
    """West, south, east, north; east is beyond 180 where it crosses the antimeridian."""
    bbox: tuple[float, float, float, float] | None = None
    """The same with east back in range, where it is a box; as STAC has it."""

    @property
    def grid(self) -> GeoBox:
        """Its bounds as a grid of one pixel."""
        west, south, east, north = self.bounds
        return GeoBox((1, 1), Affine(east - west, 0, west, 0, south - north, north), "EPSG:4326")

    @property
    def label(self) -> str:
        """Its bounds, for messages."""
        west, south, east, north = self.bounds
        return f"{west:g} to {east:g} E, {south:g} to {north:g} N"

    def touches(self, geometry: Mapping[str, Any] | None) -> bool:
        """Tell whether a GeoJSON geometry touches it; one that is not stated may."""
        return geometry is None or bool(shapely.intersects(self.shape, shapely.geometry.shape(dict(geometry))))

    def cut(self, grid: GeoBox) -> GeoBox:
        """Return the part of a grid that holds it, whole pixels.

        Raises
        ------
        OverlapError
            Where they have no place in common.
        """
        found = overlap(grid, self.grid)
        if found is None:
            msg = f"Cannot cut the layer to {self.label}: its scenes lie elsewhere ({crs_name(grid.crs)})."
            raise OverlapError(msg + " Pass another bbox= or intersects=.")
        rows, cols = found.within(full_window(grid))
        return grid[rows, cols]


def area_of(bbox: SomeBounds | None, intersects: SomeGeometry | None) -> Area | None:
    """Return the area that a box or a geometry names; `None` for neither.

    Raises
    ------
    InputError
        Where both are given, or one is not what it should be.
    """
    if bbox is not None and intersects is not None:
        msg = "Cannot cut a layer to two areas: bbox= and intersects= are both given. Pass one of them."
        raise InputError(msg)
    if bbox is not None:
        return _of_bounds(bbox)
    return None if intersects is None else _of_geometry(intersects)


def _of_bounds(bbox: SomeBounds) -> Area:
    numbers = [float(n) for n in bbox]
    if len(numbers) == 6:
        numbers = [*numbers[:2], *numbers[3:5]]
    fine = len(numbers) == 4 and bool(np.isfinite(numbers).all())
    if not fine or numbers[1] >= numbers[3] or numbers[0] == numbers[2] or max(map(abs, numbers[1::2])) > 90:
        msg = f"Cannot read the bounds {list(bbox)!r}: pass bbox= as west, south, east and north, in degrees."
        raise InputError(msg)
    west, south, east, north = numbers
    if west < east:
        sides = (west, south, east, north)
        return Area(shape=shapely.box(*sides), bounds=sides, bbox=sides)
    halves = [shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)]
    bounds = (west, south, east + 360, north)
    return Area(shape=shapely.MultiPolygon(halves), bounds=bounds, bbox=(west, south, east, north))


def _of_geometry(given: SomeGeometry) -> Area:
    try:
        found = getattr(given, "__geo_interface__", given)
        found = found.get("geometry", found) if isinstance(found, Mapping) else found
        shape = shapely.geometry.shape(found or {})
    except (GeoxtError, AttributeError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError) as error:
        msg = f"Cannot read a geometry from {given!r}: pass intersects= as GeoJSON or a shapely geometry, in degrees."
        raise InputError(msg) from error
    if shape.is_empty:
        msg = "Cannot cut a layer to an empty geometry. Pass intersects= one that covers a place."
        raise InputError(msg)
    parts = shapely.get_parts(shape)
    turned = [shapely.affinity.translate(p, 360) if p.centroid.x < 0 else p for p in parts]
    plain, other = (shapely.total_bounds(np.asarray(some)) for some in (parts, turned))
    west, south, east, north = (other if other[2] - other[0] < plain[2] - plain[0] else plain).tolist()
    least = 1e-9  # a point, or a line along a meridian, has an area of a hair's breadth
    return Area(shape=shape, bounds=(west, south, max(east, west + least), max(north, south + least)))
