"""Packs: opened as an xarray Dataset, and read into batches straight from the shards of their Zarr store."""

from __future__ import annotations

import json
import os
import sys
from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.bridge.buffer_pool import BufferPool
from geoxt.bridge.layer_reader import TensorDtype, stored_dtype
from geoxt.bridge.pack_writer import FORMAT, VALID
from geoxt.bridge.read_batch import Sample, geometry
from geoxt.bridge.shared_memory import ALIGN, Slot
from geoxt.bridge.window_dataset import Transform, WindowDataset
from geoxt.errors import GridError, InputError, ReadError, optional_import
from geoxt.samplers import WindowSequence
from geoxt.samplers.pack_sampler import PACK, pack_description, pack_windows
from geoxt.types import Array, SomePath
from geoxt.windows import Window

OPEN_SHARDS = 32
"""Shards that a process keeps open for each array."""
ABSENT = 2**64 - 1
"""Offset of a chunk that a shard does not hold: all its values are the fill value."""


def open_pack(path: SomePath, *, storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Open a pack as a lazy Dataset of samples.

    Parameters
    ----------
    path
        Folder or URL of a pack.
    storage_options
        Options of fsspec for a URL.

    Returns
    -------
    xarray.Dataset
        For each layer, `<name>` (sample, time, band, y, x) without the dimensions that it lacks, with class codes,
        names and statistics in `attrs`, and `<name>_valid` (sample, time, y, x). Coordinates: the window and node of
        each sample, and `<dimension>_of_sample` with its dates. Pass it to `loader` with a `PackSampler`.

    Raises
    ------
    MissingDependency
        If zarr is not installed.
    ReadError
        If there is no pack, or one of another version.

    Examples
    --------
    >>> import geoxt
    >>> pack = geoxt.open_pack("train.zarr")  # doctest: +SKIP
    >>> pack.image.attrs["mean"]  # doctest: +SKIP
    """
    with optional_import("zarr", "zarr", "open a pack"):
        import zarr  # noqa: F401
    text = os.fspath(path)
    options: Any = {} if storage_options is None else {"storage_options": dict(storage_options)}
    try:
        ds = xr.open_zarr(text, mask_and_scale=False, consolidated=True, zarr_format=3, **options)
        description = pack_description(ds)
    except InputError as error:
        raise ReadError(
            f"Cannot open the pack {text!r}: the store is not a pack.", remedy="Write one with pack()."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"Cannot open the pack {text!r}: {str(error).rstrip('.')}."
        raise ReadError(problem, remedy="Pass the folder that pack() wrote.") from error
    if description.get("format") != FORMAT:
        problem = f"Cannot open the pack {text!r}: its format is {description.get('format')!r}, not {FORMAT}."
        raise ReadError(problem, remedy="Write it again with this version of geoxt.")
    coords = [n for n in ds.data_vars if n in {"row", "col", "height", "width", "node", "steps"}]
    ds = ds.set_coords([*coords, *(n for n in ds.data_vars if str(n).endswith("_of_sample"))])
    bands = {f"{n}_band": ds[n].attrs.pop("bands") for n in ds.data_vars if "bands" in ds[n].attrs}
    ds = ds.assign_coords({dim: names for dim, names in bands.items() if dim in ds.dims})
    names = {str(n): ds[n].data.name for n in ds.data_vars}
    ds.attrs |= {"path": text, "storage_options": json.dumps(storage_options), "arrays": names}
    return ds


def is_pack(data: Any) -> TypeGuard[xr.Dataset]:
    """Return whether data are a pack."""
    return isinstance(data, xr.Dataset) and PACK in data.attrs


class PackDataset(WindowDataset):
    """A map-style torch dataset of the samples of a pack.

    Parameters
    ----------
    pack
        Dataset of `open_pack`.
    windows
        A `PackSampler`, or windows of the pack's samples.
    transform, dtype, threads
        As for `WindowDataset`; `threads` is not used, since samples are read without decoding.

    Raises
    ------
    InputError
        If a variable was changed after the pack was opened.
    GridError
        If the windows are not those of the pack.
    """

    def __init__(
        self,
        pack: xr.Dataset,
        windows: WindowSequence | Sequence[Window],
        *,
        transform: Transform | None = None,
        dtype: TensorDtype = "float32",
        threads: int | None = None,
    ) -> None:
        self.windows, self.transform, self.threads = windows, transform, threads
        self._pool, self._buffers = None, BufferPool()
        description = pack_description(pack)
        self._path, options = str(pack.attrs["path"]), json.loads(pack.attrs["storage_options"])
        full_pack = open_pack(self._path, storage_options=options)
        for name, variable in pack.data_vars.items():
            stored = pack.attrs["arrays"].get(str(name))
            unchanged = stored is not None and variable.shape[1:] == full_pack[str(name)].shape[1:]
            if not (unchanged and _is_selection(variable, stored)):
                raise InputError(
                    f"Cannot load {name!r} from the pack: it was changed or computed after it was opened.",
                    remedy="Pass a {transform} that changes batches. Or load the Dataset itself with torch.",
                    argument="transform",
                )
        self._layers = {n: f for n, f in description["layers"].items() if n in pack.data_vars}
        windows_of_pack = pack_windows(full_pack)
        self._grids: dict[str, GeoBox] = dict(windows_of_pack.grids)
        self._position = {window: index for index, window in enumerate(windows_of_pack)}
        self._arrays = {
            key: _StoredArray(self._path, key, full_pack[key].shape, full_pack[key].dtype, options)
            for name in self._layers
            for key in (name, name + VALID)
        }
        self._dtypes = {
            n: _tensor_dtype(f["categorical"], self._arrays[n].dtype, dtype) for n, f in self._layers.items()
        }
        self._dates = {
            f["time_dim"]: full_pack[f"{f['time_dim']}_of_sample"].values.astype("datetime64[ns]").astype("int64")
            for f in self._layers.values()
            if f["time_dim"]
        }

    def keep_stored(self, stored: Collection[str], buffers: BufferPool) -> dict[str, torch.dtype]:
        """Read arrays in their stored dtype if it is one of `stored`, into given memory; return their former dtypes."""
        self._buffers = buffers
        names = [name for name in self._dtypes if self._arrays[name].dtype.name in stored]
        former = {name: torch.from_numpy(np.empty(0, self._dtypes[name])).dtype for name in names}
        self._dtypes |= {name: self._arrays[name].dtype for name in names}
        return former

    def entries(self) -> dict[str, str]:
        """Return dtype and shape of each sample's layers by sample key, as text."""
        return {name: f"{dtype} {self._arrays[name].shape[1:]}" for name, dtype in self._dtypes.items()}

    def batch_key(self, window: Window) -> Hashable:
        """Return 0 for all windows: the samples of a pack have one shape."""
        self._require(window)
        return 0

    def read(self, indices: Sequence[int | Window], buffers: BufferPool | Slot | None = None) -> Sample:
        """Return one batch before any transform."""
        windows = [self._window(index) for index in indices]
        for window in windows:
            self._require(window)
        rows = [self._position[window] for window in windows]
        buffers = buffers or self._buffers
        batch: Sample = {}
        for name in self._layers:
            for key, dtype in ((name, self._dtypes[name]), (name + VALID, np.dtype(bool))):
                values = buffers.array((len(rows), *self._arrays[key].shape[1:]), dtype)
                self._arrays[key].read(rows, values)
                batch[key] = torch.from_numpy(values)
        for dim, dates in self._dates.items():
            batch[dim] = torch.from_numpy(dates[rows])
            batch[dim + VALID] = torch.ones(batch[dim].shape, dtype=torch.bool)
        return batch | geometry(self._grids, windows)

    def batch_bytes(self, window: Window, count: int) -> int:  # noqa: ARG002 (all windows are alike)
        """Return the bytes of values and valid masks of a batch, each array rounded up to whole cache lines."""
        sizes = [count * prod(self._arrays[name].shape[1:]) * dtype.itemsize for name, dtype in self._dtypes.items()]
        sizes += [count * prod(self._arrays[name + VALID].shape[1:]) for name in self._layers]
        return sum(-(-size // ALIGN) * ALIGN for size in sizes)

    def share_parts(self, lock: Any) -> None:
        """Leave each sample to one worker: samples are stored one by one."""

    def _require(self, window: Window) -> None:
        if window not in self._position:
            raise GridError(f"Cannot read {window}: the pack has no such sample.",
                            remedy="Pass a PackSampler of this pack.")  # fmt: skip


def _is_selection(variable: xr.DataArray, array_name: str | None) -> bool:
    """Return whether a variable only selects from, or rechunks, the dask array of a name."""
    if variable.chunks is None:
        return False
    array = variable.data
    names = [array.name]
    while names:
        name = names.pop()
        if name == array_name:
            continue
        if not name.startswith(("getitem-", "rechunk-")):
            return False
        names += array.dask.dependencies[name]
    return True


def _tensor_dtype(categorical: bool, dtype: np.dtype[Any], tensor_dtype: TensorDtype) -> np.dtype[Any]:  # noqa: FBT001
    return np.dtype("int64" if categorical else stored_dtype(dtype) if tensor_dtype == "stored" else "float32")


class _StoredArray:
    """An array of a pack, read sample by sample: straight from local shards without compression, else by zarr.

    A shard ends with its index: offset and length of each chunk as uint64, and a CRC-32C of 4 bytes (Zarr's
    sharding_indexed codec, version 1).
    """

    def __init__(self, path: str, key: str, shape: tuple[int, ...], dtype: np.dtype[Any], options: Any) -> None:
        self.path, self.key, self.shape, self.dtype, self.options = path, key, shape, dtype, options
        folder = Path(path) / key
        self.samples = 0
        """Samples of a shard, 0 if zarr reads."""
        if (folder / "zarr.json").is_file() and sys.byteorder == "little" and hasattr(os, "preadv"):
            self.samples, self.fill = _plain_shards(json.loads((folder / "zarr.json").read_text()))
        self._size = prod(shape[1:]) * dtype.itemsize
        self._shards: OrderedDict[int, tuple[int, Array] | None] = OrderedDict()
        self._array: Any = None
        self._pid = os.getpid()

    def read(self, rows: Sequence[int], out: Array) -> None:
        """Read samples into an array (sample, …), cast to its data type."""
        if not self.samples:
            self._read_by_zarr(rows, out)
            return
        if self._pid != os.getpid():  # descriptors belong to the process that opened them
            self._pid, self._shards = os.getpid(), OrderedDict()
        direct = out.dtype == self.dtype
        buffer = None if direct else np.empty(self.shape[1:], self.dtype)
        for position, row in enumerate(rows):
            shard = self._shard(row // self.samples)
            offset = ABSENT if shard is None else int(shard[1][row % self.samples])
            if shard is None or offset == ABSENT:
                out[position] = self.fill
                continue
            target = out[position] if buffer is None else buffer
            if os.preadv(shard[0], [target.reshape(-1).view("uint8").data], offset) != self._size:
                raise ReadError(f"Cannot read sample {row} of {self.key!r} in {self.path}: the file is truncated.",
                                remedy="Write the pack again.")  # fmt: skip
            if buffer is not None:
                out[position] = buffer

    def _shard(self, number: int) -> tuple[int, Array] | None:
        """Return the descriptor and the offsets of chunks of a shard; `None` if it holds nothing but fill values."""
        if number in self._shards:
            self._shards.move_to_end(number)
            return self._shards[number]
        path = Path(self.path, self.key, "c", str(number), *["0"] * (len(self.shape) - 1))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._shards[number] = None
            return None
        except OSError as error:
            raise ReadError(f"Cannot read {path}: {error.strerror}.", remedy="Check the pack's files.") from error
        length = 16 * self.samples + 4
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, length, max(size - length, 0))
        if len(data) != length:
            os.close(descriptor)
            raise ReadError(f"Cannot read {path}: the file is truncated.", remedy="Write the pack again.")
        index = np.frombuffer(data[:-4], "<u8").reshape(-1, 2)
        is_stored = index[:, 0] != ABSENT
        if ((index[is_stored, 1] != self._size) | (index[is_stored, 0] + index[is_stored, 1] > size)).any():
            os.close(descriptor)
            raise ReadError(f"Cannot read {path}: its index is damaged.", remedy="Write the pack again.")
        self._shards[number] = descriptor, index[:, 0]
        if len(self._shards) > OPEN_SHARDS:
            _, oldest = self._shards.popitem(last=False)
            if oldest is not None:
                os.close(oldest[0])
        return self._shards[number]

    def _read_by_zarr(self, rows: Sequence[int], out: Array) -> None:
        import zarr

        try:
            if self._array is None or self._pid != os.getpid():
                options = {} if self.options is None else {"storage_options": self.options}
                self._pid = os.getpid()
                self._array = zarr.open_group(self.path, mode="r", **options)[self.key]
            order = np.argsort(rows, kind="stable")
            distinct, inverse = np.unique(np.asarray(rows)[order], return_inverse=True)
            values = self._array.oindex[distinct]
            out[order] = values[inverse]
        except (OSError, ValueError, KeyError) as error:
            raise ReadError(f"Cannot read {self.key!r} of the pack {self.path}: {error}.",
                            remedy="Check that the pack is complete.") from error  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without descriptors and the open array."""
        return self.__dict__ | {"_shards": OrderedDict(), "_array": None, "_pid": 0}

    def __del__(self) -> None:
        for shard in getattr(self, "_shards", {}).values() if getattr(self, "_pid", 0) == os.getpid() else ():
            if shard is not None:
                os.close(shard[0])


def _plain_shards(metadata: Mapping[str, Any]) -> tuple[int, Any]:
    """Return the samples of a shard and the fill value, (0, None) if chunks are compressed or not one sample each."""
    codecs = metadata["codecs"]
    if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
        return 0, None
    sharding = codecs[0]["configuration"]
    shard = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    index = [codec["name"] for codec in sharding["index_codecs"]]
    inner = sharding["codecs"]
    little = all(codec.get("configuration", {}).get("endian", "little") == "little" for codec in inner)
    one_sample_per_chunk = sharding["chunk_shape"] == [1, *metadata["shape"][1:]] and shard[1:] == metadata["shape"][1:]
    plain = [codec["name"] for codec in inner] == ["bytes"] and little and index == ["bytes", "crc32c"]
    if not (plain and one_sample_per_chunk and sharding.get("index_location", "end") == "end"):
        return 0, None
    return int(shard[0]), metadata["fill_value"]
