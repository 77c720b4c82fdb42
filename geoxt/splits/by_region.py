"""Splits by regions: a region for each part, or the rows of a table of areas by one of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError, OverlapError
from geoxt.regions.rasterize import SomeRegion, has_crs, in_pixels, rasterize
from geoxt.regions.region import GridRegion, Region
from geoxt.splits.balance import apportion
from geoxt.splits.block_lattice import HALF_DIAGONAL
from geoxt.splits.by_block import parse_buffer, require_fractions
from geoxt.splits.checks import check
from geoxt.splits.split import Split
from geoxt.splits.split_files import PARTS
from geoxt.trees import SomeData, grids_of


def by_region(
    data: SomeData,
    *,
    train: SomeRegion,
    val: SomeRegion | None = None,
    test: SomeRegion | None = None,
    buffer: int = 0,
) -> Split:
    """Split data by regions, such as counties, catchments, or the west and the east.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these.
    train, val, test
        A GeoDataFrame, (geometry, crs), or bounds or a geometry in the CRS of the layer; a part may be left out. A
        pixel belongs to the part that contains its centre; in a tree, to the part that contains all of it, so that
        parts do not overlap where nodes do.
    buffer
        Pixels removed along the edge of every region.

    Returns
    -------
    Split
        Regions that share no pixel, and in a tree do not overlap; windows lie entirely inside them.

    Raises
    ------
    InputError
        If regions overlap, or state no CRS for a tree.
    OverlapError
        If a region contains no pixel of the data.

    Examples
    --------
    >>> counties = geopandas.read_file("counties.gpkg").set_index("name")  # doctest: +SKIP
    >>> split = by_region(layer, train=counties.loc[["Wake"]], test=counties.loc[["Orange"]])  # doctest: +SKIP
    """
    buffer = parse_buffer(buffer, "regions")
    grids = grids_of(data)
    split = Split(
        train=_part("train", train, grids, buffer),
        val=_part("val", val, grids, buffer),
        test=_part("test", test, grids, buffer),
    )
    check(split)
    return split


def _part(name: str, region: SomeRegion | None, grids: Mapping[str, GeoBox], buffer: int) -> Region:
    """Return the region of one part on all nodes; in a node that it does not overlap, it is empty."""
    nodes = {node: GridRegion(grid, (), joined=True, margin=buffer) for node, grid in grids.items()}
    if region is None:
        return Region(nodes)
    first_error: OverlapError | None = None
    for node, grid in grids.items():
        try:
            nodes[node] = _node_part(name, region, node, grid, buffer)
        except OverlapError as error:
            first_error = first_error or error
    if not any(nodes.values()) and first_error is not None:
        if list(grids) == [""]:
            raise first_error
        raise OverlapError(
            f"Cannot split: the region for {name} holds no pixel of the nodes {list(grids)}.",
            remedy=f"Pass {{{name}:(geometry, crs)}} that overlaps them.",
            argument=name,
        )
    return Region(nodes)


def _node_part(name: str, region: SomeRegion, node: str, grid: GeoBox, buffer: int) -> GridRegion:
    """Return the region of one part on one grid."""
    if isinstance(region, Region) and list(region.nodes) != [""] and node not in region.nodes:
        raise OverlapError(
            f"Cannot split: the region for {name} is of the nodes {list(region.nodes)}, not of {node!r}.",
            remedy=f"Pass {{{name}}} with a region of {node!r}, too.",
            argument=name,
        )
    if isinstance(region, Region) and node in region.nodes:
        region = region.nodes[node]
    elif node and (isinstance(region, (Region, GridRegion)) or not has_crs(region)):
        raise InputError(
            f"Cannot place the region for {name} in a tree: its nodes have several CRSs.",
            remedy=f"Pass {{{name}:(geometry or bounds, crs)}}, or a GeoDataFrame with a CRS.",
            argument=name,
        )
    if isinstance(region, GridRegion):
        return replace(region.on(grid), margin=buffer if region.margin is None else region.margin)
    geometry = in_pixels(region, grid)
    if buffer:
        # the farthest corner of a square of `buffer` pixels is at buffer * sqrt(2); one more as centres stand for
        # pixels
        geometry = shapely.buffer(geometry, -(buffer * 2**0.5 + 1))
    elif node:
        geometry = shapely.buffer(geometry, -HALF_DIAGONAL)  # whole pixels, since other nodes have other pixels
    return replace(rasterize(geometry, grid, name=name), joined=True, margin=buffer)


def by_column(
    data: SomeData,
    frame: Any,
    column: str,
    *,
    parts: Mapping[str, Iterable[Any]] | None = None,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    buffer: int = 0,
    seed: int = 0,
) -> Split:
    """Split data by a column of a table of areas, so that rows with equal values belong to the same part.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these.
    frame
        A GeoDataFrame of areas.
    column
        Name of the column: with the values "train", "val" and "test", or a farm, a county, a year.
    parts
        The values of each part, {"train": […], "val": […], "test": […]}; rows with other values are left out. By
        default, a column of train, val and test is used unchanged, and other values are assigned at random.
    fractions
        Fractions of the values for each part, if they are assigned at random.
    buffer
        Pixels removed along the edge of every region.
    seed
        Seed of the random assignment.

    Raises
    ------
    InputError
        If the table lacks the column, or areas of two parts overlap.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> import geopandas as gpd
    >>> from shapely.geometry import box
    >>> from geoxt.splits import by_column
    >>> layer = make_layer(np.zeros((8, 12)), left=0, top=80, resolution=10)
    >>> areas = [box(0, 0, 40, 80), box(40, 0, 80, 80), box(80, 0, 120, 80)]
    >>> farms = gpd.GeoDataFrame({"part": ["train", "val", "test"]}, geometry=areas, crs=layer.odc.crs)
    >>> by_column(layer, farms, "part").test.pixels
    32
    """
    if column not in frame.columns:
        raise InputError(
            f"Cannot split by the column {column!r}: the table has {list(map(str, frame.columns))}.",
            remedy="Pass the name of an existing column as {column}.",
            argument="column",
        )
    values = frame[column].to_numpy()
    part_values = _values_of_parts(column, sorted(set(values.tolist()), key=str), parts, fractions, seed)
    regions = {name: frame[np.isin(values, selected)] if selected else None for name, selected in part_values.items()}
    return by_region(data, train=regions["train"], val=regions["val"], test=regions["test"], buffer=buffer)


def _values_of_parts(
    column: str, values: list[Any], parts: Mapping[str, Iterable[Any]] | None, fractions: Sequence[float], seed: int
) -> dict[str, list[Any]]:
    """Return the column values of each part."""
    if parts is not None:
        _require_known_parts(column, values, parts)
        return {name: list(parts.get(name, ())) for name in PARTS}
    if set(values) <= set(PARTS):
        return {name: [name] if name in values else [] for name in PARTS}
    require_fractions(fractions)
    counts = apportion(len(values), fractions)
    if sum(counts) != len(values):
        raise InputError(
            f"Cannot divide the {len(values)} values of {column!r} by fractions={tuple(fractions)}: a part gets none.",
            remedy="Pass {parts} by hand.",
            argument="fractions",
        )
    order = np.random.default_rng([seed, 11]).permutation(len(values))
    ends = np.cumsum([0, *counts])
    return {name: [values[i] for i in order[ends[p] : ends[p + 1]]] for p, name in enumerate(PARTS)}


def _require_known_parts(column: str, values: list[Any], parts: Mapping[str, Iterable[Any]]) -> None:
    """Raise for unknown names of parts and values that the column lacks."""
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise InputError(
            f"Cannot split {column!r} into {sorted(parts)}: {unknown[0]!r} is not a part.",
            remedy=f"Name them {PARTS}.",
            argument="parts",
        )
    missing = [value for part_values in parts.values() for value in part_values if value not in values]
    if missing:
        raise InputError(
            f"Cannot split {column!r} into {sorted(parts)}: {missing[0]!r} is not one of its values {values[:20]}.",
            remedy="Pass {parts} of these values.",
            argument="parts",
        )
