"""Manifest of a tiled map: one row per map tile, and the map to which it belongs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import shapely
from dask.base import tokenize

from geoxt._version import __version__
from geoxt.errors import InputError, OutputError, ReadError, optional_import
from geoxt.storage import atomic_write
from geoxt.tiling.map_tile import MapTile
from geoxt.tiling.tile_sources import MapSources
from geoxt.tiling.tile_states import FIELDS, STATES, manifest_lock, read_states
from geoxt.types import SomePath
from geoxt.windows import Window

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

VERSION = 1
"""Version of the manifest's format."""
MANIFEST, MAP = "manifest.parquet", "map.json"
"""Files of the manifest, and of the map to which it belongs."""
TILES = "tiles"
"""Folder of the tile files."""
_HASHES = ("map", "model", "tiles")
"""Hashes of a map and its tiling, as `map.json` names them."""
State = Literal["pending", "done", "empty", "failed"]
"""State of a map tile: not finished, written, without valid pixels, or failed in all attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapIdentity:
    """Hashes of a map and of its tiling, by which a job recognizes its manifest."""

    map: str
    """Hash of inputs and options."""
    model: str | None
    """Fingerprint of the model."""
    tiles: str
    """Hash of names and windows."""
    version: int = VERSION
    """Version of the manifest's format."""

    @classmethod
    def of(cls, sources: Mapping[str, MapSources], tiles: Sequence[MapTile]) -> MapIdentity:
        """Return the identity of a map and its tiles."""
        models = sorted({source.model for source in sources.values() if source.model})
        return cls(
            map=tokenize(sorted((node, source.token) for node, source in sources.items())),
            model=models[0] if models else None,
            tiles=tokenize([(tile.name, tile.window and astuple(tile.window)) for tile in tiles]),
        )


def files_missing_before(folder: Path) -> list[str]:
    """Return the files of the layer that were missing when the manifest of a folder was written."""
    try:
        return list(json.loads((folder / MAP).read_bytes())["missing"])
    except (OSError, ValueError, KeyError, TypeError):  # no manifest, or one that `open_manifest` refuses
        return []


def open_manifest(
    folder: Path,
    tiles: Sequence[MapTile],
    sources: Mapping[str, MapSources],
    crs: Mapping[str, str],
    *,
    former: Mapping[str, MapSources] | None = None,
) -> GeoDataFrame:
    """Create the manifest of a folder, or read it if it is of the same map and tiles.

    `former` are the sources as if the files that were missing at the start were missing still; tiles that failed by
    them are then computed.

    Raises
    ------
    InputError
        If the manifest is of another version, layer, model or tiling, or files of the layer were replaced.
    OutputError
        If the folder holds tiles without a manifest.
    """
    identity = MapIdentity.of(sources, tiles)
    with manifest_lock(folder):
        if (folder / MAP).exists():
            if former is None or not _is_same(folder, MapIdentity.of(former, tiles)):
                _require_same(folder, identity)
            else:
                _write_identity(folder, identity, sources)
            return _read(folder)
        if any((folder / TILES).glob("*.tif")):
            raise OutputError(
                f"Cannot write map tiles to {str(folder)!r}: it has files in {TILES!r}, and no manifest.",
                remedy="Pass another {folder}.",
                argument="folder",
            )
        table = _table(tiles, sources, crs)
        write_table(folder, table)
        _write_identity(folder, identity, sources)
        return table


def _write_identity(folder: Path, identity: MapIdentity, sources: Mapping[str, MapSources]) -> None:
    """Write the hashes of a map, and the files that are missing now."""
    fields = {name: getattr(identity, name) for name in ("version", *_HASHES)}
    missing = sorted({href for source in sources.values() for href in source.missing})
    with atomic_write(folder / MAP) as path:
        path.write_text(json.dumps({**fields, "geoxt": __version__, "missing": missing}, indent=1), encoding="utf-8")


def _is_same(folder: Path, identity: MapIdentity) -> bool:
    """Return whether the manifest of a folder is of a map and tiling."""
    stored = json.loads((folder / MAP).read_bytes())
    return all(stored.get(name) == getattr(identity, name) for name in ("version", *_HASHES))


def write_table(folder: Path, table: GeoDataFrame) -> None:
    """Write a manifest as GeoParquet."""
    with atomic_write(folder / MANIFEST) as path:
        table.to_parquet(path, index=False)


def _table(tiles: Sequence[MapTile], sources: Mapping[str, MapSources], crs: Mapping[str, str]) -> GeoDataFrame:
    """Return the manifest before any tile is written; tiles that no scene intersects are empty."""
    with optional_import("geopandas", "vector", "write a manifest"):
        import geopandas
    scenes: dict[str, list[int]] = {}
    for node, source in sources.items():
        named = {tile.name: tile.window for tile in tiles if tile.window is not None and tile.window.node == node}
        scenes |= zip(named, source.scenes_of(list(named.values())), strict=True)
    rows = []
    for tile in tiles:
        window = tile.window
        ids = () if window is None else sources[window.node].ids
        indices = scenes.get(tile.name, [])
        rows.append({
            "tile": tile.name,
            "node": "" if window is None else window.node,
            "crs": "" if window is None else crs[window.node],
            "row": 0 if window is None else window.row,
            "col": 0 if window is None else window.col,
            "height": 0 if window is None else window.height,
            "width": 0 if window is None else window.width,
            "inputs": list(dict.fromkeys(ids[i] for i in indices)) if ids else [],
            "state": "pending" if indices else "empty",
            "started": "",
            "finished": "",
            "bytes": 0,
            "attempts": 0,
            "error": "",
        })  # fmt: skip
    return geopandas.GeoDataFrame(rows, geometry=[tile.geometry for tile in tiles], crs="OGC:CRS84")


def _require_same(folder: Path, identity: MapIdentity) -> None:
    """Raise if the manifest of a folder is of another map."""
    try:
        stored = json.loads((folder / MAP).read_bytes())
        version = stored["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"Cannot read {str(folder / MAP)!r}: {error}.", remedy="Pass another {folder}.") from error
    problem = f"Cannot resume the map tiles of {str(folder)!r}: the manifest"
    if version != identity.version:
        raise InputError(
            f"{problem} has version {version}, and this geoxt reads version {identity.version}.",
            remedy=f"Use geoxt {stored.get('geoxt', 'of the same version')}. Or pass another {{folder}}.",
            value=version,
            argument="folder",
        )
    differing = {name for name in _HASHES if stored.get(name) != getattr(identity, name)}
    if not differing:
        return
    subject = (
        "another model" if "model" in differing
        else "another layer, of other versions of its files, or of other options" if "map" in differing
        else "another tiling"
    )  # fmt: skip
    raise InputError(
        f"{problem} is of {subject}.",
        remedy="Pass the arguments of the first call. Or pass another {folder}.",
        argument="folder",
    )


def _read(folder: Path) -> GeoDataFrame:
    with optional_import("geopandas", "vector", "read a manifest"):
        import geopandas
    try:
        return geopandas.read_parquet(folder / MANIFEST)
    except Exception as error:
        raise ReadError(
            f"Cannot read the manifest {str(folder / MANIFEST)!r}: {error}.", remedy="Pass another {folder}."
        ) from error


def read_manifest(folder: SomePath) -> GeoDataFrame:
    """Return the manifest of a tiled map, with the present state of each map tile.

    Parameters
    ----------
    folder
        Folder of `geoxt.to_tiles`, whose jobs may be running.

    Returns
    -------
    geopandas.GeoDataFrame
        A row per map tile, geometry in degrees (OGC:CRS84):

        - `tile`: name of the tile, `tiles/NAME.tif`
        - `node`, `crs`: node of a tree, "" of a single layer; CRS of the map
        - `row`, `col`, `height`, `width`: window on the grid of the map, in pixels
        - `inputs`: identifiers of the scenes that the tile intersects
        - `state`: "pending", "done", "empty" (no valid pixel) or "failed"
        - `started`, `finished`, `bytes`, `attempts`, `error`: of the last job that processed the tile; times in UTC,
          size of the file in bytes

    Raises
    ------
    ReadError
        If the folder has no manifest, or it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import geoxt
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.ones((40, 50)))
    >>> folder = tempfile.mkdtemp()
    >>> _ = geoxt.to_tiles(layer, folder, tiles=32)
    >>> read_manifest(folder)[["tile", "height", "width", "state"]].values.tolist()
    [['r0c0', 32, 32, 'done'], ['r0c1', 32, 18, 'done'], ['r1c0', 8, 32, 'done'], ['r1c1', 8, 18, 'done']]
    """
    folder = Path(folder)
    if not (folder / MAP).exists():
        raise ReadError(f"Cannot read the manifest of {str(folder)!r}: it has no file {MAP!r}.")
    return with_states(folder, _read(folder))


def with_states(folder: Path, table: GeoDataFrame) -> GeoDataFrame:
    """Return a manifest with the states of the state files; a finished tile without its complete file is pending."""
    states = read_states(folder)
    sizes = {
        entry.name.removesuffix(".tif"): entry.stat().st_size
        for entry in os.scandir(folder / TILES)
        if entry.name.endswith(".tif")
    }
    table = table.copy()
    columns = {name: table[name].tolist() for name in FIELDS}
    for index, name in enumerate(table["tile"]):
        for column, values in columns.items():
            if name in states:
                values[index] = states[name][column]
        if columns["state"][index] == "done" and sizes.get(name) != columns["bytes"][index]:
            columns["state"][index] = "pending"
    for column, values in columns.items():
        table[column] = values
    return table


def tiles_of(table: GeoDataFrame) -> list[MapTile]:
    """Return the map tiles of a manifest."""
    columns = [table[name].tolist() for name in ("tile", "node", "row", "col", "height", "width")]
    return [
        MapTile(name=name, window=Window(row, col, height, width, node=node) if height else None, geometry=geometry)
        for name, node, row, col, height, width, geometry in zip(*columns, table.geometry, strict=True)
    ]


def prepare_folder(folder: Path) -> None:
    """Create the folders of a tiled map.

    Raises
    ------
    OutputError
        If they cannot be created.
    """
    try:
        for name in (STATES, TILES):
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write map tiles to {str(folder)!r}: {error.strerror or error}.",
            remedy="Pass {folder}, a writable folder.",
            argument="folder",
        ) from error


def bounds_of(table: GeoDataFrame) -> list[float]:
    """Return west, south, east and north of map tiles in degrees."""
    return [float(value) for value in np.round(shapely.total_bounds(np.asarray(table.geometry.values)), 9)]
