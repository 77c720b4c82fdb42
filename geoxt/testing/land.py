"""Random tables of a generated landscape: smooth fields, textures, parcels and towns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "TOWNS", "Floats", "Land", "Smooth", "Texture", "make_land", "smooth_at", "texture_at"]

Floats = NDArray[np.floating[Any]]

CELLS = 64  # period of parcels in sections of a mile, and of towns in cells
TOWNS = 9_000.0  # meters between possible towns
_COARSE, _FINE = 60.0, 20.0  # meters per pixel of the tables of smooth fields and textures
_SIDE = 1024  # pixels: height, width and period of both tables


class Smooth(NamedTuple):
    """Fields that vary over hundreds of metres to kilometres. Mean 0 and deviation 1, except for the slopes."""

    creek: Floats
    creek_slope: Floats
    branch: Floats
    branch_slope: Floats
    meander: Floats
    patch: Floats
    wood: Floats
    soil: Floats
    region: Floats
    haze: Floats
    shade: Floats


class Texture(NamedTuple):
    """Fields that vary over two to fifteen pixels of a Landsat scene. Mean 0, deviation 1."""

    canopy: Floats
    swamp: Floats
    mottle: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Land:
    """Random tables that define a landscape."""

    origin: tuple[float, float]
    """(x, y) of the landscape's center in EPSG:5070, meters."""
    smooth: NDArray[np.float32]
    """(side, side, fields): periodic table of `Smooth`."""
    texture: NDArray[np.float32]
    """(side, side, fields): periodic table of `Texture`."""
    parcels: NDArray[np.float32]
    """(parcels, 6): numbers in [0, 1) of each parcel: crop, row direction, vigour, phase, soil, use."""
    splits: NDArray[np.uint8]
    """(quarters,): how a quarter section is divided: 0 whole, 1 in columns, 2 in rows, 3 in four."""
    towns: NDArray[np.float32]
    """(cells, cells, 3): a town's centre within its cell and its radius, metres."""


def make_land(seed: int, origin: tuple[float, float]) -> Land:
    """
    Generate the tables of a landscape.

    Parameters
    ----------
    seed
        Random seed.
    origin
        (x, y) of the center in EPSG:5070, meters.
    """
    rng = np.random.default_rng(seed)
    cells = (CELLS, CELLS)
    towns = rng.random((*cells, 3), "float32")
    radius = np.where(rng.random(cells) < 0.7, 700 + 1_900 * towns[..., 2] ** 2.0, 0)
    return Land(
        origin=origin,
        smooth=np.stack(_draw_smooth(rng), -1).astype("float32"),
        texture=np.stack(_draw_texture(rng), -1).astype("float32"),
        parcels=rng.random((CELLS * CELLS * 16, 6), "float32"),
        splits=rng.choice(4, CELLS * CELLS * 4, p=(0.3, 0.3, 0.25, 0.15)).astype("uint8"),
        towns=np.dstack([(0.32 + 0.36 * towns[..., :2]) * TOWNS, radius]).astype("float32"),
    )


def smooth_at(land: Land, east: Floats, north: Floats) -> Smooth:
    """Return the smooth fields at coordinates in meters from the origin."""
    return Smooth(*_lookup(land.smooth, east / _COARSE, north / _COARSE))


def texture_at(land: Land, east: Floats, north: Floats) -> Texture:
    """Return the textures at coordinates in meters from the origin."""
    return Texture(*_lookup(land.texture, east / _FINE, north / _FINE))


def _draw_smooth(rng: np.random.Generator) -> Smooth:
    creek, branch = _noise(rng, _COARSE, 5_500, 16_000), _noise(rng, _COARSE, 2_200, 5_000)
    relief = _noise(rng, _COARSE, 700, 9_000, slope=2.6)
    return Smooth(
        creek=creek,
        creek_slope=_slope(creek),
        branch=branch,
        branch_slope=_slope(branch),
        meander=_noise(rng, _COARSE, 2_500, 12_000),
        patch=_noise(rng, _COARSE, 450, 2_500),
        wood=_noise(rng, _COARSE, 400, 5_000),
        soil=_noise(rng, _COARSE, 300, 4_000),
        region=_noise(rng, _COARSE, 6_000, 25_000),
        haze=_noise(rng, _COARSE, 3_000, 40_000, slope=3.0),
        shade=_standard(relief - np.roll(relief, (1, 1), (0, 1))),
    )


def _draw_texture(rng: np.random.Generator) -> Texture:
    return Texture(
        canopy=_noise(rng, _FINE, 70, 150, slope=1.0),
        swamp=_noise(rng, _FINE, 200, 480, slope=1.0),
        mottle=_noise(rng, _FINE, 150, 380, slope=1.0),
    )


def _noise(rng: np.random.Generator, pixel: float, shortest: float, longest: float, slope: float = 2.0) -> Floats:
    """Draw periodic noise with wavelengths between two lengths in metres, and power falling as frequency**-slope."""
    spectrum = np.fft.rfft2(rng.standard_normal((_SIDE, _SIDE), "float32"))
    frequency = np.hypot(np.fft.fftfreq(_SIDE, pixel)[:, None], np.fft.rfftfreq(_SIDE, pixel)[None, :])
    frequency[0, 0] = 1.0
    band = np.exp(-((frequency * shortest) ** 4) - (frequency * longest) ** -4.0)
    return _standard(np.fft.irfft2(spectrum * (band * frequency ** (-slope / 2)).astype("float32"), (_SIDE, _SIDE)))


def _standard(field: Floats) -> Floats:
    standard: Floats = (field - field.mean()) / field.std()
    return standard


def _slope(field: Floats) -> Floats:
    """Return the gradient per meter, bounded below: ``abs(field) / slope`` approximates the distance to its zeros."""
    down, across = (np.roll(field, -1, axis) - np.roll(field, 1, axis) for axis in (0, 1))
    steep: Floats = np.hypot(down, across) / (2 * _COARSE)
    return np.asarray(np.maximum(steep, 0.35 * steep.mean()))


def _lookup(table: NDArray[np.float32], col: Floats, row: Floats) -> NDArray[np.float32]:
    """Read a periodic table bilinearly at fractional columns and rows. Returns (fields, y, x)."""
    left, low = np.floor(col), np.floor(row)
    across, up = (col - left)[..., np.newaxis], (row - low)[..., np.newaxis]
    west, south = left.astype("int32") % _SIDE, low.astype("int32") % _SIDE
    east, north = (west + 1) % _SIDE, (south + 1) % _SIDE
    flat = table.reshape(_SIDE * _SIDE, -1)
    below, above = (
        flat[line * _SIDE + west] * (1 - across) + flat[line * _SIDE + east] * across for line in (south, north)
    )
    return np.ascontiguousarray(np.moveaxis(below * (1 - up) + above * up, -1, 0))
