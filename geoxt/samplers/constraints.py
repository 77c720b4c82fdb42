"""Scope: what all samplers share. Where windows may lie, of what size, at which times, and what they must hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.regions.rasterize import SomeRegion, parse_region
from geoxt.regions.region import Region, TreeRegion, shares, views_in
from geoxt.regions.valid_footprint import footprints_of
from geoxt.samplers.sequence import Table
from geoxt.samplers.time_windows import Times, count_steps, stamps_of
from geoxt.source import View
from geoxt.types import Mask
from geoxt.windows import Window, parse_size

Placement = Literal["inside", "centred", "touching"]
Units = Literal["pixels", "crs"]


class Options(TypedDict):
    """Options that every sampler takes."""

    region: NotRequired[SomeRegion | None]
    """Where windows lie: a `Region` (a part of a split), a GeoDataFrame, (geometry, crs), or bounds (left, bottom,
    right, top) in the CRS of the layer, which of a tree has to be said: (bounds, crs). The whole grid by default."""
    placement: NotRequired[Placement]
    """How windows lie in the region. "inside": wholly, so that pixels near its edge are drawn less often. "centred":
    with their centre pixel. "touching": with at least one pixel, so that every pixel is drawn equally often. The last
    two reach over the edge; beyond the grid nothing is valid."""
    units: NotRequired[Units]
    """Whether sizes and distances are given in pixels or in units of the layer's CRS, then rounded to whole pixels."""
    times: NotRequired[Times | Mapping[str, Times] | None]
    """Time steps that a window takes: `time_steps`, `time_periods`, `time_intervals`. By default all."""
    min_covered: NotRequired[float]
    """Least share of a window that lies in the footprints of all layers, 0 to 1. At 0, any overlap will do. By default
    0.5 where windows lie inside the region, else 0."""
    min_valid: NotRequired[float]
    """Least share of a window's pixels that are valid in all layers, 0 to 1. Above 0, the pixels are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where windows may lie and what they must hold, on one grid."""

    region: Region
    """Where windows lie."""
    size: tuple[int, int]
    """Height and width of a window, pixels."""
    placement: Placement
    """How windows lie in the region."""
    outline: shapely.Geometry | None
    """The region in pixels, where placement has to be tested against its outline."""
    times: Times | None
    """Groups of time steps; `None` takes all steps that there are."""
    footprints: tuple[shapely.Geometry, ...]
    """Where all layers can be valid, in pixels: for each group of time steps."""
    min_covered: float
    """Least share of a window in the footprints."""
    views: tuple[View, ...]
    """The layers, where their pixels are asked for."""
    min_valid: float
    """Least share of valid pixels."""

    @property
    def grid(self) -> GeoBox:
        """The grid that windows refer to."""
        return self.region.grid

    @property
    def groups(self) -> int:
        """Number of groups of time steps."""
        return len(self.footprints)

    @property
    def reach(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows (above, below) and columns (left, right) by which windows may reach over the region."""
        height, width = self.size
        match self.placement:
            case "inside":
                return (0, 0), (0, 0)
            case "centred":
                return (height // 2, height - 1 - height // 2), (width // 2, width - 1 - width // 2)
            case "touching":
                return (height - 1, height - 1), (width - 1, width - 1)
            case _:
                msg = f"Cannot place windows by placement={self.placement!r}: pass 'inside', 'centred' or 'touching'."
                raise InputError(msg)

    def accepts(self, table: Table, group: npt.NDArray[np.int64] | None = None) -> Mask:
        """Tell which windows of a table hold what they must, each at its group of time steps."""
        at = np.zeros(len(table), "int64") if group is None else group
        good = np.ones(len(table), bool)
        if self.outline is not None:
            good &= self._fits(table)
        for one in np.unique(at[good]):
            chosen = np.flatnonzero(good & (at == one))
            good[chosen] = covered(table[chosen], self.footprints[one], self.min_covered)
        if self.min_valid > 0:
            for place in np.flatnonzero(good):
                good[place] = self._valid(table[place], int(at[place])) >= self.min_valid - 1e-9
        return good

    def steps(self, rng: np.random.Generator, group: npt.NDArray[np.int64]) -> Table | None:
        """Return the time steps of windows by their groups."""
        return None if self.times is None else self.times.table(rng, group)

    def _fits(self, table: Table) -> Mask:
        row, col, height, width = table.T
        # a quarter of a pixel smaller, so that edges decide nothing: outlines follow whole pixels
        boxes = shapely.box(col + 0.25, row + 0.25, col + width - 0.25, row + height - 0.25)
        shapely.prepare(self.outline)
        test = shapely.intersects if self.placement == "touching" else shapely.covers
        return np.asarray(test(self.outline, boxes))

    def _valid(self, row: Table, group: int) -> float:
        """Return the least share of valid pixels among the layers."""
        steps = None if self.times is None else self.times.groups[group]
        found = []
        for view in self.views:
            top, left, height, width = row.tolist()
            window = Window(top, left, height, width, steps if "time" in view.dims else None)
            found.append(float(view.read(window)[1].all(axis=1).mean()))
        return min(found)


def scope_of(
    data: xr.DataArray | xr.Dataset,
    size: float | tuple[float, float],
    *,
    region: SomeRegion | None = None,
    placement: Placement = "inside",
    units: Units = "pixels",
    times: Times | Mapping[str, Times] | None = None,
    min_covered: float | None = None,
    min_valid: float = 0.0,
) -> Scope:
    """Return the scope of a sampler over data, from what its user said; see `Options`."""
    grid = grid_of(data)
    if min_covered is None:
        min_covered = 0.5 if placement == "inside" else 0.0
    for name, share in (("min_covered", min_covered), ("min_valid", min_valid)):
        if not 0 <= share <= 1:
            msg = f"Cannot sample with {name}={share}: pass a share of 0 to 1."
            raise InputError(msg)
    if isinstance(times, Mapping) or isinstance(region, TreeRegion):
        msg = (
            "Cannot sample one grid by the times or the region of a tree's children. Pass the tree itself, or those of"
        )
        raise InputError(msg + " one child: times[node], region.parts[node].")
    where = parse_region(region, grid)
    times = _times(data, where, times)
    lone = len(where) == 1
    tested = (placement == "inside" and where.joined) or placement == "touching"
    scope = Scope(
        region=where,
        size=pixels(size, grid, units),
        placement=placement,
        outline=where.geometry if tested and not lone else None,
        times=times,
        footprints=footprints_of(data, [None] if times is None else times.groups),
        min_covered=min_covered,
        views=tuple(views_in(data)) if min_valid > 0 else (),
        min_valid=min_valid,
    )
    require_margin(where, max(r for pair in scope.reach for r in pair))
    return scope


def _times(data: xr.DataArray | xr.Dataset, region: Region, times: Times | None) -> Times | None:
    """Return the times that a sampler takes: those asked for, and of a region in time only those that are its own."""
    if times is not None and max(g[-1] for g in times.groups) >= count_steps(data):
        msg = f"Cannot take time step {max(g[-1] for g in times.groups)} of {count_steps(data)}. Make times= of the "
        raise InputError(msg + "data that is sampled.")
    if region.times is None:
        return times
    own = np.flatnonzero(np.isin(stamps_of(data), np.array(region.times, "datetime64[ns]"))).tolist()
    if not own:
        msg = f"Cannot sample: the data has none of the region's {len(region.times)} time steps. Split this data."
        raise InputError(msg)
    return Times(groups=(tuple(own),)) if times is None else times.within(own)


def require_margin(region: Region, reach: int) -> None:
    """Check that windows which reach over a part of a split meet no other part.

    Raises
    ------
    InputError
        Where they may.
    """
    if region.margin is not None and reach > region.margin:
        msg = (
            f"Cannot let windows reach {reach} pixels over a part of a split whose buffer is {region.margin}: they "
            f"would show pixels of other parts. Pass placement='inside' (edge='shift'), or split with buffer={reach}."
        )
        raise InputError(msg)


def pixels(
    size: float | tuple[float, float], grid: GeoBox, units: Units = "pixels", *, what: str = "size"
) -> tuple[int, int]:
    """Return (height, width) in pixels of a size in pixels or in units of the grid's CRS."""
    match units:
        case "pixels":
            return parse_size(size, what=what)  # type: ignore[arg-type]  # refuses what is no whole number
        case "crs":
            height, width = (size, size) if isinstance(size, (int, float, np.number)) else size
            rx = float(np.hypot(grid.affine.a, grid.affine.d))
            ry = float(np.hypot(grid.affine.b, grid.affine.e))
            found = round(float(height) / ry), round(float(width) / rx)
            if min(found) < 1:
                msg = f"Cannot use {what}={size!r} in CRS units: a pixel is {ry:g} x {rx:g}. Pass at least one pixel."
                raise InputError(msg)
            return found
        case _:
            msg = f"Cannot take {what} in units={units!r}: pass 'pixels' or 'crs'."
            raise InputError(msg)


def covered(table: Table, footprint: shapely.Geometry, least: float) -> Mask:
    """Return which windows lie in a footprint to at least some share."""
    share = shares(table.astype("float64"), footprint)
    return np.asarray(share > 0 if least <= 0 else share >= least - 1e-9)
