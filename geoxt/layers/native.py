"""Assemble scenes to a tree: one node per CRS on the pixel lattice of its scenes, so that no image is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name
from geoxt.errors import GridError, OverlapError
from geoxt.grid import pixel_offset
from geoxt.layers.assemble import SAME_RESOLUTION, LayerMetadata, LayerOptions, assemble, choose_grid
from geoxt.source import Scene
from geoxt.trees import node_names
from geoxt.types import SomeCRS


def is_native(crs: SomeCRS | None) -> TypeGuard[str]:
    """Return whether `crs` is "native": no scene is reprojected."""
    return isinstance(crs, str) and crs == "native"


@dataclass(slots=True, kw_only=True)
class Lattice:
    """Scenes on one pixel lattice."""

    base: GeoBox
    """Grid of the first scene."""
    scenes: list[Scene] = field(default_factory=list)
    """Scenes in the given order."""
    corners: list[tuple[int, int, int, int]] = field(default_factory=list)
    """First row, first column, last row + 1 and last column + 1 of each grid on the base."""

    def add(self, grid: GeoBox) -> bool:
        """Add a grid and return True if its pixels coincide with those of the base."""
        offset = pixel_offset(grid, self.base)
        if offset is not None:
            self.corners.append((*offset, offset[0] + grid.shape[0], offset[1] + grid.shape[1]))
        return offset is not None

    @property
    def grid(self) -> GeoBox:
        """Smallest grid that covers all grids."""
        corners = np.array(self.corners)
        (top, left), (bottom, right) = corners[:, :2].min(0).tolist(), corners[:, 2:].max(0).tolist()
        return GeoBox((bottom - top, right - left), self.base.affine @ Affine.translation(left, top), self.base.crs)


def assemble_layer(
    scenes: Sequence[Scene], metadata: LayerMetadata, options: LayerOptions
) -> xr.DataArray | xr.DataTree:
    """Return the lazy layer of scenes; for `crs="native"`, a tree."""
    if is_native(options.crs):
        return assemble_native(scenes, metadata, options)
    return assemble(scenes, metadata, options)


def assemble_native(scenes: Sequence[Scene], metadata: LayerMetadata, options: LayerOptions) -> xr.DataTree:
    """Return a tree of lazy layers with a node per CRS, on the pixels of its scenes.

    Scenes of one CRS on different pixel lattices are in separate nodes. Nodes are in the order of their first
    scenes; those outside the area are left out.

    Raises
    ------
    GridError
        If a grid is given, or the bands of a scene differ in pixel lattice and no resolution is given.
    OverlapError
        If no scene overlaps the area.
    """
    if options.grid is not None:
        problem = f"Cannot keep the native CRSs of scenes on one grid ({crs_name(options.grid.crs)})."
        raise GridError(problem, remedy="Pass either {crs:'native'} or {grid}.")
    groups = _lattices(scenes) if options.resolution is None else _by_crs(scenes, options.resolution)
    name = options.name or ("mask" if metadata.categorical else "image")
    parts, last_error = {}, None
    for node, (grid, of_node) in zip(node_names(grid.crs for grid, _ in groups), groups, strict=True):
        try:
            cut = grid if options.area is None else options.area.cut(grid)
        except OverlapError as error:
            last_error = error
            continue
        layer = assemble(of_node, metadata, replace(options, crs=None, resolution=None, area=None, grid=cut))
        parts[node] = layer.to_dataset(name=name)
    if not parts:
        assert last_error is not None
        raise last_error
    return xr.DataTree.from_dict(parts)


def _lattices(scenes: Sequence[Scene]) -> list[tuple[GeoBox, list[Scene]]]:
    """Group scenes by pixel lattice, and return the grid that covers each group."""
    lattices: list[Lattice] = []
    lattices_by_grid: dict[GeoBox, Lattice] = {}
    for scene in scenes:
        grids = _grids_of(scene)
        lattice = lattices_by_grid.get(grids[0])
        if lattice is None:
            lattice = next((lattice for lattice in lattices if lattice.add(grids[0])), None)
        if lattice is None:
            lattice = Lattice(base=grids[0])
            lattice.add(grids[0])
            lattices.append(lattice)
        lattices_by_grid[grids[0]] = lattice
        lattice.scenes.append(scene)
        for grid in grids[1:]:
            lattice.add(grid)
    return [(lattice.grid, lattice.scenes) for lattice in lattices]


def _grids_of(scene: Scene) -> list[GeoBox]:
    """Return the grids of a scene; raise if they differ in pixel lattice."""
    grids = list(dict.fromkeys(asset.grid for asset in scene.assets if asset is not None))
    for grid in grids:
        if grid.affine.b or grid.affine.d:
            problem = f"Cannot keep the native pixels of scene {scene.id!r}: its grid is rotated, {grid.affine[:6]}."
            raise GridError(problem, remedy="Pass {crs} to resample it onto a grid that is not rotated.")
        if pixel_offset(grid, grids[0]) is None:
            sizes = [f"{abs(g.affine.a):g} x {abs(g.affine.e):g}" for g in (grids[0], grid)]
            problem = f"Cannot keep the native pixels of scene {scene.id!r} on one grid: their pixels are {sizes[0]} "
            problem += f"and {sizes[1]} units of {crs_name(grid.crs)}" + (", shifted" if sizes[0] == sizes[1] else "")
            remedy = "Pass {bands} that share their pixels. Or pass {resolution} to resample the others."
            raise GridError(f"{problem}.", remedy=remedy)
    return grids


def _by_crs(scenes: Sequence[Scene], resolution: float | tuple[float, float]) -> list[tuple[GeoBox, list[Scene]]]:
    """Group scenes by CRS and by the pixel lattice of their bands of the given resolution."""
    width, height = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    lattices: list[Lattice] = []
    for scene in scenes:
        grids = [asset.grid for asset in scene.assets if asset is not None]
        exact = [g for g in grids if np.allclose((g.affine.a, abs(g.affine.e)), (width, height), rtol=SAME_RESOLUTION)]
        first = (exact or grids)[0]
        same = (known for known in lattices if (known.add(first) if exact else known.base.crs == first.crs))
        lattice = next(same, None)
        if lattice is None:
            base = first if exact else choose_grid([scene], crs=first.crs, resolution=resolution)
            lattice = Lattice(base=base)
            lattices.append(lattice)
        lattice.scenes.append(scene)
    return [(choose_grid(x.scenes, crs=x.base.crs, resolution=resolution), x.scenes) for x in lattices]
