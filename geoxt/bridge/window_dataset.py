"""Map-style torch datasets: one sample a window."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import xarray as xr
from dask.system import CPU_COUNT
from torch.utils.data import Dataset

from geoxt.bridge.buffer_pool import Room
from geoxt.bridge.reading import Kind, Sample, channels_of, read_batch, single
from geoxt.bridge.shared_memory import Slot
from geoxt.errors import GridError
from geoxt.grid import crs_name
from geoxt.pixels.remote import WINDOWS
from geoxt.samplers import WindowSequence
from geoxt.windows import Window

Transform = Callable[[Sample], Sample]


class WindowDataset(Dataset[Sample]):
    """A map-style torch dataset: one sample a window.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    windows
        A sampler, or windows of the grid.
    transform
        Applied to every sample, or to every batch by `loader`.
    dtype
        "float32": continuous layers become float32. "stored": they keep their type where torch has it.
    threads
        Windows of a batch that are read at once. By default the number of cores, and 1 in workers; 32 for remote files.

    Notes
    -----
    It pickles without handles, so it goes to workers by fork or spawn. Indexing takes numbers and windows.
    """

    def __init__(
        self,
        data: xr.DataArray | xr.Dataset,
        windows: WindowSequence | Sequence[Window],
        *,
        transform: Transform | None = None,
        dtype: Kind = "float32",
        threads: int | None = None,
    ) -> None:
        self.grid, self.channels = channels_of(data, dtype=dtype)
        if isinstance(windows, WindowSequence) and windows.grid != self.grid:
            sides = [f"{g.shape[0]} x {g.shape[1]} in {crs_name(g.crs)}" for g in (windows.grid, self.grid)]
            msg = f"Cannot read windows of one grid ({sides[0]}) from layers on another ({sides[1]})."
            raise GridError(msg + " Make the sampler from the same layers.")
        self.windows = windows
        self.transform = transform
        self.threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._room = Room()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | Window) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | Window]) -> list[Sample]:
        """Return samples that are read together."""
        batch = self.read(indices)
        samples = [single(batch, place) for place in range(len(indices))]
        return samples if self.transform is None else [self.transform(s) for s in samples]

    def read(self, indices: Sequence[int | Window], room: Room | Slot | None = None) -> Sample:
        """Return one batch of windows, before any transform; its tensors lie in a room, this dataset's by default."""
        windows = [i if isinstance(i, Window) else self.windows[i] for i in indices]
        return read_batch(self.grid, self.channels, windows, self._map(), room or self._room)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the threads behind."""
        return self.__dict__ | {"_pool": None}

    def _map(self) -> Any:
        """Return what maps over windows: threads of this process, or the built-in."""
        count = self.threads
        if count is None:
            count = 1 if torch.utils.data.get_worker_info() is not None else CPU_COUNT
            if any(c.view.remote for c in self.channels):
                count = WINDOWS  # they wait for servers, not for cores
        if count <= 1:
            return map
        if self._pool is None or self._pool[0] != os.getpid():
            self._pool = os.getpid(), ThreadPoolExecutor(count, "geoxt-read")
        return self._pool[1].map
