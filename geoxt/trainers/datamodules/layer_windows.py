"""The data module: aligned layers and a split become the batches that Lightning asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from torch.utils.data import DataLoader

from geoxt.bridge import loader
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.samplers import GridRegion, RandomSampler
from geoxt.source import nodata_of
from geoxt.splits import Split
from geoxt.trainers.datamodules.band_statistics import band_statistics, legend_of
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trees import nodes_of, tree_of
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size

_STATISTICS = 256
"""Training windows that the bands' mean and deviation are taken from, at most."""


class WindowDataModule(ResumableDataModule):
    """Random windows for training, and every pixel once for validation and test, each from its part of a split.

    Parameters
    ----------
    data
        Layers on one grid, by the names that the task wants: `image` and `mask` for segmentation. Or a tree of these,
        as `crs="native"` opens scenes of several CRSs: every child is learnt from in proportion to its area, and
        validated and tested on its own grid.
    split
        Where training, validation and test windows lie; of a tree, that of `splits.blocks(tree, …)`.
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
    num_workers
        Processes that read windows.
    times
        Whether windows hold all time steps, as tasks of change and of time series want them.
    """

    def __init__(
        self,
        data: xr.Dataset | xr.DataTree,
        split: Split,
        *,
        size: SomeSize,
        eval_size: SomeSize = 256,
        batch_size: int = 16,
        length: int = 320,
        seed: int = 0,
        num_workers: int = 0,
        times: bool = False,
    ) -> None:
        super().__init__()
        if not set(split.grids) <= set(nodes_of(data)):
            raise InputError(
                f"Cannot train on a {type(data).__name__} by a split of the nodes {list(split.grids)}.",
                remedy="Pass {split} of the same data, as splits.blocks(data, size=…) returns it.",
                argument="split",
            )
        own = {node: _at_once(child, node, times=times) for node, child in nodes_of(data).items()}
        self.data: xr.Dataset | xr.DataTree = tree_of(own) if isinstance(data, xr.DataTree) else own[""]
        self.split = split
        self.size = parse_size(size)
        self.eval_size = parse_size(eval_size, what="eval_size")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.windows = RandomSampler(
            self.data, size=self.size, length=_whole_batches(length, batch_size), seed=seed, region=split.train
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training windows; Lightning tells the loader the epoch, and each has others."""
        return self.resumed(loader(self.data, self.windows, batch_size=self.batch_size, num_workers=self.num_workers))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation windows."""
        return self._each_once("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test windows."""
        return self._each_once("test")

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
        kind = supervision_of(task).kind
        image, labels = layer_of(self.data, "image"), layer_of(self.data, kind.key or "")
        first = next(iter(nodes_of(self.data).values()))[kind.key or ""]
        classes = legend or (legend_of(labels) if kind.is_categorical else _numbered(first.sizes.get("band", 1)))
        windows = [self.windows[at] for at in range(min(len(self.windows), _STATISTICS))]
        mean, std = band_statistics(image, windows)
        nodata = nodata_of(first)
        return Card(
            task=task,
            model=model,
            options=options,
            bands=shared_bands(self.data, "image"),
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            codes=classes.codes,
            names=classes.names,
            colors=classes.colors,
            nodata=None if nodata is None or np.isnan(nodata) else int(nodata),
            size=self.size,
        )

    def _each_once(self, part: Literal["val", "test"]) -> DataLoader[Any]:
        """Return every pixel of a part once: of a tree, every pixel of each child's region."""
        regions: Mapping[str, GridRegion] = self.split.parts[part].nodes
        windows = []
        for node, child in nodes_of(self.data).items():
            own = regions.get(node)
            for outer in () if own is None else own.on(grid_of(child)):
                steps = _steps(child, own)
                windows += [replace(tile, node=node, time=steps) for tile in tiles(outer, self.eval_size)]
        return loader(self.data, windows, batch_size=1, num_workers=self.num_workers)


def layer_of(data: xr.Dataset | xr.DataTree, name: str) -> xr.DataArray | xr.DataTree:
    """Return one of the layers; of a tree, a tree with it alone in each child.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    for node, child in nodes_of(data).items():
        if name not in child:
            where = f" in {node!r}" if node else ""
            msg = f"Cannot learn without the layer {name!r}{where}: there are {list(map(str, child.data_vars))}. "
            raise InputError(msg + f"Rename one, as data.rename(…={name!r}) does.")
    if isinstance(data, xr.DataTree):
        return tree_of({node: child[[name]] for node, child in nodes_of(data).items()})
    return data[name]


def shared_bands(data: xr.Dataset | xr.DataTree, name: str) -> tuple[str, ...]:
    """Return the names of a layer's bands, which all children of a tree must have.

    Raises
    ------
    InputError
        Where they differ.
    """
    found = {node: bands_of(child[name]) for node, child in nodes_of(data).items()}
    if len(set(found.values())) > 1:
        msg = f"Cannot learn from children with different bands: {found}. Choose the same in each, in one order."
        raise InputError(msg)
    return next(iter(found.values()))


def _at_once(data: xr.Dataset, node: str, *, times: bool) -> xr.Dataset:
    """Return the time steps that a model is given at once: all of several, or the only one."""
    if data.sizes.get("time", 1) > 1 and not times:
        where = f" of {node!r}" if node else ""
        msg = f"Cannot train on {data.sizes['time']} time steps{where} at once: choose one, e.g. data.isel(time=0), or "
        raise InputError(msg + "pass times=True for a task that takes several.")
    return data if times or "time" not in data.dims else data.isel(time=0)


def _steps(data: xr.Dataset, region: GridRegion | None) -> tuple[int, ...] | None:
    """Return the positions of the time steps that belong to a region; `None` for all."""
    if region is None or region.times is None or "time" not in data.dims:
        return None
    return tuple(np.flatnonzero(np.isin(data["time"].to_numpy().astype("datetime64[ns]"), region.times)).tolist())


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
