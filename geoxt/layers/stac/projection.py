"""Grids of assets by the STAC projection extension (any version), as far as its fields are usable and agree.

An invalid field counts as missing: the next field is used, and finally the header of the file.
https://github.com/stac-extensions/projection
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyproj
import pystac
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.errors import CRSError
from geoxt.types import Mask

MAX_ASPECT = 1000
"""Maximum ratio of width and height of a pixel; above it, a transform is in another order."""
MAX_EXTENT = 30
"""Maximum ratio of the extents of a grid and of the item's `bbox`, which may be that of the valid part."""
MAX_REDUCTION = 300
"""Maximum ratio of the extents of the item's `bbox` and of a grid, which may cover a part of the item."""
MAX_SIDE = 2**31 - 1
"""Maximum number of rows or columns of a raster of GDAL."""
_METRES = 111_320.0
"""Metres in a degree of latitude."""


_FIELDS = ("proj:shape", "proj:transform", "proj:bbox", "proj:code", "proj:epsg", "proj:wkt2", "proj:projjson")
"""Fields that determine the grid of an asset."""


def grids_of_assets(pairs: Iterable[tuple[pystac.Item, pystac.Asset]]) -> list[GeoBox | None]:
    """Return the grids of assets as `grid_of_asset`; assets of equal fields share one object.

    The bands and dates of a tile usually have one grid, which is then made, compared and pickled once.
    """
    grids: dict[object, GeoBox | None] = {}
    result = []
    for item, asset in pairs:
        extra, properties = asset.extra_fields, item.properties
        values = (extra.get(name) for name in _FIELDS)
        key = hashable([
            properties.get(name) if value is None else value for name, value in zip(_FIELDS, values, strict=True)
        ])  # fmt: skip
        if key not in grids:
            grids[key] = grid_of_asset(item, asset)
        result.append(grids[key])
    return result


def hashable(values: Sequence[Any]) -> object:
    """Return a dictionary key of JSON values, equal for equal values; a unique key if a value is not JSON."""
    key = tuple([tuple(value) if type(value) is list else value for value in values])
    try:
        hash(key)
    except TypeError:
        try:
            return json.dumps(values)
        except (TypeError, ValueError):
            return object()
    return key


def grid_of_asset(item: pystac.Item, asset: pystac.Asset) -> GeoBox | None:
    """Return the grid of an asset, or `None` if the catalog does not state it, or contradicts itself.

    Fields of the item hold for its assets. `proj:transform` is compared with `proj:bbox`, and read in GDAL's order (as
    some catalogs write it) if only that order agrees; without a transform, `proj:bbox` is used.
    """
    extra, properties = asset.extra_fields, item.properties

    def field(name: str) -> Any:
        value = extra.get(name)
        return properties.get(name) if value is None else value

    shape = _numbers(field("proj:shape"), 2)
    if shape is None or min(shape) < 1 or max(shape) > MAX_SIDE:
        return None
    rows, cols = int(shape[0]), int(shape[1])
    affine = _affine(_numbers(field("proj:transform"), 6), _numbers(field("proj:bbox"), 4), rows, cols)
    if affine is None:
        return None
    crs = _crs(field)
    return None if crs is None else GeoBox((rows, cols), affine, crs)


def _crs(field: Any) -> CRS | None:
    """Return the first usable CRS of `proj:code`, `proj:epsg`, `proj:wkt2` and `proj:projjson`."""
    for name in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"):
        value = field(name)
        if name == "proj:epsg" and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            number = _numbers([value], 1)
            value = f"EPSG:{int(number[0])}" if number and number[0] == int(number[0]) > 0 else None
        if not value or isinstance(value, (bool, int, float)):
            continue
        try:
            return parse_crs(value)
        except CRSError:
            continue
    return None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return the first finite numbers of a sequence; `None` if there are fewer, or `value` is none."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, np.ndarray)):
        return None
    if len(value) < count:
        return None
    if count == 4 and len(value) == 6:  # a box with heights
        value = [*value[:2], *value[3:5]]
    try:
        numbers = tuple(map(float, value[:count]))
    except (TypeError, ValueError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _affine(
    transform: tuple[float, ...] | None, bounds: tuple[float, ...] | None, rows: int, cols: int
) -> Affine | None:
    """Return the transform that is plausible and agrees with the bounds, or `None`."""
    if bounds is not None and not (bounds[0] < bounds[2] and bounds[1] < bounds[3]):
        bounds = None
    if transform is not None:
        a, b, c, d, e, f = transform
        for order in ((a, b, c, d, e, f), (b, c, a, e, f, d)):  # the second one is GDAL's
            if _is_plausible(*order) and (bounds is None or _agrees(order, bounds, rows, cols)):
                return Affine(*order)
        return None
    if bounds is None:
        return None
    left, bottom, right, top = bounds
    return Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)


def _is_plausible(a: float, b: float, c: float, d: float, e: float, f: float) -> bool:
    """Return whether pixels have an area and no extreme shape, and the transform is not one in GDAL's order."""
    if c == 0 == e and b != 0 != f:  # GDAL's order of a raster that is not rotated
        return False
    width, height = math.hypot(a, d), math.hypot(b, e)
    if not (width > 0 and height > 0 and abs(a * e - b * d) > 1e-3 * width * height):
        return False
    return max(width / height, height / width) <= MAX_ASPECT


def _agrees(transform: Sequence[float], bounds: Sequence[float], rows: int, cols: int) -> bool:
    """Return whether a transform agrees with bounds within 2 pixels or 5 %: some bounds are those of pixel centers."""
    a, b, c, d, e, f = transform
    xs = c, c + a * cols, c + b * rows, c + a * cols + b * rows
    ys = f, f + d * cols, f + e * rows, f + d * cols + e * rows
    left, bottom, right, top = bounds
    x_slack = max(2 * (abs(a) + abs(b)), 0.05 * (right - left))
    y_slack = max(2 * (abs(d) + abs(e)), 0.05 * (top - bottom))
    return (
        abs(min(xs) - left) <= x_slack
        and abs(max(xs) - right) <= x_slack
        and abs(min(ys) - bottom) <= y_slack
        and abs(max(ys) - top) <= y_slack
    )


def _to_degrees(crs: CRS) -> pyproj.Transformer:
    """Return the transformer to longitude and latitude: of WGS 84, or of the CRS itself if it is on another body."""
    try:
        return transformer(crs, parse_crs("EPSG:4326"))
    except pyproj.exceptions.ProjError:
        return transformer(crs, CRS(crs.proj.geodetic_crs))


def contradicts_bbox(grids: Sequence[GeoBox], boxes: Iterable[Sequence[float] | None]) -> Mask:
    """Return which grids lie far from the `bbox` of their items, or are far larger or smaller; False without a box."""
    result = np.zeros(len(grids), bool)
    by_crs: dict[int, list[int]] = {}
    valid_boxes = [_numbers(box, 4) for box in boxes]
    for i, grid in enumerate(grids):
        if valid_boxes[i] is not None:
            by_crs.setdefault(id(grid.crs), []).append(i)
    for indices in by_crs.values():
        crs = grids[indices[0]].crs
        assert crs is not None
        fields = np.array([(*grids[i].affine[:6], *grids[i].shape) for i in indices])
        a, b, c, d, e, f, rows, cols = fields.T
        x, y = c + (a * cols + b * rows) / 2, f + (d * cols + e * rows) / 2
        longitude, latitude = _to_degrees(crs).transform(x, y)
        longitude = np.where(np.isfinite(longitude), longitude, np.nan)  # outside the domain of the CRS, thus far
        unit = 1.0 if crs.geographic else crs.proj.axis_info[0].unit_conversion_factor / _METRES
        extent = unit * np.maximum(np.hypot(a, d) * cols, np.hypot(b, e) * rows)
        west, south, east, north = np.array([valid_boxes[i] for i in indices]).T
        width = np.where(east < west, east + 360 - west, east - west)  # west above east: across the antimeridian
        outside_x = np.abs((longitude - west - width / 2 + 180) % 360 - 180) - width / 2  # degrees outside of the box
        outside_y = np.maximum(south - latitude, latitude - north)
        cosine = np.maximum(np.cos(np.radians(np.clip(latitude, -89, 89))), 0.02)
        far = ~((outside_y <= extent + 0.1) & (outside_x * cosine <= extent + 0.1))
        size = np.maximum(width * cosine, north - south)
        larger = (size > 0) & (extent > MAX_EXTENT * size) & (extent > 0.1)
        # boxes round the Earth are those of some scenes across the antimeridian
        smaller = (size > MAX_REDUCTION * extent) & (width < 180) & (size > 1e-4)
        result[indices] = far | larger | smaller
    return result
