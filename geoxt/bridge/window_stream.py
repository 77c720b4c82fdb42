"""Windows as a stream: what workers read is dealt out among them, and each sample comes once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import IterableDataset

from geoxt.bridge.reading import Sample
from geoxt.bridge.window_dataset import WindowDataset
from geoxt.samplers import WindowSequence

TOGETHER = 8
"""Windows that are read at once."""


class WindowStream(IterableDataset[Sample]):
    """An iterable-style torch dataset: the samples of a map-style one, in the order of its windows.

    Parameters
    ----------
    samples
        The map-style dataset.
    together
        Windows that are read at once; workers take turns by so many.

    Notes
    -----
    In a `DataLoader` with workers every sample comes once, from one of them; their order then depends on the workers.
    `set_epoch` takes the windows of another epoch.
    """

    def __init__(self, samples: WindowDataset, *, together: int = TOGETHER) -> None:
        self.samples, self.together = samples, together
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the windows of another epoch; before workers start, or they do not know of it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        windows = self.samples.windows
        if isinstance(windows, WindowSequence):
            windows = windows.at(self.epoch)
        worker = torch.utils.data.get_worker_info()
        first, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for start in range(first * self.together, len(windows), workers * self.together):
            stop = min(start + self.together, len(windows))
            yield from self.samples.__getitems__([windows[n] for n in range(start, stop)])
