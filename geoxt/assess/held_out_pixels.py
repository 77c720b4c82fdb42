"""Outputs of a model and labels at held-out pixels, read block by block."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from geoxt.alignment.scored_classes import require_same_names
from geoxt.assess.label_blocks import block_keys, block_size
from geoxt.assess.map_strata import blocks_of
from geoxt.errors import AssessmentWarning, GridError, InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.inference.networks import network_of
from geoxt.inference.scene import predict
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.regions.rasterize import SomeRegion, parse_region
from geoxt.regions.region import GridRegion
from geoxt.source import view_of
from geoxt.tasks import Output
from geoxt.trees import layers_by_name
from geoxt.types import Array, Mask, SomePath, SomeSize
from geoxt.windows import Window

MAX_PIXELS = 500_000
"""Default of the maximum number of pixels; of more, a random sample is used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOutPixels:
    """Outputs of a model and labels of pixels that are valid in both."""

    outputs: Array
    """Output of the model, float32 (n, channel)."""
    labels: Array
    """Indices of the classes in the model card, or values of the quantity. Shape (n,)."""
    blocks: Array
    """Index of the block of each pixel. Shape (n,)."""


def network_with_card(model: nn.Module | SomePath | None, options: Mapping[str, Any]) -> Network:
    """Return the network of a model, or of the first member of an ensemble.

    Raises
    ------
    InputError
        If there is no model, or it has no model card or does not predict pixels.
    """
    first = next((m for m in (model, *options.get("members", ())) if m is not None), None)
    if first is None:
        raise InputError("Cannot predict without a model.", remedy="Pass {model}.", argument="model")
    network = network_of(first)
    if not isinstance(network, Network):
        problem = f"Cannot compare the output of a {type(network).__name__} with labels: it has no model card."
        raise InputError(problem, remedy="Pass {model}, a checkpoint, task or network of geoxt.", argument="model")
    if network.card.kind.target != "pixels":
        problem = f"Cannot compare pixels with labels: the model is for {network.card.task}."
        raise InputError(problem, remedy="Pass a {model} for segmentation or pixelwise regression.", argument="model")
    return network


def held_out_pixels(
    model: nn.Module | SomePath | None,
    data: Any,
    card: Card,
    *,
    output: Output,
    region: SomeRegion | None,
    block: SomeSize | None = None,
    by_block: bool = False,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    options: Mapping[str, Any],
) -> HeldOutPixels:
    """Return outputs and labels of the pixels of a region that are valid in both.

    Parameters
    ----------
    model
        Model to predict with.
    data
        Layers on one grid: an image, and labels named as the sample key of the task.
    card
        Card of the model.
    output
        Kind of output.
    region, block, by_block
        Pixels to use; size of the blocks, and whether there must be blocks.
    max_pixels, seed
        Maximum number of pixels, approximately, and seed of their sample.
    options
        Further arguments of `predict`.

    Raises
    ------
    InputError
        If the Dataset has no image or labels.
    OverlapError
        If no pixel has an output and a label.
    """
    if not isinstance(max_pixels, Integral) or max_pixels < 1:
        problem = f"Cannot compare {max_pixels!r} pixels with labels."
        raise InputError(problem, remedy="Pass {max_pixels} of 1 or more.", value=max_pixels, argument="max_pixels")
    image, labels = image_and_labels(data, str(card.kind.key))
    grid_region = parse_region(region, grid_of(labels))
    size = block_size(block, region, grid_region) if by_block else None
    predicted = predict(image, model, output=output, **options)
    read_outputs, read_labels = view_of(_without_time(predicted)), _LabelReader.of(labels, card)
    fraction = min(1.0, max_pixels / max(grid_region.pixels, 1))
    parts, unknown = [], 0
    for number, window in _windows(grid_region):
        targets, labeled, excluded = read_labels(window)
        unknown += excluded
        if fraction < 1:
            labeled &= np.random.default_rng([seed, window.row, window.col]).random(window.shape) < fraction
        if not labeled.any():
            continue
        values, valid = read_outputs.read(window)
        labeled &= valid[0].all(0)
        parts.append((values[0][:, labeled].T, targets[labeled], block_keys(window, size, number)[labeled]))
    if unknown:
        text = f"{unknown:,} labelled pixels have codes that the model lacks: excluded."
        warnings.warn(text, AssessmentWarning, stacklevel=3)
    if not sum(len(targets) for _, targets, _ in parts):
        problem = "Cannot compare the model with labels: no pixel of the region has a prediction and a label."
        raise OverlapError(problem, remedy="Pass another {region}.", argument="region")
    outputs, targets, keys = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return HeldOutPixels(outputs=outputs, labels=targets, blocks=np.unique(keys, return_inverse=True)[1])


def image_and_labels(data: Any, key: str) -> tuple[xr.Dataset, xr.DataArray]:
    """Return the Dataset without the labels, and the labels.

    Raises
    ------
    InputError
        If there are no labels, or no other layer.
    """
    layers = layers_by_name(data) if isinstance(data, xr.Dataset) else {}
    if key not in layers or len(layers) == 1:
        names = list(layers) if isinstance(data, xr.Dataset) else type(data).__name__
        problem = f"Cannot find an image and the labels {key!r} in {names}."
        remedy = f"Pass {{data}}, a Dataset such as geoxt.intersection(image=image, {key}=labels)."
        raise InputError(problem, remedy=remedy, value=data, argument="data")
    return data[[name for name in layers if name != key]], layers[key]


def _windows(region: GridRegion) -> Iterator[tuple[int, Window]]:
    return ((number, window) for number, rectangle in enumerate(region) for window in blocks_of(rectangle))


def _without_time(predicted: xr.DataArray) -> xr.DataArray:
    if "time" not in predicted.dims:
        return predicted
    if predicted.sizes["time"] == 1:
        return predicted.isel(time=0, drop=True)
    problem = f"Cannot compare predictions of {predicted.sizes['time']} time steps with one layer of labels."
    raise GridError(problem, remedy="Pass {data} of one time step.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelReader:
    """Reads class indices or values of labels."""

    view: Any
    model_legend: Legend | None
    """Classes of the model; `None` for values."""
    label_legend: Legend | None
    """Classes of the labels; `None` if they have no legend."""

    @classmethod
    def of(cls, labels: xr.DataArray, card: Card) -> _LabelReader:
        """Return the reader of labels for a model.

        Raises
        ------
        LabelError
            If a code has other names in the labels and the model.
        GridError
            If labels have several bands or time steps.
        """
        view = view_of(labels)
        if view.shape[:2] != (1, 1):
            problem = f"Cannot take {labels.name!r} as labels: it has {view.shape[0]} dates and {view.shape[1]} bands."
            raise GridError(problem, remedy="Select one of each with isel().")
        if not card.kind.is_categorical:
            return cls(view=view, model_legend=None, label_legend=None)
        label_legend = Legend.of(labels) if "flag_values" in labels.attrs else None
        if label_legend is not None:
            require_same_names(card.legend, label_legend)
        return cls(view=view, model_legend=card.legend, label_legend=label_legend)

    def __call__(self, window: Window) -> tuple[Array, Mask, int]:
        """Return labels, their valid mask, and the number of valid pixels of a class that the model lacks."""
        values, valid = (part[0, 0] for part in self.view.read(window))
        if self.model_legend is None:
            return values.astype(np.float32), valid & np.isfinite(values), 0
        index = self.model_legend.encode(values, missing=-1)
        missing = valid & (index < 0) & (values >= 0)  # negative codes mark unknown pixels
        if self.label_legend is not None:
            missing &= self.label_legend.encode(values, missing=-1) >= 0
        return index, valid & (index >= 0), int(np.count_nonzero(missing))
