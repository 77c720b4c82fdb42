"""Data modules that a configuration can name: raster files, and benchmark datasets by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geoxt import datasets
from geoxt.align import intersection
from geoxt.layers import open_cogs
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.splits import blocks
from geoxt.trainers.data import DataModule
from geoxt.trainers.sets import SetModule


class Files(DataModule):
    """Windows of raster files: an image, and labels in any CRS and resolution, split by blocks.

    Parameters
    ----------
    image
        Paths and patterns of the image's files.
    labels
        File of class codes, or of values.
    target
        Name of what is learnt: `mask` for classes; `target` for values, which are interpolated.
    block
        Pixels: side of the blocks that are dealt to training, validation and test.
    split_seed
        Of the split.
    size, eval_size, batch_size, length, seed, workers
        As for `DataModule`.
    """

    def __init__(
        self,
        image: list[str],
        labels: str,
        *,
        target: str = "mask",
        block: int = 128,
        split_seed: int = 0,
        size: int = 96,
        eval_size: int = 256,
        batch_size: int = 16,
        length: int = 320,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        classes = target == "mask"
        learnt = open_cogs(labels, categorical=classes, resampling="nearest" if classes else "bilinear", name="labels")
        data = intersection(image=open_cogs(image, name="image"), labels=learnt, grid="image").rename(labels=target)
        split = blocks(data, size=block, seed=split_seed)
        super().__init__(
            data,
            split,
            size=size,
            eval_size=eval_size,
            batch_size=batch_size,
            length=length,
            seed=seed,
            workers=workers,
        )


class Named(SetModule):
    """Samples of a benchmark dataset of `geoxt.datasets`, by its own splits.

    Parameters
    ----------
    name
        One of `geoxt.datasets.names()`.
    root
        Folder with its files.
    splits
        Its names of the training, validation and test part; the last may be left out.
    bands
        Bands to read, by name; all by default.
    batch_size, eval_size, seed, workers
        As for `SetModule`.
    """

    def __init__(
        self,
        name: str,
        root: str,
        *,
        splits: Sequence[str] = ("train", "val", "test"),
        bands: list[str] | None = None,
        batch_size: int = 32,
        eval_size: int | None = None,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        parts = [datasets.load(name, root, split, bands) for split in splits]
        self.classes = _learnt(parts[0].spec)
        self.bands = tuple(band.name for band in parts[0].bands.get("image", ()))
        samples = [part.to_torch() for part in parts]
        super().__init__(*samples, batch_size=batch_size, eval_size=eval_size, seed=seed, workers=workers)

    def card(
        self,
        *,
        model: str,
        task: str = "classification",
        legend: Legend | None = None,
        bands: Sequence[str] | None = None,
        **options: Any,
    ) -> Card:
        """Describe a model for these samples; see `SetModule.card`."""
        chosen = bands or self.bands or None
        return super().card(model=model, task=task, legend=legend or self.classes, bands=chosen, **options)


def _learnt(spec: datasets.Spec) -> Legend | None:
    """Return the classes without those that mean that there is no label: such pixels are not valid."""
    without = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
    return spec.classes and spec.classes.only([code for code in spec.classes.codes if code not in without])
