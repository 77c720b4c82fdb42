"""One map tile: written as a COG with its STAC item, or recorded as empty or failed."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import xarray as xr
from rasterio.errors import RasterioError

from geoxt.errors import InputError, OutputError
from geoxt.tiling.manifest import TILES
from geoxt.tiling.map_tile import MapTile
from geoxt.tiling.stac_items import tile_item, write_json
from geoxt.tiling.tile_states import now, write_state
from geoxt.windows import Window
from geoxt.writers import to_cog
from geoxt.writers.blocks import in_this_process
from geoxt.writers.staging import SUFFIX

_FOLDER_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT}
"""Error numbers of a folder that cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileJob:
    """A map and the folder of its tiles."""

    folder: Path
    """Folder of the tiles."""
    maps: Mapping[str, xr.DataArray]
    """Lazy map of each node; "" for a single map."""
    token: str
    """Hash of the map and its tiling."""
    datetimes: tuple[str, str] | None
    """First and last time of the map's input; `None` if unknown."""
    has_model: bool
    """Whether the folder has an item of the model."""

    def path_of(self, tile: MapTile) -> Path:
        """Return the path of a tile's file."""
        return self.folder / TILES / f"{tile.name}.tif"

    def layer_of(self, tile: MapTile) -> xr.DataArray:
        """Return the part of the map in a tile, lazily."""
        assert tile.window is not None
        rows, cols = tile.window.within(Window(0, 0, 1, 1))
        return self.maps[tile.window.node].isel(y=rows, x=cols)

    def resources(self) -> dict[str, float]:
        """Return the resources of a dask worker that a tile requires, such as those of a map on GPUs."""
        resources: dict[str, float] = {}
        for layer in self.maps.values():
            graph = getattr(layer.data, "dask", None)
            for part in getattr(graph, "layers", {}).values():
                resources |= (part.annotations or {}).get("resources", {})
        return resources


def run_tile(job: TileJob, tile: MapTile, attempt: int) -> dict[str, Any]:
    """Write one map tile, and return its state, which is also written.

    A complete file without a state, left by a process that was killed, is not written again; a file that cannot be
    decoded, such as a truncated copy, is replaced.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    path, started = job.path_of(tile), now()
    try:
        if not _is_complete(path, tile):
            path.unlink(missing_ok=True)
            with in_this_process():
                to_cog(job.layer_of(tile), path, progress=False)
        if _has_valid(path):
            item = tile_item(tile, path, job.maps[_node(tile)], datetimes=job.datetimes, has_model=job.has_model)
            write_json(path.with_suffix(".json"), item)
            state = _state(tile, "done", started, attempt, size=path.stat().st_size)
        else:
            for file in (path, path.with_suffix(".tif.aux.xml"), path.with_suffix(".json")):
                file.unlink(missing_ok=True)
            state = _state(tile, "empty", started, attempt)
    except OutputError as error:
        if _ends_job(error):
            raise
        state = failure(tile, attempt, error.__cause__ or error, started=started)
    except Exception as error:  # noqa: BLE001 (any error of a reader or a model fails one tile, not the map)
        state = failure(tile, attempt, error, started=started)
    write_state(job.folder, tile.name, state)
    return state


def _ends_job(error: OutputError) -> bool:
    """Return whether an output failed because of the folder, such as a full disk, so that all tiles would fail.

    `to_cog` also raises OutputError for an OSError of the code that computes the pixels, and for the lock of a file
    that a worker still writes which its scheduler takes for dead.
    """
    cause = error.__cause__
    return not isinstance(cause, OSError) or isinstance(cause, RasterioError) or cause.errno in _FOLDER_ERRORS


def failure(tile: MapTile, attempt: int, error: BaseException, *, started: str = "") -> dict[str, Any]:
    """Return the state of a map tile after an error; errors of the input are not tried again."""
    text = f"{type(error).__name__}: {error}"
    retry = not isinstance(error, InputError)
    return _state(tile, "failed", started, attempt, error=text) | {"retry": retry}


def _state(tile: MapTile, state: str, started: str, attempt: int, *, size: int = 0, error: str = "") -> dict[str, Any]:
    times = {"started": started, "finished": now()}
    return {"tile": tile.name, "state": state, **times, "bytes": size, "attempts": attempt, "error": error}


def _node(tile: MapTile) -> str:
    assert tile.window is not None
    return tile.window.node


def _is_complete(path: Path, tile: MapTile) -> bool:
    """Return whether a tile's file was completed with its sidecars, and all its blocks can be decoded."""
    assert tile.window is not None
    if not path.exists() or path.with_name(f".{path.name}{SUFFIX}").exists():  # killed before the sidecars were written
        return False
    try:
        with rasterio.open(path) as file:
            for _, window in file.block_windows(1):
                file.read(window=window)
            return bool(file.shape == tile.window.shape)
    except RasterioError:
        return False


def _has_valid(path: Path) -> bool:
    """Return whether any pixel of a file is valid; reads up to the first block with one."""
    with rasterio.open(path) as file:
        return any(
            file.read_masks(band, window=window).any() for _, window in file.block_windows(1) for band in file.indexes
        )
