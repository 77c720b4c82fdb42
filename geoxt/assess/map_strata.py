"""Strata of a map: pixel counts and ground areas by class, and the positions of drawn pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError, LabelError, OverlapError
from geoxt.grid import full_window, grid_of
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import HECTARE, cell_areas, cell_shape
from geoxt.source import View, view_of
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

BLOCK = 1024
"""Side in pixels of the blocks in which a map is read; a drawn sample does not depend on dask chunks."""
MAX_COMPARED = 16
"""Codes up to which a block is compared with each of them: 0.15 ms for a code, against 7 ms for a histogram."""
_MAX_TABLE = 2**22
"""Pairs of cell and code up to which they are counted in a table, 32 MiB, instead of adding areas pixel by pixel."""
_THREADS = 2
"""Threads that read and count blocks."""
_BATCH = 8
"""Blocks that are counted before the frequent codes are determined again."""
Codes = Callable[[Window], tuple[Array, Mask]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strata:
    """Pixels of each stratum by block."""

    codes: tuple[int, ...]
    """Codes of the strata."""
    names: tuple[str, ...]
    """Name of each stratum."""
    blocks: tuple[Window, ...]
    """Blocks of the map, row by row."""
    counts: Array
    """Valid pixels (block, stratum)."""
    areas: Floats
    """Ground area of each stratum in hectares. Shape (strata,)."""
    unlisted: Mapping[int, int] = field(default_factory=dict)
    """Valid pixels by code that the legend lacks."""

    @property
    def sizes(self) -> Array:
        """Valid pixels of each stratum."""
        return self.counts.sum(0)


def class_codes(layer: xr.DataArray, name: str) -> Codes:
    """Return a reader of the class codes and valid mask (height, width) of a window.

    Raises
    ------
    LabelError
        If the layer holds no integers.
    GridError
        If it has several bands or dates.
    """
    title = name if layer.name is None else layer.name
    if layer.dtype.kind not in "iub":
        problem = f"Cannot take {title!r} of dtype {layer.dtype} as classes."
        raise LabelError(problem, remedy="Predict with output='classes'. Or cast the layer to integers.")
    return band_reader(layer, name)


def band_reader(layer: xr.DataArray, name: str) -> Codes:
    """Return a reader of the values and valid mask (height, width) of a window.

    Raises
    ------
    GridError
        If the layer has several bands or dates.
    """
    title = name if layer.name is None else layer.name
    view: View = view_of(layer)
    if view.shape[:2] != (1, 1):
        problem = f"Cannot assess {title!r}: it has {view.shape[0]} dates and {view.shape[1]} bands."
        raise GridError(problem, remedy="Select one of each with isel().")

    def read(window: Window) -> tuple[Array, Mask]:
        values, valid = view.read(window)
        return values[0, 0], valid[0, 0]

    return read


def legend_of(layer: xr.DataArray) -> Legend | None:
    """Return the legend of a layer, or `None` if its codes have no names."""
    return (Legend.of(layer) if "flag_values" in layer.attrs else None) or None


def count_strata(layer: xr.DataArray, read: Codes, legend: Legend | None) -> Strata:
    """Count the pixels and ground areas of each class in one pass over a map, block by block.

    Parameters
    ----------
    layer
        Map of class codes.
    read
        Reader of its codes.
    legend
        Classes that are the strata; `None` for all codes of the map. Pixels of other codes belong to no stratum.

    Raises
    ------
    OverlapError
        If no pixel of the map is valid.
    """
    grid = grid_of(layer)
    blocks = tuple(blocks_of(full_window(grid)))
    counts: list[dict[int, tuple[int, float]]] = []
    totals: Counter[int] = Counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        while len(counts) < len(blocks):
            # the codes to expect depend on whole batches, so that the same sums are computed for any number of threads
            frequent = [code for code, _ in totals.most_common(MAX_COMPARED + 1)]
            batch = blocks[len(counts) : len(counts) + (_BATCH if counts else 1)]
            for of_block in pool.map(partial(_count_block, read, grid, frequent), batch):
                counts.append(of_block)
                totals.update({code: pixels for code, (pixels, _) in of_block.items()})
    present = sorted({code for of_block in counts for code in of_block})
    codes = present if legend is None else [code for code in legend.codes if code in present]
    if not codes:
        title = "the map" if layer.name is None else repr(layer.name)
        problem = f"Cannot count the classes of {title}: none of its pixels is valid and of a class."
        raise OverlapError(problem, remedy="Pass another map.")
    names = [str(code) for code in codes] if legend is None else [legend.name(code) for code in codes]
    unlisted = {code: totals[code] for code in present if code not in codes}
    table = np.array([[of_block.get(code, (0, 0.0)) for code in codes] for of_block in counts])
    return Strata(
        codes=tuple(codes),
        names=tuple(names),
        blocks=blocks,
        counts=table[..., 0].astype(np.int64),
        areas=table[..., 1].sum(0) / HECTARE,
        unlisted=unlisted,
    )


def _count_block(read: Codes, grid: GeoBox, frequent: Sequence[int], block: Window) -> dict[int, tuple[int, float]]:
    """Return pixels and square metres of a block by class code."""
    values, valid = read(block)
    if not frequent:  # of the first block
        codes, counts = np.unique(values[::16, ::16], return_counts=True)
        frequent = codes[np.argsort(-counts, kind="stable")].tolist()
    cell = cell_shape(grid, block)
    return _counts_of(values, valid, cell_areas(grid, block, cell), cell, frequent)


def blocks_of(window: Window) -> Iterator[Window]:
    """Yield the blocks of a window, row by row."""
    for row in range(window.row, window.stop[0], BLOCK):
        for col in range(window.col, window.stop[1], BLOCK):
            yield Window(row, col, min(BLOCK, window.stop[0] - row), min(BLOCK, window.stop[1] - col))


def _counts_of(
    values: Array, valid: Mask, areas: Floats, cell: tuple[int, int], frequent: Sequence[int] = ()
) -> dict[int, tuple[int, float]]:
    """Return pixels and square metres by class code.

    Parameters
    ----------
    values, valid
        Codes and valid mask of a block.
    areas
        Ground area of the pixels of each cell.
    cell
        Height and width of a cell in pixels.
    frequent
        Codes to expect, most frequent first: comparing a block with a few of them is quicker than a histogram.
    """
    # all strides of a mask that is one number, expanded to the block, are 0
    complete = bool(valid.all()) if any(valid.strides) else bool(valid[0, 0])
    remaining = valid.size if complete else int(np.count_nonzero(valid))
    result: dict[int, tuple[int, float]] = {}
    if 0 < len(frequent) <= MAX_COMPARED:
        mask: Mask = np.empty(values.shape, bool)
        for code in frequent:
            np.equal(values, code, out=mask)
            if not complete:
                mask &= valid
            pixels = _pixels_in_rows(mask) if cell == (1, values.shape[1]) else _pixels_in_cells(mask, cell)
            count = int(pixels.sum())
            if count:
                result[code] = count, float(np.where(pixels > 0, pixels * areas, 0).sum())
            remaining -= count
            if not remaining:
                return result
    return _histogram(values, None if complete else valid, areas, cell) if remaining else result


def _pixels_in_rows(mask: Mask) -> Array:
    """Return the number of pixels of a mask in each row. Shape (height, 1)."""
    # a word is 8 pixels: sums of words are vectorized, and a byte of them counts an eighth of a row, up to 128 pixels
    height, width = mask.shape
    words = width // 8 * 8
    sums = mask[:, :words].view(np.uint64).sum(1).view(np.uint8).reshape(height, 8)
    return (sums.sum(1, dtype=np.int64) + np.count_nonzero(mask[:, words:], axis=1))[:, None]


def _pixels_in_cells(mask: Mask, cell: tuple[int, int]) -> Array:
    """Return the number of pixels of a mask in each cell."""
    if cell[0] >= mask.shape[0] and cell[1] >= mask.shape[1]:
        return np.array([[np.count_nonzero(mask)]])
    # sums down columns of bytes are vectorized, and the rows of a cell fit into a byte
    height, width = mask.shape
    bands, cut = divmod(height, cell[0])
    rows, sums = mask.view(np.uint8), np.empty((-(-height // cell[0]), width), np.uint8)
    rows[: bands * cell[0]].reshape(bands, cell[0], width).sum(1, dtype=np.uint8, out=sums[:bands])
    if cut:
        rows[bands * cell[0] :].sum(0, dtype=np.uint8, out=sums[-1])
    return np.add.reduceat(sums, np.arange(0, width, cell[1]), axis=1, dtype=np.int64)


def _histogram(values: Array, valid: Mask | None, areas: Floats, cell: tuple[int, int]) -> dict[int, tuple[int, float]]:
    """Return pixels and square metres by class code, of codes that are not known before."""
    codes: Array
    index: Array
    if values.dtype.itemsize == 1:
        codes = np.arange(256, dtype=np.uint8).view(values.dtype) if values.dtype != bool else np.array([False, True])
        index = values.view(np.uint8)
    else:
        codes, index = np.unique(values, return_inverse=True)
        index = index.reshape(values.shape)
    if areas.size * len(codes) <= _MAX_TABLE:
        position = np.arange(areas.size).reshape(areas.shape) * len(codes)
        index = index + _by_pixel(position, cell, values.shape)
        table = np.bincount(index.ravel() if valid is None else index[valid], minlength=areas.size * len(codes))
        table = table.reshape(areas.size, len(codes))
        pixels, area = table.sum(0), np.where(table > 0, table * areas.reshape(-1, 1), 0).sum(0)
    else:
        weights = _by_pixel(areas, cell, values.shape)
        index, weights = (part.ravel() if valid is None else part[valid] for part in (index, weights))
        pixels, area = np.bincount(index, minlength=len(codes)), np.bincount(index, weights, minlength=len(codes))
    return {int(codes[k]): (int(pixels[k]), float(area[k])) for k in np.flatnonzero(pixels)}


def _by_pixel(numbers: Array, cell: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Return the number of the cell of each pixel."""
    return np.repeat(np.repeat(numbers, cell[1], 1)[:, : shape[1]], cell[0], 0)[: shape[0]]


def positions_of(strata: Strata, read: Codes, ranks: Sequence[Array]) -> Array:
    """Return stratum, row and column of drawn pixels.

    Parameters
    ----------
    strata
        Strata of the map.
    read
        Reader of its codes.
    ranks
        For each stratum the drawn pixels, as positions in the sequence of its valid pixels, block by block and row by
        row. Only blocks with drawn pixels are read.

    Returns
    -------
    numpy.ndarray
        Shape (n, 3), by stratum and rank.
    """
    ends = strata.counts.cumsum(0)
    block_of = [np.searchsorted(ends[:, k], rank, side="right") for k, rank in enumerate(ranks)]
    positions: dict[tuple[int, int], tuple[int, int, int]] = {}
    for block in sorted({int(b) for blocks in block_of for b in blocks}):
        window = strata.blocks[block]
        values, valid = read(window)
        for k, rank in enumerate(ranks):
            within = rank[block_of[k] == block]
            if not len(within):
                continue
            pixels = np.flatnonzero((values == strata.codes[k]) & valid)
            first = ends[block, k] - strata.counts[block, k]
            if len(pixels) != strata.counts[block, k]:
                problem = f"Cannot draw a sample: the map changed while it was read, in {window}."
                raise InputError(problem, remedy="Draw again.")
            rows, cols = np.divmod(pixels[within - first], window.width)
            for number, row, col in zip(within, rows, cols, strict=True):
                positions[k, int(number)] = (k, window.row + int(row), window.col + int(col))
    return np.array([positions[k, int(number)] for k, rank in enumerate(ranks) for number in rank]).reshape(-1, 3)
