"""Values of all layers on one grid at many pixels; each block of a layer is read once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.regions.region import layers_in
from geoxt.samplers.points import block_windows
from geoxt.source import View, resolve_attrs, view_of
from geoxt.source.embedding_attrs import NAMES, common_embedding_attrs, identity_of
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array, Floats
from geoxt.windows import Window

BLOCK = 512
"""Side in pixels of the blocks in which files are read; blocks of COGs have this size or divide it."""
_MAX_BYTES = 64 * 2**20
"""Bytes: approximate maximum of the pixels that one thread reads at once."""
_THREADS, _REMOTE_THREADS = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerValues:
    """Reads the values of all bands of the layers of a node at pixels."""

    grid: GeoBox
    """Grid of the layers."""
    views: tuple[View, ...]
    """Reads windows of each layer."""
    names: tuple[str, ...]
    """Names of the columns: the bands of each layer; of a layer without bands, the name of the layer."""
    times: Array | None
    """Time steps of the layers, datetime64; `None` if no layer has a time dimension."""

    @classmethod
    def of(cls, ds: xr.Dataset) -> LayerValues:
        """Return the reader of the layers of a Dataset.

        Raises
        ------
        InputError
            If two bands share a name.
        """
        layers = layers_in(ds)
        names = [name for layer in layers for name in _band_names(layer)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            msg = f"Cannot make columns of the bands {repeated}: several bands have these names."
            raise InputError(msg, remedy="Rename them, as layer.assign_coords(band=[...]) does.", value=repeated)
        dated = [layer for layer in layers if "time" in layer.dims]
        return cls(
            grid=grid_of(layers[0]),
            views=tuple(map(view_of, layers)),
            names=tuple(names),
            times=dated[0]["time"].to_numpy() if dated else None,
        )

    @property
    def steps(self) -> int:
        """Number of time steps; 1 for layers without a time dimension."""
        return 1 if self.times is None else len(self.times)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Floating-point type that holds the values of all layers: float32 if that is exact, else float64."""
        return np.result_type(np.float32, *(view.dtype for view in self.views))

    def read(self, pixels: Array) -> Floats:
        """Return the values (n, time, band) at pixels (n, 2) inside the grid; NaN where not valid."""
        values = np.full((len(pixels), self.steps, len(self.names)), np.nan, self.dtype)
        first = 0
        for view in self.views:
            stop = first + len(view.bands)
            _fill(view, pixels, values[..., first:stop])
            first = stop
        return values


def embedding_attrs(data: SomeData) -> dict[str, str]:
    """Return the attributes that identify embeddings, such as their model, if all layers state them.

    Raises
    ------
    InputError
        If two layers name different models, versions, patch sizes or normalizations.
    """
    layers = {
        f"layer {layer.name!r}" + (f" of node {node!r}" if node else ""): layer
        for node, ds in nodes_of(data).items()
        for layer in layers_in(ds)
    }
    attrs = common_embedding_attrs({title: layer.attrs for title, layer in layers.items()})
    if not any("model" in layer.attrs for layer in layers.values()):  # beside embeddings, int8 may be class codes
        attrs = common_embedding_attrs({title: identity_of(layer) for title, layer in layers.items()})
    return {name: str(value) for name, value in attrs.items() if name in NAMES}


def radiometry_of(data: SomeData) -> dict[str, str]:
    """Return the radiometry of each column, "physical" or stored with scale and offset, where layers state it."""
    texts: dict[str, set[str]] = {}
    for ds in nodes_of(data).values():
        for layer in map(resolve_attrs, layers_in(ds)):
            names = _band_names(layer)
            for position, name in enumerate(names):
                texts.setdefault(name, set()).add(_radiometry(layer.attrs, position, len(names)))
    return {name: next(iter(stated)) for name, stated in texts.items() if len(stated) == 1 and "" not in stated}


def _radiometry(attrs: Mapping[Any, Any], position: int, count: int) -> str:
    """Return the radiometry of a band as text, "" if it is unknown."""
    if "scales" not in attrs:
        return "physical" if str(attrs.get("radiometry", "")).startswith("physical") else ""
    pairs = list(zip(np.atleast_1d(attrs["scales"]), np.atleast_1d(attrs.get("offsets", 0.0)), strict=False))
    if len(pairs) != count and len(set(pairs)) != 1:  # some bands were selected
        return ""
    scale, offset = pairs[position if len(pairs) == count else 0]
    return f"stored, of scale {float(scale):g} and offset {float(offset):g}"


def _band_names(layer: xr.DataArray) -> list[str]:
    if "band" not in layer.dims:
        return [str(layer.name)]
    if "band" not in layer.coords:
        return [f"band_{number}" for number in range(1, layer.sizes["band"] + 1)]
    return [str(name) for name in layer["band"].to_numpy().tolist()]


def _fill(view: View, pixels: Array, values: Floats) -> None:
    """Write the values of a layer at pixels (n, 2) to an array (n, time, band)."""
    rows, cols = _block_of(view)
    origin = np.array((view.window.row, view.window.col))  # blocks begin at the corner of the source
    groups = block_windows(pixels + origin, (rows, cols))
    read = partial(_fill_block, view, pixels, origin, values)
    if not view.direct:  # dask uses all cores for each block
        for group in groups:
            read(group)
        return
    with ThreadPoolExecutor(_REMOTE_THREADS if view.remote else _THREADS) as pool:
        for _ in pool.map(read, groups):
            pass


def _block_of(view: View) -> tuple[int, int]:
    """Return rows and columns of the blocks in which a layer is read: the chunks of a layer that dask computes."""
    if view.direct:
        return BLOCK, BLOCK
    array: Any = view.source
    rows, cols = array.array.chunksize[-2:]
    return max(int(rows), 1), max(int(cols), 1)


def _fill_block(view: View, pixels: Array, origin: Array, values: Floats, group: tuple[Array, Window]) -> None:
    index, block = group
    window = block.shift(-int(origin[0]), -int(origin[1]))
    row, col = (pixels[index] - (window.row, window.col)).T
    for steps in _time_groups(view, window):
        part = Window(window.row, window.col, window.height, window.width, None if steps is None else tuple(steps))
        read, valid = view.read(part)
        at_pixels = np.where(valid[..., row, col], read[..., row, col], np.nan)
        target = slice(None) if steps is None else slice(steps.start, steps.stop)
        values[index, target] = np.moveaxis(at_pixels, -1, 0)


def _time_groups(view: View, window: Window) -> Iterator[range | None]:
    """Yield consecutive time steps to read at once, in bounded memory; `None` for a layer without time steps."""
    if "time" not in view.dims:
        yield None
        return
    step_bytes = window.height * window.width * len(view.bands) * (view.dtype.itemsize + 1)
    count = max(_MAX_BYTES // step_bytes, 1)
    for start in range(0, len(view.times), count):
        yield range(start, min(start + count, len(view.times)))
