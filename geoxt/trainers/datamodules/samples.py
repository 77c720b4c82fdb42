"""The data module of map-style datasets: samples for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from dask.base import tokenize
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from geoxt.bridge import RunningMoments, collate
from geoxt.bridge.epoch_sampler import EpochSampler
from geoxt.bridge.loader import start_workers
from geoxt.errors import InputError, LabelError
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.tasks import TaskKind
from geoxt.trainers.datamodules.label_legend import MAX_CODES, require_card_options
from geoxt.trainers.loop.data_files import file_versions
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trainers.tasks.targets import Batch, entry

_STATISTICS_ROWS = 2048
"""Maximum number of rows of an image that are converted to float64 at once."""
_STATISTICS_SAMPLES = 1024
"""Maximum number of training samples from which band statistics are computed."""


class Samples(Protocol):
    """A map-style dataset of dicts of tensors, such as `image` (C, H, W) and `label`."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]:
        """Return a sample."""


class SampleDataModule(ResumableDataModule):
    """Batches of map-style datasets: shuffled for training, in order for validation and test.

    Parameters
    ----------
    train, val, test
        Datasets; `val` and `test` may be None.
    batch_size
        Samples per training batch.
    eval_batch_size
        Samples per validation or test batch; by default `batch_size`.
    seed
        Seed of the order of training samples, which differs between epochs.
    num_workers
        Worker processes that read samples.
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
            msg = f"Cannot make batches of {batch_size} from {len(train)} training samples."
            raise InputError(msg, remedy="Pass {batch_size:1} or more, and at least one training sample.")
        self.train, self.val, self.test = train, val, test
        self.batch_size = min(batch_size, len(train))
        self.eval_batch_size = eval_batch_size or batch_size
        self.seed, self.num_workers = seed, num_workers

    @cached_property
    def window_token(self) -> str:
        """Token of the order of samples, and of datasets with `__dask_tokenize__`; of others, of their number."""
        parts = (self.train, self.val, self.test)
        samples = [
            part if hasattr(part, "__dask_tokenize__") else None if part is None else len(part) for part in parts
        ]
        return str(tokenize(samples, self.seed))

    def file_versions(self) -> dict[str, str]:
        """Return the version of each file of the datasets that list them by `paths`."""
        parts: list[Any] = [part for part in (self.train, self.val, self.test) if hasattr(part, "paths")]
        return file_versions(path for part in parts for path in part.paths())

    def train_dataloader(self) -> DataLoader[Any]:
        """Return full training batches, in an order that depends on seed and epoch only."""
        return self.resumed(self._loader(self.train, ShuffledBatches(len(self.train), self.batch_size, seed=self.seed)))

    def val_dataloader(self) -> Any:
        """Return validation batches, in order."""
        return self._eval_dataloader(self.val)

    def test_dataloader(self) -> Any:
        """Return test batches, in order."""
        return self._eval_dataloader(self.test)

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
        """Return the model card for these samples.

        Parameters
        ----------
        model
            Architecture in `geoxt.models`.
        task
            Kind of task.
        legend
            Classes, or names of the regressed channels numbered from 0; by default `classes` of the training dataset,
            or the class codes that occur in it.
        bands
            Names of the bands; by default `bands` of the training dataset, or numbers.
        names
            Keys of samples that differ from the task's: `{"image": …, "target": …}`.
        options
            Further arguments of the architecture.

        Returns
        -------
        Card
            With mean and standard deviation of each band over at most 1024 training samples, and of the targets of a
            regression.

        Raises
        ------
        InputError
            If a band has no valid pixel, or `bands` differ in number from those of the samples.
        """
        kind = supervision_of(task).kind
        require_card_options(kind, model, options, 1)
        keys = {"image": "image", "target": kind.key or "", **(names or {})}
        target = keys["target"] if kind.activation == "identity" else None
        read = [keys["image"], *([] if target is None else [target])]
        targets = _TargetMoments(target, pixels=kind.target == "pixels")
        samples = (targets.update(dict(sample)) for sample in self._statistics_samples(read))
        moments, size, in_bytes = _moments(samples, keys["image"], series=kind.takes_series)
        labels = getattr(self.train, "bands", None) if bands is None else np.asarray(bands).tolist()
        band_names = list(map(str, labels or [f"band {n + 1}" for n in range(len(moments.mean))]))
        if len(band_names) != len(moments.mean):
            msg = f"Cannot name {len(moments.mean)} bands by {', '.join(band_names)}."
            raise InputError(msg, remedy="Pass {bands}, a name for each band.", argument="bands")
        classes = legend or self._legend(kind, keys["target"])
        return Card(
            task=task,
            model=model,
            options=options,
            bands=tuple(band_names),
            mean=tuple(moments.mean.tolist()),
            std=tuple(moments.std.tolist()),
            codes=classes.codes,
            names=classes.names,
            colors=classes.colors,
            size=size,
            valid_max=(255.0,) * len(band_names) if in_bytes else (),
            **targets.scale(),
        )

    def _statistics_samples(self, keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the training samples for statistics of some keys; one is in memory at a time."""
        del keys
        return (self.train[index] for index in evenly_spaced(len(self.train)))

    def _legend(self, kind: TaskKind, target: str) -> Legend:
        classes = getattr(self.train, "classes", None)
        if isinstance(classes, Legend):
            return classes
        instances = kind.target == "instances"
        if classes:
            start = 1 if instances else 0  # 0 is the background of detectors
            return Legend(tuple(range(start, start + len(classes))), tuple(map(str, classes)))
        key = "labels" if instances else target
        if kind.activation not in {"softmax", None}:  # channels of a regression or a multilabel classification
            labels = entry(dict(self.train[0]), key)
            channels = labels.shape[0] if labels.ndim in {1, 3} else 1
            if kind.activation == "identity" and channels == 1:
                return Legend((0,), (target,))
            return Legend(tuple(range(channels)))
        codes: set[int] = set()
        for index in range(len(self.train)):
            sample = dict(self.train[index])
            labels, valid = torch.as_tensor(entry(sample, key)), sample.get(f"{key}_valid")
            if kind.target == "image" and labels.numel() > 1:
                msg = f"Cannot use {key!r} as the class of an image: it has the shape {tuple(labels.shape)}."
                raise LabelError(msg, remedy="Pass {task:'multilabel'} for several labels per image.", argument="task")
            values = torch.unique(labels if valid is None else labels[valid])
            codes |= set(values[values >= 0].tolist())  # negative codes are unknown
            if len(codes) > MAX_CODES:
                msg = f"Cannot use {key!r} as class codes: it has more than {MAX_CODES} values, such as {min(codes)}."
                raise LabelError(msg, remedy="Pass {legend}.", argument="legend")
        return Legend(tuple(sorted(map(int, codes))))

    def _eval_dataloader(self, samples: Samples | None) -> Any:
        if samples is None:
            return []
        return self.divided(self._loader(samples, SequentialBatches(len(samples), self.eval_batch_size)))

    def _loader(self, samples: Samples, batches: Sampler[list[int]]) -> DataLoader[Any]:
        workers: Any = {"multiprocessing_context": "spawn", "persistent_workers": True} if self.num_workers else {}
        workers["pin_memory"] = str(self.device).startswith("cuda")  # Lightning then copies without waiting
        return _Loader(
            _BatchDataset(samples), sampler=batches, batch_size=None, num_workers=self.num_workers, **workers
        )


class ShuffledBatches(EpochSampler[list[int]]):
    """Batches of indices in an order that differs between epochs; an incomplete last batch is dropped.

    Parameters
    ----------
    count
        Number of samples.
    batch_size
        Indices per batch.
    seed
        Seed of the order, together with the epoch.
    """

    def __init__(self, count: int, batch_size: int, *, seed: int = 0) -> None:
        super().__init__()
        self.count, self.batch_size, self.seed = count, batch_size, seed

    def _count(self) -> int:
        return self.count // self.batch_size

    def _batches(self, start: int, step: int) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        for batch in range(start, self._count(), step):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()


class SequentialBatches(EpochSampler[list[int]]):
    """Batches of all indices in order.

    Parameters
    ----------
    count
        Number of samples.
    batch_size
        Indices per batch; the last batch may have fewer.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def _count(self) -> int:
        return (self.count + self.batch_size - 1) // self.batch_size

    def _batches(self, start: int, step: int) -> Iterator[list[int]]:
        for batch in range(start, self._count(), step):
            yield list(range(batch * self.batch_size, min((batch + 1) * self.batch_size, self.count)))


class _BatchDataset(Dataset[Batch]):
    """Batches of a dataset by their indices."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        getitems = getattr(self.samples, "__getitems__", None)
        samples = getitems(indices) if getitems else [self.samples[index] for index in indices]
        return samples if isinstance(samples, dict) else collate(samples)


class _Loader(DataLoader[Any]):
    """A DataLoader that draws from torch's global generator at each epoch, with any number of workers.

    Spawned workers start once: each imports torch, which takes seconds. An epoch with them would not draw a seed, so
    that weights would depend on `num_workers`.
    """

    def __iter__(self) -> Any:
        if self._iterator is not None:
            torch.empty((), dtype=torch.int64).random_()
        return start_workers(super().__iter__, self.num_workers)


def evenly_spaced(count: int) -> list[int]:
    """Return at most `_STATISTICS_SAMPLES` indices, spread so that classes stored one after the other all occur."""
    return np.unique(np.linspace(0, count - 1, min(count, _STATISTICS_SAMPLES)).round().astype(int)).tolist()


class _TargetMoments:
    """Mean and standard deviation of the targets of a regression; other tasks have no key of them.

    Parameters
    ----------
    key
        Key of the targets, or `None`.
    pixels
        Whether a sample has a target for each pixel.
    """

    def __init__(self, key: str | None, *, pixels: bool) -> None:
        self._key, self._pixels, self._moments = key, pixels, RunningMoments()

    def update(self, sample: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the targets of a sample, and return the sample."""
        if self._key is not None:
            values = torch.as_tensor(entry(dict(sample), self._key)).double()
            values = values.reshape(-1, *values.shape[-2:]) if self._pixels else values.reshape(-1, 1)
            known, valid = values.isfinite(), sample.get(f"{self._key}_valid")
            known = known if valid is None else known & torch.as_tensor(valid)
            self._moments.update(values.numpy(), known.numpy())
        return sample

    def scale(self) -> dict[str, Any]:
        """Return the fields of a model card."""
        if self._key is None:
            return {}
        if not self._moments.count.all():
            msg = f"Cannot standardize targets: no training sample that was read has a finite {self._key!r}."
            raise LabelError(msg, remedy="Pass training samples with labels.")
        return {"target_mean": tuple(self._moments.mean.tolist()), "target_std": tuple(self._moments.std.tolist())}


def _moments(
    samples: Iterable[Mapping[str, Any]], image: str, *, series: bool
) -> tuple[RunningMoments, tuple[int, int], bool]:
    """Return moments of each band over valid pixels, height and width of the first image, and whether all are uint8.

    Raises
    ------
    InputError
        If a band has no valid pixel.
    """
    moments = RunningMoments()
    count, size, in_bytes = 0, (0, 0), True
    for sample in samples:
        pixels = _bands_first(entry(dict(sample), image), series=series)
        in_bytes = in_bytes and pixels.dtype == torch.uint8
        size = size if count else (pixels.shape[-2], pixels.shape[-1])
        count += 1
        valid = sample.get(f"{image}_valid")
        for row in range(0, pixels.shape[-2], _STATISTICS_ROWS):  # of a large image, only some rows become float64
            rows = slice(row, row + _STATISTICS_ROWS)
            values = pixels[..., rows, :].double()
            labeled = values.isfinite()
            if valid is not None:
                labeled = labeled & torch.as_tensor(valid)[..., rows, :]
            moments.update(values.numpy(), labeled.numpy())
    if not moments.count.all():
        band = int(moments.count.argmin()) + 1
        msg = f"Cannot compute statistics of band {band}: it has no valid pixel in {count} training samples."
        raise InputError(msg, remedy="Leave the band out.")
    return moments, size, in_bytes


def _bands_first(image: Tensor, *, series: bool) -> Tensor:
    """Return an image (C, H, W) or (H, W), or a series (T, C, H, W) or (T, H, W), as (C, …)."""
    image = torch.as_tensor(image)
    if image.ndim == 4:
        return image.transpose(0, 1)
    return image if image.ndim == 3 and not series else image[None]
