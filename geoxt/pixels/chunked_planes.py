"""Windows of arrays that are stored in chunks: a chunk is read once for all windows and threads that need it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import Any, Protocol

import numpy as np

from geoxt.pixels.chunk_cache import Decode, chunk_cache
from geoxt.types import Array
from geoxt.windows import Window

THREADS = 16
"""Maximum number of selections of a remote array that a read requests concurrently."""
Coords = tuple[int, ...]
"""Position of a chunk along each dimension."""


class ChunkedArray(Protocol):
    """An array that is read chunk by chunk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of its dimensions."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored data type."""

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sizes of its chunks."""

    @property
    def axes(self) -> tuple[int, int]:
        """Positions of the y and x dimensions."""

    @property
    def concurrent(self) -> bool:
        """Whether separate chunks are read by several threads."""

    def get(self, bounds: tuple[slice, ...]) -> Any:
        """Return part of the array."""

    def chunk_key(self, coords: Coords) -> Hashable:
        """Return an identifier of a chunk's content in this process, without its position."""


def read_planes(array: ChunkedArray, planes: Sequence[int], window: Window, *, load: Decode | None = None) -> Array:
    """Return planes of a window, (plane, height, width), in the byte order of the machine.

    Parameters
    ----------
    array
        The array.
    planes
        Numbers of planes, the first is 1: index along the dimensions beside y and x, in C order.
    window
        Window inside the array.
    load
        Returns chunks that are not in memory, by their keys and positions; by default they are read from the array.
    """
    others = tuple(a for a in range(len(array.shape)) if a not in array.axes)
    index = np.unravel_index([plane - 1 for plane in planes], [array.shape[a] for a in others]) if others else ()
    sizes = [array.chunks[a] for a in others]
    positions: dict[Coords, list[tuple[int, Coords]]] = {}
    for position in range(len(planes)):
        steps = [int(i[position]) for i in index]
        chunk = tuple(s // n for s, n in zip(steps, sizes, strict=True))
        within = tuple(s % n for s, n in zip(steps, sizes, strict=True))
        positions.setdefault(chunk, []).append((position, within))
    (high, wide), (bottom, right) = (array.chunks[a] for a in array.axes), window.stop
    tiles = [
        (row, col)
        for row in range(window.row // high, (bottom - 1) // high + 1)
        for col in range(window.col // wide, (right - 1) // wide + 1)
    ]
    order = np.argsort((*others, *array.axes))
    coords = [tuple(int((*chunk, *tile)[i]) for i in order) for chunk in positions for tile in tiles]
    keys = [(array.chunk_key(c), c) for c in coords]
    chunks = iter(chunk_cache().load(keys, load or partial(_load, array, others)))
    out = np.empty((len(planes), *window.shape), array.dtype.newbyteorder("="))
    for members in positions.values():
        for row, col in tiles:
            pixels = next(chunks)
            tile = Window(row * high, col * wide, *pixels.shape[-2:])
            shared = tile.intersect(window)
            assert shared is not None
            source, target = shared.within(tile), shared.within(window)
            for position, within in members:
                out[position][target] = pixels[within][source]
    return out


def _load(array: ChunkedArray, others: tuple[int, ...], keys: list[Hashable]) -> Mapping[Hashable, Array]:
    by_coords: dict[Coords, Any] = {key[1]: key for key in keys}  # type: ignore[index]
    return {by_coords[coords]: pixels for coords, pixels in read_chunks(array, others, list(by_coords)).items()}


def read_chunks(array: ChunkedArray, others: tuple[int, ...], chunks: list[Coords]) -> dict[Coords, Array]:
    """Read chunks at positions, adjacent ones in one call; y and x are their last dimensions.

    `others` are the dimensions beside y and x.
    """
    boxes = _boxes(chunks, others)
    if array.concurrent and len(boxes) > 1:
        with ThreadPoolExecutor(min(len(boxes), THREADS)) as pool:
            parts = list(pool.map(lambda box: _read_box(array, *box), boxes))
    else:
        parts = [_read_box(array, *box) for box in boxes]
    return {coords: pixels for part in parts for coords, pixels in part.items()}


def _read_box(array: ChunkedArray, first: Coords, last: Coords) -> dict[Coords, Array]:
    """Return the chunks of a box with y and x as their last dimensions."""
    ends = zip(first, last, array.chunks, array.shape, strict=True)
    bounds = tuple(slice(a * n, min((b + 1) * n, size)) for a, b, n, size in ends)
    values = np.asarray(array.get(bounds))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    decoded = {}
    for offset in np.ndindex(*(b - a + 1 for a, b in zip(first, last, strict=True))):
        part = values[tuple(slice(o * n, (o + 1) * n) for o, n in zip(offset, array.chunks, strict=True))]
        part = np.moveaxis(part, array.axes, (-2, -1))
        coords = tuple(a + o for a, o in zip(first, offset, strict=True))
        # A view would keep the whole box in memory.
        decoded[coords] = part if prod(part.shape) == prod(values.shape) else part.copy()
    return decoded


def _boxes(coords: list[tuple[int, ...]], others: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return first and last positions of boxes that hold some chunks and no others."""
    grouped: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for chunk in coords:
        grouped.setdefault(tuple(chunk[a] for a in others), []).append(chunk)
    boxes = []
    for group in [coords] if _is_box(coords) else grouped.values():
        if _is_box(group):
            boxes.append((tuple(np.min(group, axis=0).tolist()), tuple(np.max(group, axis=0).tolist())))
        else:
            boxes += [(chunk, chunk) for chunk in group]
    return boxes


def _is_box(coords: list[tuple[int, ...]]) -> bool:
    return prod((np.ptp(coords, axis=0) + 1).tolist()) == len(coords)
