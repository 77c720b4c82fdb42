"""Valid footprints: where all layers can have valid pixels, by the extents of their scenes, without reading pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import shapely
import xarray as xr

from geoxt.errors import OverlapError
from geoxt.regions.region import layers_in, views_in
from geoxt.source import Mosaic, VectorSource, View, nodata_of, view_of


def footprint_of(data: xr.DataArray | xr.Dataset) -> shapely.Geometry:
    """Return where all layers can have valid pixels at any time step, in pixel coordinates of the grid.

    Raises
    ------
    OverlapError
        If the extents of the layers do not overlap.
    """
    return footprints_of(data, [None])[0]


def has_sparse_labels(data: xr.DataArray | xr.Dataset) -> bool:
    """Return whether a layer holds features without a background: only their pixels are valid, few of a window's."""
    sources = [view_of(layer).source for layer in layers_in(data) if nodata_of(layer) is not None]
    return any(isinstance(source, VectorSource) and source.nodata == source.background for source in sources)


def footprints_of(
    data: xr.DataArray | xr.Dataset, groups: Sequence[Sequence[int] | None]
) -> tuple[shapely.Geometry, ...]:
    """Return where all layers can have valid pixels at one or more steps of each group of time steps.

    Parameters
    ----------
    data
        A layer, or a Dataset of layers on one grid.
    groups
        Positions along time of each group; `None` for all time steps.

    Returns
    -------
    tuple of shapely.Geometry
        One for each group, in pixel coordinates of the grid (x is the column, y the row).

    Raises
    ------
    OverlapError
        If the extents of the layers overlap in none of the groups.
    """
    views = views_in(data)
    cache: dict[tuple[int, int], shapely.Geometry] = {}
    footprints = tuple(_common(views, group, cache) for group in groups)
    if not any(shapely.area(footprint) > 0 for footprint in footprints):
        raise OverlapError(
            "Cannot sample: the footprints of the layers do not overlap.",
            remedy="Check their extents with layer.odc.geobox.",
        )
    return footprints


def _common(
    views: Sequence[View], group: Sequence[int] | None, cache: dict[tuple[int, int], shapely.Geometry]
) -> shapely.Geometry:
    """Return the intersection over layers of the union over time steps."""
    layers = []
    for number, view in enumerate(views):
        steps = range(view.shape[0]) if group is None or "time" not in view.dims else group
        for step in steps:
            if (number, step) not in cache:
                cache[number, step] = _at_step(view, step)
        # a view without scenes per step gives one and the same geometry for all of them
        distinct = {id(cache[number, s]): cache[number, s] for s in steps}
        layers.append(next(iter(distinct.values())) if len(distinct) == 1 else shapely.union_all([*distinct.values()]))
    return shapely.intersection_all(layers)


def _at_step(view: View, step: int) -> shapely.Geometry:
    """Return the footprint of one time step of a view."""
    source = view.source
    if not isinstance(source, Mosaic):
        return view.footprint()
    indices = source.steps[view.times[step]]
    if len(set(indices)) == len(source.scenes):
        return view.footprint()
    if not indices:
        return shapely.Polygon()
    scenes = tuple(source.scenes[i] for i in indices)
    mosaic = replace(source, scenes=scenes, steps=(tuple(range(len(scenes))),))
    return replace(view, source=mosaic, times=(0,)).footprint()
