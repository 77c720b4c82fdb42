"""Blocks of the ground that all children of a tree share: whole pixels of each child that lie in a part's blocks."""

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

from geoxt.errors import CRSError
from geoxt.footprints import outline, to_pixels
from geoxt.grid import crs_name, full_window, grid_of, pixel_offset, transformer
from geoxt.regions.geodesic_area import pixel_area
from geoxt.regions.rasterize import rectangles
from geoxt.regions.region import Region, shares
from geoxt.regions.valid_footprint import footprint_of
from geoxt.trees import children
from geoxt.windows import Window

HALF = 0.7071 + 0.03
"""Pixels: the farthest that a corner of a pixel lies from its centre, and what bent edges may be off."""
_SIDES = 16
"""Points along a block's side, at least, when it is brought to another CRS."""
_LEAST = 0.05
"""Share of a block that must lie in footprints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Blocks of one lattice on the ground, and the grids that lie over it."""

    base: GeoBox
    """The first child's grid, whose pixels count the blocks; they lie beyond it as well."""
    grids: Mapping[str, GeoBox]
    """The grid of each child, by node."""
    blocks: tuple[Window, ...]
    """Pixels of the base, the buffer taken off on every side."""
    buffer: int
    """Pixels of the base that were taken off."""

    def region(self, node: str, chosen: npt.NDArray[np.bool_]) -> Region:
        """Return the pixels of a child that lie wholly in some of the blocks."""
        grid, own = self.grids[node], [b for b, good in zip(self.blocks, chosen, strict=True) if good]
        place = pixel_offset(grid, self.base)
        if place is not None:
            moved = (block.shift(-place[0], -place[1]).intersect(full_window(grid)) for block in own)
            return Region(grid, tuple(w for w in moved if w is not None and _thick(w, own)), margin=self.buffer)
        windows = rectangles(self._within(grid, own), grid)
        return Region(grid, windows, joined=True, margin=self._margin(grid))

    def rectangles(self, node: str, block: int) -> tuple[Window, ...]:
        """Return the pixels of a child that lie wholly in one block."""
        return self.region(node, np.arange(len(self.blocks)) == block).windows

    def _within(self, grid: GeoBox, own: Sequence[Window]) -> shapely.Geometry:
        """Return some blocks in pixels of a child, smaller by half a pixel, so that pixels are wholly in them."""
        if not own:
            return shapely.Polygon()
        table = np.array([(b.col, b.row, b.stop[1], b.stop[0]) for b in own], "float64")
        union = shapely.union_all(shapely.box(*table.T))
        dense = shapely.segmentize(union, min(min(b.shape) for b in own) / _SIDES)
        return shapely.buffer(moved(dense, self.base, grid), -HALF, join_style="mitre")

    def _margin(self, grid: GeoBox) -> int:
        """Return the pixels of a child by which windows, turned to the blocks, may reach over a region."""
        ratio = np.sqrt(pixel_area(self.base) / pixel_area(grid))
        return max(int(self.buffer * ratio / np.sqrt(2) * 0.98), 0)


def _thick(window: Window, blocks: Sequence[Window]) -> bool:
    """Tell whether what is left of a block at the edge of a grid is more than a thin strip."""
    return min(window.shape) >= max(1, min(blocks[0].shape) // 4)


def ground_of(tree: xr.DataTree, size: tuple[int, int], buffer: int) -> Ground:
    """Return the blocks of the ground that lie in the footprints of a tree's children.

    Raises
    ------
    CRSError
        Where a child cannot be brought into the CRS of the first.
    """
    parts = children(tree)
    grids = {node: grid_of(child) for node, child in parts.items()}
    base = next(iter(grids.values()))
    places = []
    for node, child in parts.items():
        if near(grids[node], base) is None:
            msg = f"Cannot lay blocks over {node!r}: it does not fit into the first child's CRS, {crs_name(base.crs)}."
            raise CRSError(msg + " Split by_region, or split parts of the tree that lie nearer to each other.")
        places.append(moved(_dense(footprint_of(child)), grids[node], base))
    found = _lattice(shapely.union_all(places), size, buffer)
    return Ground(base=base, grids=grids, blocks=found, buffer=buffer)


def _lattice(footprint: shapely.Geometry, size: tuple[int, int], buffer: int) -> tuple[Window, ...]:
    """Return the blocks that lie in a footprint, smaller by the buffer."""
    height, width = size
    corners: set[tuple[int, int]] = set()
    for left, top, right, bottom in shapely.bounds(shapely.get_parts(footprint)):
        rows = range(int(np.floor(top / height)), int(np.ceil(bottom / height)))
        cols = range(int(np.floor(left / width)), int(np.ceil(right / width)))
        corners |= {(row * height, col * width) for row in rows for col in cols}
    if not corners or min(size) <= 2 * buffer:
        return ()
    found = np.array(sorted(corners), "int64")
    table = np.c_[found, np.broadcast_to(size, found.shape)]
    held = found[shares(table.astype("float64"), footprint) > _LEAST]
    return tuple(Window(r + buffer, c + buffer, height - 2 * buffer, width - 2 * buffer) for r, c in held.tolist())


def moved(geometry: shapely.Geometry, grid: GeoBox, base: GeoBox) -> shapely.Geometry:
    """Return a geometry in pixels of a grid as one in pixels of another; its edges have to be split before."""
    a, project, to = grid.affine, _way(grid.crs, base.crs), to_pixels(base)

    def move(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = a.a * p[:, 0] + a.b * p[:, 1] + a.c, a.d * p[:, 0] + a.e * p[:, 1] + a.f
        return np.asarray(to(np.c_[project.transform(x, y)]))

    found = shapely.transform(geometry, move)
    if not np.isfinite(shapely.get_coordinates(found)).all():
        msg = f"Cannot bring a region from {crs_name(grid.crs)} to {crs_name(base.crs)}: points fall outside it."
        raise CRSError(msg + " Split parts of the tree that lie nearer to each other.")
    return shapely.make_valid(found)


_way = lru_cache(64)(transformer)  # making one takes longer than using it


@lru_cache(256)
def near(grid: GeoBox, base: GeoBox) -> shapely.Polygon | None:
    """Return the outline of a grid in pixels of another, `None` where there is none."""
    return outline(grid, base)


def _dense(geometry: Any) -> shapely.Geometry:
    left, top, right, bottom = geometry.bounds
    found: shapely.Geometry = shapely.segmentize(geometry, max(right - left, bottom - top) / 64)
    return found
