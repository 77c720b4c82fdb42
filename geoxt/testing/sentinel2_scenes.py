"""Sentinel-2 scenes of a generated landscape: bands of 10, 20 and 60 m, clouds and the scene classification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox, zoom_out
from pyproj import Transformer

from geoxt.errors import InputError
from geoxt.testing.cogs import make_grid, write_cog
from geoxt.testing.land import Floats, Land, make_land, smooth_at
from geoxt.testing.landscape import FOREST, WATER, WETLAND, cover_at, reflectance
from geoxt.testing.sensor import ALBERS, pixel_centers

__all__ = ["make_sentinel2"]

_CENTER = (500_000.0, 4_562_000.0)  # EPSG:32615, meters; in tile 15TWG
_ROWS = 64  # rows per block of the landscape
# Each band's pixel size, and its weights of the landscape's bands (blue, green, red, nir08, swir16, swir22).
_BANDS = {
    "B01": (60, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "B02": (10, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    "B03": (10, (0.0, 1.0, 0.0, 0.0, 0.0, 0.0)),
    "B04": (10, (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)),
    "B05": (20, (0.0, 0.0, 0.75, 0.25, 0.0, 0.0)),
    "B06": (20, (0.0, 0.0, 0.3, 0.7, 0.0, 0.0)),
    "B07": (20, (0.0, 0.0, 0.1, 0.9, 0.0, 0.0)),
    "B08": (10, (0.0, 0.0, 0.05, 0.95, 0.0, 0.0)),
    "B8A": (20, (0.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    "B09": (60, (0.0, 0.0, 0.0, 0.9, 0.1, 0.0)),
    "B11": (20, (0.0, 0.0, 0.0, 0.0, 1.0, 0.0)),
    "B12": (20, (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
}
_CLOUD = np.array([0.62, 0.61, 0.60, 0.64, 0.50, 0.38], "float32")  # reflectance of thick clouds


def make_sentinel2(
    root: str | Path, *, size: int = 768, dates: Sequence[str] = ("20230712",), clouds: float = 0.15, seed: int = 0
) -> tuple[Path, ...]:
    """
    Generate Sentinel-2 scenes of one area, as `.SAFE` folders of GeoTIFFs.

    Each scene has the bands of Level 2A in the sensor's pixel sizes (uint16, 0 is nodata, processing baseline 05.09:
    reflectance = value / 10,000 - 0.1) and the scene classification `SCL` (20 m), in EPSG:32615.

    Parameters
    ----------
    root
        Output folder.
    size
        Height and width in pixels of 10 m: a multiple of 6.
    dates
        Date of each scene, as "YYYYMMDD". Scenes differ in clouds and noise.
    clouds
        Approximate fraction of cloudy pixels.
    seed
        Random seed.

    Returns
    -------
    tuple of Path
        The `.SAFE` folders, in the order of `dates`.

    Raises
    ------
    InputError
        If `size` is not a multiple of 6.

    Examples
    --------
    >>> import tempfile
    >>> (scene,) = make_sentinel2(tempfile.mkdtemp(), size=48)
    >>> len(list(scene.rglob("*_10m.tif"))), len(list(scene.rglob("*.tif")))
    (4, 13)
    """
    if size < 6 or size % 6:
        msg = f"Cannot make a scene of {size} pixels: pixels of 60 m need a multiple of 6 pixels of 10 m."
        raise InputError(msg, remedy=f"Pass size={max(6, size // 6 * 6)}.", value=size, argument="size")
    half = size * 5
    grid = make_grid((size, size), left=_CENTER[0] - half, top=_CENTER[1] + half, resolution=10)
    origin = Transformer.from_crs("EPSG:32615", ALBERS, always_xy=True).transform(*_CENTER)
    land = make_land(seed, origin)
    x, y = pixel_centers(grid)
    covers = [cover_at(land, x[top : top + _ROWS], y[top : top + _ROWS]) for top in range(0, size, _ROWS)]
    ground = np.concatenate([reflectance(cover) for cover in covers], axis=1)
    kind = np.concatenate([cover.kind for cover in covers])
    return tuple(
        _write_scene(Path(root), date, grid, *_observe(land, x, y, ground, kind, clouds, seed=(seed, int(date))))
        for date in dates
    )


def _observe(
    land: Land, x: Floats, y: Floats, ground: Floats, kind: NDArray[np.uint8], clouds: float, *, seed: tuple[int, int]
) -> tuple[Floats, NDArray[np.uint8]]:
    """Return reflectance (band, y, x) with clouds, shadows and noise, and the scene classification (y, x)."""
    rng = np.random.default_rng(seed)
    east, north = x - land.origin[0] + rng.uniform(2e4, 4e4), y - land.origin[1] + rng.uniform(2e4, 4e4)
    field = smooth_at(land, east, north).wood + 0.15 * smooth_at(land, 7 * east, 7 * north).wood
    limit = np.quantile(field, 1 - clouds) if clouds else np.inf
    opacity = np.clip((field - limit) / 0.5 + 0.2, 0, 1)
    shift = min(30, len(field) // 6)  # the sun stands in the southeast
    shade = np.pad(opacity, ((0, shift), (0, shift // 2)), mode="edge")[shift:, shift // 2 :]
    observed = ground * (1 - 0.55 * shade) * (1 - opacity) + _CLOUD[:, None, None] * (0.85 + 0.1 * field) * opacity
    observed += rng.standard_normal(observed.shape, "float32") * (0.001 + 0.01 * observed)
    classes = np.where(kind == WATER, 6, np.where((kind == FOREST) | (kind == WETLAND) | (ground[3] > 0.3), 4, 5))
    classes = np.where(opacity >= 0.6, 9, np.where(opacity > 0.2, 8, np.where(shade > 0.2, 3, classes)))
    return observed.astype("float32"), classes.astype("uint8")


def _write_scene(root: Path, date: str, grid: GeoBox, observed: Floats, classes: NDArray[np.uint8]) -> Path:
    """Write the files of a scene under their official names."""
    safe = root / f"S2A_MSIL2A_{date}T165851_N0509_R069_T15TWG_{date}T223456.SAFE"
    images = safe / "GRANULE" / f"L2A_T15TWG_A042049_{date}T170502" / "IMG_DATA"
    for name, (meters, weights) in _BANDS.items():
        band = _mean(np.tensordot(np.array(weights, "float32"), observed, 1), meters // 10)
        numbers = np.clip(np.rint((band + 0.1) * 10_000), 1, 65535).astype("uint16")
        path = images / f"R{meters}m" / f"T15TWG_{date}T165851_{name}_{meters}m.tif"
        write_cog(path, numbers, grid=zoom_out(grid, meters // 10), nodata=0, compress="deflate")
    path = images / "R20m" / f"T15TWG_{date}T165851_SCL_20m.tif"
    write_cog(path, classes[::2, ::2], grid=zoom_out(grid, 2), nodata=0, compress="deflate")
    return safe


def _mean(band: Floats, step: int) -> Floats:
    """Return the means of squares of pixels."""
    height, width = (length // step for length in band.shape)
    return np.asarray(band.reshape(height, step, width, step).mean((1, 3)))
