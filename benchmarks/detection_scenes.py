"""Synthetic scenes for detection: houses, tanks and ponds on fields in four bands, with polygons of the instances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from scipy.ndimage import gaussian_filter

from geoxt.testing import make_grid, write_cog

BANDS = ("blue", "green", "red", "nir")
CLASSES = ("house", "tank", "pond")
RESOLUTION = 1.0
"""Pixel size in metres."""
MAX_EXTENT = 40
"""Maximum extent of an instance along rows or columns, in pixels."""
_DISTRACTORS = ("lane", "shade")
"""Distractors: long thin lanes in roof colors, and shades that differ from ponds in infrared only."""
_ROOF_SPECTRA = ((120, 128, 150, 165), (178, 184, 190, 195), (95, 92, 128, 120))
"""Band means of houses, tanks and lanes, which differ in shape only."""
_DARK_SPECTRA = {"pond": (62, 70, 48, 22), "shade": (62, 70, 48, 110)}
_FIELDS = ((52, 78, 58, 190), (66, 84, 88, 150), (84, 96, 112, 126), (58, 80, 62, 165))

Values = npt.NDArray[np.float64]


def write_scene(folder: Path, name: str, side: int, seed: int) -> tuple[Path, Path]:
    """Write a scene as a COG and its instances as a GeoPackage, and return both paths."""
    rng = np.random.default_rng([seed, 71])
    grid = make_grid((side, side), crs="EPSG:32632", left=5e5 + 1e4 * seed, top=5e6, resolution=RESOLUTION)
    image, instances = fields(rng, side), []
    for kind, shape in draw_polygons(rng, side):
        if any(shape.distance(other) < 2 for _, other in instances):
            continue
        instances.append((kind, shape))
        spectrum = np.array(_DARK_SPECTRA.get(kind, rng.choice(_ROOF_SPECTRA)), float)[:, None] * rng.normal(
            1, 0.10, (4, 1)
        )
        inside = geometry_mask([shape], (side, side), transform=Affine.identity(), invert=True)
        image[:, inside] = spectrum + rng.normal(0, 7, (4, int(inside.sum())))
    image = gaussian_filter(image, (0, 0.6, 0.6)) + rng.normal(0, 5, image.shape)
    cog = write_cog(
        folder / f"{name}.tif", image.round().clip(1, 255).astype("uint8"), grid=grid, nodata=0, bands=BANDS
    )
    labeled = [(kind, shape) for kind, shape in instances if kind in CLASSES]
    polygons = [shapely.affinity.affine_transform(shape, grid.affine.to_shapely()) for _, shape in labeled]
    frame = geopandas.GeoDataFrame({"class": [kind for kind, _ in labeled]}, geometry=polygons, crs="EPSG:32632")
    frame.to_file(folder / f"{name}.gpkg")
    return cog, folder / f"{name}.gpkg"


def fields(rng: np.random.Generator, side: int) -> Values:
    """Return fields with texture at several scales, (band, y, x)."""
    centres = rng.random((max(side // 60, 2) ** 2, 2)) * side
    rows, cols = np.mgrid[:side, :side]
    nearest = np.argmin([(rows - row) ** 2 + (cols - col) ** 2 for row, col in centres], axis=0)
    kinds = np.array(_FIELDS, float)[rng.integers(len(_FIELDS), size=len(centres))][nearest]
    texture = sum(_smooth(rng, side, width) * weight for width, weight in ((1.5, 0.07), (5, 0.07), (25, 0.08)))
    return np.moveaxis(kinds, -1, 0) * (1 + texture)


def draw_polygons(rng: np.random.Generator, side: int) -> Iterator[tuple[str, shapely.Polygon]]:
    """Yield kinds and polygons in pixels (x is the column); the caller skips polygons that touch others."""
    for kind in rng.choice([*CLASSES, *_DISTRACTORS], size=side * side // 1800, p=[0.28, 0.26, 0.22, 0.12, 0.12]):
        shape = _polygon(rng, str(kind))
        left, top, right, bottom = shape.bounds
        x, y = rng.random(2) * (side - 2 - np.array([right - left, bottom - top])) + 1
        yield str(kind), shapely.affinity.translate(shape, x - left, y - top)


def _polygon(rng: np.random.Generator, kind: str) -> shapely.Polygon:
    match kind:
        case "house":
            long = rng.uniform(11, 26)
            box = shapely.box(0, 0, long, long * rng.uniform(0.55, 0.95))
            return shapely.affinity.rotate(box, rng.uniform(0, 180))
        case "tank":
            return shapely.Point(0, 0).buffer(rng.uniform(4.5, 9))
        case "pond" | "shade":
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            waves = sum(rng.normal(0, 0.13) * np.cos(frequency * angles + rng.uniform(0, 6)) for frequency in (1, 2, 3))
            radius = rng.uniform(7, 13) * (1 + waves).clip(0.5, 1.5)
            return shapely.Polygon(np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1))
        case "lane":
            return shapely.affinity.rotate(shapely.box(0, 0, rng.uniform(30, 50), 4), rng.uniform(0, 180))
        case _:
            msg = f"Cannot draw a {kind!r}."
            raise ValueError(msg)


def _smooth(rng: np.random.Generator, side: int, width: float) -> Values:
    """Return smooth noise of mean 0 and standard deviation 1."""
    noise = gaussian_filter(rng.normal(size=(side, side)), width, mode="wrap")
    return noise / noise.std()
