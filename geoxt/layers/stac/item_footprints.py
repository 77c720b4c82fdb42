"""Footprints of STAC items: the area with data, unless it is the box of the grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac
import shapely
import shapely.geometry

from geoxt.layers.stac.row_items import RowItem


def data_footprint(item: pystac.Item) -> bytes | None:
    """Return the area with data as WKB; `None` if it is not stated, or a box like the grid."""
    if isinstance(item, RowItem) and item.is_box:
        return None
    geometry = item.wkb if isinstance(item, RowItem) else item.geometry
    if geometry is None or (isinstance(geometry, Mapping) and _is_box(geometry)):
        return None
    try:
        shape = shapely.geometry.shape(geometry) if isinstance(geometry, Mapping) else shapely.from_wkb(geometry)
        box = shapely.equals_exact(shape.normalize(), shape.envelope.normalize(), 1e-9)
        informative = shape.geom_type in {"Polygon", "MultiPolygon"} and shape.area > 0 and not box
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        return None
    return bytes(shapely.to_wkb(shape)) if informative else None


def _is_box(geometry: Mapping[str, Any]) -> bool:
    """Return whether a polygon is a ring of four corners along its bounds, without making a geometry."""
    coordinates = geometry.get("coordinates")
    if geometry.get("type") != "Polygon" or not isinstance(coordinates, (list, tuple)) or len(coordinates) != 1:
        return False
    try:
        a, b, c, d, e = (tuple(point) for point in coordinates[0])
    except (TypeError, ValueError):
        return False
    upright = a[0] == b[0] and b[1:2] == c[1:2] and c[0] == d[0] and d[1:2] == a[1:2]
    level = a[1:2] == b[1:2] and b[0] == c[0] and c[1:2] == d[1:2] and d[0] == a[0]
    return a == e and (upright or level)
