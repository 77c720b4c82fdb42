"""Accuracy and time of warping, against exact oracles and GDAL.

    python benchmarks/exactness.py        needs rasterio 1.5 or later, which passes tolerance=0 to GDAL

Writes results/exactness.md. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from clock import best
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling as Method
from rasterio.warp import reproject
from report import machine, table, write

from geoxt.crs import parse_crs, transformer
from geoxt.grid import full_window, to_rasterio
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.types import Array, Mask
from geoxt.windows import Window

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support
from support import oracles

SIDE = 512
"""Side of the target grid, in pixels."""
TIE = 1e-3
"""Distance to a pixel edge, in source pixels, below which either neighbor is right."""
SCALES = (0.33, 1.0, 1.04, 1.5, 3.0)
"""Source pixels per target pixel."""
PAIRS = {
    "UTM 16 to UTM 15": ("EPSG:32616", "EPSG:32615", (-90.0, 42.0)),
    "UTM 15 to Albers": ("EPSG:32615", "EPSG:5070", (-93.0, 42.0)),
    "Albers to UTM 15": ("EPSG:5070", "EPSG:32615", (-93.0, 42.0)),
    "UTM 15 to 4326": ("EPSG:32615", "EPSG:4326", (-93.0, 42.0)),
    "4326 to UTM 15": ("EPSG:4326", "EPSG:32615", (-93.0, 42.0)),
    "UTM 15 to 3857": ("EPSG:32615", "EPSG:3857", (-93.0, 42.0)),
    "UTM 33 to polar": ("EPSG:32633", "EPSG:3413", (15.0, 79.0)),
    "UTM 15, half a pixel": ("EPSG:32615", "EPSG:32615", (-93.0, 42.0)),
}
"""CRS of the source, of the target, and a longitude and latitude."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A raster and the grid to warp it to."""

    source: GeoBox
    """Grid of the raster; contains the target with a margin."""
    target: GeoBox
    """Target grid."""
    values: Array
    """White noise (band, y, x), float32, 0 to 255."""


def grid_at(crs: str, lonlat: tuple[float, float], metres: float, side: int, shift: float = 0.0) -> GeoBox:
    """Return a square grid around a longitude and latitude, with pixels of about the given size in metres."""
    x, y = transformer(parse_crs("EPSG:4326"), parse_crs(crs)).transform(*lonlat)
    size = metres / 111_320 if crs == "EPSG:4326" else metres
    size = size / np.cos(np.radians(lonlat[1])) if crs == "EPSG:3857" else size
    left, top = (np.floor(v / size) + s * side / 2 + shift for v, s in ((x, -1), (y, 1)))
    return GeoBox((side, side), Affine(size, 0, float(left) * size, 0, -size, float(top) * size), parse_crs(crs))


def case(pair: str, scale: float, *, bands: int = 1, metres: float = 30.0, side: int = SIDE) -> Case:
    """Return a noise raster with pixels of the given size in metres, and a target grid inside it."""
    source_crs, target_crs, lonlat = PAIRS[pair]
    target = grid_at(target_crs, lonlat, metres * scale, side, 0.41)
    source = grid_at(source_crs, lonlat, metres, int(side * scale * 1.9) + 64)
    values = np.random.default_rng(0).uniform(0, 255, (bands, *source.shape)).astype("float32")
    return Case(source=source, target=target, values=values)


def warp_geoxt(
    warp: Case, method: Any, pixel_transform: PixelTransform | None = None, window: Window | None = None
) -> tuple[Array, Mask]:
    """Return values and valid mask of geoxt."""

    def fetch(need: Window) -> tuple[Array, None]:
        rows, cols = need.within(full_window(warp.source))
        return warp.values[:, rows, cols], None

    resampled = resample(
        fetch, pixel_transform or PixelTransform(warp.target, warp.source), window or full_window(warp.target), method
    )
    assert resampled is not None
    values, valid = resampled
    return values, np.ones(values.shape, bool) if valid is None else valid


def gdal(warp: Case, method: str, **options: Any) -> Array:
    """Return the values of GDAL."""
    a, b = to_rasterio(warp.source), to_rasterio(warp.target)
    out = np.full((len(warp.values), *warp.target.shape), np.nan, "float32")
    reproject(
        warp.values, out, src_crs=a["crs"], src_transform=a["transform"], dst_crs=b["crs"],
        dst_transform=b["transform"], dst_nodata=np.nan, resampling=Method[method], **options,
    )  # fmt: skip
    return out


def scales_of(warp: Case) -> tuple[float, float]:
    """Return target pixels per source pixel along x and y, as for the oracle and GDAL's XSCALE."""
    down, across = PixelTransform(warp.target, warp.source).scale
    return 1 / across, 1 / down


def differ(values: Array, exact: Array, inside: Mask) -> tuple[float, float]:
    """Return the fraction of pixels that differ, and the maximum difference."""
    error = np.abs(values.astype("float64") - exact)[..., inside]
    return float((error > 0).mean()), float(error.max(initial=0))


def row(pair: str, scale: float, exact_gdal: dict[str, Any]) -> list[str]:
    """Return one row of errors: wrong nearest pixels, bilinear error against the oracle and GDAL."""
    warp = case(pair, scale)
    near, good = warp_geoxt(warp, "nearest")
    truth = oracles.nearest(warp.values, warp.source, warp.target)
    unambiguous = truth.valid & (truth.margin > TIE)
    wrong, _ = differ(near, truth.values, unambiguous)
    gdal_wrong, _ = differ(gdal(warp, "nearest"), truth.values, unambiguous)
    smooth, fine = warp_geoxt(warp, "bilinear")
    kernel = scales_of(warp)
    blend = oracles.widened_bilinear(warp.values, None, warp.source, warp.target, kernel)
    inner = blend.valid & fine[0] & good[0]
    _, off = differ(smooth, blend.values, inner)
    fixed = {"XSCALE": kernel[0], "YSCALE": kernel[1]} if min(kernel) < 0.95 else {"XSCALE": 1, "YSCALE": 1}
    gaps = [differ(smooth, gdal(warp, "bilinear", **fixed, **extra), inner)[1] for extra in (exact_gdal, {})]
    numbers = [f"{wrong:.4%}", f"{gdal_wrong:.2%}", f"{off / 255:.1e}", *[f"{g / 255:.1e}" for g in gaps]]
    return [pair, f"{scale:g}", *numbers]


def times(exact_gdal: dict[str, Any], repeats: int) -> str:
    """Return the table of milliseconds per window of 224 pixels and 7 bands."""
    warps = {
        "30 m, UTM 15 to Albers": ("UTM 15 to Albers", 1.0, 30.0),
        "30 m, UTM 16 to UTM 15": ("UTM 16 to UTM 15", 1.0, 30.0),
        "Sentinel-2 10 m to Landsat 30 m, one zone": ("UTM 15, half a pixel", 3.0, 10.0),
        "Sentinel-2 10 m to Landsat 30 m, other zone": ("UTM 16 to UTM 15", 3.0, 10.0),
        "30 m to 10 m, UTM 15 to Albers": ("UTM 15 to Albers", 0.33, 30.0),
    }
    rows = []
    for title, (pair, scale, metres) in warps.items():
        for method in ("nearest", "bilinear"):
            warp = case(pair, scale, bands=7, metres=metres, side=224)
            pixel_transform = PixelTransform(warp.target, warp.source)
            calls: Sequence[Callable[[], Any]] = (
                lambda warp=warp, method=method, pixel_transform=pixel_transform: warp_geoxt(
                    warp, method, pixel_transform
                ),
                lambda warp=warp, method=method: gdal(warp, method, **exact_gdal),
                lambda warp=warp, method=method: gdal(warp, method),
            )
            milliseconds = [1e3 * best(call, repeats) for call in calls]
            rows.append(
                [title, method, *[f"{ms:.2f}" for ms in milliseconds], f"{milliseconds[1] / milliseconds[0]:.0f}"]
            )
    head = ["from and to", "method", "geoxt", "GDAL, exact", "GDAL, default", "exact GDAL / geoxt"]
    return table(head, rows)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="source pixels per target pixel")
    parser.add_argument("--repeats", type=int, default=15, help="repeats of each timed call")
    args = parser.parse_args()
    new = tuple(int(p) for p in rasterio.__version__.split(".")[:2]) >= (1, 5)
    exact_gdal = {"tolerance": 0} if new else {}
    rows = [row(pair, scale, exact_gdal) for pair in PAIRS for scale in args.scales]
    strict = (
        "bilinear error against GDAL at tolerance 0"
        if new
        else "bilinear error against GDAL (rasterio < 1.5: no tolerance)"
    )
    nearest = ["wrong nearest pixels", "wrong nearest pixels, GDAL's default"]
    head = [
        "pair",
        "scale",
        *nearest,
        "bilinear error against the oracle",
        strict,
        "bilinear error against GDAL's default",
    ]
    about = (
        f"Made by `exactness.py`. White noise of 0 to 255, {SIDE} x {SIDE} pixels. Nearest: fraction of pixels that "
        f"differ from pyproj and floor, without ties ({TIE:g} px). Bilinear: the maximum difference as a fraction of "
        "the value range; kernels are scaled by the pixel ratio if it exceeds 1.05."
    )
    parts = [
        "# Accuracy and time of warping",
        about,
        machine("torch", "rasterio", "numpy") + f" GDAL {rasterio.__gdal_version__}.",
        "## Errors",
        table(head, rows),
        "## Milliseconds per window of 224 x 224 pixels and 7 bands, in memory",
        times(exact_gdal, args.repeats),
    ]
    print(write("exactness.md", parts).read_text())


if __name__ == "__main__":
    main()
