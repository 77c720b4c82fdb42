"""A torch sampler whose batches differ between epochs, and which resumes within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from torch.utils.data import Sampler

from geoxt.errors import InputError

T_co = TypeVar("T_co", covariant=True)


class EpochSampler(Sampler[T_co], Generic[T_co]):
    """Yields batches that differ between epochs; subclasses define `_count` and `_batches`.

    `len` is the number of batches that iterating yields.
    """

    def __init__(self) -> None:
        self.epoch = self._first_epoch = self._done = 0
        self._full_length = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, at least that of `resume`; Lightning calls this before each epoch."""
        self.epoch = max(epoch, self._first_epoch)

    def resume(self, epoch: int, done: int, *, full_length: bool = False) -> None:
        """Continue an epoch after its first batches, for a run that is resumed from a checkpoint.

        Parameters
        ----------
        epoch
            The epoch to continue; later epochs are complete.
        done
            Number of its batches to skip.
        full_length
            Whether `len` counts the skipped batches too, as Lightning does in a resumed epoch.

        Raises
        ------
        InputError
            If the epoch has fewer batches.
        """
        before, self.epoch = self.epoch, epoch
        count = self._count()
        self.epoch = before
        if epoch < 0 or not 0 <= done <= count:
            raise InputError(
                f"Cannot resume epoch {epoch} after {done} batches: it has {count}.",
                remedy=f"Pass {{epoch}} of 0 or more and {{done}} from 0 to {count}, with the windows and batch size"
                " of the interrupted run.",
            )
        self._first_epoch, self._done, self._full_length = epoch, done, full_length
        self.epoch = epoch

    def __len__(self) -> int:
        return self._count() - (0 if self._full_length else self._skipped)

    def __iter__(self) -> Iterator[T_co]:
        return self._batches(self._skipped)

    @property
    def _skipped(self) -> int:
        return self._done if self.epoch == self._first_epoch else 0

    def _count(self) -> int:
        """Return the number of batches of the epoch."""
        raise NotImplementedError

    def _batches(self, start: int) -> Iterator[T_co]:
        """Yield the batches of the epoch from index `start`."""
        raise NotImplementedError
