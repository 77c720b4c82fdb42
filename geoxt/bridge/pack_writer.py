"""Writing of packs: windows of a sampler, read and aligned once, as samples of a sharded Zarr store."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from dask.system import CPU_COUNT

from geoxt.bridge.layer_reader import LayerReader, NodeReader, readers_of
from geoxt.bridge.read_batch import times
from geoxt.bridge.statistics import RunningMoments
from geoxt.errors import GeoxtError, GridError, InputError, OutputError, optional_import
from geoxt.progress import progress_bar
from geoxt.samplers import WindowSequence
from geoxt.samplers.pack_sampler import PACK, WINDOW
from geoxt.samplers.sampler_files import grid_to_json
from geoxt.storage import atomic_write
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array, SomePath
from geoxt.windows import Window

FORMAT = 1
"""Version of the layout of packs."""
SHARD = 256 * 2**20
"""Approximate bytes of a shard."""
VALID = "_valid"
"""Suffix of the arrays of valid masks."""


def pack(
    data: SomeData,
    windows: WindowSequence | Sequence[Window],
    path: SomePath,
    *,
    compression: Literal["zstd"] | None = None,
    shard_size: int = SHARD,
    threads: int | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the samples of windows to a Zarr store, which `open_pack` opens and `loader` reads without resampling.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of such Datasets.
    windows
        A sampler (its current epoch), or windows of the grid; all of one size.
    path
        Folder of the store. An existing pack is replaced once the new one is complete.
    compression
        "zstd" for a smaller store that is decoded at each read; by default none.
    shard_size
        Bytes of a file of the store, and memory for writing it.
    threads
        Windows read concurrently; by default the number of cores.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.

    Returns
    -------
    Path
        `path`. For each layer, the store has an array (sample, time, band, y, x) without the dimensions that it lacks,
        in the layer's data type, and its valid mask (sample, time, y, x); for each sample its window and node; and
        CRS, grids, classes, bands, dates and band statistics. One chunk is one sample; chunks are grouped in shards
        (Zarr version 3).

    Raises
    ------
    MissingDependency
        If zarr is not installed.
    InputError
        If there are no windows.
    GridError
        If windows have several sizes or numbers of time steps, or nodes have layers of different shapes.
    ReadError
        If a file cannot be read.
    OutputError
        If the store cannot be written, or the path exists and is not a pack.

    References
    ----------
    Zarr version 3 (https://zarr-specs.readthedocs.io/en/latest/v3/core/v3.0.html) and its sharding codec
    (https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/v1.0.html)

    Examples
    --------
    >>> import geoxt
    >>> sampler = geoxt.samplers.RandomSampler(layers, size=256, length=10_000)  # doctest: +SKIP
    >>> geoxt.pack(layers, sampler, "train.zarr")  # doctest: +SKIP
    """
    path = Path(path)
    with optional_import("zarr", "zarr", "write a pack"):
        import zarr  # noqa: F401
    if path.exists() and not _is_stored_pack(path):
        raise OutputError(f"Cannot write a pack to {str(path)!r}: it exists and is not a pack.",
                          remedy="Pass another {path}.", argument="path")  # fmt: skip
    nodes = readers_of(data, dtype="stored")
    window_list = list(windows)
    layouts = _layouts(nodes, window_list)
    bar = partial(progress_bar, len(window_list), path.name, unit="window", progress=progress)
    try:
        with (
            atomic_write(path, fsync=False) as temporary,
            ThreadPoolExecutor(threads or CPU_COUNT) as pool,
            bar() as shown,
        ):
            store = _Store(temporary, nodes, window_list, layouts, compression, shard_size)
            for start in range(0, len(window_list), store.samples):
                store.write(start, pool, shown.update)
            store.finish(windows, _attributes(data))
    except GeoxtError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write the pack {str(path)!r}: {error}.", remedy="Free space there.") from error
    return path


class _Layout:
    """Arrays of one layer: shape of a sample, of its valid mask, and dimensions."""

    def __init__(self, reader: LayerReader, window: Window) -> None:
        self.shape, self.valid_shape = reader.shape(window), reader.valid_shape(window)
        self.dtype = reader.view.dtype.newbyteorder("=")
        inner = [d for d in reader.view.dims if d not in {"y", "x"}]
        time_dim = reader.time_dim or "time"
        self.dims = ("sample", *(time_dim if d == "time" else f"{reader.name}_band" for d in inner), "y", "x")
        self.valid_dims = tuple(d for d in self.dims if not d.endswith("_band"))
        self.categorical, self.time_dim = reader.categorical, reader.time_dim


def _layouts(nodes: Mapping[str, NodeReader], windows: Sequence[Window]) -> dict[str, _Layout]:
    """Return the layout of each layer, which all windows share."""
    if not windows:
        raise InputError("Cannot write a pack without windows.", remedy="Pass {windows}.", argument="windows")
    distinct = {(w.node, w.shape, None if w.time is None else len(w.time)): w for w in windows}.values()
    layouts: dict[str, _Layout] = {}
    for window in distinct:
        if window.node not in nodes:
            raise GridError(f"Cannot read {window}: the nodes of the data are {list(nodes)}.",
                            remedy="Pass windows of a sampler over the same data.")  # fmt: skip
        for name, reader in nodes[window.node].layers.items():
            layout = _Layout(reader, window)
            first = layouts.setdefault(name, layout)
            if (first.shape, first.dtype, first.dims) != (layout.shape, layout.dtype, layout.dims):
                raise GridError(
                    f"Cannot pack {name!r}: its samples are {first.dtype} {first.shape} and {layout.dtype}"
                    f" {layout.shape}.",
                    remedy="Pass windows of one size and number of time steps, and layers of one data type.",
                )
    return layouts


class _Store:
    """A Zarr store under construction."""

    def __init__(
        self,
        path: Path,
        nodes: Mapping[str, NodeReader],
        windows: Sequence[Window],
        layouts: Mapping[str, _Layout],
        compression: str | None,
        shard_size: int,
    ) -> None:
        import zarr

        self.nodes, self.windows, self.layouts = nodes, windows, layouts
        self.group: Any = zarr.open_group(str(path), mode="w", zarr_format=3)
        size = sum(prod(x.shape) * x.dtype.itemsize + prod(x.valid_shape) for x in layouts.values())
        self.samples = max(min(shard_size // size, len(windows)), 1)
        self._lock = threading.Lock()
        self.moments = {name: RunningMoments() for name, layout in layouts.items() if not layout.categorical}
        compressors: Literal["auto"] | None = "auto" if compression == "zstd" else None  # zarr's default is zstd
        for name, layout in layouts.items():
            # A shard leaves out chunks of the fill value: all valid, or all zeros.
            for key, shape, dims, dtype, fill in (
                (name, layout.shape, layout.dims, layout.dtype, layout.dtype.type(0)),
                (name + VALID, layout.valid_shape, layout.valid_dims, np.dtype(bool), True),
            ):
                self.group.create_array(
                    key, shape=(len(windows), *shape), chunks=(1, *shape), shards=(self.samples, *shape), dtype=dtype,
                    compressors=compressors, fill_value=fill, dimension_names=dims,
                )  # fmt: skip

    def write(self, start: int, pool: ThreadPoolExecutor, update: Any) -> None:
        """Read and write the samples of a shard."""
        windows = self.windows[start : start + self.samples]
        values = {n: np.empty((len(windows), *x.shape), x.dtype) for n, x in self.layouts.items()}
        valid = {n: np.empty((len(windows), *x.valid_shape), bool) for n, x in self.layouts.items()}

        def read(row: int) -> None:
            for name, reader in self.nodes[windows[row].node].layers.items():
                window = windows[row] if reader.time_dim == "time" else _without_time(windows[row])
                pixels, pixels_valid = reader.view.read(window)
                values[name][row] = pixels.reshape(values[name].shape[1:])
                valid[name][row] = pixels_valid.all(1).reshape(valid[name].shape[1:])
                if name in self.moments:
                    self._count(name, values[name][row], valid[name][row])
            update()

        for _ in pool.map(read, range(len(windows))):
            pass
        rows = slice(start, start + len(windows))
        for name in self.layouts:
            self.group[name][rows] = values[name]
            self.group[name + VALID][rows] = valid[name]

    def _count(self, name: str, values: Array, valid: Array) -> None:
        """Add a sample to the statistics of a layer: (time, band, y, x), or without the dimensions that it lacks."""
        dims = self.layouts[name].dims[1:]
        band = next((axis for axis, dim in enumerate(dims) if dim.endswith("_band")), None)
        by_band = values[None] if band is None else np.moveaxis(values, band, 0)
        with self._lock:
            self.moments[name].update(by_band, np.broadcast_to(valid, by_band.shape))

    def finish(self, windows: WindowSequence | Sequence[Window], attributes: Mapping[str, dict[str, Any]]) -> None:
        """Write windows, dates, and the description of the pack."""
        import zarr

        table = np.array([(w.row, w.col, w.height, w.width) for w in self.windows], "int64")
        names = list(self.nodes)
        coords = dict(zip(WINDOW, table.T, strict=True))
        coords["node"] = np.array([names.index(w.node) for w in self.windows])
        for key, values in coords.items():
            self._add(key, values, ("sample",))
        if self.windows[0].time is not None:
            self._add("steps", np.array([w.time for w in self.windows]), ("sample", "step"))
        for key, dates in times(self.nodes, self.windows).items():
            if not key.endswith(VALID):
                units = {"units": "nanoseconds since 1970-01-01", "calendar": "proleptic_gregorian"}
                self._add(f"{key}_of_sample", np.asarray(dates), ("sample", key), units)
        layers = {}
        for name, layout in self.layouts.items():
            layers[name] = {"categorical": layout.categorical, "time_dim": layout.time_dim}
            attrs = attributes[name]
            if name in self.moments and len(self.moments[name].count):
                moments = self.moments[name]
                attrs |= {"mean": moments.mean.tolist(), "std": moments.std.tolist()}
            self.group[name].attrs.update(_to_json(attrs))
        description = {
            "format": FORMAT,
            "samples": len(self.windows),
            "unit": windows.unit if isinstance(windows, WindowSequence) else 1,
            "grids": {node: grid_to_json(reader.grid) for node, reader in self.nodes.items()},
            "layers": layers,
            "sampler": repr(windows) if isinstance(windows, WindowSequence) else "",
        }
        self.group.attrs[PACK] = json.dumps(description)
        with warnings.catch_warnings():  # zarr warns that version 3 specifies no consolidated metadata
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(self.group.store)  # servers list no folders

    def _add(self, key: str, values: Array, dims: tuple[str, ...], attrs: dict[str, Any] | None = None) -> None:
        array = self.group.create_array(
            key,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            dimension_names=dims,
            attributes=attrs or {},
        )
        array[...] = values


def _without_time(window: Window) -> Window:
    return Window(window.row, window.col, window.height, window.width, None, window.node)


def _attributes(data: SomeData) -> dict[str, dict[str, Any]]:
    """Return the attributes of each layer of the first node, and the names of its bands."""
    ds = next(iter(nodes_of(data).values()))
    layers: dict[str, dict[str, Any]] = {}
    for name, layer in ds.data_vars.items():
        bands = next((layer[d].values for d in layer.dims if str(d).endswith("band") and d in layer.coords), None)
        layers[str(name)] = dict(layer.attrs) | ({} if bands is None else {"bands": [str(band) for band in bands]})
    if isinstance(data, xr.DataArray) and len(layers) == 1:
        (attrs,) = layers.values()
        return {"image": attrs, "mask": attrs}
    return layers


def _to_json(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that JSON can hold; arrays become lists, and other values are left out."""
    plain: dict[str, Any] = {}
    for key, value in attrs.items():
        jsonable = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        if isinstance(jsonable, float) and not np.isfinite(jsonable):
            jsonable = str(jsonable)
        with suppress(TypeError, ValueError):
            json.dumps(jsonable, allow_nan=False)
            plain["nodata" if key == "_FillValue" else str(key)] = jsonable  # xarray would decode _FillValue
    return plain


def _is_stored_pack(path: Path) -> bool:
    """Return whether a folder is a pack, and not another Zarr store or folder of the user's."""
    try:
        return PACK in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
