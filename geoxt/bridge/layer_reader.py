"""Readers of the layers of a sample: windows of a layer as values and valid masks, from files where possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.alignment.label_roles import as_labels
from geoxt.bridge.coalesce import CoalescedRead
from geoxt.bridge.recent_parts import RecentParts, of_local_files
from geoxt.bridge.shared_parts import Part
from geoxt.crs import crs_name
from geoxt.errors import GridError
from geoxt.grid import grid_of
from geoxt.source import View, is_categorical, resolve_attrs, view_of
from geoxt.trees import SomeData, layers_by_name, nodes_of
from geoxt.types import Array, Mask
from geoxt.windows import Window

TensorDtype = Literal["float32", "stored"]
"""Dtype of continuous layers in tensors: float32, or the stored dtype if torch supports it."""


@dataclass(frozen=True, kw_only=True)
class LayerReader:
    """Reads windows of one layer into the arrays of a batch."""

    name: str
    """Key in the sample."""
    view: View
    """Reads windows as arrays."""
    categorical: bool
    """Whether pixels are class codes, which become int64."""
    dtype: np.dtype[Any]
    """Dtype of the tensor."""
    time_dim: str = ""
    """Name of the time dimension in the Dataset, "time" or "…_time"; empty if the layer has none."""
    recent: RecentParts | None = None
    """Pixels read last, which windows of a grid have in common; `None` unless changes of all files are noticed."""
    dates: Array | None = None
    """(time,) datetime64[ns] of the time steps; `None` without a time dimension, or if it has no dates."""

    def steps(self, window: Window) -> tuple[int, ...]:
        """Return the time steps to read; a window selects steps of the dimension "time" only."""
        if window.time is None or self.time_dim != "time":
            return tuple(range(self.view.shape[0]))
        return window.time

    def shape(self, window: Window) -> tuple[int, ...]:
        """Return the shape of a window's tensor: (time, band, height, width) without the dimensions the layer lacks."""
        sizes = {"time": len(self.steps(window)), "band": self.view.shape[1]}
        return (*(sizes[d] for d in self.view.dims if d in sizes), *window.shape)

    def valid_shape(self, window: Window) -> tuple[int, ...]:
        """Return the shape of a window's valid mask: that of the tensor without the band dimension."""
        shape = self.shape(window)
        return shape[: -3 if "band" in self.view.dims else -2] + shape[-2:]

    def row_bytes(self, window: Window) -> int:
        """Return the bytes of the pixels of two rows of windows over the width of the layer."""
        steps, bands, _, width = self.view.shape
        return 2 * steps * bands * window.height * width * self.dtype.itemsize

    def read(self, coalesced: CoalescedRead, values: Array, valid: Array) -> None:
        """Read neighbouring windows of a batch at once.

        Parameters
        ----------
        coalesced
            The windows.
        values
            Output (window, …) of the batch, each window by `shape`. Time steps beyond the window's are padded with the
            fill value and are not valid.
        valid
            Output (window, …) of bool, each window by `valid_shape`.
        """
        window = coalesced.window if self.time_dim == "time" else replace(coalesced.window, time=None)
        if self.recent is None or len(coalesced.offsets) == 1:
            self._copy([Part(window, *self.view.read(window, dtype=self.dtype))], coalesced, values, valid)
        else:
            self.recent.read(self.view, window, self.dtype, lambda parts: self._copy(parts, coalesced, values, valid))

    def _copy(self, parts: list[Part], coalesced: CoalescedRead, values: Array, valid: Array) -> None:
        """Copy the parts of a read to its windows."""
        batch_part = slice(coalesced.start, coalesced.start + len(coalesced.offsets))
        length, bands = parts[0].values.shape[:2]
        if self.time_dim and length < values.shape[1]:
            values[batch_part, length:] = self.view.source.fill
            valid[batch_part, length:] = False
        window, width = coalesced.window, values.shape[-1]
        windows = [Window(window.row, window.col + left, window.height, width) for left in coalesced.offsets]
        for part in parts:
            for index, target in enumerate(windows, coalesced.start):
                area = target.intersect(part.window)
                if area is not None:
                    crop, (rows, cols) = part.crop(area), area.within(target)
                    out = values[index][:length] if self.time_dim else values[index]
                    out_valid = valid[index][:length] if self.time_dim else valid[index]
                    out.reshape(length, bands, *target.shape)[..., rows, cols] = crop.values
                    out_valid.reshape(length, *target.shape)[..., rows, cols] = _over_bands(crop.valid)


def _over_bands(valid: Mask) -> Any:
    """Return where all bands (axis 1) are valid; True if every pixel is."""
    # View.read returns a broadcast scalar (all strides 0) if every pixel is valid: no reduction over bands then.
    if valid.size and not any(valid.strides):
        return valid.flat[0]
    return valid.all(axis=1) if valid.strides[1] else valid[:, 0]


@dataclass(frozen=True, kw_only=True)
class NodeReader:
    """Reads the layers of one tree node, which share a grid."""

    grid: GeoBox
    """Grid of the layers, to which windows refer."""
    layers: Mapping[str, LayerReader]
    """Reader of each layer by its key in the sample."""


def readers_of(data: SomeData, *, dtype: TensorDtype = "float32") -> dict[str, NodeReader]:
    """Return the readers of all layers by node name.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of such Datasets. The only layer of a DataArray is called
        "image", or "mask" if it holds class codes. Integers named `mask` or `label` are class codes.
    dtype
        Dtype of continuous layers.

    Raises
    ------
    GridError
        If a node has no layer or layers on several grids, or nodes have different layers.
    """
    if isinstance(data, xr.DataArray):
        data = as_labels(resolve_attrs(data), str(data.name))
        data = data.to_dataset(name="mask" if is_categorical(data) else "image")
    readers = {node: _node_reader(ds, dtype) for node, ds in nodes_of(data).items()}
    _require_same_layers(readers)
    return readers


def _node_reader(ds: xr.Dataset, dtype: TensorDtype) -> NodeReader:
    layers = layers_by_name(ds)
    if not layers:
        names = [str(name) for name in ds.data_vars]
        raise GridError(
            f"Cannot read windows: no variable among {names} has the dimensions y and x.",
            remedy="Pass a Dataset of layers.",
        )
    grids = {name: grid_of(layer) for name, layer in layers.items()}
    first = next(iter(grids))
    for name, grid in grids.items():
        if grid != grids[first]:
            sizes = ", ".join(
                f"{n!r}: {grids[n].shape[0]} x {grids[n].shape[1]} in {crs_name(grids[n].crs)}" for n in (first, name)
            )
            raise GridError(
                f"Cannot read layers of several grids together ({sizes}).",
                remedy="Align them to one grid with align().",
            )
    readers = {name: _layer_reader(name, layer, dtype) for name, layer in layers.items()}
    return NodeReader(grid=grids[first], layers=readers)


def _layer_reader(name: str, layer: xr.DataArray, dtype: TensorDtype) -> LayerReader:
    layer = as_labels(resolve_attrs(layer), name)
    categorical = is_categorical(layer)
    time_dim = next((str(d) for d in layer.dims if str(d) == "time" or str(d).endswith("_time")), "")
    dated = time_dim in layer.coords and layer[time_dim].dtype.kind == "M"
    view = view_of(layer)
    return LayerReader(
        name=name,
        view=view,
        recent=RecentParts() if of_local_files(view) else None,
        categorical=categorical,
        dtype=np.dtype("int64" if categorical else stored_dtype(layer.dtype) if dtype == "stored" else "float32"),
        time_dim=time_dim,
        dates=layer[time_dim].values.astype("datetime64[ns]") if dated else None,
    )


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest dtype that torch computes with and that holds all values of a stored dtype."""
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
    native = dtype.newbyteorder("=")
    return np.dtype(wider.get(str(native), native))


def _require_same_layers(readers: Mapping[str, NodeReader]) -> None:
    names = {node: sorted(reader.layers) for node, reader in readers.items()}
    first = next(iter(names))
    for node, layers in names.items():
        if layers != names[first]:
            raise GridError(
                f"Cannot read a tree whose nodes differ: {first!r} has the layers {names[first]}, {node!r} {layers}.",
                remedy="Choose the same layers in each node with tree.map_over_datasets(…).",
            )
