"""A generated landscape: land cover and reflectance as functions of Albers coordinates (EPSG:5070)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geoxt.testing.land import CELLS, TOWNS, Floats, Land, Smooth, Texture, smooth_at, texture_at

__all__ = ["BANDS", "CLASSES", "Cover", "LandClass", "cover_at", "reflectance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LandClass:
    """A land cover class."""

    code: int
    """Value in the raster."""
    name: str
    """Class name."""
    color: str
    """"#rrggbb"."""
    spectrum: tuple[float, ...]
    """Mean surface reflectance in each of `BANDS`, in July."""


BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")

# Codes are those of the USDA Cropland Data Layer, https://www.nass.usda.gov/Research_and_Science/Cropland
# Corn and soybeans, and forest and wetlands, have nearly the same spectrum and differ in texture.
CLASSES = (
    LandClass(code=1, name="Corn", color="#ffd300", spectrum=(0.028, 0.060, 0.034, 0.455, 0.195, 0.085)),
    LandClass(code=5, name="Soybeans", color="#267000", spectrum=(0.030, 0.064, 0.036, 0.470, 0.203, 0.090)),
    LandClass(code=111, name="Open Water", color="#4970a3", spectrum=(0.042, 0.058, 0.046, 0.030, 0.014, 0.009)),
    LandClass(code=121, name="Developed", color="#9c9c9c", spectrum=(0.055, 0.075, 0.066, 0.240, 0.180, 0.120)),
    LandClass(code=141, name="Forest", color="#93cc93", spectrum=(0.021, 0.044, 0.026, 0.370, 0.158, 0.064)),
    LandClass(code=176, name="Grassland", color="#e8ffbf", spectrum=(0.036, 0.074, 0.054, 0.375, 0.228, 0.122)),
    LandClass(code=190, name="Wetlands", color="#7cafaf", spectrum=(0.022, 0.045, 0.028, 0.345, 0.145, 0.060)),
)
CORN, SOY, WATER, TOWN, FOREST, GRASS, WETLAND = range(len(CLASSES))

# Relative change of each band where plants grow denser (vigour), and where the ground is brighter (soil).
_VIGOUR = (-0.30, -0.12, -0.42, 0.34, -0.10, -0.28)
_SOIL = (0.30, 0.26, 0.38, 0.10, 0.26, 0.34)
_PAVED = (0.085, 0.095, 0.102, 0.135, 0.150, 0.130)
_ROOF = (0.150, 0.162, 0.170, 0.225, 0.228, 0.200)
_TREES = (0.026, 0.050, 0.032, 0.345, 0.155, 0.068)
_SILT = (0.030, 0.044, 0.056, 0.018, 0.004, 0.003)

_NORTH = np.float32(np.deg2rad(3.7))  # true north against Albers' y axis at 90 W
_RIVER = np.float32(np.deg2rad(38.0))  # course of the main river, against north
_SECTION = 1609.344  # metres: the mile grid of the Public Land Survey


class Cover(NamedTuple):
    """Land cover and the components of its reflectance; arrays (y, x)."""

    kind: NDArray[np.uint8]
    """Index into `CLASSES`."""
    vigour: Floats
    """Density of plants, about -1 to 1."""
    soil: Floats
    """Brightness of the ground, about -1 to 1."""
    paved: Floats
    """Fraction of roads and streets, 0 to 1."""
    roof: Floats
    """Fraction of roofs and concrete, 0 to 1."""
    trees: Floats
    """Fraction of trees in towns and farmsteads, 0 to 1."""
    silt: Floats
    """Silt in the water, 0 to 1; 0 on land."""
    light: Floats
    """Direct light after slope and shadow, near 1."""
    haze: Floats
    """Haze, standard deviation 1."""


def cover_at(land: Land, x: Floats, y: Floats) -> Cover:
    """
    Return land cover and its reflectance components at map coordinates.

    Parameters
    ----------
    land
        The landscape.
    x, y
        Coordinates in EPSG:5070, meters, of shape (y, x).
    """
    along, up = (x - land.origin[0]).astype("float32"), (y - land.origin[1]).astype("float32")
    east = along * np.cos(_NORTH) + up * np.sin(_NORTH)
    north = up * np.cos(_NORTH) - along * np.sin(_NORTH)
    smooth, texture = smooth_at(land, east, north), texture_at(land, east, north)
    cover = _farms(land, east, north, smooth, texture)
    cover = _woods(cover, east, north, smooth, texture)
    cover = _towns(land, cover, east, north, smooth, texture)
    cover = _highways(cover, east, north, smooth)
    return _waters(cover, east, north, smooth)


def reflectance(cover: Cover) -> NDArray[np.float32]:
    """Return surface reflectance of dims (band, y, x), without haze, for `BANDS`."""
    spectra = np.array([item.spectrum for item in CLASSES], "float32")
    bands = []
    for index, mean in enumerate(spectra.T):
        value = mean[cover.kind] * (1 + cover.vigour * _VIGOUR[index] + cover.soil * _SOIL[index])
        for fraction, end in ((cover.trees, _TREES), (cover.roof, _ROOF), (cover.paved, _PAVED)):
            value += fraction * (end[index] - value)
        bands.append((value + cover.silt * _SILT[index]) * cover.light)
    return np.stack(bands).astype("float32")


def _farms(land: Land, east: Floats, north: Floats, smooth: Smooth, texture: Texture) -> Cover:
    """Fields of corn, soybeans and grass in parcels of a mile grid, with roads along it and farmsteads."""
    across, up = east / np.float32(_SECTION), north / np.float32(_SECTION)
    col, row = np.floor(across), np.floor(up)
    across, up = across - col, up - row
    section = (row.astype("int32") % CELLS) * CELLS + col.astype("int32") % CELLS
    right, top = across > 0.5, up > 0.5
    quarter = section * 4 + 2 * top + right
    across_quarter, up_quarter = 2 * across - right, 2 * up - top
    split = land.splits[quarter]
    part = (across_quarter > 0.5) * (split % 2) + 2 * (up_quarter > 0.5) * (split // 2)
    crop, way, dense, phase, ground, use = np.moveaxis(land.parcels[quarter * 4 + part], -1, 0)

    outside = np.hypot(across_quarter - 0.5, up_quarter - 0.5) > 0.475
    grass = (crop < 0.13 + 0.06 * smooth.region) | ((split == 0) & (use < 0.25) & outside)
    corn = ~grass & (crop < 0.57)
    rows = np.sin(np.where(way < 0.5, east, north) * (2 * np.pi / 105) + 6.28 * phase + 0.5 * smooth.soil)
    pattern = np.where(corn, 0.80 * rows, 0.56 * texture.mottle)
    road = np.minimum(np.minimum(across, 1 - across), np.minimum(up, 1 - up)) * np.float32(_SECTION)
    yard = np.hypot(across_quarter - 0.12, up_quarter - 0.10) * np.float32(_SECTION / 2)
    yard = np.where((use > 0.8) & (part == 0), yard, np.float32(1e6))
    return Cover(
        kind=np.where(grass, GRASS, np.where(corn, CORN, SOY)).astype("uint8"),
        vigour=np.where(
            grass, 0.9 * dense - 0.45 + 0.25 * smooth.patch, np.clip(1.5 * dense - 0.75 + pattern, -1.2, 1.1)
        ),
        soil=np.where(grass, 0.25 * smooth.soil, 0.9 * ground - 0.45 + 0.25 * smooth.soil),
        paved=0.6 * _ramp(road, 34, 6),
        roof=0.7 * _ramp(yard, 45, 15),
        trees=0.7 * _ramp(yard, 90, 50),
        silt=np.zeros_like(east),
        light=1 + 0.015 * smooth.shade,
        haze=smooth.haze,
    )


def _woods(cover: Cover, east: Floats, north: Floats, smooth: Smooth, texture: Texture) -> Cover:
    """Forest along creeks and bluffs, pasture at its edge, wooded wetlands on the flood plain."""
    creek, branch = _creeks(smooth)
    river, plain = _river(east, north, smooth)
    wide, narrow = 150 + 170 * smooth.wood, (160 + 120 * smooth.wood) * np.exp(-creek / 1_900)
    bluff = (river > plain) & (river < plain + 750 + 500 * smooth.wood)
    forest = (creek < wide) | (branch < narrow - 30) | bluff | (smooth.wood > 2.2)
    edge = ((creek < wide + 320) | (branch < narrow + 130)) & (smooth.patch > -0.3)
    flooded = (river < plain) & (smooth.patch > 0.0)
    wet = flooded | ((creek < _reservoir(smooth) + 260) & (smooth.patch > -0.2) & (smooth.region > 0.55))
    forest = (forest | ((river < plain) & (smooth.wood > 0.5))) & ~wet
    edge &= ~forest & ~wet

    wood = forest | wet
    grain = np.where(wet, texture.swamp, texture.canopy)
    shade = np.where(wood, 1 + 0.10 * grain, 1) * np.where(forest, 1 + 0.07 * smooth.shade, 1)
    vigour = np.where(wood, 0.38 * grain + 0.15 * smooth.soil, cover.vigour)
    return cover._replace(
        kind=np.where(wet, WETLAND, np.where(forest, FOREST, np.where(edge, GRASS, cover.kind))).astype("uint8"),
        vigour=np.where(edge, 0.30 * smooth.patch - 0.1, vigour),
        soil=np.where(wood, 0, np.where(edge, 0.25 * smooth.soil, cover.soil)),
        paved=np.where(wood, 0.35 * cover.paved, cover.paved),
        roof=np.where(wood, 0, cover.roof),
        light=np.clip(cover.light * shade, 0.45, 1.4),
    )


def _towns(land: Land, cover: Cover, east: Floats, north: Floats, smooth: Smooth, texture: Texture) -> Cover:
    """Towns with a grid of streets: trees and small roofs outside, large roofs in the middle."""
    col, row = np.floor(east / TOWNS), np.floor(north / TOWNS)
    at_east, at_north, radius = np.moveaxis(land.towns[row.astype("int32") % CELLS, col.astype("int32") % CELLS], -1, 0)
    away = np.hypot(east - col * TOWNS - at_east, north - row * TOWNS - at_north)
    reach = radius * (1 + 0.22 * smooth.patch)
    inside = away < reach
    core = np.clip(1 - away / np.maximum(reach, 1), 0, 1)
    street = np.minimum(_to_line(east, _SECTION / 8), _to_line(north, _SECTION / 12))
    roof = np.clip(0.10 + 0.70 * core**2 + 0.14 * texture.canopy, 0, 0.9)
    trees = np.clip(0.60 - 0.5 * core + 0.22 * texture.mottle, 0, 0.9)
    return cover._replace(
        kind=np.where(inside, TOWN, cover.kind).astype("uint8"),
        vigour=np.where(inside, 0.2 * smooth.soil, cover.vigour),
        soil=np.where(inside, 0.2 * smooth.soil, cover.soil),
        paved=np.where(inside, 0.9 * _ramp(street, 30, 8), cover.paved),
        roof=np.where(inside, roof, cover.roof),
        trees=np.where(inside, trees, cover.trees),
        light=np.where(inside, 1, cover.light),
    )


def _highways(cover: Cover, east: Floats, north: Floats, smooth: Smooth) -> Cover:
    """Two highways that cross, wide enough to be land cover."""
    first = np.abs(north - 2_600 - 0.12 * east - 500 * smooth.region)
    second = np.abs(east + 7_400 + 0.2 * north - 500 * smooth.region)
    away = np.minimum(first, second)
    return cover._replace(
        kind=np.where(away < 45, TOWN, cover.kind).astype("uint8"),
        paved=np.maximum(cover.paved, 0.92 * _ramp(away, 60, 30)),
    )


def _waters(cover: Cover, east: Floats, north: Floats, smooth: Smooth) -> Cover:
    """Lay a silty river with islands, oxbow lakes on its flood plain, and reservoirs along creeks."""
    river, plain = _river(east, north, smooth)
    creek, branch = _creeks(smooth)
    width = 330 + 70 * smooth.region
    channel = (river < width) & ~((smooth.patch > 0.9) & (river < width - 90))
    oxbow = (river < plain) & (np.abs(smooth.patch + 0.7) < 0.17) & (smooth.soil > 0.1)
    arm = (branch < 0.4 * _reservoir(smooth)) & (creek < 3 * _reservoir(smooth))
    lake = (creek < _reservoir(smooth)) | arm
    water = channel | oxbow | lake
    silt = np.where(channel, 0.85 + 0.1 * smooth.soil, 0.25 + 0.1 * smooth.soil)
    bridge = np.where(cover.paved > 0.6, cover.paved, 0)
    dry = {field: np.where(water, 0, getattr(cover, field)) for field in ("vigour", "soil", "roof", "trees")}
    return cover._replace(
        **dry,
        kind=np.where(water & (bridge == 0), WATER, cover.kind).astype("uint8"),
        paved=np.where(water, bridge, cover.paved),
        silt=np.where(water, np.clip(silt, 0, 1.2), 0),
        light=np.where(water, 1, cover.light),
    )


def _creeks(smooth: Smooth) -> tuple[Floats, Floats]:
    """Distances to the nearest creek and to its nearest branch, about metres."""
    return np.abs(smooth.creek) / smooth.creek_slope, np.abs(smooth.branch) / smooth.branch_slope


def _reservoir(smooth: Smooth) -> Floats:
    """Half width of a dammed creek, metres; negative where none is."""
    return 300 * (smooth.region - 0.6) + 60 * smooth.soil


def _river(east: Floats, north: Floats, smooth: Smooth) -> tuple[Floats, Floats]:
    """Distance to the river's middle and half width of its flood plain, about metres."""
    along = north * np.cos(_RIVER) - east * np.sin(_RIVER)
    across = east * np.cos(_RIVER) + north * np.sin(_RIVER)
    bends = 2_100 * np.sin(along / 2_700) + 700 * np.sin(along / 1_070 + 1) + 420 * smooth.meander
    return np.abs(across - bends) / 1.25, np.maximum(1_150 + 380 * smooth.wood + 250 * smooth.patch, 450)


def _ramp(distance: Floats, outer: float, inner: float) -> Floats:
    """Return weights from 1 within `inner` to 0 beyond `outer`: the covered fraction of a 30 m pixel."""
    return np.asarray(np.clip((outer - distance) / (outer - inner), 0, 1))


def _to_line(position: Floats, spacing: float) -> Floats:
    """Distance to the nearest of equally spaced lines, in units of `position`."""
    return np.asarray(np.abs((position / spacing + 0.5) % 1 - 0.5) * np.float32(spacing))
