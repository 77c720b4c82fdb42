"""Scenes -> tree: a child for each CRS, on its scenes' own pixels, so that no image is resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, OverlapError
from geoxt.grid import crs_name, pixel_offset
from geoxt.layers.assemble import SAME, LayerMetadata, Placement, assemble, choose_grid
from geoxt.source import Scene
from geoxt.trees import node_names, tree_of
from geoxt.types import SomeCRS


def is_native(crs: SomeCRS | None) -> TypeGuard[str]:
    """Tell whether scenes shall stay in their own CRSs."""
    return isinstance(crs, str) and crs == "native"


@dataclass(slots=True, kw_only=True)
class Lattice:
    """Scenes whose pixels coincide."""

    base: GeoBox
    """The grid of the first of them."""
    scenes: list[Scene] = field(default_factory=list)
    """In their order."""
    corners: list[tuple[int, int, int, int]] = field(default_factory=list)
    """First row and column of each of their grids on the base, and those just after the last."""

    def add(self, grid: GeoBox) -> bool:
        """Take up a grid, where its pixels coincide with those of the base."""
        place = pixel_offset(grid, self.base)
        if place is not None:
            self.corners.append((*place, place[0] + grid.shape[0], place[1] + grid.shape[1]))
        return place is not None

    @property
    def grid(self) -> GeoBox:
        """The smallest grid that holds all of its grids."""
        corners = np.array(self.corners)
        (top, left), (bottom, right) = corners[:, :2].min(0).tolist(), corners[:, 2:].max(0).tolist()
        return GeoBox((bottom - top, right - left), self.base.affine @ Affine.translation(left, top), self.base.crs)


def assemble_native(scenes: Sequence[Scene], product: LayerMetadata, placement: Placement) -> xr.DataTree:
    """Return a tree of lazy layers: a child for each CRS in which scenes lie, on the pixels of its scenes.

    Scenes of one CRS whose pixels do not coincide lie in children of their own. Children stand in the order of their
    first scenes. What is cut off by an area is left out.

    Raises
    ------
    GridError
        Where a grid was given, or the bands of a scene do not share their pixels and no resolution was chosen.
    OverlapError
        Where nothing lies in the area.
    """
    if placement.grid is not None:
        msg = (
            f"Cannot keep scenes in their own CRSs on one grid ({crs_name(placement.grid.crs)}): crs='native' and grid="
        )
        raise GridError(msg + " are both given. Pass one of them.")
    found = _lattices(scenes) if placement.resolution is None else _by_crs(scenes, placement.resolution)
    name = placement.name or ("mask" if product.categorical else "image")
    parts, missed = {}, None
    for node, (grid, own) in zip(node_names(grid.crs for grid, _ in found), found, strict=True):
        try:
            cut = grid if placement.area is None else placement.area.cut(grid)
        except OverlapError as error:
            missed = error
            continue
        layer = assemble(own, product, replace(placement, crs=None, resolution=None, area=None, grid=cut))
        parts[node] = layer.to_dataset(name=name)
    if not parts:
        assert missed is not None
        raise missed
    return tree_of(parts)


def _lattices(scenes: Sequence[Scene]) -> list[tuple[GeoBox, list[Scene]]]:
    """Return the scenes by the lattice of their pixels, and the grid that holds each."""
    lattices: list[Lattice] = []
    known: dict[GeoBox, Lattice] = {}
    for scene in scenes:
        grids = _own_grids(scene)
        lattice = known.get(grids[0])
        if lattice is None:
            lattice = next((one for one in lattices if one.add(grids[0])), None)
        if lattice is None:
            lattice = Lattice(base=grids[0])
            lattice.add(grids[0])
            lattices.append(lattice)
        known[grids[0]] = lattice
        lattice.scenes.append(scene)
        for grid in grids[1:]:
            lattice.add(grid)
    return [(lattice.grid, lattice.scenes) for lattice in lattices]


def _own_grids(scene: Scene) -> list[GeoBox]:
    """Return the grids of a scene, which must be of one lattice."""
    grids = list(dict.fromkeys(asset.grid for asset in scene.assets if asset is not None))
    for grid in grids:
        if grid.affine.b or grid.affine.d:
            msg = f"Cannot keep the pixels of scene {scene.id!r} as they are: its grid is turned, {grid.affine[:6]}."
            raise GridError(msg + " Pass crs=… to bring it onto one that is not.")
        if pixel_offset(grid, grids[0]) is None:
            sizes = [f"{abs(g.affine.a):g} x {abs(g.affine.e):g}" for g in (grids[0], grid)]
            msg = f"Cannot keep the bands of scene {scene.id!r} as they are on one grid: their pixels are {sizes[0]} "
            msg += f"and {sizes[1]} units of {crs_name(grid.crs)}" + (", shifted" if sizes[0] == sizes[1] else "")
            raise GridError(msg + ". Pass bands= that share their pixels, or resolution=… to resample the others.")
    return grids


def _by_crs(scenes: Sequence[Scene], resolution: float | tuple[float, float]) -> list[tuple[GeoBox, list[Scene]]]:
    """Return the scenes by CRS and by the lattice of those of their bands that have a resolution."""
    width, height = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    lattices: list[Lattice] = []
    for scene in scenes:
        grids = [asset.grid for asset in scene.assets if asset is not None]
        exact = [g for g in grids if np.allclose((g.affine.a, abs(g.affine.e)), (width, height), rtol=SAME)]
        first = (exact or grids)[0]
        same = (one for one in lattices if (one.add(first) if exact else one.base.crs == first.crs))
        lattice = next(same, None)
        if lattice is None:
            base = first if exact else choose_grid([scene], crs=first.crs, resolution=resolution)
            lattice = Lattice(base=base)
            lattices.append(lattice)
        lattice.scenes.append(scene)
    return [(choose_grid(one.scenes, crs=one.base.crs, resolution=resolution), one.scenes) for one in lattices]


__all__ = ["Lattice", "assemble_native", "is_native"]
