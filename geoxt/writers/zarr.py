"""Write a layer as a Zarr store, block by block; the store is complete or absent."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.errors import GeoxtError, OutputError, optional_import
from geoxt.grid import grid_of, parse_crs
from geoxt.source import resolve_attrs, unmarked
from geoxt.storage import atomic_write, replace
from geoxt.types import Array, SomePath
from geoxt.writers.blocks import Blocks, blocks_of, write_blocks
from geoxt.writers.staging import block_file, require_folder, staging, write_error

_SIDE = 1024
"""Pixels: maximum side of the store's chunks, and the side of the blocks of a layer without chunks."""
_NAME = "layer"
"""Name of the array of an unnamed layer."""


def to_zarr(layer: xr.DataArray, path: SomePath, *, resume: bool = True, progress: bool | None = None) -> Path:
    """Write a layer as a Zarr store.

    It is computed and written block by block, one per dask chunk, into a hidden folder beside the output; by the
    workers of a dask cluster if they see that folder. The store appears under its name once it is complete.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x).
    path
        Folder of the store. An existing store is replaced once the new one is complete.
    resume
        Whether to reuse the blocks that an interrupted write of the same layer has finished, and to keep finished
        blocks after an error or an interrupt. The files that the layer is read from must not have changed.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.

    Returns
    -------
    Path
        `path`. `geoxt.open_zarr(path)` opens the layer; so does
        `xarray.open_zarr(path, mask_and_scale=False, decode_coords="all")`, with nodata as `_FillValue`. The CRS is
        stated by CF and by GeoZarr's conventions proj: and spatial:.

    Raises
    ------
    MissingDependency
        If zarr is not installed.
    ReadError
        If a file of the layer cannot be read.
    OutputError
        If the store cannot be written, another process or thread is writing it, or the path exists and is no Zarr
        store.
    """
    path = Path(path)
    grid_of(layer)
    layer = resolve_attrs(layer)
    _require_zarr()
    require_folder(path)
    _require_store(path)
    with staging(layer, path, "zarr", resume=resume) as folder:
        try:
            blocks = blocks_of(_evenly_chunked(layer), side=_SIDE)
            store = _create(blocks, folder)
            save = _SaveZarr(store=store, name=_name(layer), slices=blocks.slices)
            write_blocks(blocks, save, folder, progress=progress, label=path.name)
            replace(store, path)
        except GeoxtError:
            raise
        except OSError as error:
            raise write_error(path, error, size=layer.nbytes) from error
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _SaveZarr:
    """Writes one block into the store."""

    store: Path
    """The store, which holds the metadata of all arrays already."""
    name: str
    """Name of the array."""
    slices: tuple[tuple[slice, ...], ...]
    """Of each block, its slice along each dimension."""

    def __call__(self, values: Array, index: int) -> int:
        """Write values, then the file that marks the block as finished."""
        import zarr

        array = zarr.open_array(str(self.store), path=self.name, mode="r+")
        array[self.slices[index]] = values
        block_file(self.store.parent, index).touch()
        return index


def _evenly_chunked(layer: xr.DataArray) -> xr.DataArray:
    """Return a layer whose chunks have equal sizes except for the last, as Zarr requires."""
    uneven = [dim for dim, sizes in layer.chunksizes.items() if len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]]
    return layer.chunk(dict.fromkeys(uneven, _SIDE)) if uneven else layer


def _create(blocks: Blocks, folder: Path) -> Path:
    """Write coordinates and metadata, unless an interrupted write has done so."""
    store = folder / "store.zarr"
    if store.exists():
        return store
    layer = blocks.layer
    chunks = tuple(_chunk(dim, sizes) for dim, sizes in layer.chunksizes.items())
    # xarray would add a NaN _FillValue to float coordinates.
    encoding: dict[str, Any] = {str(n): {"_FillValue": None} for n, c in layer.coords.items() if c.dtype.kind == "f"}
    encoding[_name(layer)] = {"chunks": chunks}
    with atomic_write(store, fsync=False) as temporary:
        layer = layer.drop_encoding()
        layer.attrs = unmarked(layer.attrs)
        ds = layer.to_dataset(name=_name(layer)).assign_attrs(_geozarr_attrs(layer))
        ds.to_zarr(temporary, compute=False, encoding=encoding, zarr_format=2)
    return store


_CONVENTIONS = (
    {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f", "name": "proj:",
     "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
     "description": "Coordinate reference system information for geospatial data"},
    {"uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "name": "spatial:",
     "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
     "description": "Spatial coordinate information"},
)  # fmt: skip
"""Conventions of GeoZarr that the attributes of the group follow, besides CF."""


def _geozarr_attrs(layer: xr.DataArray) -> dict[str, Any]:
    """Return CRS and position of a layer as attributes of its group, by the proj: and spatial: conventions."""
    grid = grid_of(layer)
    assert grid.crs is not None
    code = grid.crs.to_epsg()
    exact = code is not None and parse_crs(f"EPSG:{code}") == grid.crs  # a code of a similar CRS is no match
    return {
        "zarr_conventions": [dict(convention) for convention in _CONVENTIONS],
        **({"proj:code": f"EPSG:{code}"} if exact else {"proj:wkt2": grid.crs.proj.to_wkt("WKT2_2019")}),
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": list(grid.shape),
        "spatial:transform": list(grid.affine[:6]),
    }


def _chunk(dim: Hashable, sizes: tuple[int, ...]) -> int:
    """Return the side of the store's chunks, a divisor of the block's, so that no two blocks write to one chunk."""
    if dim not in {"y", "x"} or len(sizes) == 1:
        return min(sizes[0], _SIDE) if dim in {"y", "x"} else sizes[0]
    return next(side for side in range(min(sizes[0], _SIDE), 0, -1) if sizes[0] % side == 0)


def _name(layer: xr.DataArray) -> str:
    return _NAME if layer.name is None else str(layer.name)


def _require_zarr() -> None:
    with optional_import("zarr", "zarr", "write a Zarr store"):
        import zarr  # noqa: F401


def _require_store(path: Path) -> None:
    """Raise if the path exists and is no Zarr store."""
    if path.exists() and not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise OutputError(
            f"Cannot write {str(path)!r}: it exists and is no Zarr store.", remedy="Pass another path. Or remove it."
        )
