"""Landsat-like scenes of a generated landscape: footprint, blur, light, haze, noise and digital numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from geoxt.testing.land import Floats, Land
from geoxt.testing.landscape import BANDS, CLASSES, Cover, cover_at, reflectance

__all__ = ["ALBERS", "OFFSET", "SCALE", "corners", "footprint", "label", "observe", "pixel_centers"]

ALBERS = "EPSG:5070"
# Landsat Collection 2 Level 2: reflectance = number * SCALE + OFFSET, 0 is fill.
# https://www.usgs.gov/faqs/how-do-i-use-a-scale-factor-landsat-level-2-science-products
SCALE, OFFSET = 2.75e-05, -0.2

_TILT, _HALF = 0.17, 0.455  # slope of the footprint's edges, and its half width in sides of the raster
_HAZE = np.array([0.034, 0.025, 0.018, 0.009, 0.004, 0.002], "float32")
_ROWS = 32  # rows per block: their fields stay in the CPU cache, which is three times faster
_STEP = 16  # pixels between exactly projected nodes; linear interpolation is within 1e-4 pixel


def observe(land: Land, grid: GeoBox, *, seed: int = 0) -> NDArray[np.uint16]:
    """
    Simulate a scene of a landscape.

    Parameters
    ----------
    land
        The landscape.
    grid
        Grid of the scene.
    seed
        Random seed of noise, haze and light.

    Returns
    -------
    ndarray
        uint16 (band, y, x) for `BANDS`: Landsat Collection 2 numbers, 0 outside the footprint.
    """
    rng = np.random.default_rng(seed)
    strips = [(reflectance(cover), cover.haze) for cover in _covers(land, grid)]
    ground = _blur(np.concatenate([ground for ground, _ in strips], axis=1))
    haze = np.concatenate([haze for _, haze in strips])
    observed = ground * _light(rng, grid) * rng.normal(1, 0.02, (len(BANDS), 1, 1)).astype("float32")
    thick = np.clip(rng.uniform(0.3, 0.6) + rng.choice((-0.45, 0.45)) * haze, 0, 2).astype("float32")
    observed += thick * (_HAZE[:, np.newaxis, np.newaxis] - 0.05 * observed)
    observed += rng.standard_normal(observed.shape, "float32") * (0.002 + 0.012 * observed)
    numbers = np.clip(np.rint((observed - OFFSET) / SCALE), 1, 65535).astype("uint16")
    return np.where(footprint(grid), numbers, np.uint16(0))


def label(land: Land, grid: GeoBox) -> NDArray[np.uint8]:
    """Return the land cover code at each pixel center, uint8 (y, x)."""
    codes = np.array([item.code for item in CLASSES], "uint8")
    return np.concatenate([codes[cover.kind] for cover in _covers(land, grid)])


def footprint(grid: GeoBox) -> NDArray[np.bool_]:
    """Return the valid pixels of a scene: a square rotated in its raster, like Landsat's footprint."""
    height, width = grid.shape.yx
    down = (np.arange(height)[:, np.newaxis] + 0.5) / height - 0.5
    across = (np.arange(width)[np.newaxis] + 0.5) / width - 0.5
    return np.asarray((np.abs(across + _TILT * down) < _HALF) & (np.abs(down - _TILT * across) < _HALF))


def corners() -> tuple[tuple[float, float], ...]:
    """Return the corners of the footprint, clockwise, as (column, row) in sides of the raster."""
    turns = ((-_HALF, -_HALF), (_HALF, -_HALF), (_HALF, _HALF), (-_HALF, _HALF))
    size = 1 + _TILT**2
    return tuple((0.5 + (a - _TILT * b) / size, 0.5 + (b + _TILT * a) / size) for a, b in turns)


def pixel_centers(grid: GeoBox) -> tuple[Floats, Floats]:
    """Return x and y of each pixel center in EPSG:5070, in meters, of shape (y, x)."""
    height, width = grid.shape.yx
    rows, cols = _knots(height), _knots(width)
    x, y = _to_albers(str(grid.crs)).transform(*(grid.affine @ np.meshgrid(cols + 0.5, rows + 0.5)))
    down, across = _weights(height, rows), _weights(width, cols)
    return down @ x @ across.T, down @ y @ across.T


@lru_cache(16)
def _to_albers(crs: str) -> Transformer:
    """Return the transformer to EPSG:5070, which takes 50 ms to build."""
    return Transformer.from_crs(crs, ALBERS, always_xy=True)


def _covers(land: Land, grid: GeoBox) -> Iterator[Cover]:
    x, y = pixel_centers(grid)
    for top in range(0, len(x), _ROWS):
        yield cover_at(land, x[top : top + _ROWS], y[top : top + _ROWS])


def _knots(length: int) -> NDArray[np.int64]:
    return np.append(np.arange(0, length - 1, _STEP), length - 1)


def _weights(length: int, knots: NDArray[np.int64]) -> Floats:
    """Matrix (length, knots) that interpolates linearly between knots."""
    pixels = np.arange(length)
    return np.stack([np.interp(pixels, knots, unit) for unit in np.eye(len(knots))], axis=1)


def _blur(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur each pixel over its neighbors, like a point spread function."""
    for axis in (1, 2):
        padded = np.pad(bands, [(1, 1) if dim == axis else (0, 0) for dim in range(3)], mode="edge")
        low, high = (slice(None),) * axis, bands.shape[axis]
        before, after = padded[(*low, slice(0, high))], padded[(*low, slice(2, high + 2))]
        bands = np.float32(0.74) * bands + np.float32(0.13) * (before + after)
    return bands


def _light(rng: np.random.Generator, grid: GeoBox) -> NDArray[np.float32]:
    """Return an illumination gradient of a few percent across the scene, in a random direction."""
    height, width = grid.shape.yx
    turn = rng.uniform(0, 2 * np.pi)
    lean = np.cos(turn) * np.linspace(-1, 1, height)[:, np.newaxis] + np.sin(turn) * np.linspace(-1, 1, width)
    return np.asarray(1 + 0.05 * lean, "float32")
