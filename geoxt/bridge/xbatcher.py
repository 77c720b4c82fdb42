"""Batch generators of xbatcher: their selectors as windows of the engine; what is no window is computed by itself."""

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


def is_generator(windows: Any) -> bool:
    """Tell whether something is an `xbatcher.BatchGenerator`, without importing xbatcher."""
    return any(c.__name__ == "BatchGenerator" and c.__module__.startswith("xbatcher") for c in type(windows).__mro__)


def windows_of(generator: Any, data: xr.DataArray | xr.Dataset | xr.DataTree) -> list[list[Window]] | None:
    """Return the windows of each batch of a generator.

    Parameters
    ----------
    generator
        An `xbatcher.BatchGenerator` over the layers, or over others on the same grid.
    data
        The layers that are to be read.

    Returns
    -------
    Its batches as windows of the layers' grid; `None` where they are no windows: a selector cuts another dimension
    than y, x and time, or what the generator was made of lies on no grid, or on another.

    Warns
    -----
    GeoxtWarning
        Where the generator leaves out pixels at the edges, as xbatcher does where the size is no multiple.
    """
    chosen = generator.ds
    batches = [list(batch) for batch in generator._batch_selectors.selectors.values()]  # noqa: SLF001
    _report(chosen, batches)
    if isinstance(data, xr.DataTree):
        return None
    try:
        moved = pixel_offset(grid_of(chosen), grid_of(data))
    except (GridError, CRSError):
        return None
    if moved is None:
        return None
    found = [[_window(one, chosen, moved) for one in batch] for batch in batches]
    known = [[w for w in batch if w is not None] for batch in found]
    return known if sum(map(len, known)) == sum(map(len, found)) else None


def _window(selector: Selector, data: xr.DataArray | xr.Dataset, moved: tuple[int, int]) -> Window | None:
    """Return the window that a selector is; `None` where it is none."""
    bounds = {dim: selector.get(dim, slice(None)).indices(data.sizes[dim])[:2] for dim in ("y", "x")}
    for dim, some in selector.items():
        partly = some.indices(data.sizes[dim])[:2] != (0, data.sizes[dim])
        if partly and dim not in ("y", "x", "time"):
            return None
    time = tuple(range(data.sizes["time"])[selector["time"]]) if "time" in selector else None
    (top, bottom), (left, right) = bounds["y"], bounds["x"]
    return Window(top + moved[0], left + moved[1], bottom - top, right - left, time)


def _report(data: xr.DataArray | xr.Dataset, batches: Sequence[Sequence[Selector]]) -> None:
    """Warn of what no selector reaches."""
    ends: dict[Any, int] = {}
    for selector in (one for batch in batches for one in batch):
        for dim, some in selector.items():
            ends[dim] = max(ends.get(dim, 0), some.indices(data.sizes[dim])[1])
    sizes = {dim: data.sizes[dim] for dim in ends}
    lost = [f"the last {sizes[d] - end} of {sizes[d]} along {d}" for d, end in ends.items() if end < sizes[d]]
    if lost:
        msg = f"The xbatcher generator leaves out {' and '.join(lost)}. GridSampler(…, edge='shift') reaches them."
        warnings.warn(msg, GeoxtWarning, stacklevel=5)


class ComputedBatches(Dataset[dict[str, Any]]):
    """The batches of a generator as xbatcher makes them, each computed in its own thread.

    Threads of dask would not survive a fork: a worker that used them would wait for ever.
    """

    def __init__(self, generator: Any, *, dtype: str = "float32") -> None:
        self.generator, self.dtype = generator, dtype

    def __len__(self) -> int:
        return len(self.generator)

    def __getitem__(self, place: int) -> dict[str, Any]:
        with dask.config.set(scheduler="synchronous"):
            batch = self.generator[int(place)].compute()
        parts = batch.data_vars if isinstance(batch, xr.Dataset) else {batch.name or "image": batch}
        return {str(name): self._tensor(part) for name, part in parts.items()}

    def _tensor(self, part: xr.DataArray) -> torch.Tensor:
        if "flag_values" in part.attrs:
            return torch.from_numpy(part.values.astype("int64"))
        values = part.values if self.dtype == "stored" else part.values.astype(self.dtype)
        return torch.from_numpy(np.ascontiguousarray(values))
