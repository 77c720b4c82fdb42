"""Make the work of the loading benchmark: Landsat 8 scenes in two UTM zones and a crop map in Albers.

It is the work of Appendix A.1 of Stewart et al. (https://arxiv.org/abs/2111.08872), scaled down: by default 4 scenes
of 8000 x 8000 pixels and 7 bands, 3.4 GB. A band is a GeoTIFF in tiles of 512, uint16, nodata 0 outside the
tilted footprint; neighbours overlap by 1400 pixels. The crop map is one uint8 GeoTIFF with a colour table.

    python benchmarks/work.py DATA                           as in the paper: not compressed
    python benchmarks/work.py DATA --compress zstd           or deflate; both with a horizontal predictor
    python benchmarks/work.py DATA --aligned                 also the same on the crop map's grid, in DATA/aligned
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

PIXEL = 30.0
"""Metres."""
TILE = 512
MAP_CRS = "EPSG:5070"
CROPS = {1: "#ffd300", 5: "#267000", 24: "#a57000", 36: "#ffa5e2", 61: "#bfbf77", 111: "#4970a3", 121: "#999999",
         141: "#93cc93", 176: "#e8ffbf", 190: "#7cafaf"}  # fmt: skip
"""Some codes of the Cropland Data Layer, and their colours."""
TILT = 0.18
"""Slope of the footprint's edges: the orbit's inclination."""
FIELD = 16
"""Pixels: side of a field of one crop."""
MARGIN = 100
"""Pixels by which the crop map reaches beyond the scenes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a scene lies."""

    zone: int
    """UTM zone, north."""
    left: float
    """Easting of its first column, metres."""
    top: float
    """Northing of its first row, metres."""
    row: str
    """Path and row of the reference system, six digits."""
    day: str
    """Day on which it was acquired, YYYYMMDD."""

    @property
    def crs(self) -> str:
        """Its coordinate reference system."""
        return f"EPSG:{32600 + self.zone}"


def places(size: int) -> list[Place]:
    """Return four scenes: two side by side in zone 15, two in zone 16 one above the other."""
    step = PIXEL * (size - size * 1400 // 8000)
    return [
        Place(zone=15, left=500_000, top=4_700_000, row="026031", day="20190701"),
        Place(zone=15, left=500_000 + step, top=4_700_000, row="025031", day="20190702"),
        Place(zone=16, left=186_585, top=4_745_415, row="023031", day="20190703"),
        Place(zone=16, left=186_585, top=4_745_415 - step, row="023032", day="20190704"),
    ]


def footprint(size: int) -> NDArray[np.bool_]:
    """Return which pixels of a scene the sensor saw: a rectangle, tilted."""
    y, x = np.ogrid[-0.5 : 0.5 : size * 1j, -0.5 : 0.5 : size * 1j]
    return np.asarray((np.abs(x + TILT * y) < 0.43) & (np.abs(y - TILT * x) < 0.5))


def reflectance(size: int, seed: int) -> NDArray[np.uint16]:
    """Return a band: fields of 8 x 8 pixels with noise, and no zero."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(7_000, 20_000, (size // 8 + 1, size // 8 + 1)).astype("float32")
    fine = coarse.repeat(8, axis=0)[:size].repeat(8, axis=1)[:, :size]
    return np.asarray((fine + 200 * rng.standard_normal((size, size), "float32")).clip(1, 65_535).astype("uint16"))


def profile(dtype: str, compress: str) -> dict[str, Any]:
    """Return how files are written."""
    tiled = {"driver": "GTiff", "count": 1, "dtype": dtype, "nodata": 0, "tiled": True, "blockxsize": TILE}
    packed = {} if compress == "none" else {"compress": compress, "predictor": 2, "num_threads": "all_cpus"}
    return tiled | {"blockysize": TILE} | packed


def write_scenes(folder: Path, some: list[Place], size: int, compress: str) -> None:
    """Write the bands of the scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = footprint(size)
    for number, place in enumerate(some):
        where = from_origin(place.left, place.top, PIXEL, PIXEL)
        options = profile("uint16", compress) | {"width": size, "height": size, "crs": place.crs, "transform": where}
        for band in range(1, 8):
            name = f"LC08_L2SP_{place.row}_{place.day}_20200827_02_T1_SR_B{band}.TIF"
            with rasterio.open(folder / name, "w", **options) as file:
                file.write(np.where(seen, reflectance(size, 10 * number + band), 0).astype("uint16"), 1)


def write_map(folder: Path, some: list[Place], size: int, compress: str) -> None:
    """Write the crop map over all scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    side = PIXEL * size
    boxes = np.array([
        transform_bounds(p.crs, MAP_CRS, p.left, p.top - side, p.left + side, p.top, densify_pts=50) for p in some
    ])  # fmt: skip
    left, bottom = np.floor(boxes[:, :2].min(0) / PIXEL) - MARGIN
    right, top = np.ceil(boxes[:, 2:].max(0) / PIXEL) + MARGIN
    rows, cols = int(top - bottom), int(right - left)
    rng = np.random.default_rng(0)
    fields = rng.choice(np.array(list(CROPS), "uint8"), (rows // FIELD + 1, cols // FIELD + 1))
    where = from_origin(PIXEL * left, PIXEL * top, PIXEL, PIXEL)
    options = profile("uint8", compress) | {"width": cols, "height": rows, "crs": MAP_CRS, "transform": where}
    with rasterio.open(folder / "2019_30m_cdls.tif", "w", **options) as file:
        file.write(fields.repeat(FIELD, axis=0)[:rows].repeat(FIELD, axis=1)[:, :cols], 1)
        file.write_colormap(1, {code: tuple(bytes.fromhex(color[1:])) for code, color in CROPS.items()})


def write_aligned(data: Path, compress: str, side: int = 2048) -> None:
    """Write the scenes' mosaic on the grid of the crop map, a file a band, and that part of the crop map."""
    from work_layers import opened

    from geoxt.grid import full_window, to_rasterio
    from geoxt.pixels.kernels import tiles
    from geoxt.source import view_of

    both = opened(data, into="cdl")
    grid, pieces = both.geoml.grid, tiles(full_window(both.geoml.grid), side)
    where = {"width": grid.shape[1], "height": grid.shape[0], **to_rasterio(grid)}
    scene = "LC08_L2SP_026031_20190701_20200827_02_T1_SR_B"
    names = {"image": [f"landsat/{scene}{n}.TIF" for n in range(1, 8)], "mask": ["cdl/2019_30m_cdls.tif"]}
    for layer, files in names.items():
        (data / "aligned" / files[0]).parent.mkdir(parents=True, exist_ok=True)
        options = profile(str(both[layer].dtype), compress) | where
        view = view_of(both[layer])
        for band, name in enumerate(files):
            with rasterio.open(data / "aligned" / name, "w", **options) as file:
                for values, piece in _read(view, band, pieces):
                    rows, cols = piece.within(full_window(grid))
                    file.write(values, 1, window=((rows.start, rows.stop), (cols.start, cols.stop)))


def _read(view: Any, band: int, pieces: list[Any]) -> Iterator[tuple[NDArray[Any], Any]]:
    """Yield the pixels of one band, piece by piece."""
    for piece in pieces:
        yield view.source.read(piece.shift(view.window.row, view.window.col), bands=[view.bands[band]])[0][0, 0], piece


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--size", type=int, default=8000, help="pixels a side of a scene")
    parser.add_argument("--compress", choices=("none", "deflate", "zstd"), default="none")
    parser.add_argument("--aligned", action="store_true", help="also write the mosaic on the crop map's grid")
    args = parser.parse_args()
    some = places(args.size)[: args.scenes]
    if not (args.data / "landsat").exists():
        write_scenes(args.data / "landsat", some, args.size, args.compress)
        write_map(args.data / "cdl", some, args.size, args.compress)
    if args.aligned and not (args.data / "aligned").exists():
        write_aligned(args.data, args.compress)
    print(args.data)


if __name__ == "__main__":
    main()
