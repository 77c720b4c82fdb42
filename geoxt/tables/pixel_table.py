"""`extract`: a table of pixel values at points, of the pixels in polygons, or reduced over each polygon."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs, transformer
from geoxt.errors import CRSError, InputError, NodataWarning, OverlapError, optional_import
from geoxt.footprints import to_pixels
from geoxt.regions.rasterize import in_pixels, rectangles
from geoxt.tables.layer_values import LayerValues, embedding_attrs, radiometry_of
from geoxt.trees import SomeData, nodes_of
from geoxt.types import Array, Floats

Reduction = Literal["count", "mean", "median", "min", "max", "std", "sum", "mode"]
"""Statistic of the valid pixels of a polygon."""
REDUCTIONS: Mapping[str, Callable[[Any], Any]] = {
    "count": lambda groups: groups.count(),
    "mean": lambda groups: groups.mean(),
    "median": lambda groups: groups.median(),
    "min": lambda groups: groups.min(),
    "max": lambda groups: groups.max(),
    "std": lambda groups: groups.std(ddof=0),
    "sum": lambda groups: groups.sum(min_count=1),
    "mode": lambda groups: groups.agg(lambda values: values.mode().min()),
}
"""Functions of pandas groups by reduction; `std` is of the population, `mode` the smallest of several modes."""
_KEYS = ("item", "node", "time")
"""Columns of a table of pixels beside its bands: position of the geometry, node and time step."""
_POINT, _AREAS = 0, {3, 6}
"""Shapely's type ids of points, and of polygons and multipolygons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pixels:
    """Pixels of one node, and the row of the geometries that each belongs to."""

    layers: LayerValues
    item: Array
    """Position of the geometry of each pixel. Shape (n,)."""
    pixels: Array
    """Row and column. Shape (n, 2)."""
    at_pixels: Floats
    """Values (n, time, band); NaN where not valid."""


def extract(data: SomeData, geometries: Any, *, reduce: Reduction | Sequence[Reduction] | None = None) -> Any:
    """Return a table of the pixel values at points or in polygons.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, or a tree of these. In a tree, the values of a point are from the
        first node with a valid pixel there, those of a polygon from the node with most pixels, unless all are invalid.
    geometries
        GeoDataFrame or GeoSeries of points, or of polygons, in any CRS. Other columns, such as class labels, are
        copied to the result.
    reduce
        Statistics of the valid pixels of each polygon: "count", "mean", "median", "min", "max", "std" (of the
        population), "sum", "mode", or a list of these; not for points. By default the result has a row for each pixel.

    Returns
    -------
    geopandas.GeoDataFrame
        Computed, in the CRS of the geometries, with their index and columns, and a column per band: float32 if that is
        exact, else float64; NaN for pixels that are not valid, never the nodata value. With a list of reductions, a
        column for each band and reduction, such as "red_mean".

        A row for each point; for each polygon if reduced; else for each pixel whose center lies in a polygon, with the
        index of the polygon and the center as geometry. If layers have a time dimension, the table is in long form: a
        row for each of these and each time step, and the column "time". For a tree, the column "node" names the node.

        The attribute `attrs["bands"]` lists the columns of bands.

    Raises
    ------
    InputError
        If geometries are neither all points nor all polygons, or are missing; if columns have the name of a band; if
        nodes of a tree have different bands; or if layers are embeddings of different models or versions.
    CRSError
        If the geometries have no CRS.
    MissingDependency
        If geopandas is not installed.

    Warns
    -----
    NodataWarning
        If points or polygons lie outside the layer or on nodata; the message states their number.

    Notes
    -----
    Points are sorted by blocks of 512 x 512 pixels, or by the chunks of a layer that dask computes, so that each block
    is read once; blocks of remote files are read concurrently. Memory holds the table and some blocks. A point
    on the edge of two pixels belongs to the right or lower one.

    Examples
    --------
    >>> import geopandas, numpy as np
    >>> from geoxt.testing import make_layer
    >>> values = np.arange(6.0, dtype="float32").reshape(1, 2, 3)
    >>> image = make_layer(values, bands=["red"], left=0, top=20, resolution=10)
    >>> points = geopandas.GeoDataFrame(
    ...     {"class": ["water", "forest"]}, geometry=geopandas.points_from_xy([5, 25], [15, 5]), crs=image.odc.crs
    ... )
    >>> extract(image, points)[["class", "red"]]
        class  red
    0   water  0.0
    1  forest  5.0
    >>> extract(image, points.buffer(20), reduce="mean")["red"].tolist()
    [2.0, 3.0]
    """
    with optional_import("geopandas", "vector", "extract a table of pixels"):
        import geopandas as gpd
    frame = _frame(geometries, gpd)
    areal = _is_areal(frame)
    reductions = _reductions(reduce, areal=areal)
    attrs = {**embedding_attrs(data), "radiometry": radiometry_of(data)}
    nodes = {node: LayerValues.of(ds) for node, ds in nodes_of(data).items()}
    names = _names(nodes, frame, reductions)
    parts = _in_polygons(frame, nodes) if areal else _at_points(frame, nodes)
    covered = np.concatenate([part.item for part in parts])
    _warn(frame, parts, covered, "polygons" if areal else "points")
    if not areal or reductions is not None:
        parts.append(_rows_of_nan(np.setdiff1d(np.arange(len(frame)), covered), nodes))
    table = _table(parts, [*nodes, None], names)
    centers = None
    if areal and reductions is None:
        centers = np.concatenate([np.repeat(_centers(part, frame.crs), part.layers.steps) for part in parts])
    elif areal:
        table = _reduce(table, names, reductions or (), single=isinstance(reduce, str))
    dated = any(layers.times is not None for layers in nodes.values())
    leading = ["node"] * (list(nodes) != [""]) + ["time"] * dated
    columns = [str(column) for column in table.columns if column not in _KEYS]
    order = np.argsort(table["item"].to_numpy(), kind="stable")
    result = frame.iloc[table["item"].to_numpy()[order]].copy()
    if centers is not None:
        result[frame.geometry.name] = gpd.array.from_shapely(centers[order], crs=frame.crs)
    values = table.iloc[order][[*leading, *columns]].set_axis(result.index)
    result = gpd.GeoDataFrame(pd.concat([result, values], axis=1), geometry=frame.geometry.name, crs=frame.crs)
    result.attrs |= {"bands": columns, **attrs}
    return result


def _frame(geometries: Any, gpd: Any) -> Any:
    """Return geometries as a GeoDataFrame."""
    if not isinstance(geometries, (gpd.GeoDataFrame, gpd.GeoSeries)):
        msg = f"Cannot extract pixels at a {type(geometries).__name__}."
        raise InputError(msg, remedy="Pass {geometries}, a GeoDataFrame or GeoSeries.", argument="geometries")
    frame = geometries
    if isinstance(frame, gpd.GeoSeries):
        frame = gpd.GeoDataFrame(geometry=frame)
    if frame.crs is None:
        msg = "Cannot extract pixels at geometries without a CRS."
        raise CRSError(msg, remedy="Set it: points.set_crs('EPSG:…').", argument="geometries")
    if not len(frame):
        msg = "Cannot extract pixels: there are no geometries."
        raise InputError(msg, remedy="Pass {geometries} of one row or more.", argument="geometries")
    missing = frame.geometry.isna() | frame.geometry.is_empty
    if missing.any():
        msg = f"Cannot extract pixels: {int(missing.sum())} of {len(frame)} geometries are missing."
        raise InputError(msg, remedy="Leave them out of {geometries}.", argument="geometries")
    return frame


def _is_areal(frame: Any) -> bool:
    """Return whether the geometries are polygons; points otherwise."""
    kinds = set(shapely.get_type_id(frame.geometry.to_numpy()).tolist())
    if kinds == {_POINT}:
        return False
    if kinds <= _AREAS:
        return True
    names = ", ".join(sorted(frame.geometry.geom_type.unique()))
    msg = f"Cannot extract pixels at geometries of the types {names}."
    raise InputError(msg, remedy="Pass {geometries}, all points or all polygons.", value=names, argument="geometries")


def _reductions(reduce: Any, *, areal: bool) -> tuple[str, ...] | None:
    """Return the names of reductions."""
    if reduce is None:
        return None
    names = (reduce,) if isinstance(reduce, str) else tuple(reduce)
    unknown = [name for name in names if name not in REDUCTIONS]
    if unknown or not names or not areal:
        reason = "points have one pixel each" if not areal else "there is no such reduction"
        msg = f"Cannot reduce pixels by {reduce!r}: {reason}."
        remedy = f"Pass {{reduce}}, some of {', '.join(REDUCTIONS)}." if areal else "Leave {reduce} out."
        raise InputError(msg, remedy=remedy, value=reduce, argument="reduce")
    return names


def _names(nodes: Mapping[str, LayerValues], frame: Any, reductions: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the band names, after checks that all nodes have them, and that no column of the geometries does."""
    first, *others = nodes.items()
    for node, layers in others:
        if layers.names != first[1].names:
            msg = f"Cannot make one table: the bands of node {first[0]!r} are {', '.join(first[1].names)}, those of "
            msg += f"node {node!r} are {', '.join(layers.names)}."
            raise InputError(msg, remedy="Select equal bands of all nodes.", argument="data")
    columns = {*first[1].names, *(f"{name}_{r}" for name in first[1].names for r in reductions or ())}
    columns |= {"time"} if any(layers.times is not None for layers in nodes.values()) else set()
    columns |= {"node"} if list(nodes) != [""] else set()
    repeated = sorted(columns & {str(column) for column in frame.columns})
    if repeated:
        msg = f"Cannot add the columns {repeated} to geometries that have columns of these names."
        raise InputError(msg, remedy="Rename or drop these columns of {geometries}.", argument="geometries")
    return first[1].names


def _at_points(frame: Any, nodes: Mapping[str, LayerValues]) -> list[_Pixels]:
    """Return the pixel of each point in the first node that is valid there, else in the first that covers it."""
    xy = shapely.get_coordinates(frame.geometry.to_numpy())
    remaining = np.arange(len(xy))
    covering, parts = np.full(len(xy), -1), []
    for number, layers in enumerate(nodes.values()):
        pixels, inside = _pixels_at(xy[remaining], frame.crs, layers.grid)
        item, pixels = remaining[inside], pixels[inside]
        values = layers.read(pixels)
        parts.append(_Pixels(layers=layers, item=item, pixels=pixels, at_pixels=values))
        valid = _is_valid(parts[-1])
        covering[item] = np.where(covering[item] < 0, number, covering[item])
        covering[item[valid]] = number
        remaining = np.setdiff1d(remaining, item[valid])
    on_nodata = [part.item[~_is_valid(part)] for part in parts]
    return [
        _subset(part, ~np.isin(part.item, invalid[covering[invalid] != number]))
        for number, (part, invalid) in enumerate(zip(parts, on_nodata, strict=True))
    ]


def _pixels_at(xy: Floats, crs: Any, grid: GeoBox) -> tuple[Array, Array]:
    """Return row and column (n, 2) of the pixels that contain points, and which of them lie in the grid."""
    source = parse_crs(crs)
    if source != grid.crs:
        xy = np.c_[transformer(source, grid.crs).transform(xy[:, 0], xy[:, 1])]
    pixels = to_pixels(grid)(xy)[:, ::-1]
    with np.errstate(invalid="ignore"):
        inside = np.asarray(((pixels >= 0) & (pixels < grid.shape)).all(axis=1))
    return np.floor(np.where(inside[:, None], pixels, -1)).astype("int64"), inside


def _subset(part: _Pixels, index: Array) -> _Pixels:
    return _Pixels(
        layers=part.layers, item=part.item[index], pixels=part.pixels[index], at_pixels=part.at_pixels[index]
    )


def _in_polygons(frame: Any, nodes: Mapping[str, LayerValues]) -> list[_Pixels]:
    """Return the pixels whose centers lie in each polygon: of the node with most of them, unless all are invalid."""
    inside = [[_pixels_in(polygon, frame.crs, layers.grid) for polygon in frame.geometry] for layers in nodes.values()]
    counts = np.array([[len(pixels) for pixels in of_node] for of_node in inside])
    parts_of_nodes: list[list[_Pixels]] = [[] for _ in nodes]
    remaining = np.flatnonzero(counts.any(axis=0))
    while len(remaining):
        node_of, again = counts[:, remaining].argmax(axis=0), []
        for number, layers in enumerate(nodes.values()):
            items = remaining[node_of == number]
            part = _part_of(layers, items, [inside[number][item] for item in items])
            valid = np.isin(items, part.item[_is_valid(part)])
            counts[number, items] = 0
            final = valid | ~counts[:, items].any(axis=0)
            again.append(items[~final])
            parts_of_nodes[number].append(_subset(part, np.isin(part.item, items[final])))
        remaining = np.concatenate(again)
    return [_merge_nodes(layers, parts) for layers, parts in zip(nodes.values(), parts_of_nodes, strict=True)]


def _part_of(layers: LayerValues, items: Array, pixels_of_items: list[Array]) -> _Pixels:
    pixels = np.concatenate([np.empty((0, 2), "int64"), *pixels_of_items])
    item = np.repeat(items, list(map(len, pixels_of_items)))
    return _Pixels(layers=layers, item=item, pixels=pixels, at_pixels=layers.read(pixels))


def _merge_nodes(layers: LayerValues, parts: list[_Pixels]) -> _Pixels:
    parts = parts or [_part_of(layers, np.empty(0, "int64"), [])]
    item, pixels, values = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("item", "pixels", "at_pixels")
    )
    return _Pixels(layers=layers, item=item, pixels=pixels, at_pixels=values)


def _is_valid(part: _Pixels) -> Array:
    """Return which pixels have a valid band at any time step."""
    return np.asarray(~np.isnan(part.at_pixels).all(axis=(1, 2)))


def _pixels_in(polygon: Any, crs: Any, grid: GeoBox) -> Array:
    """Return row and column (n, 2) of the pixels of a grid whose centers lie in a polygon."""
    try:
        windows = rectangles(in_pixels((polygon, crs), grid), grid)
    except (OverlapError, InputError):  # far from the grid, where the projection has no finite coordinates
        windows = ()
    pixels = [np.mgrid[w.row : w.stop[0], w.col : w.stop[1]].reshape(2, -1).T for w in windows]
    return np.concatenate([np.empty((0, 2), "int64"), *pixels])


def _centers(part: _Pixels, crs: Any) -> Array:
    """Return the centers of pixels as points in a CRS."""
    row, col = part.pixels.T + 0.5
    x, y = part.layers.grid.affine @ (col, row)
    target = parse_crs(crs)
    if target != part.layers.grid.crs:
        x, y = transformer(part.layers.grid.crs, target).transform(x, y)
    centers: Array = shapely.points(x, y)
    return centers


def _warn(frame: Any, parts: list[_Pixels], covered: Array, kind: str) -> None:
    """Warn of geometries without pixels, and of geometries on nodata."""
    covered = np.unique(covered)
    valid = np.unique(np.concatenate([part.item[_is_valid(part)] for part in parts]))
    outside, on_nodata = len(frame) - len(covered), len(covered) - len(valid)
    if outside:
        where = "lie outside the layer" if kind == "points" else "contain the center of no pixel"
        warnings.warn(f"{outside} of {len(frame)} {kind} {where}.", NodataWarning, stacklevel=3)
    if on_nodata:
        warnings.warn(f"{on_nodata} of {len(frame)} {kind} lie on nodata.", NodataWarning, stacklevel=3)


def _rows_of_nan(item: Array, nodes: Mapping[str, LayerValues]) -> _Pixels:
    """Return rows of NaN for geometries without pixels: one per time step for a single grid, one for a tree."""
    layers = next(iter(nodes.values()))
    if list(nodes) != [""]:
        layers = replace(layers, times=None)
    values = np.full((len(item), layers.steps, len(layers.names)), np.nan, layers.dtype)
    return _Pixels(layers=layers, item=item, pixels=np.full((len(item), 2), -1), at_pixels=values)


def _table(parts: list[_Pixels], nodes: list[str | None], names: tuple[str, ...]) -> pd.DataFrame:
    """Return a row for each pixel and time step: position of the geometry, node, time, and bands."""
    tables = []
    for node, part in zip(nodes, parts, strict=False):
        steps = part.layers.steps
        values = part.at_pixels.reshape(-1, len(names))
        times = np.array(["NaT"], "datetime64[ns]") if part.layers.times is None else part.layers.times
        keys = {"item": np.repeat(part.item, steps), "node": node, "time": np.tile(times, len(part.item))}
        tables.append(
            pd.concat([pd.DataFrame(keys, index=range(len(values))), pd.DataFrame(values, columns=names)], axis=1)
        )
    tables = [table for table in tables if len(table)] or tables[:1]  # pandas infers types of empty ones
    return pd.concat(tables, ignore_index=True)


def _reduce(table: pd.DataFrame, names: tuple[str, ...], reductions: Sequence[str], *, single: bool) -> pd.DataFrame:
    """Return a row for each polygon and time step."""
    groups = table.groupby(list(_KEYS), sort=False, dropna=False)[list(names)]
    columns = [
        REDUCTIONS[name](groups).rename(columns={} if single else {band: f"{band}_{name}" for band in names})
        for name in reductions
    ]
    return pd.concat(columns, axis=1).reset_index()
