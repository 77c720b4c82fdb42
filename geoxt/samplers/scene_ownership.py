"""Territories: where each scene of a mosaic is the one that shows, so that windows can be kept to one of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr

from geoxt.footprints import outlines
from geoxt.regions.region import views_in
from geoxt.samplers.constraints import Scope
from geoxt.samplers.sequence import Table
from geoxt.source import Mosaic, View


@dataclass(frozen=True, slots=True)
class Territories:
    """Scenes of the layers that are mosaics, for each group of time steps."""

    trees: tuple[tuple[shapely.STRtree, ...], ...]
    """For each group, and each layer that has several scenes there: their outlines, in order of priority."""

    def at(self, table: Table, group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return (n, layers): the first scene of each layer at the centre of each window, -1 for none."""
        widest = max(map(len, self.trees), default=0)
        out = np.full((len(table), widest), -1, "int64")
        middle = table[:, :2] + table[:, 2:] // 2 + 0.5
        for one in np.unique(group):
            own = np.flatnonzero(group == one)
            points = shapely.points(middle[own, 1], middle[own, 0])
            for column, tree in enumerate(self.trees[one]):
                place, scene = tree.query(points, predicate="intersects")
                first = np.full(len(own), len(tree.geometries), "int64")
                np.minimum.at(first, place, scene)
                out[own, column] = np.where(first < len(tree.geometries), first, -1)
        return out


def territories(data: xr.DataArray | xr.Dataset, scope: Scope) -> Territories | None:
    """Return the territories of the scenes of some layers; `None` where none of these has several scenes in a step.

    A layer counts where a window takes one of its time steps: of several, each has scenes of its own.
    """
    groups = [None] if scope.times is None else list(scope.times.groups)
    views = [view for view in views_in(data) if isinstance(view.source, Mosaic)]
    found = tuple(tuple(t for view in views if (t := _tree(view, group)) is not None) for group in groups)
    return Territories(found) if any(found) else None


def _tree(view: View, group: tuple[int, ...] | None) -> shapely.STRtree | None:
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
    found = outlines([scene.grid for scene in scenes], view.grid)
    return shapely.STRtree([everywhere if one is None else one for one in found])
