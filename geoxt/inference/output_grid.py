"""The grid and the tiles of a map, from those of the layer and the shape of the model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import nn

from geoxt.errors import InputError
from geoxt.inference.estimator_network import EstimatorNetwork
from geoxt.inference.fingerprint import weights_digest
from geoxt.inference.runner import Runner
from geoxt.inference.tile_reader import TileReader
from geoxt.inference.tiles import Blend, Lattice
from geoxt.models.network import Network
from geoxt.source import View
from geoxt.types import SomeSize


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputGrid:
    """Grid and tiles of a map, and the reader of the layer's tiles."""

    reader: TileReader
    """Reads the layer."""
    lattice: Lattice
    """Tiles on the grid of the map."""
    grid: GeoBox
    """Grid of the map."""
    channels: int
    """Channels of the model's output."""


def output_grid(
    view: View,
    runner: Runner,
    *,
    size: tuple[int, int],
    overlap: SomeSize | None,
    blend: Blend,
    series: bool,
    all_steps_valid: bool,
    coarse: bool,
) -> OutputGrid:
    """Run the model on one empty tile, and return the grid and tiles of its map.

    Parameters
    ----------
    view
        The layer.
    runner
        The model.
    size, overlap, blend
        Size and overlap (rows, columns) of the tiles in pixels of the layer, and their blending weights.
    series, all_steps_valid
        As in `TileReader`.
    coarse
        Whether the grid of the map may be coarser than the layer's.

    Raises
    ------
    InputError
        If the output is coarser although `coarse` is not set, or size or overlap are not multiples of its stride.
    """
    requested = None if overlap is None else parse_overlap(overlap)
    if requested is not None:  # raises before the model runs
        Lattice(shape=view.grid.shape.yx, size=size, overlap=requested, blend=blend)
    channels, height, width = runner.probe((*view.shape[:2], *size) if series else (view.shape[1], *size))
    factor = _factor(size, (height, width), coarse=coarse)
    rows, cols = (-(-length // step) for length, step in zip(view.grid.shape.yx, factor, strict=True))
    grid = view.grid
    if factor != (1, 1):
        grid = GeoBox((rows, cols), grid.affine @ Affine.scale(factor[1], factor[0]), grid.crs)
    map_overlap = _map_overlap(requested, size, factor)
    lattice = Lattice(shape=(rows, cols), size=(height, width), overlap=map_overlap, blend=blend)
    reader = TileReader(view=view, series=series, all_steps_valid=all_steps_valid, factor=factor)
    return OutputGrid(reader=reader, lattice=lattice, grid=grid, channels=channels)


def embedding_attrs(
    network: nn.Module, runner: Runner, layer: xr.DataArray, size: tuple[int, int], map_grid: OutputGrid
) -> dict[str, Any]:
    """Return the attributes of a map of embeddings, which name the model, its weights and the layer."""
    return {
        "model": network.card.model if isinstance(network, Network) else type(network).__name__,
        "version": (weights_digest(runner.model) or runner.digest)[:12],
        "embedding_type": "chip" if map_grid.lattice.size == (1, 1) else "pixel",
        "patch_size": [1, 1] if isinstance(network, EstimatorNetwork) else list(size),
        "normalization": "none",
        "source_data": [str(layer.attrs.get("model") or ("unknown" if layer.name is None else layer.name))],
    }


def parse_overlap(overlap: SomeSize) -> tuple[int, int]:
    """Return the overlap (rows, columns) in pixels; unlike a size, it may be 0."""
    rows, cols = (overlap, overlap) if isinstance(overlap, (int, np.integer)) else overlap
    if min(rows, cols) < 0:
        raise InputError(f"Cannot use an overlap of {overlap!r} pixels.", remedy="Pass {overlap} of 0 or more.")
    return int(rows), int(cols)


def _factor(size: tuple[int, int], output: tuple[int, int], *, coarse: bool) -> tuple[int, int]:
    """Return the rows and columns of the layer per row and column of the model's output."""
    if size == output:
        return 1, 1
    if not coarse and output != (1, 1):
        msg = f"Cannot map with this model: for images of {size} pixels its output has {output}."
        remedy = "Pass a {model} whose output has as many. Or pass {output:'embeddings'} for a coarser grid."
        raise InputError(msg, remedy=remedy)
    if any(pixels % length for pixels, length in zip(size, output, strict=True)):
        msg = f"Cannot place embeddings of {output} over tiles of {size} pixels: the stride is not a whole number."
        raise InputError(msg, remedy="Pass {size}, a multiple of the model's stride.")
    return size[0] // output[0], size[1] // output[1]


def _map_overlap(requested: tuple[int, int] | None, size: tuple[int, int], factor: tuple[int, int]) -> tuple[int, int]:
    """Return the overlap in pixels of the map."""
    if requested is None:
        return size[0] // 4 // factor[0], size[1] // 4 // factor[1]
    if any(pixels % step for pixels, step in zip(requested, factor, strict=True)):
        msg = f"Cannot overlap by {requested} pixels with a model whose output has a stride of {factor}."
        raise InputError(msg, remedy=f"Pass {{overlap}}, a multiple of {factor[0]}.")
    return requested[0] // factor[0], requested[1] // factor[1]
