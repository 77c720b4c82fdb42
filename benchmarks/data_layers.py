"""The data of `make_data.py` as geoxt layers on one grid, and windows drawn by samplers."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

import geoxt
from geoxt.samplers import GridSampler, RandomBatchSampler, RandomSampler, WindowSequence
from geoxt.windows import Window

BANDS = [f"SR_B{n}" for n in range(1, 8)]
SIZE, STRIDE = 224, 112
SCENE_CRS = "EPSG:32616"
"""CRS of the first file by name, the default of TorchGeo."""


def open_layers(data: Path, *, into: str) -> xr.Dataset:
    """Return the layers "image" and "mask" on one grid.

    Parameters
    ----------
    data
        Folder written by `make_data.py`.
    into
        "cdl": the grid of the crop map; the bands are warped bilinearly. "landsat": the grid of the scenes of one zone;
        the crop map and the scenes of the other zone are warped. "aligned": files on one grid.
    """
    folder = data / "aligned" if into == "aligned" else data
    crops = geoxt.open_cogs(folder / "cdl" / "*.tif", product="cdl")
    crs = SCENE_CRS if into == "landsat" else crops.odc.crs
    scenes = geoxt.open_cogs(folder / "landsat" / "*.TIF", product="landsat8", bands=BANDS, crs=crs)
    return geoxt.intersection(image=scenes, mask=crops, grid="image" if into == "landsat" else "mask")


def draw_windows(
    layers: xr.Dataset, sampler: str, *, count: int, batch: int, seed: int = 0
) -> WindowSequence | list[Window]:
    """Return windows of the "random" or "random-batch" sampler, or consecutive windows of "grid" from 3/8 of it on."""
    match sampler:
        case "random":
            return RandomSampler(layers, size=SIZE, length=count, seed=seed)
        case "random-batch":
            return RandomBatchSampler(layers, size=SIZE, length=count, batch_size=batch, seed=seed)
        case "grid":
            windows = GridSampler(layers, size=SIZE, stride=STRIDE)
            return windows[3 * len(windows) // 8 :][:count]
        case _:
            msg = f"Cannot draw windows by {sampler!r}: pass 'random', 'random-batch' or 'grid'."
            raise ValueError(msg)
