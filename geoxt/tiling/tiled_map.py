"""Write a layer as map tiles, by any number of jobs that can be killed and resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from geoxt.crs import crs_text
from geoxt.errors import GeoxtError, InputError, OutputError, optional_import
from geoxt.grid import grid_of
from geoxt.progress import progress_bar
from geoxt.source import as_layer, resolve_attrs
from geoxt.source.scene_assets import assume_missing
from geoxt.tiling.manifest import (
    TILES,
    MapIdentity,
    bounds_of,
    files_missing_before,
    open_manifest,
    prepare_folder,
    read_manifest,
    tiles_of,
    with_states,
    write_table,
)
from geoxt.tiling.map_tile import SomeTiles, make_tiles
from geoxt.tiling.mosaic_vrt import write_mosaic
from geoxt.tiling.stac_items import write_collection, write_model
from geoxt.tiling.tile_executors import run_tiles
from geoxt.tiling.tile_job import TileJob
from geoxt.tiling.tile_sources import MapSources, map_sources
from geoxt.tiling.tile_states import locked_part, manifest_lock, parse_part
from geoxt.trees import SomeData, layers_of
from geoxt.types import SomeCRS, SomePath

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

SIDE = 10_000
"""Pixels: default side of map tiles, 100 km at 10 m."""
_LISTED = 5
"""Failed tiles named by an error."""


def to_tiles(
    layer: SomeData,
    folder: SomePath,
    *,
    tiles: SomeTiles = SIDE,
    tile_crs: SomeCRS | None = None,
    part: str | tuple[int, int] | None = None,
    num_workers: int = 0,
    retries: int = 2,
    model: SomePath | None = None,
    progress: bool | None = None,
) -> GeoDataFrame:
    """Write a layer, such as the map of a country, as one COG per map tile, with a manifest; resumable.

    Map tiles are windows of the lazy layer, so that their pixels equal those of one file of the whole layer. Each tile
    is computed by one process: this one, `num_workers` others, or the workers of the dask cluster that is the default
    scheduler. Jobs on several machines each write one `part`.

    Parameters
    ----------
    layer
        A map of `geoxt.predict`, or any layer with the dimensions (y, x) or (band, y, x); or a tree with one layer per
        node, such as of `open_stac(crs="native")`.
    folder
        Output folder, see Notes. A folder with finished tiles of the same layer is resumed.
    tiles
        Side of square map tiles in pixels, or (height, width), from the upper left corner of the layer. Or "MGRS": its
        100 km squares, such as "33UUU", in the layer's CRS. Or polygons, as a GeoDataFrame or the path of a vector
        file: each tile is the window of all pixels in a polygon's bounds, named by the column "tile", "name" or "id".
    tile_crs
        CRS in whose units `tiles` is the side of squares, such as 100,000 m in "EPSG:3035". Their corners are multiples
        of the side.
    part
        "i/n", or (i, n): write only every n-th tile, from the i-th on; i is 1 to n.
    num_workers
        Processes of this machine; 0 for this process. Scripts need `if __name__ == "__main__":`.
    retries
        Further attempts at a tile after an error or after its process was killed, after all other tiles.
    model
        Path of the model's file, to which the STAC item of the model refers.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.

    Returns
    -------
    geopandas.GeoDataFrame
        The manifest, as `geoxt.tiling.read_manifest` returns it.

    Raises
    ------
    InputError
        If the tiling or the part is invalid, pixels of the layer are in none of its squares, the layer has other
        dimensions, or the manifest in the folder is of another layer, model, tiling or version, or of files of the
        layer that were replaced since.
    OutputError
        If tiles of this part failed in all attempts, after all others are written; the same call tries them again. If a
        file cannot be written, or another job writes the same part.

    Notes
    -----
    Files of the folder:

    - `manifest.parquet`: GeoParquet, a row per tile. It is written by the first job, and at the end of each job;
      `read_manifest` adds the states of running jobs.
    - `tiles/NAME.tif`, `tiles/NAME.json`: a COG and its STAC item. Tiles without a valid pixel have no file.
    - `map.vrt`: GDAL virtual raster over all tiles; of a tree, one per node: `map-NODE.vrt`.
    - `collection.json`, `model.json`: STAC collection, and the model's item (MLM) if `model` is passed.
    - `states/NAME.json`: state of each tile. Jobs share no other file, so that they need no server.

    Neighbouring tiles of a prediction have no seams: the positions of inference tiles depend on the grid of the layer
    only. Pass the same layer to all jobs, not the part of it that a job writes.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.ones((40, 50)))
    >>> to_tiles(layer, tempfile.mkdtemp(), tiles=32)["state"].tolist()
    ['done', 'done', 'done', 'done']
    """
    with optional_import("geopandas", "vector", "write map tiles"):
        import geopandas  # noqa: F401 (raises before any work)
    folder, numbers = Path(folder), parse_part(part)
    if num_workers < 0 or retries < 0:
        name, value = ("num_workers", num_workers) if num_workers < 0 else ("retries", retries)
        raise InputError(
            f"Cannot use {name}={value}.", remedy=f"Pass {{{name}}} of 0 or more.", value=value, argument=name
        )
    maps = maps_of(layer)
    sources = {node: map_sources(part_of_tree) for node, part_of_tree in maps.items()}
    grids = {node: grid_of(part_of_tree) for node, part_of_tree in maps.items()}
    map_tiles = make_tiles(grids, tiles, tile_crs)
    prepare_folder(folder)
    with _as_output_error(folder), locked_part(folder, numbers):
        crs = {node: crs_text(grid.crs) for node, grid in grids.items()}
        former = None
        if missing := files_missing_before(folder):
            with assume_missing(missing):
                former = {node: map_sources(part_of_tree) for node, part_of_tree in maps.items()}
        table = open_manifest(folder, map_tiles, sources, crs, former=former)
        card = next((source.card for source in sources.values() if source.card is not None), None)
        if card is not None and model is not None:
            write_model(folder, card, model)
        job = TileJob(
            folder=folder.absolute(),
            maps=maps,
            token=MapIdentity.of(sources, map_tiles).map,
            datetimes=_datetimes(sources),
            has_model=card is not None and model is not None,
        )
        names = [table["tile"].iloc[i] for i in _of_part(table, numbers)]
        present = with_states(folder, table).set_index("tile")["state"]
        finished = {name for name in names if present[name] in {"done", "empty"}}
        tiles_by_name = {tile.name: tile for tile in tiles_of(table)}
        waiting = [tiles_by_name[name] for name in names if name not in finished]
        states: dict[str, dict[str, Any]] = {}
        with progress_bar(len(names), folder.name, unit="tile", progress=progress, initial=len(finished)) as bar:
            for state in run_tiles(job, waiting, retries=retries, num_workers=num_workers):
                states[state["tile"]] = state
                bar.update()
            publish(folder, maps, _datetimes(sources))
    _raise_failures(folder, states, len(names))
    return read_manifest(folder)


def maps_of(layer: SomeData) -> dict[str, xr.DataArray]:
    """Return the layer of each node, "" for a single layer, with the dimensions (y, x) or (band, y, x).

    Raises
    ------
    InputError
        If a layer has other dimensions.
    """
    maps = {"": as_layer(layer)} if isinstance(layer, (xr.DataArray, xr.Dataset)) else layers_of(layer)
    for node, part_of_tree in maps.items():
        if set(part_of_tree.dims) not in ({"y", "x"}, {"band", "y", "x"}):
            subject = f"the layer of node {node!r}" if node else "a layer"
            raise InputError(
                f"Cannot write {subject} with the dimensions {tuple(map(str, part_of_tree.dims))} as map tiles.",
                remedy="Select with isel() down to (band, y, x).",
            )
    return {node: resolve_attrs(part_of_tree) for node, part_of_tree in maps.items()}


def publish(folder: Path, maps: Mapping[str, xr.DataArray], datetimes: tuple[str, str] | None) -> None:
    """Write manifest, virtual rasters and STAC collection from the states of all jobs.

    One job at a time, so that the last of concurrent jobs writes the states of all.
    """
    with manifest_lock(folder):
        table = read_manifest(folder)
        write_table(folder, table)
        done = table[table["state"] == "done"]
        by_node: dict[str, list[Any]] = {}
        for tile in tiles_of(done):
            assert tile.window is not None
            by_node.setdefault(tile.window.node, []).append((tile, folder / TILES / f"{tile.name}.tif"))
        for node, files in by_node.items():
            write_mosaic(folder / (f"map-{node}.vrt" if node else "map.vrt"), maps[node], files)
        if len(done):
            title = f"Map tiles of {folder.absolute().name}"
            write_collection(folder, done["tile"].tolist(), bounds_of(done), datetimes, title=title)


@contextmanager
def _as_output_error(folder: Path) -> Iterator[None]:
    """Raise errors of the file system, such as of a full disk, as `OutputError`."""
    try:
        yield
    except GeoxtError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write map tiles to {str(folder)!r}: {error.strerror or error}.",
            remedy="Make space there: the same call resumes.",
        ) from error


def _of_part(table: GeoDataFrame, part: tuple[int, int]) -> list[int]:
    """Return the rows of a part: every n-th tile with pixels, so that parts have equal numbers of these."""
    has_pixels = [i for i, size in enumerate(table["height"]) if size]
    return has_pixels[part[0] - 1 :: part[1]]


def _datetimes(sources: Mapping[str, MapSources]) -> tuple[str, str] | None:
    ranges = [source.datetimes for source in sources.values() if source.datetimes is not None]
    return (min(start for start, _ in ranges), max(end for _, end in ranges)) if ranges else None


def _raise_failures(folder: Path, states: Mapping[str, Mapping[str, Any]], count: int) -> None:
    """Raise if map tiles failed."""
    failed = [state for state in states.values() if state["state"] == "failed"]
    if not failed:
        return
    texts = Counter(str(state["error"]) for state in failed).most_common(1)[0][0].rstrip(".")
    names = ", ".join(repr(state["tile"]) for state in failed[:_LISTED])
    more = f" and {len(failed) - _LISTED} more" if len(failed) > _LISTED else ""
    raise OutputError(
        f"Cannot write {len(failed)} of {count} map tiles to {str(folder)!r}: {names}{more} ({texts}).",
        remedy="The same call tries them again; geoxt.tiling.read_manifest lists all errors.",
        value=[state["tile"] for state in failed],
    )
