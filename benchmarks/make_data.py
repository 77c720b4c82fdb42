"""Write the data of the loading benchmark: Landsat 8 scenes in two UTM zones and a crop map in Albers.

The data of Appendix A.1 of Stewart et al. (https://arxiv.org/abs/2111.08872), scaled down: by default 4 scenes
of 8000 x 8000 pixels and 7 bands, 3.4 GB. A band is a GeoTIFF in tiles of 512, uint16, nodata 0 outside the
tilted footprint; neighbours overlap by 1400 pixels. The crop map is one uint8 GeoTIFF with a color table.

    python benchmarks/make_data.py DATA                      uncompressed, as in the paper
    python benchmarks/make_data.py DATA --compress zstd      or deflate, both with a horizontal predictor; or lerc_zstd
    python benchmarks/make_data.py DATA --aligned            also all layers on the crop map's grid, in DATA/aligned
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
"""Codes of the Cropland Data Layer, and their colors."""
TILT = 0.18
"""Slope of the footprint's edges, from the orbit's inclination."""
FIELD = 16
"""Side of a field of one crop, in pixels."""
MARGIN = 100
"""Margin of the crop map around the scenes, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenePosition:
    """Position and acquisition of a scene."""

    zone: int
    """UTM zone, north."""
    left: float
    """Easting of the left edge, in metres."""
    top: float
    """Northing of the top edge, in metres."""
    row: str
    """WRS path and row, six digits."""
    day: str
    """Acquisition date, YYYYMMDD."""

    @property
    def crs(self) -> str:
        """Coordinate reference system."""
        return f"EPSG:{32600 + self.zone}"


def scene_positions(size: int) -> list[ScenePosition]:
    """Return four scenes: two side by side in zone 15, two in zone 16 one above the other."""
    step = PIXEL * (size - size * 1400 // 8000)
    return [
        ScenePosition(zone=15, left=500_000, top=4_700_000, row="026031", day="20190701"),
        ScenePosition(zone=15, left=500_000 + step, top=4_700_000, row="025031", day="20190702"),
        ScenePosition(zone=16, left=186_585, top=4_745_415, row="023031", day="20190703"),
        ScenePosition(zone=16, left=186_585, top=4_745_415 - step, row="023032", day="20190704"),
    ]


def footprint(size: int) -> NDArray[np.bool_]:
    """Return the mask of valid pixels of a scene, a tilted rectangle."""
    y, x = np.ogrid[-0.5 : 0.5 : size * 1j, -0.5 : 0.5 : size * 1j]
    return np.asarray((np.abs(x + TILT * y) < 0.43) & (np.abs(y - TILT * x) < 0.5))


def reflectance(size: int, seed: int) -> NDArray[np.uint16]:
    """Return a band of 8 x 8 pixel fields with noise and no zeros."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(7_000, 20_000, (size // 8 + 1, size // 8 + 1)).astype("float32")
    fine = coarse.repeat(8, axis=0)[:size].repeat(8, axis=1)[:, :size]
    return np.asarray((fine + 200 * rng.standard_normal((size, size), "float32")).clip(1, 65_535).astype("uint16"))


def profile(dtype: str, compress: str) -> dict[str, Any]:
    """Return the rasterio profile of the files."""
    tiled = {"driver": "GTiff", "count": 1, "dtype": dtype, "nodata": 0, "tiled": True, "blockxsize": TILE}
    compression = {} if compress == "none" else {"compress": compress, "num_threads": "all_cpus"}
    compression |= {"predictor": 2} if compress in {"deflate", "zstd"} else {}
    return tiled | {"blockysize": TILE} | compression


def write_scenes(folder: Path, scenes: list[ScenePosition], size: int, compress: str) -> None:
    """Write the bands of the scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    valid_mask = footprint(size)
    for number, position in enumerate(scenes):
        transform = from_origin(position.left, position.top, PIXEL, PIXEL)
        options = profile("uint16", compress) | {
            "width": size,
            "height": size,
            "crs": position.crs,
            "transform": transform,
        }
        for band in range(1, 8):
            name = f"LC08_L2SP_{position.row}_{position.day}_20200827_02_T1_SR_B{band}.TIF"
            with rasterio.open(folder / name, "w", **options) as file:
                file.write(np.where(valid_mask, reflectance(size, 10 * number + band), 0).astype("uint16"), 1)


def write_map(folder: Path, scenes: list[ScenePosition], size: int, compress: str) -> None:
    """Write the crop map covering all scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    side = PIXEL * size
    boxes = np.array([
        transform_bounds(p.crs, MAP_CRS, p.left, p.top - side, p.left + side, p.top, densify_pts=50) for p in scenes
    ])  # fmt: skip
    left, bottom = np.floor(boxes[:, :2].min(0) / PIXEL) - MARGIN
    right, top = np.ceil(boxes[:, 2:].max(0) / PIXEL) + MARGIN
    rows, cols = int(top - bottom), int(right - left)
    rng = np.random.default_rng(0)
    fields = rng.choice(np.array(list(CROPS), "uint8"), (rows // FIELD + 1, cols // FIELD + 1))
    transform = from_origin(PIXEL * left, PIXEL * top, PIXEL, PIXEL)
    options = profile("uint8", compress) | {"width": cols, "height": rows, "crs": MAP_CRS, "transform": transform}
    with rasterio.open(folder / "2019_30m_cdls.tif", "w", **options) as file:
        file.write(fields.repeat(FIELD, axis=0)[:rows].repeat(FIELD, axis=1)[:, :cols], 1)
        file.write_colormap(1, {code: tuple(bytes.fromhex(color[1:])) for code, color in CROPS.items()})


def write_aligned(data: Path, compress: str, side: int = 2048) -> None:
    """Write the mosaic of the scenes on the crop map's grid, one file per band, and the crop map there."""
    from data_layers import open_layers

    from geoxt.grid import full_window, to_rasterio
    from geoxt.pixels.kernels import tiles
    from geoxt.source import view_of

    layers = open_layers(data, into="cdl")
    grid, windows = layers.geoml.grid, tiles(full_window(layers.geoml.grid), side)
    grid_options = {"width": grid.shape[1], "height": grid.shape[0], **to_rasterio(grid)}
    scene = "LC08_L2SP_026031_20190701_20200827_02_T1_SR_B"
    names = {"image": [f"landsat/{scene}{n}.TIF" for n in range(1, 8)], "mask": ["cdl/2019_30m_cdls.tif"]}
    for layer, files in names.items():
        (data / "aligned" / files[0]).parent.mkdir(parents=True, exist_ok=True)
        options = profile(str(layers[layer].dtype), compress) | grid_options
        view = view_of(layers[layer])
        for band, name in enumerate(files):
            with rasterio.open(data / "aligned" / name, "w", **options) as file:
                for values, window in _read(view, band, windows):
                    rows, cols = window.within(full_window(grid))
                    file.write(values, 1, window=((rows.start, rows.stop), (cols.start, cols.stop)))


def _read(view: Any, band: int, windows: list[Any]) -> Iterator[tuple[NDArray[Any], Any]]:
    """Yield the pixels of one band by tile."""
    for window in windows:
        yield (
            view.source.read(window.shift(view.window.row, view.window.col), bands=[view.bands[band]])[0][0, 0],
            window,
        )


def main() -> None:
    """Parse arguments and write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--size", type=int, default=8000, help="side of a scene, in pixels")
    parser.add_argument("--compress", choices=("none", "deflate", "zstd", "lerc_zstd"), default="none")
    parser.add_argument("--aligned", action="store_true", help="also write the mosaic on the crop map's grid")
    args = parser.parse_args()
    scenes = scene_positions(args.size)[: args.scenes]
    if not (args.data / "landsat").exists():
        write_scenes(args.data / "landsat", scenes, args.size, args.compress)
        write_map(args.data / "cdl", scenes, args.size, args.compress)
    if args.aligned and not (args.data / "aligned").exists():
        write_aligned(args.data, args.compress)
    print(args.data)


if __name__ == "__main__":
    main()
