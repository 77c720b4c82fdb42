"""Windows -> tensors: the layers of a Dataset, read side by side, past dask where they are untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.bridge.room import Room
from geoxt.errors import GridError
from geoxt.grid import grid_of, label
from geoxt.samplers.regions import layers_in
from geoxt.source import View, is_categorical, view_of
from geoxt.types import Array
from geoxt.windows import Window

Sample = dict[str, Any]
"""Tensors and geometry of one window, or of a batch of windows."""
Kind = Literal["float32", "stored"]


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One layer of a sample."""

    name: str
    """Key in the sample."""
    view: View
    """Where its windows are read."""
    categorical: bool
    """Whether its pixels are class codes, which become int64."""
    dtype: np.dtype[Any]
    """Type of its tensor."""

    @property
    def lead(self) -> tuple[int, ...]:
        """Sizes of the dimensions before y and x, of those that the layer has."""
        sizes = {"time": self.view.shape[0], "band": self.view.shape[1]}
        return tuple(sizes[d] for d in self.view.dims if d in sizes)

    def shape(self, window: Window) -> tuple[int, ...]:
        """Return the shape of the tensor of a window: (time, band, height, width), absent dimensions left out."""
        sizes = dict(zip(("time", "band"), self.view.shape[:2], strict=True))
        if window.time is not None and "time" in self.view.dims:
            sizes["time"] = len(window.time)
        return (*(sizes[d] for d in self.view.dims if d in sizes), *window.shape)

    def read(self, window: Window, values: Array, valid: Array) -> None:
        """Read a window into arrays: values by `shape`, validity (time, height, width) or (height, width)."""
        found, good = self.view.read(window, dtype=self.dtype)
        values[...] = found.reshape(values.shape)
        valid[...] = True if _everywhere(good) else good.all(axis=1).reshape(valid.shape)


def _everywhere(good: Array) -> bool:
    """Tell whether a mask is one true value, broadcast: nothing to reduce."""
    return not any(good.strides) and bool(good.flat[0])


def channels_of(data: xr.DataArray | xr.Dataset, *, dtype: Kind = "float32") -> tuple[GeoBox, tuple[Channel, ...]]:
    """Return the grid and the layers of a Dataset as channels; a lone layer is called "image", or "mask" for classes.

    Raises
    ------
    GridError
        Where there is no layer, or the layers lie on several grids.
    """
    layers = layers_in(data)
    if not layers:
        found = [str(name) for name in data.data_vars] if isinstance(data, xr.Dataset) else []
        msg = f"Cannot read windows: no variable among {found} has the dimensions y and x. Pass a Dataset of layers."
        raise GridError(msg)
    grid = grid_of(layers[0])
    for layer in layers[1:]:
        other = grid_of(layer)
        if other != grid:
            sizes = [
                f"{x.name!r}: {g.shape[0]} x {g.shape[1]} in {label(g.crs)}"
                for x, g in ((layers[0], grid), (layer, other))
            ]
            msg = (
                f"Cannot read layers of several grids together ({', '.join(sizes)}). Bring them onto one with align()."
            )
            raise GridError(msg)
    named = {_name(layer, data): layer for layer in layers}
    return grid, tuple(_channel(name, layer, dtype) for name, layer in named.items())


def _name(layer: xr.DataArray, data: xr.DataArray | xr.Dataset) -> str:
    if isinstance(data, xr.Dataset):
        return str(layer.name)
    return "mask" if is_categorical(layer) else "image"


def _channel(name: str, layer: xr.DataArray, dtype: Kind) -> Channel:
    categorical = is_categorical(layer)
    kind = np.dtype("int64") if categorical else _tensor_type(layer.dtype) if dtype == "stored" else np.dtype("float32")
    return Channel(name=name, view=view_of(layer), categorical=categorical, dtype=kind)


def _tensor_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest type torch computes with that holds the stored one."""
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
    native = dtype.newbyteorder("=")
    return np.dtype(wider.get(str(native), native))


def read_batch(
    grid: GeoBox, channels: Sequence[Channel], windows: Sequence[Window], run: Any = None, room: Room | None = None
) -> Sample:
    """Read windows of one size into one batch.

    Parameters
    ----------
    grid
        The grid that the windows refer to.
    channels
        The layers.
    windows
        One or more windows of the same height, width and number of time steps.
    run
        Maps a function over windows, such as a thread pool's `map`; the built-in `map` by default.
    room
        Where the tensors' memory comes from; new for each batch by default.

    Returns
    -------
    dict
        For each layer, `<name>` (batch, time, band, height, width) with absent dimensions left out, and
        `<name>_valid` (batch, time, height, width), true where all bands are valid; `bounds` (batch, 4) float64:
        left, bottom, right, top; `transform` (batch, 6) float64: the affine's a to f; `crs`, a list of names.
    """
    first = windows[0]
    if any(w.shape != first.shape for w in windows):
        sizes = sorted({w.shape for w in windows})
        msg = (
            f"Cannot stack windows of several sizes {sizes} into one batch. Pass batch_size=1, or windows of one size."
        )
        raise GridError(msg)
    count = len(windows)
    room = room or Room()
    values = {c.name: room.array((count, *c.shape(first)), c.dtype) for c in channels}
    valid = {c.name: room.array((count, *_valid_shape(c, first)), np.dtype(bool)) for c in channels}

    def fill(place: int) -> None:
        for c in channels:
            c.read(windows[place], values[c.name][place], valid[c.name][place])

    for _ in (run or map)(fill, range(count)):
        pass
    batch: Sample = {}
    for c in channels:
        batch[c.name] = torch.from_numpy(values[c.name])
        batch[f"{c.name}_valid"] = torch.from_numpy(valid[c.name])
    return batch | geometry(grid, windows)


def _valid_shape(channel: Channel, window: Window) -> tuple[int, ...]:
    shape = channel.shape(window)
    return shape[: -3 if "band" in channel.view.dims else -2] + shape[-2:]


def geometry(grid: GeoBox, windows: Sequence[Window]) -> Sample:
    """Return bounds, transforms and CRS of windows, as they stand in a batch."""
    a = grid.affine
    corner = np.array([(w.col, w.row, w.col + w.width, w.row + w.height) for w in windows], "float64")
    x = a.a * corner[:, 0::2] + a.b * corner[:, 1::2] + a.c
    y = a.d * corner[:, 0::2] + a.e * corner[:, 1::2] + a.f
    if a.b == 0 and a.d == 0:
        bounds = np.c_[x.min(1), y.min(1), x.max(1), y.max(1)]
    else:
        bounds = np.array([_bounds(grid, w) for w in windows])
    transform = np.tile(np.array([a.a, a.b, 0, a.d, a.e, 0], "float64"), (len(windows), 1))
    transform[:, 2], transform[:, 5] = x[:, 0], y[:, 0]
    return {
        "bounds": torch.from_numpy(bounds),
        "transform": torch.from_numpy(transform),
        "crs": [label(grid.crs)] * len(windows),
    }


def _bounds(grid: GeoBox, window: Window) -> tuple[float, ...]:
    bottom, right = window.stop
    corners = [
        grid.affine @ p for p in ((window.col, window.row), (right, window.row), (window.col, bottom), (right, bottom))
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def single(batch: Sample, place: int) -> Sample:
    """Return one sample of a batch; default_collate puts such samples back together."""
    return {k: v[place] for k, v in batch.items()}
