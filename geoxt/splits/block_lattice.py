"""Blocks shared by all grids of a tree: of each grid, the pixels that lie entirely inside the blocks of a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, transformer
from geoxt.errors import CRSError
from geoxt.footprints import outline, to_pixels
from geoxt.grid import full_window, grid_of, pix2wld, pixel_offset
from geoxt.regions.geodesic_area import pixel_area
from geoxt.regions.rasterize import rectangles
from geoxt.regions.region import GridRegion, Region, covered_fractions
from geoxt.regions.valid_footprint import footprint_of, has_sparse_labels
from geoxt.windows import Window

HALF_DIAGONAL = 0.7071 + 0.03
"""Pixels: distance from a pixel's centre to its corner, and the deviation of reprojected edges from straight lines."""
_SEGMENTS_PER_SIDE = 16
"""Minimum number of segments of a block's side before it is reprojected."""
_MIN_COVERED = 0.05
"""Fraction of a block inside the footprints above which it is used; 0 with sparse labels, so that none is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLattice:
    """Blocks on a regular lattice, and the grids of the nodes over it."""

    base: GeoBox
    """The first node's grid; blocks are counted in its pixels and may lie beyond it."""
    grids: Mapping[str, GeoBox]
    """The grid of each node."""
    blocks: tuple[Window, ...]
    """Blocks in pixels of the base, without the buffer on each side."""
    buffer: int
    """Buffer in pixels of the base."""

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def pixel_areas(self) -> dict[str, float]:
        """The area of a pixel of each node, to add up counts of several grids; 1 for data on one grid."""
        if list(self.grids) == [""]:
            return {"": 1.0}
        return {node: pixel_area(grid) for node, grid in self.grids.items()}

    def region(self, selected: npt.NDArray[np.bool_]) -> Region:
        """Return the pixels of every node that lie entirely inside the selected blocks."""
        blocks = [self.blocks[i] for i in np.flatnonzero(selected)]
        return Region({node: self._node_region(node, blocks) for node in self.grids})

    def rectangles(self, node: str, block: int) -> tuple[Window, ...]:
        """Return the pixels of a node that lie entirely inside one block."""
        return self._node_region(node, [self.blocks[block]]).windows

    def _node_region(self, node: str, blocks: Sequence[Window]) -> GridRegion:
        grid = self.grids[node]
        if list(self.grids) == [""]:  # blocks of one grid lie inside it
            return GridRegion(grid, tuple(blocks), margin=self.buffer)
        offset = pixel_offset(grid, self.base)
        if offset is not None:  # the pixels coincide: blocks are whole pixels of this grid too
            parts = (block.shift(-offset[0], -offset[1]).intersect(full_window(grid)) for block in blocks)
            wide = tuple(w for w in parts if w is not None and _is_wide(w, blocks))
            return GridRegion(grid, wide, margin=self.buffer)
        windows = rectangles(self._blocks_in_pixels(grid, blocks), grid)
        return GridRegion(grid, windows, joined=True, margin=self._margin(grid))

    def _blocks_in_pixels(self, grid: GeoBox, blocks: Sequence[Window]) -> shapely.Geometry:
        """Return blocks in pixels of a grid, eroded by half a pixel diagonal: pixels with centres inside lie within."""
        if not blocks:
            return shapely.Polygon()
        bounds = np.array([(b.col, b.row, b.stop[1], b.stop[0]) for b in blocks], "float64")
        union = shapely.union_all(shapely.box(*bounds.T))
        dense = shapely.segmentize(union, min(min(b.shape) for b in blocks) / _SEGMENTS_PER_SIDE)
        return shapely.buffer(reproject(dense, self.base, grid), -HALF_DIAGONAL, join_style="mitre")

    def _margin(self, grid: GeoBox) -> int:
        """Return the pixels of a grid by which windows, rotated against the blocks, may extend beyond a region.

        The buffer in pixels of the grid, divided by the square root of 2 for a rotation of 45 degrees, less 2 % for
        the distortion of the projection.
        """
        ratio = np.sqrt(pixel_area(self.base) / pixel_area(grid))
        return max(int(self.buffer * ratio / np.sqrt(2) * 0.98), 0)


def _is_wide(window: Window, blocks: Sequence[Window]) -> bool:
    """Return whether a block cut by the edge of a grid keeps a quarter of its side."""
    return min(window.shape) >= max(1, min(blocks[0].shape) // 4)


def block_lattice(nodes: Mapping[str, xr.Dataset], size: tuple[int, int], buffer: int) -> BlockLattice:
    """Return the blocks that lie in the footprints of the nodes' layers.

    Parameters
    ----------
    nodes
        Datasets by node.
    size
        Height and width of a block in pixels of the first node's grid.
    buffer
        Pixels removed on each side of a block.

    Raises
    ------
    CRSError
        If a node cannot be reprojected to the CRS of the first.
    """
    grids = {node: grid_of(ds) for node, ds in nodes.items()}
    base = next(iter(grids.values()))
    min_covered = 0.0 if any(has_sparse_labels(ds) for ds in nodes.values()) else _MIN_COVERED
    if list(nodes) == [""]:
        blocks = _blocks_of_grid(base, footprint_of(nodes[""]), size, buffer, min_covered)
        return BlockLattice(base=base, grids=grids, blocks=blocks, buffer=buffer)
    footprints = []
    for node, ds in nodes.items():
        if outline_in(grids[node], base) is None:
            raise CRSError(
                f"Cannot lay blocks over {node!r}: it does not fit into the first node's CRS, {crs_name(base.crs)}.",
                remedy="Split by_region, or split parts of the tree that lie nearer to each other.",
            )
        footprints.append(reproject(_segmentize(footprint_of(ds)), grids[node], base))
    blocks = _blocks_of_tree(shapely.union_all(footprints), size, buffer, min_covered)
    return BlockLattice(base=base, grids=grids, blocks=blocks, buffer=buffer)


def _blocks_of_grid(
    grid: GeoBox, footprint: shapely.Geometry, size: tuple[int, int], buffer: int, min_covered: float
) -> tuple[Window, ...]:
    """Return the blocks of one grid: those at its right and lower edge are smaller, thin ones are left out."""
    rows, cols = grid.shape
    blocks = []
    for row in range(0, rows, size[0]):
        for col in range(0, cols, size[1]):
            height, width = min(size[0], rows - row) - 2 * buffer, min(size[1], cols - col) - 2 * buffer
            if min(height, width) >= max(1, min(size) // 4):
                blocks.append(Window(row + buffer, col + buffer, height, width))
    if not blocks:
        return ()
    fractions = covered_fractions(blocks, footprint)
    return tuple(w for w, fraction in zip(blocks, fractions, strict=True) if fraction > min_covered)


def _blocks_of_tree(
    footprint: shapely.Geometry, size: tuple[int, int], buffer: int, min_covered: float
) -> tuple[Window, ...]:
    """Return the blocks over the footprints of several grids, all of one size: no grid's edge cuts them."""
    height, width = size
    corners: set[tuple[int, int]] = set()
    for left, top, right, bottom in shapely.bounds(shapely.get_parts(footprint)):
        rows = range(int(np.floor(top / height)), int(np.ceil(bottom / height)))
        cols = range(int(np.floor(left / width)), int(np.ceil(right / width)))
        corners |= {(row * height, col * width) for row in rows for col in cols}
    if not corners or min(size) <= 2 * buffer:
        return ()
    corner = np.array(sorted(corners), "int64")
    table = np.c_[corner, np.broadcast_to(size, corner.shape)]
    covered = corner[covered_fractions(table.astype("float64"), footprint) > min_covered]
    return tuple(Window(r + buffer, c + buffer, height - 2 * buffer, width - 2 * buffer) for r, c in covered.tolist())


def reproject(geometry: shapely.Geometry, grid: GeoBox, base: GeoBox) -> shapely.Geometry:
    """Return a geometry in pixels of `grid` in pixels of `base`; long edges must be segmentized before."""
    project, to = _transformer(grid.crs, base.crs), to_pixels(base)

    def move(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(to(np.c_[project.transform(*pix2wld(grid, *p.T))]))

    reprojected = shapely.transform(geometry, move)
    if not np.isfinite(shapely.get_coordinates(reprojected)).all():
        raise CRSError(
            f"Cannot reproject a region from {crs_name(grid.crs)} to {crs_name(base.crs)}: points lie outside it.",
            remedy="Split parts of the tree that lie nearer to each other.",
        )
    return shapely.make_valid(reprojected)


_transformer = lru_cache(64)(transformer)  # building a pyproj transformer takes longer than using it


@lru_cache(256)
def outline_in(grid: GeoBox, base: GeoBox) -> shapely.Polygon | None:
    """Return the outline of a grid in pixels of another; `None` if it cannot be reprojected."""
    return outline(grid, base)


def _segmentize(geometry: Any) -> shapely.Geometry:
    left, top, right, bottom = geometry.bounds
    dense: shapely.Geometry = shapely.segmentize(geometry, max(right - left, bottom - top) / 64)
    return dense
