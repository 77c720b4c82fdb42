"""Estimate the tiles, input, output and time of a tiled map before it is computed."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.tiling.map_tile import SomeTiles, make_tiles
from geoxt.tiling.tile_sources import map_sources
from geoxt.tiling.tiled_map import SIDE, maps_of
from geoxt.trees import SomeData
from geoxt.types import SomeCRS
from geoxt.windows import Window
from geoxt.writers.blocks import in_this_process

_SAMPLE_SIDE = 1024
"""Pixels: maximum side of the window of a tile by which the rate is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileEstimate:
    """Size and duration of a tiled map."""

    tiles: int
    """Map tiles that scenes intersect."""
    empty: int
    """Map tiles without scenes, which are not computed."""
    scenes: int
    """Scenes that the tiles intersect; 0 if the layer has none."""
    pixels: int
    """Pixels of the tiles."""
    read_bytes: int
    """Bytes to read, uncompressed: the pixels of every scene in every tile."""
    map_bytes: int
    """Bytes of the map, uncompressed, without overviews."""
    rate: float
    """Pixels of the map per second and process."""

    @property
    def hours(self) -> float:
        """Hours of one process."""
        return self.pixels / self.rate / 3600

    def __str__(self) -> str:
        """Return a table of the estimate."""
        rows = (
            ("map tiles", f"{self.tiles:,} ({self.empty:,} more are empty)"),
            ("scenes", f"{self.scenes:,}"),
            ("pixels", f"{self.pixels:,}"),
            ("to read", f"{self.read_bytes / 1e9:,.3f} GB (uncompressed)"),
            ("map", f"{self.map_bytes / 1e9:,.3f} GB (uncompressed)"),
            ("rate", f"{self.rate / 1e6:,.3f} million pixels per second and process"),
            ("duration", f"{self.hours:,.2f} hours of one process"),
        )
        return "\n".join(f"{name:<12}{value}" for name, value in rows)


def estimate_tiles(
    layer: SomeData,
    *,
    tiles: SomeTiles = SIDE,
    tile_crs: SomeCRS | None = None,
    rate: float | None = None,
    samples: int = 3,
) -> TileEstimate:
    """Return the number of tiles and scenes, the bytes and the hours of a map before it is written by `to_tiles`.

    Parameters
    ----------
    layer, tiles, tile_crs
        As for `geoxt.to_tiles`.
    rate
        Pixels of the map per second and process. With it, no pixel is read. By default it is measured on this machine.
    samples
        Map tiles by which the rate is measured, spread over the map; up to 1024 x 1024 pixels of each are computed.

    Returns
    -------
    TileEstimate
        Printed as a table.

    Raises
    ------
    InputError
        If the tiling, the rate or the number of samples is invalid.

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> layer = make_layer(np.ones((40, 50)))
    >>> estimate = estimate_tiles(layer, tiles=32, rate=1000)
    >>> estimate.tiles, estimate.pixels, estimate.map_bytes
    (4, 2000, 16000)
    """
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise InputError(f"Cannot use a rate of {rate!r}.", remedy="Pass {rate} above 0.", value=rate, argument="rate")
    if samples < 1:
        raise InputError(
            f"Cannot measure the rate by {samples!r} map tiles.",
            remedy="Pass {samples} of 1 or more. Or pass {rate}.",
            value=samples,
            argument="samples",
        )
    maps = maps_of(layer)
    map_tiles = make_tiles({node: grid_of(part) for node, part in maps.items()}, tiles, tile_crs)
    windows: list[Window] = []
    scenes = read_bytes = map_bytes = 0
    for node, part in maps.items():
        sources = map_sources(part)
        of_node = [tile.window for tile in map_tiles if tile.window is not None and tile.window.node == node]
        hits = sources.scenes_of(of_node)
        read_bytes += round(float(sources.pixels_of(of_node, hits).sum()) * sources.pixel_bytes)
        scenes += len({i for indices in hits for i in indices}) if sources.ids else 0
        computed = [window for window, indices in zip(of_node, hits, strict=True) if indices]
        pixel_bytes = part.sizes.get("band", 1) * part.dtype.itemsize
        map_bytes += sum(window.height * window.width for window in computed) * pixel_bytes
        windows += computed
    return TileEstimate(
        tiles=len(windows),
        empty=len(map_tiles) - len(windows),
        scenes=scenes,
        pixels=sum(window.height * window.width for window in windows),
        read_bytes=read_bytes,
        map_bytes=map_bytes,
        rate=measure_rate(maps, windows, samples) if rate is None else rate,
    )


def measure_rate(maps: Mapping[str, xr.DataArray], windows: Sequence[Window], samples: int) -> float:
    """Return the pixels per second at which the centres of some map tiles are computed; infinite without tiles."""
    if not windows:
        return math.inf
    indices = np.unique(np.linspace(0, len(windows) - 1, min(samples, len(windows))).round().astype(int))
    centers = [_center(windows[i]) for i in indices]
    with in_this_process():
        # Opens files, loads the model to its device and compiles it.
        first = centers[0]
        maps[first.node].isel(y=slice(first.row, first.row + 1), x=slice(first.col, first.col + 1)).compute(
            scheduler="threads"
        )
        start, pixels = time.perf_counter(), 0
        for window in centers:
            rows, cols = slice(window.row, window.stop[0]), slice(window.col, window.stop[1])
            maps[window.node].isel(y=rows, x=cols).compute(scheduler="threads")
            pixels += window.height * window.width
    return pixels / max(time.perf_counter() - start, 1e-9)


def _center(window: Window) -> Window:
    """Return the central part of a window."""
    height, width = min(window.height, _SAMPLE_SIDE), min(window.width, _SAMPLE_SIDE)
    row, col = window.row + (window.height - height) // 2, window.col + (window.width - width) // 2
    return Window(row, col, height, width, node=window.node)
