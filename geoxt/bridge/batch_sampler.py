"""Torch samplers of batches of windows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from geoxt.bridge.epoch_sampler import EpochSampler
from geoxt.samplers import WindowSequence
from geoxt.windows import Window

Indices = npt.NDArray[np.int64]


class WindowBatchSampler(EpochSampler[list[Window]]):
    """Yields batches of windows in order; windows of different tensor shapes are grouped by shape first.

    Parameters
    ----------
    windows
        A sampler, or windows. `set_epoch` draws the windows of a sampler's epoch.
    batch_size
        Windows in a batch.
    key
        Function that returns equal values for windows that can share a batch. It is called once for each node, size and
        number of time steps. By default all windows can share a batch.
    drop_last
        Whether to leave out batches that are not full.
    """

    def __init__(
        self,
        windows: WindowSequence | Sequence[Window],
        batch_size: int,
        *,
        key: Callable[[Window], Hashable] | None = None,
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.windows, self.batch_size, self.key, self.drop_last = windows, batch_size, key, drop_last
        self._drawn: tuple[int, WindowSequence | Sequence[Window], list[Indices]] | None = None

    def _count(self) -> int:
        return len(self._draw()[1])

    def _batches(self, start: int, step: int) -> Iterator[list[Window]]:
        windows, batches = self._draw()
        for indices in batches[start::step]:
            yield [windows[index] for index in indices.tolist()]

    def _draw(self) -> tuple[WindowSequence | Sequence[Window], list[Indices]]:
        """Return the windows of the epoch, and the indices of each batch; drawn once per epoch."""
        if self._drawn is None or self._drawn[0] != self.epoch:
            windows = self.windows.at(self.epoch) if isinstance(self.windows, WindowSequence) else self.windows
            numbers = np.zeros(len(windows), "int64") if self.key is None else _key_numbers(windows, self.key)
            batches = batch_indices(numbers, self.batch_size)
            full = [indices for indices in batches if len(indices) == self.batch_size or not self.drop_last]
            self._drawn = self.epoch, windows, full
        return self._drawn[1:]


class FixedBatchSampler(Sampler[list[Window]]):
    """Yields given batches of windows.

    Parameters
    ----------
    batches
        The windows of each batch.
    """

    def __init__(self, batches: Sequence[Sequence[Window]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.windows = [window for batch in self.batches for window in batch]
        self.batch_size = max(map(len, self.batches), default=1)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Window]]:
        return iter(self.batches)


def batch_indices(keys: Indices, batch_size: int) -> list[Indices]:
    """Return the indices of each batch, whose windows have equal keys.

    Batches keep the order of windows if every run of `batch_size` has one key. Otherwise windows are grouped by key;
    batches come in the order in which they fill up, those that are not full last.

    Examples
    --------
    >>> [indices.tolist() for indices in batch_indices(np.array([0, 1, 0, 1, 1]), 2)]
    [[0, 2], [1, 3], [4]]
    """
    in_order = [np.arange(start, min(start + batch_size, len(keys))) for start in range(0, len(keys), batch_size)]
    if all((keys[indices] == keys[indices[0]]).all() for indices in in_order):
        return in_order
    grouped = []
    for key in np.unique(keys):
        indices = np.flatnonzero(keys == key)
        grouped += [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    return sorted(grouped, key=lambda indices: (len(indices) < batch_size, indices[-1]))


def _key_numbers(windows: WindowSequence | Sequence[Window], key: Callable[[Window], Hashable]) -> Indices:
    """Return a number for the key of each window; `key` is called once for each node, size and number of steps."""
    if isinstance(windows, WindowSequence):
        steps = np.zeros(len(windows), "int64") if windows.steps is None else (windows.steps >= 0).sum(1)
        traits = np.c_[windows.node_index, windows.table[:, 2:], steps]
        if not len(traits) or (traits == traits[0]).all():  # np.unique of rows takes a second per million windows
            return np.zeros(len(windows), "int64")
        _, first, inverse = np.unique(traits, axis=0, return_index=True, return_inverse=True)
        representatives = [windows[int(index)] for index in first]
    else:
        numbers: dict[tuple[str, int, int, int], int] = {}
        traits_of = [(w.node, w.height, w.width, -1 if w.time is None else len(w.time)) for w in windows]
        inverse = np.array([numbers.setdefault(traits, len(numbers)) for traits in traits_of], "int64")
        representatives = [windows[traits_of.index(traits)] for traits in numbers]
    keys = [key(window) for window in representatives]
    number_of = {value: number for number, value in enumerate(dict.fromkeys(keys))}
    return np.array([number_of[value] for value in keys], "int64")[inverse.ravel()]
