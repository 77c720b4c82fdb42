"""A layer into a Zarr store: region by region, and under its own name only once it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.errors import GeoxtError, MissingDependency, OutputError
from geoxt.grid import grid_of
from geoxt.types import Array, SomePath
from geoxt.writers.blocks import Regions, regions_of, write
from geoxt.writers.staging import part, require_folder, staging

_SIDE = 1024
"""Pixels: longest side of the store's own chunks, and the side of those of a layer that has none."""
_NAME = "layer"
"""Name of the array, where the layer has none."""


def to_zarr(layer: xr.DataArray, path: SomePath, *, resume: bool = True, progress: bool | None = None) -> Path:
    """Write a layer as a Zarr store.

    It is computed and written region by region, a chunk each, into a hidden folder beside the output; under a dask
    cluster whose workers see that folder, they do so. The store appears under its name once it is whole.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x).
    path
        The store's folder. An older store there is replaced, once the new one is whole.
    resume
        Whether regions that an interrupted write of the same layer has finished are taken over, and whether they are
        kept after an error or an interrupt. The files that the layer is read from must not have changed.
    progress
        Whether to show a progress bar; by default where standard error is a terminal.

    Returns
    -------
    Path
        `path`. `xarray.open_zarr(path, mask_and_scale=False, decode_coords="all")` gives the layer back, nodata as it
        stands in `_FillValue`.

    Raises
    ------
    MissingDependency
        Where zarr is not installed.
    ReadError
        Where a file that the layer comes from cannot be read.
    OutputError
        Where the store cannot be written, or there is something else under its name.
    """
    path = Path(path)
    grid_of(layer)
    _require_zarr()
    require_folder(path)
    _require_store(path)
    with staging(layer, path, "zarr", resume=resume) as folder:
        try:
            regions = regions_of(_even(layer), side=_SIDE)
            store = _prepare(regions, folder)
            save = _Save(store=store, name=_name(layer), places=regions.places)
            write(regions, save, folder, progress=progress, label=path.name)
            if path.exists():
                path.rename(folder / "older.zarr")
            store.rename(path)
        except GeoxtError:
            raise
        except OSError as error:
            msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another path."
            raise OutputError(msg) from error
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Save:
    """Writes one region into the store."""

    store: Path
    """The store, which holds every array's metadata already."""
    name: str
    """Name of the array."""
    places: tuple[tuple[slice, ...], ...]
    """For each region, its slice along each dimension."""

    def __call__(self, values: Array, index: int) -> int:
        """Write values, then a mark that they are there."""
        import zarr

        array = zarr.open_array(str(self.store), path=self.name, mode="r+")
        array[self.places[index]] = values
        part(self.store.parent, index).touch()
        return index


def _even(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer whose chunks are alike, but for the last ones: a store has no others."""
    uneven = [dim for dim, sizes in layer.chunksizes.items() if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]]
    return layer.chunk(dict.fromkeys(uneven, _SIDE)) if uneven else layer


def _prepare(regions: Regions, folder: Path) -> Path:
    """Write coordinates and metadata, unless an earlier call has done so."""
    store = folder / "store.zarr"
    if not store.exists():
        layer, new = regions.layer, folder / f"new-{os.getpid()}.zarr"
        shutil.rmtree(new, ignore_errors=True)
        chunks = tuple(_chunk(dim, sizes) for dim, sizes in layer.chunksizes.items())
        frame = layer.drop_encoding().to_dataset(name=_name(layer))
        places = {str(name): {"_FillValue": None} for name, one in layer.coords.items() if one.dtype.kind == "f"}
        encoding: dict[str, Any] = {**places, _name(layer): {"chunks": chunks}}
        frame.to_zarr(new, compute=False, encoding=encoding, zarr_format=2)
        new.rename(store)
    return store


def _chunk(dim: Hashable, sizes: tuple[int, ...]) -> int:
    """Return the side of the store's chunks: whole ones fill a region, so that no two regions share one."""
    if dim not in {"y", "x"} or len(sizes) == 1:
        return min(sizes[0], _SIDE) if dim in {"y", "x"} else sizes[0]
    return next(side for side in range(min(sizes[0], _SIDE), 0, -1) if sizes[0] % side == 0)


def _name(layer: xr.DataArray) -> str:
    return _NAME if layer.name is None else str(layer.name)


def _require_zarr() -> None:
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        msg = "Cannot write a Zarr store without zarr: pip install 'geoxt[zarr]'."
        raise MissingDependency(msg) from error


def _require_store(path: Path) -> None:
    """Refuse to replace what is no Zarr store."""
    if path.exists() and not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        msg = f"Cannot write {str(path)!r}: there is something that is no Zarr store. Pass another path, or remove it."
        raise OutputError(msg)
