"""A touched dask layer onto another grid: a graph with one task a block, which takes only the blocks it needs."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from typing import Any

import dask.array
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from odc.geo.geobox import GeoBox

from geoxt.pixels.resample import resample, source_window
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import copy_window, finish_resampled, valid_mask
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

CHUNK = 1024


def warp_dask(
    array: dask.array.Array,
    own: GeoBox,
    target: GeoBox,
    resampling: Resampling,
    nodata: float | None,
    chunks: Dict[str, int] | int | None = None,
) -> dask.array.Array:
    """Return a dask array (..., y, x) on another grid, lazily.

    Parameters
    ----------
    array
        The pixels; its last two dimensions are y and x.
    own, target
        Its grid, and the grid of the result.
    resampling
        "nearest" or "bilinear".
    nodata
        Value of missing pixels; NaN always is one.
    chunks
        Chunk sizes along y and x of the result.
    """
    given = {"y": chunks, "x": chunks} if isinstance(chunks, int) else dict(chunks or {})
    sizes = given.get("y", CHUNK), given.get("x", CHUNK)
    rows, cols = dask.array.core.normalize_chunks(sizes, target.shape, dtype=array.dtype)
    mapping = PixelTransform(target, own)
    fill = nodata if nodata is not None else (np.nan if array.dtype.kind == "f" else 0)
    name = "warp-" + tokenize(array.name, own, target, resampling, nodata, sizes)
    edges = [np.cumsum((0, *c)) for c in array.chunks[-2:]]
    outer = array.numblocks[:-2]
    shared = f"{name}-mapping"
    graph: dict[Any, Any] = {shared: mapping}
    for j, row in enumerate(np.cumsum((0, *rows[:-1])).tolist()):
        for i, col in enumerate(np.cumsum((0, *cols[:-1])).tolist()):
            window = Window(row, col, rows[j], cols[i])
            need = _need(mapping, window, own, resampling)
            for front in np.ndindex(*outer):
                blocks, origin = _blocks(array.name, front, need, edges)
                shape = (*(c[f] for c, f in zip(array.chunks[:-2], front, strict=True)), *window.shape)
                graph[(name, *front, j, i)] = (
                    _warp_block, blocks, origin, need, shared, window, resampling, nodata, fill, shape,
                    str(array.dtype),
                )  # fmt: skip
    return dask.array.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[array]),  # type: ignore[list-item]
        name,
        chunks=(*array.chunks[:-2], rows, cols),
        dtype=array.dtype,
        meta=array._meta,  # noqa: SLF001 (dask's own way to pass it on)
    )


def _need(mapping: PixelTransform, window: Window, own: GeoBox, resampling: Resampling) -> Window | None:
    """Return the part of the array that a window needs."""
    raster = Window(0, 0, *own.shape)
    if mapping.shift is not None:
        return window.shift(*mapping.shift).intersect(raster)
    extent = mapping.control_grid(window).extent
    return None if extent is None else source_window(mapping, extent, resampling).intersect(raster)


def _blocks(
    name: str, front: tuple[int, ...], need: Window | None, edges: list[Any]
) -> tuple[list[list[Any]], tuple[int, int]]:
    """Return the keys of the blocks that hold a window, and the row and column at which they start."""
    if need is None:
        return [], (0, 0)
    spans = []
    for edge, start, stop in zip(edges, (need.row, need.col), need.stop, strict=True):
        spans.append((int(np.searchsorted(edge, start, "right")) - 1, int(np.searchsorted(edge, stop, "left"))))
    keys = [[(name, *front, j, i) for i in range(*spans[1])] for j in range(*spans[0])]
    return keys, (int(edges[0][spans[0][0]]), int(edges[1][spans[1][0]]))


def _warp_block(
    blocks: list[list[Array]],
    origin: tuple[int, int],
    need: Window | None,
    mapping: PixelTransform,
    window: Window,
    resampling: Resampling,
    nodata: float | None,
    fill: float,
    shape: tuple[int, ...],
    dtype: str,
) -> Array:
    """Resample one block; what runs on a dask worker."""
    out = np.full(shape, fill, dtype)
    if need is None:
        return out
    pixels = np.concatenate([np.concatenate(row, axis=-1) for row in blocks], axis=-2)
    flat, flat_out = pixels.reshape(-1, *pixels.shape[-2:]), out.reshape(-1, *window.shape)

    for values, result in zip(flat, flat_out, strict=True):

        def fetch(part: Window, values: Array = values) -> tuple[Array, Mask | None]:
            piece = values[None, *part.within(Window(*origin, *values.shape))]
            return piece, valid_mask(piece, nodata)

        if mapping.shift is not None:
            moved = copy_window(fetch, mapping, window, out.dtype, fill)
        else:
            found = resample(fetch, mapping, window, resampling)
            moved = None if found is None else finish_resampled(*found, out.dtype, fill)
        if moved is not None:
            result[...] = moved[0][0]
    return out
