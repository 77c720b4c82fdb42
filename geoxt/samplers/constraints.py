"""Constraints shared by all samplers: region, size, placement, time steps, and coverage of windows on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.regions.rasterize import SomeRegion, parse_region
from geoxt.regions.region import GridRegion, covered_fractions, views_in
from geoxt.regions.valid_footprint import footprints_of, has_sparse_labels
from geoxt.samplers.sequence import Table
from geoxt.samplers.time_windows import Times, count_steps, timestamps
from geoxt.source import View
from geoxt.types import Mask
from geoxt.windows import Window, parse_size

Placement = Literal["inside", "centred", "touching"]
Units = Literal["pixels", "crs"]


class Options(TypedDict):
    """Keyword arguments of every sampler."""

    region: NotRequired[SomeRegion | None]
    """Region of the windows: a `Region` such as a part of a split, a GeoDataFrame, (geometry, crs), or bounds (left,
    bottom, right, top) in the CRS of the layer; for a tree with their CRS, (bounds, crs). By default the whole grid."""
    placement: NotRequired[Placement]
    """Which part of a window must lie in the region. "inside": the whole window; pixels near the region's edge are
    then sampled less often. "centred": its centre pixel. "touching": at least one pixel; all pixels are then sampled
    equally often. With the last two, windows may extend beyond the grid, where pixels are invalid."""
    units: NotRequired[Units]
    """Unit of sizes and distances: "pixels", or "crs" for units of the layer's CRS, rounded to whole pixels."""
    times: NotRequired[Times | Mapping[str, Times] | None]
    """Time steps of a window, from `time_steps`, `time_periods` or `time_intervals`. By default all."""
    min_covered: NotRequired[float]
    """Minimum fraction of a window inside the footprints of all layers, 0 to 1. With 0, any overlap is enough. By
    default 0.5 with placement="inside", otherwise 0; also 0 with a vector layer whose background is nodata, of which
    few pixels are labelled."""
    min_valid: NotRequired[float]
    """Minimum fraction of valid pixels of a window in every layer, 0 to 1. Above 0, pixels are read."""


NodeOptions = dict[str, Any]
"""`Options` of one node: `region` is its part of the region, `times` the Times of the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Constraints on the positions and the pixels of windows of one grid."""

    region: GridRegion
    """Region of the windows."""
    size: tuple[int, int]
    """Height and width of a window in pixels."""
    placement: Placement
    """Which part of a window must lie in the region."""
    outline: shapely.Geometry | None
    """The region in pixel coordinates, if windows must be tested against its outline."""
    times: Times | None
    """Groups of time steps; `None`: all time steps."""
    footprints: tuple[shapely.Geometry, ...]
    """Area in which all layers can have valid pixels, for each group of time steps, in pixel coordinates."""
    min_covered: float
    """Minimum fraction of a window inside the footprints."""
    views: tuple[View, ...]
    """Views of the layers, if valid pixels must be counted."""
    min_valid: float
    """Minimum fraction of valid pixels."""

    @property
    def grid(self) -> GeoBox:
        """The grid of the windows."""
        return self.region.grid

    @property
    def groups(self) -> int:
        """Number of groups of time steps."""
        return len(self.footprints)

    @property
    def reach(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows (above, below) and columns (left, right) by which windows may extend beyond the region."""
        height, width = self.size
        match self.placement:
            case "inside":
                return (0, 0), (0, 0)
            case "centred":
                return (height // 2, height - 1 - height // 2), (width // 2, width - 1 - width // 2)
            case "touching":
                return (height - 1, height - 1), (width - 1, width - 1)
            case _:
                raise InputError(
                    f"Cannot place windows by placement={self.placement!r}.",
                    remedy="Pass {placement} 'inside', 'centred' or 'touching'.",
                    argument="placement",
                )

    def accepts(self, table: Table, group: npt.NDArray[np.int64] | None = None) -> Mask:
        """Return which windows fulfil the constraints, each at its group of time steps.

        Parameters
        ----------
        table
            (n, 4): row, column, height, width.
        group
            (n,): the group of each window; by default the first.
        """
        groups = np.zeros(len(table), "int64") if group is None else group
        accepted = np.ones(len(table), bool)
        if self.outline is not None:
            accepted &= self._fit_outline(table)
        for number in np.unique(groups[accepted]):
            index = np.flatnonzero(accepted & (groups == number))
            accepted[index] = _covered(table[index], self.footprints[number], self.min_covered)
        if self.min_valid > 0:
            for i in np.flatnonzero(accepted).tolist():
                accepted[i] = self._valid_fraction(table[i], int(groups[i])) >= self.min_valid - 1e-9
        return accepted

    def steps(self, rng: np.random.Generator, group: npt.NDArray[np.int64]) -> Table | None:
        """Return the time steps of windows by their groups; `None` for all."""
        return None if self.times is None else self.times.table(rng, group)

    def _fit_outline(self, table: Table) -> Mask:
        row, col, height, width = table.T
        # outlines follow pixel edges: windows shrunk by a quarter of a pixel never merely touch one
        boxes = shapely.box(col + 0.25, row + 0.25, col + width - 0.25, row + height - 0.25)
        shapely.prepare(self.outline)
        test = shapely.intersects if self.placement == "touching" else shapely.covers
        return np.asarray(test(self.outline, boxes))

    def _valid_fraction(self, row: Table, group: int) -> float:
        """Return the fraction of valid pixels of a window, the minimum over the layers."""
        steps = None if self.times is None else self.times.groups[group]
        fractions = []
        for view in self.views:
            top, left, height, width = row.tolist()
            window = Window(top, left, height, width, steps if "time" in view.dims else None)
            fractions.append(float(view.read(window)[1].all(axis=1).mean()))
        return min(fractions)


def parse_constraints(
    data: xr.Dataset,
    size: float | tuple[float, float],
    *,
    region: SomeRegion | None = None,
    placement: Placement = "inside",
    units: Units = "pixels",
    times: Times | None = None,
    min_covered: float | None = None,
    min_valid: float = 0.0,
) -> Constraints:
    """Return the constraints of a sampler on the layers of one grid; arguments as in `Options`."""
    grid = grid_of(data)
    if min_covered is None:
        min_covered = 0.5 if placement == "inside" and not has_sparse_labels(data) else 0.0
    for name, fraction in (("min_covered", min_covered), ("min_valid", min_valid)):
        if not 0 <= fraction <= 1:
            raise InputError(
                f"Cannot sample with {name}={fraction}.",
                remedy=f"Pass {{{name}}} a fraction of 0 to 1.",
                argument=name,
            )
    grid_region = parse_region(region, grid)
    if not len(grid_region):
        raise OverlapError(
            "Cannot sample: the region is empty.", remedy="Pass another {region}, or larger parts.", argument="region"
        )
    times = _times_in_region(data, grid_region, times)
    tested = (placement == "inside" and grid_region.joined) or placement == "touching"
    constraints = Constraints(
        region=grid_region,
        size=size_in_pixels(size, grid, units),
        placement=placement,
        outline=grid_region.geometry if tested and len(grid_region) != 1 else None,
        times=times,
        footprints=footprints_of(data, [None] if times is None else times.groups),
        min_covered=min_covered,
        views=tuple(views_in(data)) if min_valid > 0 else (),
        min_valid=min_valid,
    )
    require_margin(grid_region, max(r for pair in constraints.reach for r in pair))
    return constraints


def _times_in_region(data: xr.Dataset, region: GridRegion, times: Times | None) -> Times | None:
    """Return the groups of time steps that lie in a region's time steps."""
    if times is not None and max(g[-1] for g in times.groups) >= count_steps(data):
        raise InputError(
            f"Cannot take time step {max(g[-1] for g in times.groups)} of {count_steps(data)}.",
            remedy="Pass {times} of the data that is sampled.",
            argument="times",
        )
    if region.times is None:
        return times
    steps = np.flatnonzero(np.isin(timestamps(data), np.array(region.times, "datetime64[ns]"))).tolist()
    if not steps:
        raise InputError(
            f"Cannot sample: the data has none of the region's {len(region.times)} time steps.",
            remedy="Split this data.",
            argument="region",
        )
    return Times(groups=(tuple(steps),)) if times is None else times.within(steps)


def require_margin(region: GridRegion, reach: int) -> None:
    """Raise if windows that extend beyond a part of a split can touch another part.

    Raises
    ------
    InputError
        If the reach, in pixels, exceeds the margin of the region.
    """
    if region.margin is not None and reach > region.margin:
        raise InputError(
            f"Cannot let windows extend {reach} pixels beyond a part of a split whose buffer is {region.margin}: "
            "they would contain pixels of other parts.",
            remedy=f"Pass {{placement:'inside'}} ({{edge:'shift'}} of a grid), or split with buffer={reach}.",
            argument="placement",
        )


def size_in_pixels(
    size: float | tuple[float, float], grid: GeoBox, units: Units = "pixels", *, argument: str = "size"
) -> tuple[int, int]:
    """Return (height, width) in pixels from a size in pixels or in units of the grid's CRS."""
    match units:
        case "pixels":
            return parse_size(size, argument=argument)  # type: ignore[arg-type]  # raises for fractions of a pixel
        case "crs":
            height, width = (size, size) if isinstance(size, (int, float, np.number)) else size
            rx = float(np.hypot(grid.affine.a, grid.affine.d))
            ry = float(np.hypot(grid.affine.b, grid.affine.e))
            sides = float(height) / ry, float(width) / rx
            pixels = (round(sides[0]), round(sides[1])) if np.isfinite(sides).all() else (0, 0)
            if min(pixels) < 1:
                raise InputError(
                    f"Cannot use {argument}={size!r} in CRS units: a pixel is {ry:g} x {rx:g}.",
                    remedy=f"Pass {{{argument}}} of at least one pixel.",
                    argument=argument,
                )
            return pixels
        case _:
            raise InputError(
                f"Cannot take {argument} in units={units!r}.",
                remedy="Pass {units} 'pixels' or 'crs'.",
                argument="units",
            )


def _covered(table: Table, footprint: shapely.Geometry, min_fraction: float) -> Mask:
    """Return which windows lie in a footprint with at least a fraction of their area; with 0, which overlap it."""
    fraction = covered_fractions(table.astype("float64"), footprint)
    return np.asarray(fraction > 0 if min_fraction <= 0 else fraction >= min_fraction - 1e-9)
