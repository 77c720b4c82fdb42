"""Write a layer as a Zarr store, block by block; the store is complete or absent."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.errors import GeoxtError, InputError, OutputError, optional_import
from geoxt.grid import grid_of
from geoxt.source import as_layer, is_categorical, nodata_of, resolve_attrs, unmarked
from geoxt.source.embedding_attrs import CONVENTION, to_convention
from geoxt.storage import atomic_write, replace
from geoxt.types import Array, SomePath
from geoxt.writers.blocks import Blocks, blocks_of, write_blocks
from geoxt.writers.geozarr import levels_of, multiscales_attrs
from geoxt.writers.staging import block_file, require_folder, staging, write_error
from geoxt.writers.zarr_overviews import Overviews, create_overviews, write_overviews

_SIDE = 1024
"""Pixels: side of the blocks of a layer without chunks."""
_CHUNK = 512
"""Pixels: preferred side of the store's chunks."""
_MIN_CHUNK = 128
"""Pixels: minimum side of the chunks of larger shards."""
_SHARD = 4096
"""Pixels: maximum side of shards by default."""
_OVERVIEW = 512
"""Pixels: a store with more rows or columns gets overviews, as a COG does."""
_NAME = "layer"
"""Name of the array of an unnamed layer."""


def to_zarr(
    layer: xr.DataArray | xr.Dataset,
    path: SomePath,
    *,
    shards: int | None = None,
    resume: bool = True,
    progress: bool | None = None,
) -> Path:
    """Write a layer as a Zarr store of version 3, with overviews.

    It is computed and written block by block, one per dask chunk, into a hidden folder beside the output; by the
    workers of a dask cluster if they see that folder. Overviews are computed from the stored blocks. The store appears
    under its name once it is complete.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x), or a Dataset of one variable per band. Class codes get overviews by mode;
        other layers get overviews by average of their valid pixels.
    path
        Folder of the store. An existing store is replaced once the new one is complete.
    shards
        Side of the shards in pixels; each is one file of chunks of about 512 pixels. By default one shard per dask
        chunk of up to 4096 pixels. A multiple of the dask chunks avoids that these are computed twice.
    resume, progress
        As for `to_cog`.

    Returns
    -------
    Path
        `path`. `geoxt.open_zarr(path)` opens the layer; so does
        `xarray.open_zarr(path, mask_and_scale=False, decode_coords="all")`, with nodata as `_FillValue`. CRS, position
        and overviews are stated by CF and by GeoZarr's conventions proj:, spatial: and multiscales.

    Raises
    ------
    MissingDependency
        If zarr is not installed.
    InputError
        If `shards` is not positive.
    ReadError
        If a file of the layer cannot be read.
    OutputError
        If the store cannot be written, another process or thread is writing it, or the path exists and is not a Zarr
        store.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.writers import to_zarr
    >>> layer = make_layer(np.ones((64, 64), "float32"))
    >>> to_zarr(layer, Path(tempfile.mkdtemp(), "map.zarr")).name
    'map.zarr'
    """
    path, layer = Path(path), as_layer(layer)
    grid_of(layer)
    if shards is not None and shards < 1:
        problem = f"Cannot write shards of {shards} pixels."
        raise InputError(problem, remedy="Pass a positive number as {shards}.", value=shards, argument="shards")
    layer = resolve_attrs(layer)
    with optional_import("zarr", "zarr", "write a Zarr store"):
        import zarr  # noqa: F401
    require_folder(path)
    _require_store(path)
    layer = _rechunk_evenly(layer, shards)
    with staging(layer, path, f"zarr3-{shards}", resume=resume) as folder:
        try:
            blocks = blocks_of(layer, side=_SIDE)
            overviews = _overviews(blocks.layer)
            store = _create(blocks, folder, overviews, shards)
            save = _SaveZarr(store=store, name=_name(layer), slices=blocks.slices)
            write_blocks(blocks, save, folder, progress=progress, label=path.name)
            if overviews.levels:
                write_overviews(store, overviews, folder, first=len(blocks), progress=progress, label=path.name)
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

        array = zarr.open_array(str(self.store), path=self.name, mode="r+", zarr_format=3)
        array[self.slices[index]] = values
        block_file(self.store.parent, index).touch()
        return index


def _rechunk_evenly(layer: xr.DataArray, shards: int | None) -> xr.DataArray:
    """Return a layer whose chunks have equal sizes except for the last, as Zarr requires, and hold whole shards."""
    if shards is not None and layer.chunks is None:
        side = -(-_SIDE // shards) * shards
        return layer.chunk({dim: side if dim in {"y", "x"} else 1 if dim == "time" else -1 for dim in layer.dims})
    sides = {}
    for dim, sizes in layer.chunksizes.items():
        uneven = len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]
        if shards is not None and dim in {"y", "x"}:
            if len(sizes) > 1 and (uneven or sizes[0] % shards):
                sides[dim] = -(-max(sizes) // shards) * shards
        elif uneven:
            sides[dim] = _SIDE
    return layer.chunk(sides) if sides else layer


def _overviews(layer: xr.DataArray) -> Overviews:
    mode = is_categorical(layer) or layer.dtype.kind == "b"
    levels = levels_of(grid_of(layer), _name(layer), cascade=not mode, side=_OVERVIEW)
    return Overviews(
        levels=levels if layer.dtype.kind in "biufc" else (), dims=tuple(map(str, layer.dims)), mode=mode,
        nodata=nodata_of(layer),
    )  # fmt: skip


def _create(blocks: Blocks, folder: Path, overviews: Overviews, shards: int | None) -> Path:
    """Write coordinates and metadata, unless an interrupted write has done so."""
    import zarr

    store = folder / "store.zarr"
    if store.exists():
        for path in store.rglob("*.partial"):  # files of LocalStore whose writing was interrupted
            path.unlink(missing_ok=True)
        return store
    layer, name = blocks.layer, _name(blocks.layer)
    sides = [_sides(dim, sizes, shards) for dim, sizes in layer.chunksizes.items()]
    chunk, shard = tuple(side for side, _ in sides), tuple(side for _, side in sides)
    # xarray would add a NaN _FillValue to float coordinates, and write text of fixed length, which is not a standard.
    encoding: dict[str, Any] = {str(n): {"_FillValue": None} for n, c in layer.coords.items() if c.dtype.kind == "f"}
    encoding[name] = {"chunks": chunk, "shards": shard if shard != chunk else None}
    layer = layer.assign_coords({n: c.compute().astype(object) for n, c in layer.coords.items() if c.dtype.kind == "U"})
    layer = layer.drop_encoding()
    layer.attrs = unmarked(layer.attrs)
    if "spatial_ref" in layer.coords:
        layer.attrs["grid_mapping"] = "spatial_ref"
    resampling = "mode" if overviews.mode else "average"
    attrs = multiscales_attrs(grid_of(layer), name, overviews.levels, overviews.dims, resampling)
    embedding = to_convention(layer)
    attrs["zarr_conventions"] += [dict(CONVENTION)] if embedding else []
    with atomic_write(store, fsync=False) as temporary:
        ds = layer.to_dataset(name=name).assign_attrs(attrs | embedding)
        ds.to_zarr(temporary, compute=False, encoding=encoding, zarr_format=3, consolidated=False)
        root = zarr.open_group(str(temporary), mode="r+")
        spatial = [n for n, c in layer.coords.items() if n == "spatial_ref" or {"y", "x"} & set(c.dims)]
        create_overviews(root, name, overviews, layer.coords.to_dataset().drop_vars(spatial))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(str(temporary))
    return store


def _sides(dim: Hashable, sizes: tuple[int, ...], shards: int | None) -> tuple[int, int]:
    """Return the sides of chunks and shards, so that no two blocks write to one shard."""
    size = sizes[0]
    if dim not in {"y", "x"}:
        return size, size
    if shards is not None:
        return _chunk(shards), shards
    if len(sizes) > 1:
        shard = size if size <= _SHARD else _divisor(size, _SHARD)
        return _chunk(shard), shard
    chunk = min(size, _CHUNK)
    return chunk, min(-(-size // chunk), _SHARD // _CHUNK) * chunk


def _chunk(shard: int) -> int:
    """Return the side of a chunk: the largest divisor of the shard's up to 512, or the next if that is below 128."""
    side = _divisor(shard, _CHUNK)
    return side if side >= min(_MIN_CHUNK, shard) else next(n for n in range(_MIN_CHUNK, shard + 1) if shard % n == 0)


def _divisor(number: int, limit: int) -> int:
    """Return the largest divisor up to a limit."""
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)


def _name(layer: xr.DataArray) -> str:
    return _NAME if layer.name is None else str(layer.name)


def _require_store(path: Path) -> None:
    """Raise if the path exists and is not a Zarr store."""
    if path.exists() and not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs")):
        raise OutputError(
            f"Cannot write {str(path)!r}: it exists and is not a Zarr store.", remedy="Pass another path. Or remove it."
        )
