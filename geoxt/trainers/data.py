"""The data module: aligned layers and a split become the batches that Lightning asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from torch.utils.data import DataLoader

from geoxt.bridge import loader
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.samplers import RandomSampler, Region
from geoxt.source import nodata_of
from geoxt.splits import Split
from geoxt.trainers.kinds import kind_of
from geoxt.trainers.resume import Resumable
from geoxt.trainers.statistics import band_statistics, legend_of
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size

_STATISTICS = 256
"""Training windows that the bands' mean and deviation are taken from, at most."""


class DataModule(Resumable):
    """Random windows for training, and every pixel once for validation and test, each from its part of a split.

    Parameters
    ----------
    data
        Layers on one grid, by the names that the task wants: `image` and `mask` for segmentation.
    split
        Where training, validation and test windows lie.
    size
        Height and width of a training window, in pixels.
    eval_size
        Height and width of validation and test windows, at most. These windows tile their regions and have no one
        size, so they come one at a time.
    batch_size
        Windows in a batch.
    length
        Training windows in an epoch; a whole number of batches is taken.
    seed
        Seed of the training windows; each epoch has others.
    workers
        Processes that read windows.
    times
        Whether windows hold all time steps, as tasks of change and of time series want them.
    """

    def __init__(
        self,
        data: xr.Dataset,
        split: Split,
        *,
        size: SomeSize,
        eval_size: SomeSize = 256,
        batch_size: int = 16,
        length: int = 320,
        seed: int = 0,
        workers: int = 0,
        times: bool = False,
    ) -> None:
        super().__init__()
        if data.sizes.get("time", 1) > 1 and not times:
            msg = f"Cannot train on {data.sizes['time']} time steps at once: choose one, e.g. data.isel(time=0), or "
            raise InputError(msg + "pass times=True for a task that takes several.")
        self.data = data if times or "time" not in data.dims else data.isel(time=0)
        self.split = split
        self.size = parse_size(size)
        self.eval_size = parse_size(eval_size, what="eval_size")
        self.batch_size = batch_size
        self.workers = workers
        self.windows = RandomSampler(
            self.data, size=self.size, length=_whole_batches(length, batch_size), seed=seed, region=split.train
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training windows; Lightning tells the loader the epoch, and each has others."""
        return self.going_on(loader(self.data, self.windows, batch_size=self.batch_size, workers=self.workers))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation windows."""
        return self._each_once(self.split.val)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test windows."""
        return self._each_once(self.split.test)

    def card(
        self, *, model: str = "unet", task: str = "segmentation", legend: Legend | None = None, **options: Any
    ) -> Card:
        """Describe a model for these data.

        Parameters
        ----------
        model
            Name of an architecture in `geoxt.models`.
        task
            Name of the kind of task.
        legend
            The classes, or the names of what is measured numbered from 0; by default the classes that the labels hold,
            which reads all of them once, or numbers.
        options
            The architecture's own options.

        Returns
        -------
        Card
            Bands by name, their mean and deviation over (at most 256) training windows, and the classes.
        """
        kind = kind_of(task)
        image, labels = self.data[kind.image], self.data[kind.target]
        classes = legend or (legend_of(labels) if kind.classes else _numbered(labels.sizes.get("band", 1)))
        mean, std = band_statistics(image, list(self.windows)[:_STATISTICS])
        nodata = nodata_of(labels)
        return Card(
            task=task,
            model=model,
            options=options,
            bands=bands_of(image),
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            codes=classes.codes,
            names=classes.names,
            colors=classes.colors,
            nodata=None if nodata is None or np.isnan(nodata) else int(nodata),
            size=self.size,
        )

    def _each_once(self, region: Region) -> DataLoader[Any]:
        windows = [tile for outer in region.on(grid_of(self.data)) for tile in tiles(outer, self.eval_size)]
        return loader(self.data, windows, batch_size=1, workers=self.workers)


def _numbered(count: int) -> Legend:
    """Return names of measured channels: their numbers."""
    return Legend(tuple(range(count)), tuple(map(str, range(count))))


def tiles(outer: Window, size: tuple[int, int]) -> Iterator[Window]:
    """Yield windows that tile another one, each pixel once: as few as possible of at most `size`, and alike in size.

    Examples
    --------
    >>> from geoxt.windows import Window
    >>> [(tile.row, tile.height) for tile in tiles(Window(0, 0, 10, 4), (4, 4))]
    [(0, 4), (4, 3), (7, 3)]
    """
    rows, cols = (np.array_split(np.arange(n), -(-n // most)) for n, most in zip(outer.shape, size, strict=True))
    for down in rows:
        for across in cols:
            yield Window(outer.row + int(down[0]), outer.col + int(across[0]), len(down), len(across))


def _whole_batches(length: int, batch_size: int) -> int:
    return max(length // batch_size, 1) * batch_size


def bands_of(image: xr.DataArray) -> tuple[str, ...]:
    """Return the names of the bands of a layer, numbers where they have none."""
    if "band" not in image.dims:
        return ("image" if image.name is None else str(image.name),)
    if "band" not in image.coords:
        return tuple(f"band {index + 1}" for index in range(image.sizes["band"]))
    return tuple(map(str, image["band"].values))
