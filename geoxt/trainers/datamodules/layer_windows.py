"""The data module of layers: random windows for training, every pixel once for validation and test, by a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from dask.base import tokenize
from torch.utils.data import DataLoader

from geoxt.bridge import loader, statistics
from geoxt.errors import InputError, LabelError, OverlapError
from geoxt.grid import grid_of
from geoxt.layers.time import require_time_order
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.samplers import GridRegion, RandomSampler
from geoxt.source import nodata_of, view_of
from geoxt.splits import Split
from geoxt.trainers.datamodules.label_legend import legend_of_labels, require_card_options
from geoxt.trainers.loop.data_files import layer_files
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trees import SomeData, from_nodes, layers_of, nodes_of
from geoxt.types import SomeSize
from geoxt.windows import Window, parse_size

_STATISTICS_WINDOWS = 256
"""Maximum number of training windows from which band statistics are computed."""
_FEW_TARGETS = 4096
"""Number of valid targets below which those of all windows of an epoch are read."""
_COUNTED = 1024
"""Height and width of the windows in which labels are counted, in pixels."""


class WindowDataModule(ResumableDataModule):
    """Windows of aligned layers, each from its part of a split.

    Parameters
    ----------
    data
        Dataset of aligned layers under the task's sample keys: `image` and `mask` for segmentation. Or a tree of these,
        as `crs="native"` opens scenes of several CRSs: every node is sampled in proportion to its area, and validated
        and tested on its own grid.
    split
        Regions of the training, validation and test windows; its nodes are those of `data`.
    size
        Height and width of a training window in pixels.
    eval_size
        Maximum height and width of validation and test windows in pixels. They tile their regions, differ in size, and
        therefore come one per batch.
    batch_size
        Windows per training batch.
    length
        Training windows per epoch; of more than a batch, rounded down to whole batches.
    seed
        Seed of the training windows, which differ between epochs.
    num_workers
        Worker processes that read windows.
    times
        Whether windows hold all time steps, for change detection and time series.

    Raises
    ------
    InputError
        If data and split have other nodes, or data has several time steps without `times`.
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
        nodes = nodes_of(data)
        if unknown := sorted(set(split.grids) - set(nodes)):
            msg = f"Cannot train on data of the nodes {list(nodes)} by a split of the nodes {list(split.grids)}: "
            msg += f"{unknown[0]!r} is not in the data."
            raise InputError(msg, remedy="Split the data that you train on, as splits.by_block(data, size=…) does.")
        self.data: Any = from_nodes({n: _without_time(ds, n, times=times) for n, ds in nodes.items()}, like=data)
        self.split = split
        self.size = parse_size(size)
        self.eval_size = parse_size(eval_size, argument="eval_size")
        self.batch_size = batch_size
        self.num_workers = num_workers
        length = max(length // batch_size, 1) * batch_size
        try:
            self.windows = RandomSampler(self.data, size=self.size, length=length, seed=seed, region=split.train)
        except OverlapError as error:  # its remedy names further arguments of the sampler
            remedy = "Pass a smaller {size}. Or split into larger blocks, or with another seed."
            raise OverlapError(error.problem, remedy=remedy, argument="size") from error

    @property
    def window_token(self) -> str:
        """Token of the regions of all parts, the size of a training window and its seed."""
        regions = [
            (
                part,
                node,
                [str(region.grid.crs), *region.grid.affine[:6], *region.grid.shape],
                np.array([(w.row, w.col, w.height, w.width) for w in region.windows], "int64"),
                [str(time) for time in region.times or ()],
            )
            for part, parts in self.split.parts.items()
            for node, region in parts.nodes.items()
        ]
        return str(tokenize(regions, self.size, self.windows.seed))

    def file_versions(self) -> dict[str, str]:
        """Return the version of each local file that the layers are read from."""
        return layer_files(self.data)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches; Lightning sets the loader's epoch, and each epoch draws other windows."""
        options: Any = {"batch_size": self.batch_size, "num_workers": self.num_workers, "device": self.device}
        return self.resumed(loader(self.data, self.windows, **options))

    def val_dataloader(self) -> DataLoader[Any]:
        """Return validation windows."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return test windows."""
        return self._eval_dataloader("test")

    def card(
        self, *, model: str | None = None, task: str = "segmentation", legend: Legend | None = None, **options: Any
    ) -> Card:
        """Return the model card for these data.

        Parameters
        ----------
        model
            Architecture in `geoxt.models`; by default that of the task, such as "unet" or "fc_siam_diff".
        task
            Kind of task.
        legend
            Classes, or names of the regressed channels numbered from 0; by default the classes that occur in the
            labels, which reads all of them, or the names of the bands of the target.
        options
            Further arguments of the architecture.

        Returns
        -------
        Card
            Names of the bands, their mean and standard deviation over at most 256 training windows, and the classes. Of
            a regression also those of the targets.

        Raises
        ------
        InputError
            If a layer is missing, or nodes differ in their bands.
        """
        kind = supervision_of(task).kind
        image, labels = select_layer(self.data, "image"), select_layer(self.data, kind.key or "")
        dates = max(layer.sizes.get("time", 1) for layer in layers_of(image).values())
        require_card_options(kind, model or kind.model or "", options, dates)
        first = next(iter(nodes_of(self.data).values()))[kind.key or ""]
        classes = legend or (legend_of_labels(labels) if kind.is_categorical else _quantities(first))
        bands = statistics(image, self.windows[:_STATISTICS_WINDOWS], percentiles=())
        targets = self._target_scale(labels) if kind.activation == "identity" else {}
        nodata = nodata_of(first)
        return Card(
            task=task,
            model=model or kind.model or "",
            options=options,
            bands=band_names(self.data, "image"),
            mean=bands.mean,
            std=bands.std,
            codes=classes.codes,
            names=classes.names,
            colors=classes.colors,
            nodata=None if nodata is None or np.isnan(nodata) else int(nodata),
            size=self.size,
            **targets,
            **band_meanings(self.data, "image"),
        )

    def _target_scale(self, targets: SomeData) -> dict[str, Any]:
        """Return mean and standard deviation of the targets in the training windows, as fields of a model card.

        Of sparse targets, all windows of an epoch are read.
        """
        bands = None
        for count in (_STATISTICS_WINDOWS, len(self.windows)):
            try:
                bands = statistics(targets, self.windows[:count], percentiles=())
            except InputError as error:  # a band without a valid pixel
                if count == len(self.windows):
                    msg = "Cannot standardize targets: the training windows of an epoch have none that is valid."
                    raise LabelError(
                        msg, remedy="Make the data module with another split, or a larger length."
                    ) from error
            if bands is not None and min(bands.count) >= _FEW_TARGETS:
                break
        assert bands is not None
        return {"target_mean": bands.mean, "target_std": bands.std}

    def class_counts(self, key: str, legend: Legend) -> torch.Tensor:
        """Return the number of labelled pixels of each class in the training part, int64 (classes,); reads its labels.

        Parameters
        ----------
        key
            Name of the labels.
        legend
            Classes.
        """
        counts = np.zeros(len(legend) + 1, "int64")
        for node, region in self.split.train.nodes.items():
            labels = nodes_of(self.data)[node][key]
            view = view_of(labels)
            for rectangle in region.on(grid_of(labels)):
                for window in tiles(rectangle, (_COUNTED, _COUNTED)):
                    values, valid = view.read(window)
                    indices = legend.encode(values[valid], missing=len(legend))
                    counts += np.bincount(indices, minlength=len(counts))
        return torch.from_numpy(counts[:-1])

    def _eval_dataloader(self, part: Literal["val", "test"]) -> DataLoader[Any]:
        """Return windows that cover every pixel of a part once."""
        windows = []
        for node, region in self.split.parts[part].nodes.items():
            ds = nodes_of(self.data)[node]
            steps = _time_steps(ds, region)
            for rectangle in region.on(grid_of(ds)):
                windows += [replace(tile, node=node, time=steps) for tile in tiles(rectangle, self.eval_size)]
        options: Any = {"batch_size": 1, "num_workers": self.num_workers, "device": self.device}
        return self.divided(loader(self.data, windows, **options))


def select_layer(data: SomeData, name: str) -> Any:
    """Return one layer of a Dataset, or the tree of one layer of each node.

    Raises
    ------
    InputError
        If a node has no layer of that name.
    """
    nodes = nodes_of(data)
    for node, ds in nodes.items():
        if name not in ds:
            where = f" of node {node!r}" if node else ""
            msg = f"Cannot find the layer {name!r}{where}: the layers are {list(map(str, ds.data_vars))}."
            raise InputError(msg, remedy=f"Rename one to {name}, as data.rename does.", argument="data")
    return from_nodes({node: ds[name] for node, ds in nodes.items()}, like=data)


def band_names(data: SomeData, name: str) -> tuple[str, ...]:
    """Return the names of a layer's bands, which must be the same in all nodes.

    Raises
    ------
    InputError
        If nodes differ in their bands.
    """
    names = {node: _band_names(ds[name]) for node, ds in nodes_of(data).items()}
    if len(set(names.values())) > 1:
        msg = f"Cannot train on nodes with different bands: {names}."
        raise InputError(msg, remedy="Select the same bands in each node, in one order.", argument="data")
    return next(iter(names.values()))


def band_meanings(data: SomeData, name: str) -> dict[str, Any]:
    """Return common names, wavelengths and largest values of a layer's bands, as fields of a model card."""
    image = next(iter(nodes_of(data).values()))[name]
    coords = {str(key): coord.to_numpy() for key, coord in image.coords.items() if coord.dims == ("band",)}
    common = tuple(map(str, coords.get("common_name", ())))
    wavelengths = tuple(None if np.isnan(value) else float(value) for value in coords.get("wavelength", ()))
    valid_max = (255.0,) * image.sizes.get("band", 1) if image.dtype == np.uint8 else ()
    return {"common_names": common, "wavelengths": wavelengths, "valid_max": valid_max}


def tiles(window: Window, size: tuple[int, int]) -> Iterator[Window]:
    """Yield the smallest number of windows, of maximum size `size` and nearly equal, that tile another window.

    Examples
    --------
    >>> from geoxt.windows import Window
    >>> [(tile.row, tile.height) for tile in tiles(Window(0, 0, 10, 4), (4, 4))]
    [(0, 4), (4, 3), (7, 3)]
    """
    rows, cols = (np.array_split(np.arange(n), -(-n // side)) for n, side in zip(window.shape, size, strict=True))
    for row in rows:
        for col in cols:
            yield Window(window.row + int(row[0]), window.col + int(col[0]), len(row), len(col))


def _without_time(data: xr.Dataset, node: str, *, times: bool) -> xr.Dataset:
    """Return the data without a time dimension of one step, unless windows hold all time steps."""
    steps = data.sizes.get("time", 1)
    if steps > 1 and not times:
        where = f" of node {node!r}" if node else ""
        msg = f"Cannot train on the {steps} time steps{where} as on one image."
        remedy = "Select one, as data.isel(time=0) does. Or pass {times:True} for a task of several time steps."
        raise InputError(msg, remedy=remedy, argument="times")
    if times:
        require_time_order(data, "train on several dates")
    return data if times or "time" not in data.dims else data.isel(time=0)


def _time_steps(data: xr.Dataset, region: GridRegion) -> tuple[int, ...] | None:
    """Return the indices of a region's time steps; None for all."""
    if region.times is None or "time" not in data.dims:
        return None
    return tuple(np.flatnonzero(np.isin(data["time"].to_numpy().astype("datetime64[ns]"), region.times)).tolist())


def _quantities(target: xr.DataArray) -> Legend:
    """Return the regressed channels, named by the bands of the target; a single band without a name by the layer."""
    names = _band_names(target)
    names = (str(target.name),) if names == ("band_1",) else names
    return Legend(tuple(range(len(names))), names)


def _band_names(image: xr.DataArray) -> tuple[str, ...]:
    """Return the names of a layer's bands, or their numbers."""
    if "band" not in image.dims:
        return ("image" if image.name is None else str(image.name),)
    if "band" not in image.coords:
        return tuple(f"band {index + 1}" for index in range(image.sizes["band"]))
    return tuple(map(str, image["band"].values))
