"""Open vector files as lazy layers: geometries are rasterized when a window is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Unpack, overload

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name
from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import grid_of
from geoxt.layers import products
from geoxt.layers.options import VectorOptions
from geoxt.layers.products import Product
from geoxt.layers.vector.classes import coding_of, legend_of, require_free_background, smallest_dtype
from geoxt.legend import Legend
from geoxt.pixels.vector_file import Bounds, VectorHeader, read_vector_header
from geoxt.source import VectorSource, WindowFeatures, to_layer, view_of
from geoxt.source.project_geometries import bounds_in_crs
from geoxt.trees import grids_of
from geoxt.types import SomeCRS, SomePath
from geoxt.windows import Window


@overload
def open_vector(path: SomePath, *, like: xr.DataTree, **options: Unpack[VectorOptions]) -> xr.DataTree: ...
@overload
def open_vector(
    path: SomePath,
    *,
    like: xr.DataArray | xr.Dataset | None = None,
    grid: GeoBox | None = None,
    **options: Unpack[VectorOptions],
) -> xr.DataArray: ...
def open_vector(
    path: SomePath,
    *,
    like: xr.DataArray | xr.Dataset | xr.DataTree | None = None,
    grid: GeoBox | None = None,
    product: str | Product | None = None,
    layer: str | None = None,
    column: str | None = None,
    classes: Mapping[Any, int] | Sequence[Any] | None = None,
    legend: Legend | None = None,
    background: int = 0,
    nodata: int | None = None,
    all_touched: bool = False,
    by: str | None = None,
    instances: bool = False,
    source_crs: SomeCRS | None = None,
    chunks: Mapping[str, int] | int | None = None,
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open a vector file as a lazy layer of class codes, or as a tree with a layer per grid of another tree.

    The header and the class attribute are read. Geometries are not: each process reads the geometries near the grid
    once, at the first window, and rasterizes those that intersect a window.

    Parameters
    ----------
    path
        GeoPackage, GeoJSON, Shapefile, FlatGeobuf or another format of pyogrio, or a GeoParquet file (with pyarrow).
    like
        Layer that defines the grid, or a tree with a grid per node.
    grid
        Grid as a GeoBox; excludes `like`.
    product
        Name of a known product of shapes ("canadian_building_footprints"), which defines classes and CRS.
    layer
        Name of the layer in a file of several.
    column
        Attribute with the class: integers are the codes, texts get codes from 1 in sorted order (of the whole file, so
        that all grids have the same codes). By default all features have code 1.
    classes
        Codes by attribute value: a mapping, or a list of values for the codes 1, 2, and so on. Features with other
        values are left out, with a `LabelWarning` if a class has no feature; the value `None` is a missing value.
    legend
        Names and colors of the codes; by default the attribute's values, and distinct colors.
    background
        Code of pixels without a feature.
    nodata
        Code of missing pixels; by default none, and the background is a class. Pass the code of the background if the
        class between features is unknown, as of training polygons. Samplers then draw windows that hold features, and
        splits use the blocks that do.
    all_touched
        Whether polygons cover all pixels that they intersect, instead of pixels whose center they contain.
    by
        Attribute that orders overlapping features: the largest value is on top, missing values at the bottom. By
        default, and for equal values, the feature with the largest number in the file (FID) is on top.
    instances
        Whether pixels are feature numbers instead of class codes: FID plus one, in GeoParquet row plus one. They are
        the same on every grid. See `features` for boxes.
    source_crs
        CRS of a file without one.
    chunks
        Dask chunk sizes: one number for y and x, or by dimension. By default 1024 pixels.
    name
        Name of the layer; by default that of the product, else of the layer in the file.

    Returns
    -------
    xarray.DataArray
        Dimensions (y, x), dask-backed, of the smallest integer dtype for the codes (int64 for instances), with CF
        `flag_values` and `flag_meanings`, `flag_colors`, and `_FillValue` if `nodata` is given.
    xarray.DataTree
        For a tree: the children that intersect the file's extent, with the layer as a Dataset.

    Raises
    ------
    InputError
        If the file, its layer or its attribute does not exist, or has no features.
    LabelError
        If codes cannot be derived from the attribute, or a class has the code of the background.
    CRSError, OverlapError, GridError
        If the file has no CRS, does not overlap the grid, or no grid is given.
    ReadError, MissingDependency
        If the file cannot be opened, or the package that opens it is not installed.

    Notes
    -----
    A polygon covers the pixels whose center it contains (OGC simple features, DOI 10.62973/06-103r4). A center on the
    shared edge of two polygons belongs to the polygon right of or below it, without gaps or overlaps. Lines and points
    cover the pixels that they intersect. Invalid polygons are repaired by `shapely.make_valid`. Edges are straight in
    the file's CRS; on another CRS's grid they are split until they deviate by less than 1/64 pixel. Aligning the layer
    rasterizes it again on the other grid.

    Examples
    --------
    >>> import geoxt
    >>> mask = geoxt.open_vector("fields.gpkg", like=image, column="crop")  # doctest: +SKIP
    >>> pair = geoxt.intersection(image=image, mask=mask)  # doctest: +SKIP
    """
    if not isinstance(path, str | PathLike):
        problem = f"Cannot open a {type(path).__name__} as a vector file."
        raise InputError(
            problem, remedy="Pass {path}; write a GeoDataFrame by its to_file('features.gpkg').", argument="path"
        )
    targets = _grids(like, grid)
    product = _vector_product(product, path)
    if source_crs is None and product is not None:
        source_crs = product.crs
    header = read_vector_header(path, layer=layer, crs=source_crs)
    targets = _overlapping_grids(header, targets)
    _require_column(header, column, "column")
    _require_column(header, by, "by")
    if legend is None and product is not None:
        legend = product.legend
    name = name or (product.name if product else header.layer or Path(header.path).stem)
    title = product.title if product else name
    coding = coding_of(header, column, classes, legend, title)
    require_free_background(coding, background, header)
    codes = [*coding.names, background, *([] if nodata is None else [nodata])]
    attrs: dict[Any, Any] = {"long_name": title}
    source = VectorSource(
        file=header, grid=next(iter(targets.values())), dtype=np.dtype("int64") if instances else smallest_dtype(codes),
        column=column, classes=coding.codes, by=by, instances=instances, all_touched=all_touched, background=background,
        nodata=None if nodata is None else float(nodata),
    )  # fmt: skip
    if instances:
        attrs["flag_values"] = np.empty(0, source.dtype)
    else:
        attrs |= legend_of(coding, background, nodata, legend).attrs()
    if nodata is not None:
        attrs["_FillValue"] = source.dtype.type(nodata).item()
    layers = {
        node: to_layer(source.onto(target), dims=["y", "x"], coords={}, attrs=attrs, name=name, chunks=chunks)
        for node, target in targets.items()
    }
    if not isinstance(like, xr.DataTree):
        return layers[""]
    return xr.DataTree.from_dict({node: node_layer.to_dataset() for node, node_layer in layers.items()})


def features(layer: xr.DataArray, window: Window) -> WindowFeatures:
    """Return the features of a vector layer in a window: ids, class codes, boxes and geometries.

    Parameters
    ----------
    layer
        Layer of `open_vector`, possibly cut or aligned.
    window
        Window of the layer's grid, as samplers yield.

    Returns
    -------
    WindowFeatures
        In drawing order; geometries are clipped to the window.

    Raises
    ------
    InputError
        If the layer was not opened by `open_vector`.

    Examples
    --------
    >>> import geoxt  # doctest: +SKIP
    >>> mask = geoxt.open_vector("fields.gpkg", like=image, column="crop")  # doctest: +SKIP
    >>> geoxt.layers.features(mask, geoxt.Window(0, 0, 256, 256)).codes  # doctest: +SKIP
    """
    view = view_of(layer)
    if not isinstance(view.source, VectorSource):
        problem = f"Cannot find the features of {layer.name!r}: its pixels do not come directly from a vector file."
        raise InputError(problem, remedy="Pass a layer of open_vector().")
    return view.source.features(window.shift(view.window.row, view.window.col))


def _grid(like: xr.DataArray | xr.Dataset | None, grid: GeoBox | None) -> GeoBox:
    if (like is None) == (grid is None):
        count = "neither" if like is None else "both"
        problem = f"Cannot choose the grid of the layer: {count} of like and grid is given."
        raise GridError(problem, remedy="Pass either {like}, a layer, or {grid}.")
    target = grid_of(like if grid is None else grid)  # type: ignore[arg-type]
    if target.crs is None:
        problem = f"Cannot rasterize features on a grid of {target.shape[0]} x {target.shape[1]} pixels without a CRS."
        raise GridError(problem, remedy="Pass {grid} with a CRS.")
    return target


def _grids(like: xr.DataArray | xr.Dataset | xr.DataTree | None, grid: GeoBox | None) -> dict[str, GeoBox]:
    """Return the grids to draw on by node; a single grid has the node name ""."""
    if isinstance(like, xr.DataTree) and grid is None:
        return grids_of(like)
    return {"": _grid(like, grid)}  # type: ignore[arg-type]  # raises for both


def _overlapping_grids(header: VectorHeader, grids: dict[str, GeoBox]) -> dict[str, GeoBox]:
    """Return the grids that overlap the features' extent; raise if none does."""
    overlapping, last_error = {}, None
    for node, grid in grids.items():
        try:
            _require_features(header, grid)
            overlapping[node] = grid
        except OverlapError as error:
            last_error = error
    if not overlapping and last_error is not None:
        raise last_error
    return overlapping


def _vector_product(product: str | Product | None, path: SomePath) -> Product | None:
    product = products.resolve(product)
    if product is None:
        return None
    if product.kind != "shapes":
        problem = f"Cannot open {str(path)!r} as {product.name}: it is a product of raster files ({product.kind})."
        raise InputError(problem, remedy="Use open_cogs() for it.")
    if product.identify(path) is None:
        problem = f"Cannot take {str(path)!r} as {product.name}: its name is not of the form {product.patterns[0]}."
        raise InputError(problem, remedy="Open it without {product}.")
    return product


def _require_features(header: VectorHeader, grid: GeoBox) -> None:
    """Raise if there are no features, or their extent does not overlap the grid."""
    where = f"{header.path!r}" + (f", layer {header.layer!r}," if header.layer else "")
    if not header.count:
        problem = f"Cannot rasterize {where}: it has no features."
        raise InputError(problem, remedy="Pass a file with features, or another {layer}.")
    grid_bounds, file_bounds = bounds_in_crs(grid, header.crs), header.bounds
    if grid_bounds is not None and (file_bounds is None or _intersect(grid_bounds, file_bounds)):
        return
    lies = f"lies in {_short(file_bounds)}" if file_bounds else "lies elsewhere"
    grid_lies = f"in {_short(grid_bounds)}" if grid_bounds else "outside the domain of this CRS"
    problem = f"Cannot rasterize {where} on the grid: it {lies} ({crs_name(header.crs)}), the grid {grid_lies}."
    raise OverlapError(problem, remedy="Pass {like}, a layer of the same area.")


def _intersect(a: Bounds, b: Bounds) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _short(bounds: Bounds) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.6g} to {right:.6g}, y {bottom:.6g} to {top:.6g}"


def _require_column(header: VectorHeader, column: str | None, argument: str) -> None:
    if column is not None and column not in header.columns:
        problem = f"Cannot find the attribute {column!r} in {header.path!r}: it has {list(header.columns)}."
        raise InputError(
            problem, remedy=f"Pass {{{argument}}}, an attribute of the file.", value=column, argument=argument
        )
