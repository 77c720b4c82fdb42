"""Topmost scene of a mosaic at the centre of a window, so that the windows of a batch can lie in one scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr

from geoxt.footprints import outlines
from geoxt.regions.region import views_in
from geoxt.samplers.constraints import Constraints
from geoxt.samplers.sequence import Table
from geoxt.source import Mosaic, View


@dataclass(frozen=True, slots=True)
class SceneOwnership:
    """Footprints of the scenes of mosaics, for each group of time steps."""

    trees: tuple[tuple[shapely.STRtree, ...], ...]
    """For each group, and each layer with several scenes in it: their footprints in pixel coordinates, in order of
    priority."""

    def at(self, table: Table, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return (n, layers): the number of the scene on top at the centre of each window, -1 outside all scenes."""
        layers = max(map(len, self.trees), default=0)
        owner = np.full((len(table), layers), -1, "int64")
        centre = table[:, :2] + table[:, 2:] // 2 + 0.5
        for number in np.unique(group):
            index = np.flatnonzero(group == number)
            points = shapely.points(centre[index, 1], centre[index, 0])
            for layer, tree in enumerate(self.trees[number]):
                point, scene = tree.query(points, predicate="intersects")
                first = np.full(len(index), len(tree.geometries), "int64")
                np.minimum.at(first, point, scene)
                owner[index, layer] = np.where(first < len(tree.geometries), first, -1)
        return owner


def scene_ownership(data: xr.Dataset, constraints: Constraints) -> SceneOwnership | None:
    """Return the scene ownership of the mosaics in a Dataset; `None` if no time step has several scenes.

    Groups of several time steps are ignored, as each step has other scenes.
    """
    groups = [None] if constraints.times is None else list(constraints.times.groups)
    views = [view for view in views_in(data) if isinstance(view.source, Mosaic)]
    trees = tuple(tuple(t for view in views if (t := _scene_tree(view, group)) is not None) for group in groups)
    return SceneOwnership(trees) if any(trees) else None


def _scene_tree(view: View, group: tuple[int, ...] | None) -> shapely.STRtree | None:
    """Return the footprints of the scenes of one time step; `None` for several steps or fewer than two scenes."""
    source = view.source
    assert isinstance(source, Mosaic)
    steps = range(len(view.times)) if group is None or "time" not in view.dims else group
    if len(steps) != 1:
        return None
    scenes = [source.scenes[i] for i in source.steps[view.times[steps[0]]]]
    if len(scenes) < 2:
        return None
    rows, cols = view.grid.shape
    everywhere = shapely.box(0, 0, cols, rows)
    footprints = outlines([scene.grid for scene in scenes], view.grid)
    return shapely.STRtree([everywhere if footprint is None else footprint for footprint in footprints])
