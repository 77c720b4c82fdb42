"""An iterable-style torch dataset of windows, divided among worker processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset

from geoxt.bridge.read_batch import Sample
from geoxt.bridge.window_dataset import WindowDataset
from geoxt.samplers import WindowSequence

CHUNK_SIZE = 8
"""Windows read at once."""


class WindowStream(IterableDataset[Sample]):
    """An iterable-style torch dataset: the samples of a map-style dataset, in order.

    Parameters
    ----------
    samples
        The map-style dataset.
    chunk_size
        Number of consecutive windows that are read at once, by one worker.

    Notes
    -----
    In a `DataLoader` with workers every sample is yielded once, by one of them; the order then depends on the workers.
    """

    def __init__(self, samples: WindowDataset, *, chunk_size: int = CHUNK_SIZE) -> None:
        self.samples, self.chunk_size = samples, chunk_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of a sampler's windows; without effect on persistent workers that are already running."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        windows = self.samples.windows
        if isinstance(windows, WindowSequence):
            windows = windows.at(self.epoch)
        worker = torch.utils.data.get_worker_info()
        first, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for start in range(first * self.chunk_size, len(windows), workers * self.chunk_size):
            stop = min(start + self.chunk_size, len(windows))
            yield from self.samples.__getitems__([windows[index] for index in range(start, stop)])
