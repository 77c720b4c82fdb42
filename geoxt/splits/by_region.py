"""Splits by place: a region for each part, or the rows of a table by one of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.regions.rasterize import SomeRegion, area, in_pixels, states_crs
from geoxt.regions.region import Region, TreeRegion
from geoxt.splits.balance import deal
from geoxt.splits.block_lattice import HALF
from geoxt.splits.checks import check
from geoxt.splits.split import Split
from geoxt.splits.split_files import PARTS
from geoxt.splits.tree_split import TreeSplit
from geoxt.trees import grids_of


def by_region(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    train: SomeRegion,
    val: SomeRegion | None = None,
    test: SomeRegion | None = None,
    buffer: int = 0,
) -> Split | TreeSplit:
    """Split a grid by regions: such as counties, catchments, or the west and the east.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these.
    train, val, test
        For each part a GeoDataFrame, (geometry, crs), or bounds or a geometry in the CRS of the layer; a part may be
        left out. A pixel belongs to the part in which its centre lies; of a tree, to that in which all of it lies, so
        that no ground is shared where children overlap.
    buffer
        Pixels taken off every region along its edge.

    Returns
    -------
    Split
        Regions that share no pixel; windows lie wholly in them.
    TreeSplit
        Of a tree: regions of each child that share no ground with those of others.

    Raises
    ------
    InputError
        Where regions overlap.
    OverlapError
        Where one holds no pixel of the grid.
    """
    if buffer < 0:
        msg = f"Cannot keep regions apart by buffer={buffer}: pass pixels, 0 or more."
        raise InputError(msg)
    given = dict(zip(PARTS, (train, val, test), strict=True))
    if isinstance(data, xr.DataTree):
        split: Split | TreeSplit = _over_tree(data, given, buffer)
    else:
        grid = grid_of(data)
        split = _split({name: _part(name, region, grid, buffer) for name, region in given.items()})
    check(split)
    return split


def _over_tree(tree: xr.DataTree, given: Mapping[str, SomeRegion | None], buffer: int) -> TreeSplit:
    """Return the split of a tree: of each child the pixels that lie wholly in a part's region."""
    grids = grids_of(tree)
    found: dict[str, dict[str, Region]] = {node: {} for node in grids}
    for name, region in given.items():
        for node, grid in grids.items():
            found[node][name] = _in_child(name, region, node, grid, buffer)
        if region is not None and not any(found[node][name] for node in grids):
            msg = f"Cannot split: the region for {name} holds no pixel of the children {list(grids)}. "
            raise OverlapError(msg + f"Pass {name}=(geometry, crs) that overlaps them.")
    return TreeSplit(children={node: _split(parts) for node, parts in found.items()})


def _split(parts: Mapping[str, Region]) -> Split:
    return Split(train=parts["train"], val=parts["val"], test=parts["test"])


def _in_child(name: str, region: SomeRegion | None, node: str, grid: GeoBox, buffer: int) -> Region:
    if isinstance(region, TreeRegion):
        region = region.parts.get(node)
    elif region is not None and (isinstance(region, Region) or not states_crs(region)):
        msg = f"Cannot place the region for {name} in a tree: its children have several CRSs."
        raise InputError(msg + f" Pass {name}=(geometry or bounds, crs), or a GeoDataFrame with a CRS.")
    try:
        return _part(name, region, grid, buffer, inner=HALF)
    except OverlapError:
        return Region(grid, (), joined=True, margin=buffer)


def by_column(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    frame: Any,
    column: str,
    *,
    parts: Mapping[str, Iterable[Any]] | None = None,
    shares: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    seed: int = 0,
) -> Split | TreeSplit:
    """Split a grid by a column of a table of areas: rows with the same value stay together.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these.
    frame
        A GeoDataFrame of areas.
    column
        Its column to split by: one that says "train", "val" or "test", or a farm, a county, a year.
    parts
        The values of each part, {"train": […], "val": […], "test": […]}; rows with others are left out. By default, a
        column that says train, val and test is taken at its word, and the values of any other are dealt at random.
    shares
        Of the values, where they are dealt.
    buffer
        Pixels taken off every region along its edge.
    seed
        The same seed deals alike.

    Raises
    ------
    InputError
        Where the table has no such column, or areas of two parts overlap.
    """
    if column not in frame.columns:
        msg = (
            f"Cannot split by the column {column!r}: the table has {list(map(str, frame.columns))}. Pass one of these."
        )
        raise InputError(msg)
    values = frame[column].to_numpy()
    chosen = _values(column, sorted(set(values.tolist()), key=str), parts, shares, seed)
    regions = {name: frame[np.isin(values, list(own))] if own else None for name, own in chosen.items()}
    return by_region(data, train=regions["train"], val=regions["val"], test=regions["test"], buffer=buffer)


def _values(
    column: str, found: list[Any], parts: Mapping[str, Iterable[Any]] | None, shares: Sequence[float], seed: int
) -> dict[str, list[Any]]:
    """Return the values of each part."""
    if parts is not None:
        strange = set(parts) - set(PARTS)
        lost = [v for own in parts.values() for v in own if v not in found]
        if strange or lost:
            msg = f"Cannot split {column!r} into {sorted(parts)}: {(sorted(strange) or lost)[0]!r} is no "
            raise InputError(msg + (f"part. Name them {PARTS}." if strange else f"value of it. It has {found[:20]}."))
        return {name: list(parts.get(name, ())) for name in PARTS}
    if set(found) <= set(PARTS):
        return {name: [name] if name in found else [] for name in PARTS}
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        msg = f"Cannot split into shares={tuple(shares)}: pass three shares that add up to 1."
        raise InputError(msg)
    counts = deal(len(found), shares)
    if sum(counts) != len(found):
        msg = f"Cannot deal the {len(found)} values of {column!r} into shares={tuple(shares)}: a part gets none. Pass "
        raise InputError(msg + "parts=… by hand.")
    order = np.random.default_rng([seed, 11]).permutation(len(found))
    ends = np.cumsum([0, *counts])
    return {name: [found[i] for i in order[ends[p] : ends[p + 1]]] for p, name in enumerate(PARTS)}


def _part(name: str, region: SomeRegion | None, grid: GeoBox, buffer: int, inner: float = 0.0) -> Region:
    """Return the region of one part; pixels whose centre lies less than `inner` from its edge are left out."""
    if region is None:
        return Region(grid, (), joined=True, margin=buffer)
    if isinstance(region, Region):
        return replace(region.on(grid), margin=buffer if region.margin is None else region.margin)
    geometry = in_pixels(region, grid)
    if buffer or inner:
        # the far corner of a square of pixels lies at the root of two; one more for centres that stand for pixels
        geometry = shapely.buffer(geometry, -(buffer * 2**0.5 + 1 if buffer else inner))
    return replace(area(geometry, grid, what=name), joined=True, margin=buffer)
