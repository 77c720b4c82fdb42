"""The data module of finished samples: any map-style datasets for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from geoxt.bridge.epoch_sampler import EpochSampler
from geoxt.errors import InputError, LabelError
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.tasks import TaskKind
from geoxt.trainers.datamodules.band_statistics import MOST_CODES
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trainers.tasks.targets import Batch, entry

_STATISTICS = 1024
"""Training samples that the bands' mean and deviation are taken from, at most."""
_WHOLE = ("bounds", "transform")
"""Entries that say where a sample lies: float64 always."""


class Samples(Protocol):
    """A map-style dataset: samples by number, each a dict of tensors such as `image` (C, H, W) and `label`."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """Return a sample."""


class SampleDataModule(ResumableDataModule):
    """Batches of the samples of map-style datasets: shuffled for training, in order for validation and test.

    Parameters
    ----------
    train, val, test
        Datasets; validation and test may be left out.
    batch_size
        Samples in a batch of training.
    eval_batch_size
        Samples in a batch of validation and test; by default as in training.
    seed
        Of the order of training samples; each epoch has another.
    num_workers
        Processes that read samples.
    """

    def __init__(
        self,
        train: Samples,
        val: Samples | None = None,
        test: Samples | None = None,
        *,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1 or len(train) < 1:
            msg = f"Cannot make batches of {batch_size} out of {len(train)} training samples: pass 1 or more of each."
            raise InputError(msg)
        self.train, self.val, self.test = train, val, test
        self.batch_size = min(batch_size, len(train))
        self.eval_batch_size = eval_batch_size or batch_size
        self.seed, self.num_workers = seed, num_workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches, all full: the order is that of the seed and the epoch, whatever the workers."""
        return self.resumed(self._loader(self.train, ShuffledBatches(len(self.train), self.batch_size, seed=self.seed)))

    def val_dataloader(self) -> Any:
        """Return validation batches, in order."""
        return self._each_once(self.val)

    def test_dataloader(self) -> Any:
        """Return test batches, in order."""
        return self._each_once(self.test)

    def card(
        self,
        *,
        model: str,
        task: str = "classification",
        legend: Legend | None = None,
        bands: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Card:
        """Describe a model for these samples.

        Parameters
        ----------
        model
            Name of an architecture in `geoxt.models`.
        task
            Name of the kind of task.
        legend
            The classes, or the names of the measured channels numbered from 0; by default the dataset's `classes`,
            or what training samples hold.
        bands
            Names of the bands; by default the dataset's `bands`, or numbers.
        names
            Where samples have other names than the kind of task: `{"image": …, "target": …}`.
        options
            The architecture's own options.

        Returns
        -------
        Card
            With mean and deviation of each band over (at most 1024) training samples.
        """
        kind = supervision_of(task).kind
        image, target = (
            (names or {}).get(key, default) for key, default in (("image", "image"), ("target", kind.key or ""))
        )
        few = [self.train[int(at)] for at in _spread(len(self.train))]
        mean, std = _statistics([_pixels(dict(one), image, times=kind.takes_series) for one in few])
        given = bands or getattr(self.train, "bands", None) or [f"band {at + 1}" for at in range(len(mean))]
        if len(given) != len(mean):
            msg = f"Cannot name {len(mean)} bands by {', '.join(given)}: pass bands= as many names."
            raise InputError(msg)
        classes = legend or self._legend(kind, target)
        return Card(
            task=task,
            model=model,
            options=options,
            bands=tuple(map(str, given)),
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            codes=classes.codes,
            names=classes.names,
            colors=classes.colors,
            size=tuple(few[0][image].shape[-2:]),
        )

    def _legend(self, kind: TaskKind, target: str) -> Legend:
        named = getattr(self.train, "classes", None)
        if isinstance(named, Legend):
            return named
        if named:
            start = 1 if kind.target == "instances" else 0
            return Legend(tuple(range(start, start + len(named))), tuple(map(str, named)))
        key = "labels" if kind.target == "instances" else target
        if kind.activation not in {"softmax", None}:
            one = entry(dict(self.train[0]), key)
            plain = one.shape[0] if one.ndim in {1, 3} else 1
            return Legend(tuple(range(plain)), tuple(map(str, range(plain))))
        codes: set[int] = set()
        for at in range(len(self.train)):
            sample = dict(self.train[at])
            found, valid = torch.as_tensor(entry(sample, key)), sample.get(f"{key}_valid")
            codes |= set(torch.unique(found if valid is None else found[valid]).tolist())
            if len(codes) > MOST_CODES:
                msg = f"Cannot take {key!r} as classes: it has over {MOST_CODES} values, such as {min(codes)}."
                raise LabelError(msg + " Pass legend=.")
        return Legend(tuple(sorted(map(int, codes))), tuple(map(str, sorted(map(int, codes)))))

    def _each_once(self, samples: Samples | None) -> Any:
        if samples is None:
            return []
        return self._loader(samples, SequentialBatches(len(samples), self.eval_batch_size))

    def _loader(self, samples: Samples, plan: Sampler[list[int]]) -> DataLoader[Any]:
        many: Any = {"multiprocessing_context": "spawn"} if self.num_workers else {}
        return DataLoader(_Batches(samples), sampler=plan, batch_size=None, num_workers=self.num_workers, **many)


class ShuffledBatches(EpochSampler[list[int]]):
    """Full batches of numbers in another order each epoch; a last batch that would not be full is left out.

    Parameters
    ----------
    count
        Number of samples.
    batch_size
        Numbers in a batch.
    seed
        The same seed and epoch give the same order.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int = 0) -> None:
        super().__init__()
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def _count(self) -> int:
        return self.count // self.batch_size

    def _batches(self, start: int) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        for batch in range(start, self._count()):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


class SequentialBatches(Sampler[list[int]]):
    """Batches of all numbers in order."""

    def __init__(self, count: int, batch_size: int) -> None:
        self.count, self.batch_size = count, batch_size

    def __len__(self) -> int:
        return (self.count + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        starts = range(0, self.count, self.batch_size)
        return (list(range(start, min(start + self.batch_size, self.count))) for start in starts)


class _Batches(Dataset[Batch]):
    """The same samples, a whole batch an item."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, numbers: Sequence[int]) -> Batch:
        together = getattr(self.samples, "__getitems__", None)
        found = together(numbers) if together else [self.samples[number] for number in numbers]
        return found if isinstance(found, dict) else collate(found)


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Return samples as one batch: tensors of one shape stacked, numbers as a tensor, all else as a list.

    What no two images have as many of (boxes, their labels and masks) stays a list, always.
    """
    return {str(name): _together(str(name), [one[name] for one in samples]) for name in samples[0]}


def _together(name: str, values: list[Any]) -> Any:
    first = values[0]
    if name in {"boxes", "labels", "masks"}:
        return [torch.as_tensor(value) for value in values]
    if isinstance(first, np.ndarray | Tensor):
        tensors = [torch.as_tensor(value) for value in values]
        alike = all(one.shape == tensors[0].shape for one in tensors)
        return torch.stack(tensors) if alike else tensors
    if isinstance(first, bool | int | float | np.generic):
        whole = torch.float64 if name in _WHOLE else torch.float32
        return torch.tensor(values, dtype=whole if isinstance(first, float) else None)
    return values


def _spread(count: int) -> list[int]:
    """Return some numbers below `count`, evenly spread, so that classes stored in turn are all among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _STATISTICS)).round().astype(int)).tolist()


def _bands_first(image: Tensor, *, times: bool) -> Tensor:
    """Return pixels by band (C, ...), of an image (C, H, W) or (H, W) or, for several times, with T before."""
    image = torch.as_tensor(image)
    if times and image.ndim == 4:
        return image.transpose(0, 1)
    return image if image.ndim == 3 and not times else image[None]


def _pixels(sample: Batch, image: str, *, times: bool) -> Tensor:
    """Return pixels by band (C, ...), as float64 with NaN where the sample says that they are not valid."""
    found = _bands_first(entry(sample, image), times=times).double()
    valid = sample.get(f"{image}_valid")
    return found if valid is None else found.where(torch.as_tensor(valid), torch.nan)


def _statistics(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each band over valid pixels, float64; one that does not vary has a deviation of one.

    Raises
    ------
    InputError
        Where a band has no valid pixel.
    """
    known = torch.stack([one.flatten(1).isfinite().double().mean(1) for one in images])
    if not bool((known.sum(dim=0) > 0).all()):
        band = int(known.sum(dim=0).argmin()) + 1
        msg = f"Cannot scale band {band}: it has no valid pixel in {len(images)} training samples. Leave it out."
        raise InputError(msg)
    parts = [one.where(one.isfinite(), 0).flatten(1) for one in images]
    flat = torch.stack([torch.stack([one.mean(1), (one**2).mean(1)]) for one in parts])
    mean, square = flat.mean(dim=0) / known.mean(dim=0)
    deviation = (square - mean**2).clamp(min=0).sqrt()
    return mean, deviation.where(deviation > 0, 1.0)
