"""Epochs of batches: the plan of each, and one that goes on where a training was cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from torch.utils.data import Sampler

from geoxt.errors import InputError

T_co = TypeVar("T_co", covariant=True)


class Epochs(Sampler[T_co], Generic[T_co]):
    """Batches that are others in each epoch; what plans them defines `_count` and `_batches`.

    `len` is the number of batches that iterating yields.
    """

    def __init__(self) -> None:
        self.epoch = self.first = self.done = 0
        self._whole = False

    def set_epoch(self, epoch: int) -> None:
        """Take the batches of another epoch; Lightning calls this before each. None lies before the first one begun."""
        self.epoch = max(epoch, self.first)

    def begin(self, epoch: int, done: int, *, whole: bool = False) -> None:
        """Begin with some epoch, after some of its batches, to go on where a training was cut off.

        Parameters
        ----------
        epoch
            The first one; those after it are whole.
        done
            Its batches that are left out.
        whole
            Let `len` count these as well, as Lightning does in an epoch that it goes on with.

        Raises
        ------
        InputError
            Where the epoch has fewer batches.
        """
        before = self.epoch
        self.epoch = epoch
        count = self._count()
        self.epoch = before
        if epoch < 0 or not 0 <= done <= count:
            msg = f"Cannot begin with epoch {epoch} after {done} batches: it has {count}. Pass epoch=0 or more and "
            raise InputError(msg + f"done=0 to {count}, of the same windows and batch_size= as before.")
        self.first, self.done, self._whole = epoch, done, whole
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count() - (0 if self._whole else self._skipped)

    def __iter__(self) -> Iterator[T_co]:
        return self._batches(self._skipped)

    @property
    def _skipped(self) -> int:
        return self.done if self.epoch == self.first else 0

    def _count(self) -> int:
        """Return the number of batches of the epoch."""
        raise NotImplementedError

    def _batches(self, start: int) -> Iterator[T_co]:
        """Yield the epoch's batches from one on."""
        raise NotImplementedError
