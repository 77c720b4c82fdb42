"""Data modules for configuration files: labeled and unlabeled windows of files or STAC items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import xarray as xr

from geoxt.alignment import intersection
from geoxt.samplers import RandomSampler, Times, TripletSampler
from geoxt.splits import Split, by_block
from geoxt.trainers.config.layers import Layer, SomeLayer, open_layer
from geoxt.trainers.datamodules.layer_windows import WindowDataModule
from geoxt.trainers.selfsup import UnlabeledDataModule
from geoxt.trees import layers_of

_FRACTIONS = (0.6, 0.2, 0.2)
Positives = Literal["same", "times", "neighbours"]


class LayerDataModule(WindowDataModule):
    """Windows of an image layer and a label layer in any CRS and resolution, split into blocks.

    Parameters
    ----------
    image
        Paths and glob patterns of raster files; or a mapping with `files`, `stac` (items, a collection, a catalog, an
        API), `vector`, `zarr` or `xarray` (NetCDF, GRIB), and options of `open_cogs`, `open_stac`, `open_vector`,
        `open_zarr` or `open_xarray`. With `crs: native`, scenes of several CRSs stay on their own grids.
    labels
        Layer of class codes or values, as for `image`.
    target
        Sample key of the labels: `mask` for class codes; `target` for values, which are interpolated.
    block
        Height and width of the split's blocks in pixels.
    buffer
        Pixels removed at each side of a block.
    fractions
        Fractions of the blocks for training, validation and test.
    split_seed
        Seed of the split.
    split
        Path of a saved split (`split.save`), instead of blocks.
    times
        Whether windows hold all time steps, for change detection and time series.
    size, eval_size, batch_size, length, seed, num_workers
        As for `WindowDataModule`.
    """

    def __init__(
        self,
        image: SomeLayer,
        labels: SomeLayer,
        *,
        target: str = "mask",
        block: int = 128,
        buffer: int = 0,
        fractions: Sequence[float] = _FRACTIONS,
        split_seed: int = 0,
        split: str | None = None,
        times: bool = False,
        size: int = 96,
        eval_size: int = 256,
        batch_size: int = 16,
        length: int = 320,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        categorical = target == "mask"
        image_layer = open_layer(image, name="image")
        resampling = {"categorical": categorical, "resampling": "nearest" if categorical else "bilinear"}
        label_layer = open_layer(labels, name="labels", like=image_layer, **resampling)
        layers: dict[str, Any] = {"image": image_layer, target: label_layer}
        data = intersection(grid="image", **layers)
        if split is None:
            parts = by_block(data, size=block, buffer=buffer, fractions=fractions, seed=split_seed)
        else:
            parts = Split.load(split)
        super().__init__(
            data,
            parts,
            size=size,
            eval_size=eval_size,
            batch_size=batch_size,
            length=length,
            seed=seed,
            num_workers=num_workers,
            times=times,
        )
        self.task = "segmentation" if categorical else "pixelwise-regression"


class UnlabeledLayerDataModule(UnlabeledDataModule):
    """Windows of an image layer without labels, for self-supervised learning.

    Parameters
    ----------
    image
        As for `LayerDataModule`.
    positives
        Positive pairs: `"same"` for one window; `"times"` for two time steps of a window; `"neighbours"` for triplets
        of a window, a neighbour and a distant window.
    radius
        Maximum distance of a neighbour in pixels.
    size
        Height and width of a window in pixels.
    length
        Windows, or triplets, per epoch.
    seed
        Seed of the windows; each epoch draws others.
    batch_size, num_workers
        As for `UnlabeledDataModule`.
    """

    def __init__(
        self,
        image: SomeLayer,
        *,
        positives: Positives = "same",
        radius: int = 64,
        size: int = 96,
        length: int = 320,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        layer = open_layer(image, name="image")
        windows: Any
        if positives == "neighbours":
            windows = TripletSampler(layer, size=size, length=length, radius=radius, seed=seed)
        else:
            times = {"times": _time_pairs(layer)} if positives == "times" else {}
            windows = RandomSampler(layer, size=size, length=length, seed=seed, **times)
        super().__init__(layer, windows, batch_size=batch_size, num_workers=num_workers)


def _time_pairs(layer: Layer) -> Any:
    """Return pairs of any two time steps; of a tree, by node."""
    layers = layers_of(layer) if isinstance(layer, xr.DataTree) else {"": layer}
    pairs = {node: Times(groups=(tuple(range(da.sizes.get("time", 1))),), take=2) for node, da in layers.items()}
    return pairs if isinstance(layer, xr.DataTree) else pairs[""]
