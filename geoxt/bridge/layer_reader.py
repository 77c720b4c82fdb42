"""Windows -> tensors: the layers of a Dataset, read side by side, past dask where they are untouched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.bridge.buffer_pool import Room
from geoxt.bridge.coalesce import Run, runs
from geoxt.bridge.shared_memory import ALIGN, Slot
from geoxt.errors import GridError
from geoxt.grid import crs_name, grid_of
from geoxt.regions.region import layers_in
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
    axis: str = ""
    """Name of its time dimension in the Dataset; empty where it has none."""
    dates: Array | None = None
    """(time,) datetime64[ns] of its steps; `None` where it has no time dimension, or one without dates."""

    @property
    def lead(self) -> tuple[int, ...]:
        """Sizes of the dimensions before y and x, of those that the layer has."""
        sizes = {"time": self.view.shape[0], "band": self.view.shape[1]}
        return tuple(sizes[d] for d in self.view.dims if d in sizes)

    def shape(self, window: Window) -> tuple[int, ...]:
        """Return the shape of the tensor of a window: (time, band, height, width), absent dimensions left out."""
        sizes = {"time": len(self.steps(window)), "band": self.view.shape[1]}
        return (*(sizes[d] for d in self.view.dims if d in sizes), *window.shape)

    def steps(self, window: Window) -> tuple[int, ...]:
        """Return the time steps of a window; those that it names are of the Dataset's "time" and of no other axis."""
        every = tuple(range(self.view.shape[0]))
        return every if window.time is None or self.axis != "time" else window.time

    def valid_shape(self, window: Window) -> tuple[int, ...]:
        """Return the shape of a window's validity: that of the tensor without bands."""
        shape = self.shape(window)
        return shape[: -3 if "band" in self.view.dims else -2] + shape[-2:]

    def read(self, run: Run, values: Array, valid: Array) -> None:
        """Read a run of windows into a batch's arrays: values (window, …) by `shape`, validity without bands.

        Where the arrays have room for more time steps than the windows, the last are the fill value, and not valid.
        """
        window = run.whole if self.axis == "time" else replace(run.whole, time=None)
        found, good = self.view.read(window, dtype=self.dtype)
        width, some = values.shape[-1], slice(None)
        if self.axis and len(found) < values.shape[1]:
            some = slice(len(found))
            values[run.start : run.start + len(run.lefts), len(found) :] = self.view.source.fill
            valid[run.start : run.start + len(run.lefts), len(found) :] = False
        everywhere = bool(good.size and not any(good.strides) and good.flat[0])  # one true value: nothing to reduce
        flags: Array = good if everywhere else np.asarray(good.all(axis=1))
        for place, left in enumerate(run.lefts, run.start):
            to, flag = (values[place][some], valid[place][some]) if self.axis else (values[place], valid[place])
            to[...] = found[..., left : left + width].reshape(to.shape)
            flag[...] = True if everywhere else flags[..., left : left + width].reshape(flag.shape)


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
                f"{x.name!r}: {g.shape[0]} x {g.shape[1]} in {crs_name(g.crs)}"
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
    axis = next((str(d) for d in layer.dims if str(d) == "time" or str(d).endswith("_time")), "")
    dates = layer[axis].values if axis in layer.coords and layer[axis].dtype.kind == "M" else None
    exact = None if dates is None else dates.astype("datetime64[ns]")
    return Channel(name=name, view=view_of(layer), categorical=categorical, dtype=kind, axis=axis, dates=exact)


def _tensor_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest type torch computes with that holds the stored one."""
    wider = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
    native = dtype.newbyteorder("=")
    return np.dtype(wider.get(str(native), native))


def read_batch(
    grid: GeoBox,
    channels: Sequence[Channel],
    windows: Sequence[Window],
    run: Any = None,
    room: Room | Slot | None = None,
) -> Sample:
    """Read windows of one size into one batch.

    Parameters
    ----------
    grid
        The grid that the windows refer to.
    channels
        The layers.
    windows
        One or more windows of the same height and width. Of several numbers of time steps, the shorter are padded.
    run
        Maps a function over windows, such as a thread pool's `map`; the built-in `map` by default.
    room
        Where the tensors' memory comes from; new for each batch by default.

    Returns
    -------
    dict
        For each layer, `<name>` (batch, time, band, height, width) with absent dimensions left out, and
        `<name>_valid` (batch, time, height, width), true where all bands are valid; `bounds` (batch, 4) float64:
        left, bottom, right, top; `transform` (batch, 6) float64: the affine's a to f; `crs`, a list of names. Where
        layers have a time dimension, under its name `time` (batch, time) int64, nanoseconds since 1970 (the least
        number where there is no date), and `time_valid` (batch, time), false for steps that only pad.
    """
    first = max(windows, key=lambda w: len(w.time or ()))
    if any(w.shape != first.shape for w in windows):
        sizes = sorted({w.shape for w in windows})
        msg = (
            f"Cannot stack windows of several sizes {sizes} into one batch. Pass batch_size=1, or windows of one size."
        )
        raise GridError(msg)
    count = len(windows)
    room = room or Room()
    values = {c.name: room.array((count, *c.shape(first)), c.dtype) for c in channels}
    valid = {c.name: room.array((count, *c.valid_shape(first)), np.dtype(bool)) for c in channels}

    def fill(some: Run) -> None:
        for c in channels:
            c.read(some, values[c.name], valid[c.name])

    whole = all(getattr(c.view.source, "errors", "raise") == "raise" for c in channels)
    for _ in (run or map)(fill, runs(windows) if whole else runs(windows, longest=1)):  # what fails, fails alone
        pass
    batch: Sample = {}
    for c in channels:
        batch[c.name] = torch.from_numpy(values[c.name])
        batch[f"{c.name}_valid"] = torch.from_numpy(valid[c.name])
    return batch | times(channels, windows) | geometry(grid, windows)


def times(channels: Sequence[Channel], windows: Sequence[Window]) -> Sample:
    """Return the dates of windows, as they stand in a batch: once for each time dimension."""
    found: Sample = {}
    for axis, channel in {c.axis: c for c in channels if c.axis}.items():
        steps = [channel.steps(w) for w in windows]
        dates = np.full((len(windows), max(map(len, steps))), np.iinfo("int64").min)
        real = np.zeros(dates.shape, bool)
        for place, some in enumerate(steps):
            real[place, : len(some)] = True
            if channel.dates is not None:
                dates[place, : len(some)] = channel.dates[list(some)].astype("int64")
        found |= {axis: torch.from_numpy(dates), f"{axis}_valid": torch.from_numpy(real)}
    return found


def batch_bytes(channels: Sequence[Channel], window: Window, count: int) -> int:
    """Return the bytes of a batch's values and validity, each array's rounded up to whole lines of the cache."""
    sizes = [count * prod(c.shape(window)) * c.dtype.itemsize for c in channels]
    sizes += [count * prod(c.valid_shape(window)) for c in channels]
    return sum(-(-size // ALIGN) * ALIGN for size in sizes)


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
        "crs": [crs_name(grid.crs)] * len(windows),
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
