"""Lazy resampling of dask arrays: one task per output block, which depends only on the input blocks that it needs."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from typing import Any

import dask.array
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from odc.geo.geobox import GeoBox

from geoxt.pixels.resample import needed_window, resample
from geoxt.pixels.transform import PixelTransform
from geoxt.source.array_source import copy_window, finish_resampled, valid_mask
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

CHUNK = 1024


def warp_dask(
    array: dask.array.Array,
    source: GeoBox,
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
    source, target
        Grids of the array and of the result.
    resampling
        Resampling method.
    nodata
        Nodata value; NaN is always invalid.
    chunks
        Chunk sizes along y and x of the result.
    """
    by_dim = {"y": chunks, "x": chunks} if isinstance(chunks, int) else dict(chunks or {})
    sizes = by_dim.get("y", CHUNK), by_dim.get("x", CHUNK)
    rows, cols = dask.array.core.normalize_chunks(sizes, target.shape, dtype=array.dtype)
    transform = PixelTransform(target, source)
    fill = nodata if nodata is not None else (np.nan if array.dtype.kind == "f" else 0)
    name = "warp-" + tokenize(array.name, source, target, resampling, nodata, sizes)
    edges = [np.cumsum((0, *c)) for c in array.chunks[-2:]]
    outer = array.numblocks[:-2]
    shared = f"{name}-transform"  # one key, so that tasks have constant size
    graph: dict[Any, Any] = {shared: transform}
    for j, row in enumerate(np.cumsum((0, *rows[:-1])).tolist()):
        for i, col in enumerate(np.cumsum((0, *cols[:-1])).tolist()):
            window = Window(row, col, rows[j], cols[i])
            needed = needed_window(transform, window, resampling)
            for front in np.ndindex(*outer):
                blocks, origin = _blocks(array.name, front, needed, edges)
                shape = (*(c[f] for c, f in zip(array.chunks[:-2], front, strict=True)), *window.shape)
                graph[(name, *front, j, i)] = (
                    _warp_block, blocks, origin, needed, shared, window, resampling, nodata, fill, shape,
                    str(array.dtype),
                )  # fmt: skip
    return dask.array.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=[array]),  # type: ignore[list-item]
        name,
        chunks=(*array.chunks[:-2], rows, cols),
        dtype=array.dtype,
        meta=array._meta,  # noqa: SLF001 (dask's own way to pass it on)
    )


def _blocks(
    name: str, front: tuple[int, ...], needed: Window | None, edges: list[Any]
) -> tuple[list[list[Any]], tuple[int, int]]:
    """Return the keys of the blocks that hold a window, and their first row and column."""
    if needed is None:
        return [], (0, 0)
    spans = []
    for edge, start, stop in zip(edges, (needed.row, needed.col), needed.stop, strict=True):
        spans.append((int(np.searchsorted(edge, start, "right")) - 1, int(np.searchsorted(edge, stop, "left"))))
    keys = [[(name, *front, j, i) for i in range(*spans[1])] for j in range(*spans[0])]
    return keys, (int(edges[0][spans[0][0]]), int(edges[1][spans[1][0]]))


def _warp_block(
    blocks: list[list[Array]],
    origin: tuple[int, int],
    needed: Window | None,
    transform: PixelTransform,
    window: Window,
    resampling: Resampling,
    nodata: float | None,
    fill: float,
    shape: tuple[int, ...],
    dtype: str,
) -> Array:
    """Resample one output block (a dask task)."""
    out = np.full(shape, fill, dtype)
    if needed is None:
        return out
    pixels = np.concatenate([np.concatenate(row, axis=-1) for row in blocks], axis=-2)
    flat, flat_out = pixels.reshape(-1, *pixels.shape[-2:]), out.reshape(-1, *window.shape)

    for values, result in zip(flat, flat_out, strict=True):

        def fetch(inner: Window, values: Array = values) -> tuple[Array, Mask | None]:
            pixels = values[None, *inner.within(Window(*origin, *values.shape))]
            return pixels, valid_mask(pixels, nodata)

        if transform.shift is not None:
            finished = copy_window(fetch, transform, window, out.dtype, fill)
        else:
            resampled = resample(fetch, transform, window, resampling)
            finished = None if resampled is None else finish_resampled(*resampled, out.dtype, fill, nodata)
        if finished is not None:
            result[...] = finished[0][0]
    return out
