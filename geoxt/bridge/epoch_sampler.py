"""A torch sampler whose batches differ between epochs, and which resumes within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
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
        self._rank, self._world_size, self._even = 0, 1, True

    def shard(self, rank: int, world_size: int, *, even: bool = True) -> None:
        """Yield only the batches of one of several processes: every `world_size`-th from index `rank` on.

        Parameters
        ----------
        rank
            Rank of the process, from 0.
        world_size
            Number of processes.
        even
            Whether all processes get the same number of batches, as training requires; up to `world_size` - 1 batches
            are then left out. Otherwise no batch is left out, and the first ranks may get one more.

        Raises
        ------
        InputError
            If `even`, and there are fewer batches than processes.
        """
        count = self._count()
        if even and count < world_size:
            msg = f"Cannot divide {count} batches among {world_size} processes: each needs one or more."
            raise InputError(msg, remedy="Pass more samples, smaller batches or fewer devices.")
        self._rank, self._world_size, self._even = rank, world_size, even

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
        count = self._shard_count()
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
        return self._shard_count() - (0 if self._full_length else self._skipped)

    def __iter__(self) -> Iterator[T_co]:
        done = self._skipped
        batches = self._batches(self._rank + done * self._world_size, self._world_size)
        return islice(batches, self._shard_count() - done)

    @property
    def _skipped(self) -> int:
        return self._done if self.epoch == self._first_epoch else 0

    def _shard_count(self) -> int:
        """Return the number of batches of the epoch that this process gets."""
        count = self._count()
        return count // self._world_size if self._even else len(range(self._rank, count, self._world_size))

    def _count(self) -> int:
        """Return the number of batches of the epoch, of all processes."""
        raise NotImplementedError

    def _batches(self, start: int, step: int) -> Iterator[T_co]:
        """Yield every `step`-th batch of the epoch from index `start`."""
        raise NotImplementedError
