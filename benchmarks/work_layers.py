"""The work's files as geoxt layers on one grid, and the windows that samplers draw of them."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

import geoxt
from geoxt.samplers import GridSampler, RandomBatchSampler, RandomSampler, WindowSequence
from geoxt.windows import Window

BANDS = [f"SR_B{n}" for n in range(1, 8)]
SIZE, STRIDE = 224, 112
SCENE_CRS = "EPSG:32616"
"""That of the first file in the order of names, which TorchGeo takes where it is told none."""


def opened(data: Path, *, into: str) -> xr.Dataset:
    """Return the layers "image" and "mask" on one grid.

    Parameters
    ----------
    data
        The folder that `work.py` has made.
    into
        "cdl": the grid of the crop map, on which the bands are warped bilinearly. "landsat": that of the scenes of one
        zone, on which the crop map and the other zone are warped. "aligned": files that lie on one grid already.
    """
    folder = data / "aligned" if into == "aligned" else data
    crops = geoxt.open_cogs(folder / "cdl" / "*.tif", product="cdl")
    crs = SCENE_CRS if into == "landsat" else crops.odc.crs
    scenes = geoxt.open_cogs(folder / "landsat" / "*.TIF", product="landsat8", bands=BANDS, crs=crs)
    return geoxt.intersection(image=scenes, mask=crops, grid="image" if into == "landsat" else "mask")


def drawn(both: xr.Dataset, sampler: str, *, count: int, batch: int, seed: int = 0) -> WindowSequence | list[Window]:
    """Return windows: "random", "random-batch", or a run of a "grid", from three eighths of it on."""
    match sampler:
        case "random":
            return RandomSampler(both, size=SIZE, length=count, seed=seed)
        case "random-batch":
            return RandomBatchSampler(both, size=SIZE, length=count, batch_size=batch, seed=seed)
        case "grid":
            plan = GridSampler(both, size=SIZE, stride=STRIDE)
            return plan[3 * len(plan) // 8 :][:count]
        case _:
            msg = f"Cannot draw windows by {sampler!r}: pass 'random', 'random-batch' or 'grid'."
            raise ValueError(msg)
