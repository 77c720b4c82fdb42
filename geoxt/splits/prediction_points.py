"""Points at which a model predicts: given, or drawn evenly from areas and from the valid pixels of a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
import xarray as xr
from odc.geo import CRS

from geoxt.crs import parse_crs
from geoxt.errors import CRSError, InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.samplers.points import block_windows, parse_points
from geoxt.source import View, view_of
from geoxt.types import Array, Floats

_BLOCK = 1024
"""Side in pixels of the blocks of a layer that are read at most once a draw."""
_DRAWS = 12
"""Maximum number of draws, each of twice as many points, before an area or a layer counts as empty."""
_STEPS = np.array([0.7548776662466927, 0.5698402909980532])
"""Steps of a sequence of low discrepancy in the unit square: 1 / p and 1 / p², p³ = p + 1."""


def prediction_points(prediction: Any, samples: int, seed: int) -> tuple[Floats, CRS]:
    """Return x and y (n, 2) of prediction points, and their CRS.

    Parameters
    ----------
    prediction
        A layer, a GeoDataFrame of points or areas, (geometry, crs), or (x and y (n, 2), crs).
    samples
        Number of points to draw from a layer or areas.
    seed
        Seed of the draw.

    Raises
    ------
    InputError
        If the value is none of these, or fewer than two samples are requested.
    CRSError
        If it has no CRS.
    OverlapError
        If the layer has no valid pixel, or the area is empty.
    """
    if samples < 2:
        problem = f"Cannot draw {samples} prediction points."
        raise InputError(problem, remedy="Pass {samples:1000}.", value=samples, argument="samples")
    start = np.random.default_rng([seed, 17]).random(2)
    if isinstance(prediction, xr.DataArray):
        return _in_layer(prediction, samples, start)
    if isinstance(prediction, tuple) and isinstance(prediction[0], shapely.Geometry):
        area, crs = prediction
    elif hasattr(prediction, "geometry") and not (shapely.get_type_id(np.asarray(prediction.geometry)) == 0).all():
        area, crs = shapely.union_all(np.asarray(prediction.geometry)), prediction.crs
    else:
        xy, crs = parse_points(prediction)
        return xy, _require_crs(crs)
    return _in_area(area, _require_crs(crs), samples, start), _require_crs(crs)


def _require_crs(crs: Any) -> CRS:
    if crs is None:
        problem = "Cannot place prediction points without a CRS."
        raise CRSError(problem, remedy="Pass {prediction:(geometry, crs)}, or a GeoDataFrame.", argument="prediction")
    return parse_crs(crs)


def _unit_points(start: Floats, first: int, count: int) -> Floats:
    """Return `count` points of the sequence in the unit square. Shape (count, 2)."""
    return (start + np.arange(first, first + count)[:, None] * _STEPS) % 1


def _in_area(area: Any, crs: CRS, samples: int, start: Floats) -> Floats:
    """Return points spread evenly over an area; on a geographic CRS evenly over the ground."""
    shapely.prepare(area)
    left, bottom, right, top = area.bounds
    inside, first, count = np.empty((0, 2)), 0, samples
    for _ in range(_DRAWS):
        u, v = _unit_points(start, first, count).T
        y = bottom + v * (top - bottom)
        if crs.geographic:  # equal areas between equal steps of the sine of the latitude
            low, high = np.sin(np.deg2rad([bottom, top]))
            y = np.rad2deg(np.arcsin(low + v * (high - low)))
        xy = np.stack([left + u * (right - left), y], axis=1)
        inside = np.concatenate([inside, xy[shapely.contains_xy(area, xy)]])
        if len(inside) >= samples:
            return inside[:samples]
        first, count = first + count, count * 2
    if not len(inside):
        raise OverlapError("Cannot draw prediction points: the area is empty.", remedy="Pass another {prediction}.")
    return inside


def _in_layer(layer: xr.DataArray, samples: int, start: Floats) -> tuple[Floats, CRS]:
    """Return the centres of valid pixels spread evenly over a layer; all of them if they are few."""
    grid, view = grid_of(layer), view_of(layer)
    rows, cols = grid.shape
    pixels, first, count = np.empty((0, 2), np.int64), 0, samples
    for _ in range(_DRAWS):
        if rows * cols <= count:
            pixels = _valid(view, np.indices(grid.shape).reshape(2, -1).T)
            pixels = pixels[np.random.default_rng(0).permutation(len(pixels))]
        else:
            positions = _unit_points(start, first, count) * np.array(grid.shape)
            pixels = np.concatenate([pixels, _valid(view, positions.astype(np.int64))])
        if rows * cols <= count or len(pixels) >= samples:
            break
        first, count = first + count, count * 2
    if not len(pixels):
        problem = f"Cannot draw prediction points: {layer.name!r} has no valid pixel."
        raise OverlapError(problem, remedy="Pass another {prediction}.", argument="prediction")
    pixels = pixels[:samples]
    row, col = pixels.T
    x, y = grid.affine @ np.stack([col + 0.5, row + 0.5])
    assert grid.crs is not None  # grid_of raises
    return np.stack([x, y], axis=1), grid.crs


def _valid(view: View, pixels: Array) -> Array:
    """Return the pixels (n, 2) with all bands valid at any time step."""
    valid = np.zeros(len(pixels), bool)
    for in_block, window in block_windows(pixels, _BLOCK):
        valid_pixels = view.read(window)[1].all(axis=1).any(axis=0)
        row, col = (pixels[in_block] - (window.row, window.col)).T
        valid[in_block] = np.asarray(valid_pixels)[row, col]
    return pixels[valid]
