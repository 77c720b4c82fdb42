"""Data modules that a configuration can name: any two layers, images alone, and benchmark datasets by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from geoxt import bridge, datasets
from geoxt.alignment import intersection
from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.samplers import RandomSampler, Times, TripletSampler
from geoxt.splits import Split, blocks
from geoxt.trainers.config.layers import Layer, SomeLayer, open_named
from geoxt.trainers.datamodules.layer_windows import WindowDataModule
from geoxt.trainers.datamodules.samples import SampleDataModule
from geoxt.trainers.selfsup import UnlabeledDataModule
from geoxt.trees import layers_of

_SHARES = (0.6, 0.2, 0.2)
_PARTS = ("train", "val", "test")
_POSITIVES = Literal["same", "times", "neighbours"]


class LayerDataModule(WindowDataModule):
    """Windows of any two layers: an image, and labels in any CRS and resolution, by a split.

    Parameters
    ----------
    image
        Paths and patterns of raster files. Or where the layer is and how to open it: `files`, `stac` (items, a
        collection, a catalog, an API) or `vector`, and options of `open_cogs`, `open_stac` or `open_vector`. With
        `crs: native` scenes of several CRSs stay on their own grids.
    labels
        The same of class codes, or of values.
    target
        Name of what is learnt: `mask` for classes; `target` for values, which are interpolated.
    block
        Pixels: side of the blocks that are dealt to training, validation and test.
    buffer
        Pixels taken off every block on each side.
    shares
        Of the blocks: training, validation, test.
    split_seed
        Of the split.
    split
        A file that a split was saved to (`split.save`), in place of blocks.
    times
        Whether windows hold all time steps, for tasks of change and of time series.
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
        shares: Sequence[float] = _SHARES,
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
        classes = target == "mask"
        seen = open_named(image, name="image")
        how = {"categorical": classes, "resampling": "nearest" if classes else "bilinear"}
        learnt = open_named(labels, name="labels", like=seen, **how)
        layers: dict[str, Any] = {"image": seen, target: learnt}
        data = intersection(grid="image", **layers)
        parts = (
            Split.load(split) if split else blocks(data, size=block, buffer=buffer, fractions=shares, seed=split_seed)
        )
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
        self.task = "segmentation" if classes else "pixelwise-regression"


class UnlabeledLayerDataModule(UnlabeledDataModule):
    """Windows of an image without labels, for self-supervision.

    Parameters
    ----------
    image
        As for `LayerDataModule`.
    positives
        Which windows show the same, as the method wants them: "same" one window; "times" two time steps of one;
        "neighbours" triplets of a window, its neighbour and a distant one.
    radius
        Pixels: the farthest that a neighbour lies away.
    size
        Pixels: height and width of a window.
    length
        Windows in an epoch; of triplets, how many.
    seed
        Of the windows; each epoch has others.
    batch_size, num_workers
        As for `UnlabeledDataModule`.
    """

    def __init__(
        self,
        image: SomeLayer,
        *,
        positives: _POSITIVES = "same",
        radius: int = 64,
        size: int = 96,
        length: int = 320,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        layer = open_named(image, name="image")
        windows: Any
        if positives == "neighbours":
            windows = TripletSampler(layer, size=size, length=length, radius=radius, seed=seed)
        else:
            own = {"times": _pairs(layer)} if positives == "times" else {}
            windows = RandomSampler(layer, size=size, length=length, seed=seed, **own)
        super().__init__(layer, windows, batch_size=batch_size, num_workers=num_workers)


class BenchmarkDataModule(SampleDataModule):
    """Samples of a benchmark dataset of `geoxt.datasets`, by its own splits.

    Parameters
    ----------
    name
        One of `geoxt.datasets.names()`.
    root
        Folder with its files; by default `data/NAME` where the command is run.
    download
        Whether to fetch what is not there.
    splits
        Its names of the training, validation and test part; the last may be left out. By default those of train, val
        and test that it has.
    bands
        Bands to read, by name; all by default.
    level
        Which classes the masks have, where they have several: one of `geoxt.datasets.get(name).levels`.
    batch_size, eval_size, seed, num_workers
        As for `SampleDataModule`.
    """

    def __init__(
        self,
        name: str,
        root: str | None = None,
        *,
        download: bool = False,
        splits: Sequence[str] | None = None,
        bands: list[str] | None = None,
        level: str | None = None,
        batch_size: int = 32,
        eval_size: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        spec = datasets.get(name)
        place = Path("data") / name if root is None else root
        chosen = _parts(spec) if splits is None else dict(zip(_PARTS, splits, strict=False))
        parts = {
            part: datasets.load(name, place, split, bands, level=level, download=download)
            for part, split in chosen.items()
        }
        self.task = spec.task
        samples = {part: bridge.to_torch(own) for part, own in parts.items()}
        train = samples.pop("train")
        self.classes, self.bands = train.classes, train.bands
        super().__init__(
            train, **samples, batch_size=batch_size, eval_size=eval_size, seed=seed, num_workers=num_workers
        )

    def card(
        self,
        *,
        model: str,
        task: str = "classification",
        legend: Legend | None = None,
        bands: Sequence[str] | None = None,
        **options: Any,
    ) -> Card:
        """Describe a model for these samples; see `SampleDataModule.card`."""
        chosen = bands or self.bands or None
        return super().card(model=model, task=task, legend=legend or self.classes, bands=chosen, **options)


def _parts(spec: datasets.Spec) -> dict[str, str]:
    """Return the splits of a dataset that are its training, validation and test part."""
    found = {part: part for part in _PARTS if part in spec.split_names}
    if "train" not in found:
        msg = f"Cannot tell the training part of {spec.name!r}: it has {', '.join(spec.split_names) or 'no splits'}. "
        raise InputError(msg + "Pass splits= the names of the training, validation and test part.")
    return found


def _pairs(layer: Layer) -> Any:
    """Return what takes any two time steps, of a tree in each child."""
    parts = layers_of(layer) if isinstance(layer, xr.DataTree) else {"": layer}
    found = {node: Times(groups=(tuple(range(one.sizes.get("time", 1))),), take=2) for node, one in parts.items()}
    return found if isinstance(layer, xr.DataTree) else found[""]
