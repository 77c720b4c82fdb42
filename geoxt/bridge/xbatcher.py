"""Batch generators of xbatcher: their selectors are read as windows if possible; other batches are computed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from torch.utils.data import Dataset

from geoxt.errors import CRSError, GeoxtWarning, GridError
from geoxt.grid import grid_of, pixel_offset
from geoxt.windows import Window

Selector = Mapping[Any, slice]
"""The slice of each dimension that makes one patch."""


def is_generator(windows: Any) -> bool:
    """Return whether an object is an `xbatcher.BatchGenerator`, without importing xbatcher."""
    return any(c.__name__ == "BatchGenerator" and c.__module__.startswith("xbatcher") for c in type(windows).__mro__)


def windows_of(generator: Any, data: xr.DataArray | xr.Dataset | xr.DataTree) -> list[list[Window]] | None:
    """Return the windows of each batch of a generator.

    Parameters
    ----------
    generator
        An `xbatcher.BatchGenerator` over the layers, or over other layers on the same grid.
    data
        The layers to read.

    Returns
    -------
    list of list of Window or None
        Windows of the layers' grid. `None` if the selectors are not windows: one cuts another dimension than y, x and
        time, or the generator's data are on no grid, on another grid, or the layers on several.

    Warns
    -----
    GeoxtWarning
        If the generator leaves out pixels at the edges, as xbatcher does if the size is not a multiple of the patches.
    """
    source = generator.ds
    batches = [list(batch) for batch in generator._batch_selectors.selectors.values()]  # noqa: SLF001
    _warn_of_pixels_left_out(source, batches)
    if isinstance(data, xr.DataTree):
        return None
    try:
        offset = pixel_offset(grid_of(source), grid_of(data))
    except (GridError, CRSError):
        return None
    if offset is None:
        return None
    windows = [[_window(selector, source, offset) for selector in batch] for batch in batches]
    complete = [[window for window in batch if window is not None] for batch in windows]
    return complete if sum(map(len, complete)) == sum(map(len, windows)) else None


def _window(selector: Selector, data: xr.DataArray | xr.Dataset, offset: tuple[int, int]) -> Window | None:
    """Return the window of a selector; `None` if it selects along another dimension than y, x and time."""
    bounds = {dim: selector.get(dim, slice(None)).indices(data.sizes[dim])[:2] for dim in ("y", "x")}
    for dim, part in selector.items():
        is_cut = part.indices(data.sizes[dim])[:2] != (0, data.sizes[dim])
        if is_cut and dim not in ("y", "x", "time"):
            return None
    time = tuple(range(data.sizes["time"])[selector["time"]]) if "time" in selector else None
    (top, bottom), (left, right) = bounds["y"], bounds["x"]
    return Window(top + offset[0], left + offset[1], bottom - top, right - left, time)


def _warn_of_pixels_left_out(data: xr.DataArray | xr.Dataset, batches: Sequence[Sequence[Selector]]) -> None:
    """Warn if the last pixels along a dimension are in no selector."""
    ends: dict[Any, int] = {}
    for batch in batches:
        for selector in batch:
            for dim, part in selector.items():
                ends[dim] = max(ends.get(dim, 0), part.indices(data.sizes[dim])[1])
    sizes = {dim: data.sizes[dim] for dim in ends}
    lost = [f"the last {sizes[d] - end} of {sizes[d]} along {d}" for d, end in ends.items() if end < sizes[d]]
    if lost:
        msg = f"The xbatcher generator leaves out {' and '.join(lost)}. GridSampler(…, edge='shift') covers them."
        warnings.warn(msg, GeoxtWarning, stacklevel=5)


class ComputedBatches(Dataset[dict[str, Any]]):
    """Batches as xbatcher makes them, each computed in the thread that reads it.

    dask's threads do not survive a fork: a forked worker that used them would wait forever.
    """

    def __init__(self, generator: Any, *, dtype: str = "float32") -> None:
        self.generator, self.dtype = generator, dtype

    def __len__(self) -> int:
        return len(self.generator)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with dask.config.set(scheduler="synchronous"):
            batch = self.generator[int(index)].compute()
        layers = batch.data_vars if isinstance(batch, xr.Dataset) else {batch.name or "image": batch}
        return {str(name): self._tensor(layer) for name, layer in layers.items()}

    def _tensor(self, layer: xr.DataArray) -> torch.Tensor:
        if "flag_values" in layer.attrs:
            return torch.from_numpy(layer.values.astype("int64"))
        values = layer.values if self.dtype == "stored" else layer.values.astype(self.dtype)
        return torch.from_numpy(np.ascontiguousarray(values))
