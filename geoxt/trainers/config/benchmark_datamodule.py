"""Data module of benchmark datasets: samples of their splits, by name in a configuration."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from geoxt import datasets
from geoxt.bridge import to_torch
from geoxt.errors import DatasetWarning, InputError
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.tasks import TASKS, TaskName
from geoxt.trainers.datamodules.samples import SampleDataModule, evenly_spaced
from geoxt.trainers.selfsup.module import EMBEDDING

_PARTS = ("train", "val", "test")
_INSTANCE_ASSETS = ("boxes", "instances")
"""Assets with the instances of detection and instance segmentation; a dataset has one of them."""


class BenchmarkDataModule(SampleDataModule):
    """Samples of a benchmark dataset, by its splits.

    Parameters
    ----------
    name
        Name of a dataset, see `geoxt.datasets.names()`; or a custom `geoxt.datasets.Spec`, in a configuration by its
        import path `module:NAME` (the working directory is searched too).
    root
        Folder of its files; by default `data/NAME` in the working directory.
    download
        Whether to download missing files.
    splits
        Names of its training, validation and test split, of which the last may be left out; or names by part,
        `{"train": …, "test": …}`. A list of names, such as folds, joins their samples. By default those of `train`,
        `val` and `test` that have labels.
    val_fraction
        Fraction of the training samples for validation if no validation split is named; related samples stay together
        (see `geoxt.datasets.Dataset.hold_out`). 0 trains without validation.
    assets, where
        Keys of the assets to read, and values by field of the paths, as for `geoxt.datasets.load`; by default all.
    bands
        Names of the bands to read; by default all.
    level
        Level of the class hierarchy; one of `geoxt.datasets.get(name).levels`.
    window
        Side in pixels of square windows into which large images are cut.
    batch_size, eval_batch_size, seed, num_workers
        As for `SampleDataModule`.

    Notes
    -----
    `task` is the task of the dataset; `time-series` if its images have several dates, and `byol`, with two dates of a
    location as positive pairs, if it has no labels.
    """

    def __init__(
        self,
        name: str | datasets.Spec,
        root: str | None = None,
        *,
        download: bool = False,
        splits: Sequence[str | list[str]] | Mapping[str, str | list[str]] | None = None,
        val_fraction: float = 0.2,
        assets: list[str] | None = None,
        where: Mapping[str, Any] | None = None,
        bands: list[str] | None = None,
        level: str | None = None,
        window: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        spec = _spec_of(name) if isinstance(name, str) else name
        folder = Path("data") / spec.name if root is None else root
        split_of_part = _default_splits(spec) if splits is None else _by_part(splits)
        options: Any = {"level": level, "assets": assets, "where": where, "window": window, "download": download}
        parts = {part: datasets.load(spec, folder, split, bands, **options) for part, split in split_of_part.items()}
        if "val" not in parts and val_fraction:
            try:
                parts["train"], parts["val"] = parts["train"].hold_out(val_fraction)
            except InputError as error:
                remedy = "Pass {val_fraction} below 1; or 0, to train without validation."
                raise InputError(error.problem, remedy=remedy, value=val_fraction, argument="val_fraction") from error
        self.spec, self.splits = spec, split_of_part
        self.task, self.positives = default_task(spec), "times" if spec.task == "self-supervised" else None
        samples = {part: to_torch(data) for part, data in parts.items()}
        train = samples.pop("train")
        self.classes, self.bands = train.classes, train.bands
        super().__init__(
            train,
            **samples,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )

    def card(
        self,
        *,
        model: str,
        task: str | None = None,
        legend: Legend | None = None,
        bands: Sequence[str] | None = None,
        **options: Any,
    ) -> Card:
        """Return the model card for these samples; see `SampleDataModule.card`."""
        names = bands if bands is not None else self.bands or None
        if task is None and self.spec.task == "self-supervised":
            legend = Legend((0,), (EMBEDDING,))
        return super().card(
            model=model, task=task or "classification", legend=legend or self.classes, bands=names, **options
        )

    def require_labels(self, key: str) -> None:
        """Raise if samples of a selected split have no labels under a key, such as `"mask"`.

        Raises
        ------
        InputError
            If a split has no such labels.
        """
        for part, names in self.splits.items():
            for name in [names] if isinstance(names, str) else names:
                if not has_labels(self.spec, name, key):
                    purpose = {"train": "train", "val": "validate", "test": "test"}[part]
                    msg = f"Cannot {purpose} on split {name!r} of {self.spec.name!r}: it has no {key!r}."
                    labeled = [split for split in self.spec.split_names if has_labels(self.spec, split, key)]
                    remedy = f"Pass {{splits}} of {', '.join(labeled)}." if labeled else "Pass another {task}."
                    raise InputError(msg, remedy=remedy, value=name, argument="splits")

    def _statistics_samples(self, keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield training samples with some keys only, so that no other file is decoded for statistics."""
        dataset: Any = self.train
        if not set(keys) <= set(self.spec.assets):
            return super()._statistics_samples(keys)
        samples = to_torch(dataset.data, keys=list(keys))
        return (samples[index] for index in evenly_spaced(len(samples)))


def _spec_of(name: str) -> datasets.Spec:
    return import_spec(name) if ":" in name else datasets.get(name)


def import_spec(path: str) -> datasets.Spec:
    """Return a custom dataset spec by its import path, `module:NAME`.

    Raises
    ------
    InputError
        If it cannot be imported, or is no `geoxt.datasets.Spec`.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # worker processes inherit the path
    try:
        spec = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"Cannot import the dataset {path!r}: {error}."
        remedy = "Pass {name}, a name of geoxt.datasets.names() or module:NAME of a Spec."
        raise InputError(msg, remedy=remedy, value=path, argument="name") from error
    if not isinstance(spec, datasets.Spec):
        msg = f"Cannot use {path!r} as a dataset: it is a {type(spec).__name__}."
        raise InputError(msg, remedy="Pass {name} of a geoxt.datasets.Spec.", value=path, argument="name")
    return spec


def default_task(spec: datasets.Spec) -> str:
    """Return the default task, or method of self-supervised learning, of a dataset."""
    image = spec.assets.get("image", spec.first_asset)
    if spec.task == "self-supervised":
        return "byol"
    axes = getattr(image, "axes", "")
    has_dates = "time" in image.templates[0].names or "t" in axes
    single: tuple[TaskName, ...] = ("segmentation", "instance-segmentation")
    return "time-series" if has_dates and spec.task in single and "mask" in spec.assets else spec.task


def has_labels(spec: datasets.Spec, split: str, key: str | None) -> bool:
    """Return whether the samples of a split have labels under a key."""
    keys = _INSTANCE_ASSETS if key == "boxes" else (key,)
    assets = [spec.assets[k] for k in keys if k is not None and k in spec.assets]
    rule = spec.splits
    if not assets or not isinstance(rule, datasets.FolderSplit):
        return True
    return any(
        "split" not in asset.where or split in {rule.names.get(str(text), text) for text in asset.where["split"]}
        for asset in assets
    )


def _by_part(splits: Sequence[str | list[str]] | Mapping[str, str | list[str]]) -> dict[str, str | list[str]]:
    """Return the names of splits by part.

    Raises
    ------
    InputError
        If a part is unknown, or the training part is missing.
    """
    by_part = dict(splits) if isinstance(splits, Mapping) else dict(zip(_PARTS, splits, strict=False))
    if "train" not in by_part or set(by_part) - set(_PARTS):
        msg = f"Cannot train on the parts {', '.join(by_part) or 'of an empty list'}: a part is train, val or test."
        remedy = "Pass {splits} with names of train, and optionally of val and test."
        raise InputError(msg, remedy=remedy, value=splits, argument="splits")
    names = {part: {names} if isinstance(names, str) else set(names) for part, names in by_part.items()}
    for first, second in combinations(names, 2):
        if common := sorted(names[first] & names[second]):
            msg = f"Split {common[0]!r} is used for {first} and for {second}: scores are too good for new images."
            warnings.warn(msg, DatasetWarning, stacklevel=3)
    return by_part


def _default_splits(spec: datasets.Spec) -> dict[str, str | list[str]]:
    splits: dict[str, str | list[str]] = {part: part for part in _PARTS if part in spec.split_names}
    if "train" not in splits:
        msg = f"Cannot choose the training split of {spec.name!r}: it has {', '.join(spec.split_names) or 'no splits'}."
        remedy = "Pass {splits}, the names of the training, validation and test split."
        raise InputError(msg, remedy=remedy, argument="splits")
    key = TASKS[spec.task].key
    return {part: split for part, split in splits.items() if has_labels(spec, part, key)}
