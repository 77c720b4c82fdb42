"""How exact warping is, and how long it takes: against the oracles, and against GDAL.

    python benchmarks/exactness.py        with rasterio 1.5 or later, which passes a tolerance of 0 on to GDAL

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

from geoxt.grid import full_window, parse_crs, to_rasterio, transformer
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.types import Array, Mask
from geoxt.windows import Window

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for tests/support
from support import oracles

SIDE = 512
"""Pixels of the target."""
TIE = 1e-3
"""Source pixels: nearer to the edge between two pixels than this, either is right."""
SCALES = (0.33, 1.0, 1.04, 1.5, 3.0)
"""Source pixels for one target pixel."""
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
    """A raster to bring onto a grid."""

    source: GeoBox
    """Its grid; holds the target with room to spare."""
    target: GeoBox
    """Where it goes."""
    values: Array
    """(band, y, x) float32, 0 to 255, every pixel its own."""


def grid_at(crs: str, place: tuple[float, float], metres: float, side: int, shift: float = 0.0) -> GeoBox:
    """Return a square grid round a longitude and latitude, with pixels of about that many metres."""
    x, y = transformer(parse_crs("EPSG:4326"), parse_crs(crs)).transform(*place)
    size = metres / 111_320 if crs == "EPSG:4326" else metres
    size = size / np.cos(np.radians(place[1])) if crs == "EPSG:3857" else size
    left, top = (np.floor(v / size) + s * side / 2 + shift for v, s in ((x, -1), (y, 1)))
    return GeoBox((side, side), Affine(size, 0, float(left) * size, 0, -size, float(top) * size), parse_crs(crs))


def case(pair: str, scale: float, *, bands: int = 1, metres: float = 30.0, side: int = SIDE) -> Case:
    """Return a raster of noise with pixels of so many metres, and a target grid inside it."""
    own, other, place = PAIRS[pair]
    target = grid_at(other, place, metres * scale, side, 0.41)
    source = grid_at(own, place, metres, int(side * scale * 1.9) + 64)
    values = np.random.default_rng(0).uniform(0, 255, (bands, *source.shape)).astype("float32")
    return Case(source=source, target=target, values=values)


def ours(
    one: Case, how: Any, mapping: PixelTransform | None = None, window: Window | None = None
) -> tuple[Array, Mask]:
    """Return values and valid mask of geoxt."""

    def fetch(need: Window) -> tuple[Array, None]:
        rows, cols = need.within(full_window(one.source))
        return one.values[:, rows, cols], None

    found = resample(fetch, mapping or PixelTransform(one.target, one.source), window or full_window(one.target), how)
    assert found is not None
    values, valid = found
    return values, np.ones(values.shape, bool) if valid is None else valid


def gdal(one: Case, how: str, **options: Any) -> Array:
    """Return the values of GDAL."""
    a, b = to_rasterio(one.source), to_rasterio(one.target)
    out = np.full((len(one.values), *one.target.shape), np.nan, "float32")
    reproject(
        one.values, out, src_crs=a["crs"], src_transform=a["transform"], dst_crs=b["crs"],
        dst_transform=b["transform"], dst_nodata=np.nan, resampling=Method[how], **options,
    )  # fmt: skip
    return out


def scales_of(one: Case) -> tuple[float, float]:
    """Return target pixels for one source pixel, along x and y, as the oracle and GDAL's XSCALE take them."""
    down, across = PixelTransform(one.target, one.source).scale
    return 1 / across, 1 / down


def differ(found: Array, exact: Array, sure: Mask) -> tuple[float, float]:
    """Return the share of pixels that differ, and the largest difference."""
    gap = np.abs(found.astype("float64") - exact)[..., sure]
    return float((gap > 0).mean()), float(gap.max(initial=0))


def row(pair: str, scale: float, exact_gdal: dict[str, Any]) -> list[str]:
    """Return one line of margins: nearest wrong, bilinear off the oracle, off GDAL."""
    one = case(pair, scale)
    near, good = ours(one, "nearest")
    truth = oracles.nearest(one.values, one.source, one.target)
    sure = truth.valid & (truth.margin > TIE)
    wrong, _ = differ(near, truth.values, sure)
    loose, _ = differ(gdal(one, "nearest"), truth.values, sure)
    smooth, fine = ours(one, "bilinear")
    kernel = scales_of(one)
    blend = oracles.widened_bilinear(one.values, None, one.source, one.target, kernel)
    inner = blend.valid & fine[0] & good[0]
    _, off = differ(smooth, blend.values, inner)
    fixed = {"XSCALE": kernel[0], "YSCALE": kernel[1]} if min(kernel) < 0.95 else {"XSCALE": 1, "YSCALE": 1}
    gaps = [differ(smooth, gdal(one, "bilinear", **fixed, **extra), inner)[1] for extra in (exact_gdal, {})]
    numbers = [f"{wrong:.4%}", f"{loose:.2%}", f"{off / 255:.1e}", *[f"{g / 255:.1e}" for g in gaps]]
    return [pair, f"{scale:g}", *numbers]


def times(exact_gdal: dict[str, Any], repeats: int) -> str:
    """Return the table of milliseconds for a window of 224 pixels and 7 bands."""
    work = {
        "30 m, UTM 15 to Albers": ("UTM 15 to Albers", 1.0, 30.0),
        "30 m, UTM 16 to UTM 15": ("UTM 16 to UTM 15", 1.0, 30.0),
        "Sentinel-2 10 m to Landsat 30 m, one zone": ("UTM 15, half a pixel", 3.0, 10.0),
        "Sentinel-2 10 m to Landsat 30 m, other zone": ("UTM 16 to UTM 15", 3.0, 10.0),
        "30 m to 10 m, UTM 15 to Albers": ("UTM 15 to Albers", 0.33, 30.0),
    }
    rows = []
    for title, (pair, scale, metres) in work.items():
        for how in ("nearest", "bilinear"):
            one = case(pair, scale, bands=7, metres=metres, side=224)
            mapping = PixelTransform(one.target, one.source)
            calls: Sequence[Callable[[], Any]] = (
                lambda one=one, how=how, mapping=mapping: ours(one, how, mapping),
                lambda one=one, how=how: gdal(one, how, **exact_gdal),
                lambda one=one, how=how: gdal(one, how),
            )
            found = [1e3 * best(call, repeats) for call in calls]
            rows.append([title, how, *[f"{ms:.2f}" for ms in found], f"{found[1] / found[0]:.0f}"])
    head = ["from and to", "method", "geoxt", "GDAL, exact", "GDAL, default", "exact GDAL / geoxt"]
    return table(head, rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    new = tuple(int(p) for p in rasterio.__version__.split(".")[:2]) >= (1, 5)
    exact_gdal = {"tolerance": 0} if new else {}
    rows = [row(pair, scale, exact_gdal) for pair in PAIRS for scale in args.scales]
    strict = "off GDAL at tolerance 0" if new else "off GDAL (rasterio < 1.5: no tolerance)"
    nearest = ["nearest wrong", "GDAL's default, nearest wrong"]
    head = ["pair", "scale", *nearest, "bilinear, off the oracle", strict, "off GDAL's default"]
    how = (
        f"Made by `exactness.py`. White noise of 0 to 255, {SIDE} x {SIDE} pixels. Nearest: the share of pixels that "
        f"differ from pyproj and floor, ties ({TIE:g} px) left out. Bilinear: the largest difference as a share of the "
        "range of values; kernels are as wide as the ratio of the pixels where that is over 1.05."
    )
    parts = [
        "# How exact warping is, and what it costs",
        how,
        machine("torch", "rasterio", "numpy") + f" GDAL {rasterio.__gdal_version__}.",
        "## Margins",
        table(head, rows),
        "## Milliseconds for a window of 224 x 224 pixels and 7 bands, in memory",
        times(exact_gdal, args.repeats),
    ]
    print(write("exactness.md", parts).read_text())


if __name__ == "__main__":
    main()
