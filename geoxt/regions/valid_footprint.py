"""Footprints of layers: where all of them can hold valid pixels, over all time steps or for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import shapely
import xarray as xr

from geoxt.errors import OverlapError
from geoxt.regions.region import views_in
from geoxt.source import Mosaic, View


def footprint_of(data: xr.DataArray | xr.Dataset) -> shapely.Geometry:
    """Return where all layers can hold valid pixels at some time, in pixels of the grid.

    Raises
    ------
    OverlapError
        Where there is no such place.
    """
    return footprints_of(data, [None])[0]


def footprints_of(
    data: xr.DataArray | xr.Dataset, groups: Sequence[Sequence[int] | None]
) -> tuple[shapely.Geometry, ...]:
    """Return where all layers can hold valid pixels, for each group of time steps: at one of them, or at any.

    Raises
    ------
    OverlapError
        Where there is no such place in any of the groups.
    """
    views = views_in(data)
    known: dict[tuple[int, int], shapely.Geometry] = {}
    found = tuple(_common(views, group, known) for group in groups)
    if not any(shapely.area(one) > 0 for one in found):
        msg = "Cannot sample: no place lies in the footprints of all layers. Check their extents with layer.odc.geobox."
        raise OverlapError(msg)
    return found


def _common(
    views: Sequence[View], group: Sequence[int] | None, known: dict[tuple[int, int], shapely.Geometry]
) -> shapely.Geometry:
    parts = []
    for number, view in enumerate(views):
        steps = range(view.shape[0]) if group is None or "time" not in view.dims else group
        for step in steps:
            if (number, step) not in known:
                known[number, step] = _at(view, step)
        ones = {id(known[number, s]): known[number, s] for s in steps}
        parts.append(next(iter(ones.values())) if len(ones) == 1 else shapely.union_all(list(ones.values())))
    return shapely.intersection_all(parts)


def _at(view: View, step: int) -> shapely.Geometry:
    """Return the footprint of one time step of a view."""
    source = view.source
    if not isinstance(source, Mosaic):
        return view.footprint()
    chosen = source.steps[view.times[step]]
    if len(set(chosen)) == len(source.scenes):
        return view.footprint()
    if not chosen:
        return shapely.Polygon()
    scenes = tuple(source.scenes[i] for i in chosen)
    one = replace(source, scenes=scenes, steps=(tuple(range(len(scenes))),))
    return replace(view, source=one, times=(0,)).footprint()
