"""Polygons of a class map: without seams, with a minimum mapping unit and shared borders."""

from __future__ import annotations

import tempfile
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.features
import rasterio.windows
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError, LabelError, OverlapError, optional_import
from geoxt.grid import full_window, grid_of
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import HECTARE, ground_area, pixel_area, point_areas
from geoxt.source import View, as_layer, view_of
from geoxt.types import Array, Floats
from geoxt.windows import Window

BLOCK = 2048
"""Side in pixels of the blocks in which a map is read."""
FILES = Affine(2, 0, 0, 0, -2, 0)
"""Transform of temporary files from pixels; rasterio warns of files with an identity."""
LARGE = 256
"""Pixels: extent from which the area of a polygon is computed by its outline instead of its centre."""


def polygonize(
    map: xr.DataArray | xr.Dataset,  # noqa: A002 (the map, as in `to_vector`)
    *,
    min_area: float | None = None,
    simplify: float | None = None,
    connectivity: Literal[4, 8] = 4,
    probability: xr.DataArray | xr.Dataset | None = None,
) -> Any:
    """Return the polygons of a class map: connected pixels of one class.

    The map is read once, block by block, into a temporary file; polygons have no seams at blocks or chunks. Memory
    grows with the number of polygons, and with the number of pixels if `min_area` is given (9 bytes each).

    Parameters
    ----------
    map
        Class codes (y, x).
    min_area
        Minimum mapping unit in hectares: smaller polygons are joined to their largest neighbour (GDAL's sieve filter).
        Polygons without a neighbour stay.
    simplify
        Tolerance in units of the CRS, by which outlines are simplified; polygons keep their shared borders, without
        gaps or overlaps. By default outlines follow the pixels.
    connectivity
        4: pixels are connected along their sides. 8: at their corners, too, without `simplify`; polygons that
        meet at a corner only are parts of a MultiPolygon.
    probability
        Layer on the grid of the map (y, x), such as the probability of the mapped class, to be averaged over each
        polygon.

    Returns
    -------
    geopandas.GeoDataFrame
        `code`, `class` (its name), `area` (hectares on the ellipsoid, of the pixels: before simplification), and
        `probability` (mean over valid pixels) if given; polygons in the CRS of the map, from the top down.

    Raises
    ------
    LabelError
        If the map holds no class codes.
    GridError
        If the map has several bands or dates, or the probabilities are on another grid.
    OverlapError
        If no pixel is valid.
    InputError
        If a number is negative, or the minimum area is larger than the map.
    MissingDependency
        If geopandas is not installed.

    See Also
    --------
    to_vector : Write polygons, or a map as polygons, to a file.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.writers import polygonize
    >>> codes = (np.arange(10_000).reshape(100, 100) // 5000 + 1).astype("uint8")
    >>> polygonize(make_layer(codes))["area"].round(1).tolist()
    [450.2, 450.2]

    References
    ----------
    GDAL's polygonize and sieve algorithms (https://gdal.org/en/stable/api/gdal_alg.html); Visvalingam and Whyatt 1993,
    Line generalisation by repeated elimination of points, by GEOS' coverage simplifier.
    """
    with optional_import("geopandas", "vector", "make polygons of a map"):
        import geopandas
    map = as_layer(map)  # noqa: A001 (the map, as in `to_vector`)
    probability = None if probability is None else as_layer(probability)
    view, grid = _checked_view(map, probability), grid_of(map)
    for name, number in (("min_area", min_area), ("simplify", simplify)):
        if number is not None and not (isinstance(number, Real) and 0 <= number < np.inf):
            problem = f"Cannot make polygons by {name} = {number!r}."
            raise InputError(problem, remedy=f"Pass {{{name}}} of 0 or more.", value=number, argument=name)
    size = _size(grid, min_area)
    if size > grid.shape[0] * grid.shape[1]:
        area = grid.shape[0] * grid.shape[1] * pixel_area(grid) / HECTARE
        problem = f"Cannot make polygons of at least {min_area:,.6g} hectares of a map of {area:,.6g} hectares."
        raise InputError(problem, remedy="Pass a smaller {min_area}, in hectares.", value=min_area, argument="min_area")
    if connectivity not in {4, 8} or (simplify and connectivity == 8):
        problem = f"Cannot make {'simplified ' if simplify else ''}polygons of {connectivity}-connected pixels."
        remedy = "Pass {connectivity:4}, or 8 without {simplify}."
        raise InputError(problem, remedy=remedy, value=connectivity, argument="connectivity")
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_codes(view, grid, Path(folder))
        shapes, codes = _outlines(paths, size, connectivity)
    legend = Legend.of(map) if "flag_values" in map.attrs else None
    columns: dict[str, Any] = {
        "code": codes,
        "class": [str(c) if legend is None or c not in legend.codes else legend.name(c) for c in codes.tolist()],
        "area": _areas(shapes, grid) / HECTARE,
    }
    if probability is not None:
        columns["probability"] = _means(shapes, view_of(probability), grid)
    if simplify:
        pixel = np.sqrt(abs(grid.affine.determinant))
        shapes = shapely.coverage_simplify(shapes, simplify / pixel)
    a = grid.affine
    outlines = shapely.transform(shapes, lambda p: np.stack(a @ p.T, -1))
    crs = None if grid.crs is None else grid.crs.to_wkt()
    return geopandas.GeoDataFrame(columns, geometry=outlines, crs=crs)


def _checked_view(layer: xr.DataArray, probability: xr.DataArray | None) -> View:
    """Return a view of the map, after checks of both layers."""
    if layer.dtype.kind not in "iub":
        problem = f"Cannot make polygons of a map of dtype {layer.dtype}: it holds no class codes."
        raise LabelError(problem, remedy="Predict with output='classes'. Or cast the map to integers.")
    for part in (layer,) if probability is None else (layer, probability):
        if view_of(part).shape[:2] != (1, 1):
            problem = f"Cannot make polygons of layers with {view_of(part).shape[:2]} dates and bands."
            raise GridError(problem, remedy="Select one of each with isel().")
    if probability is not None and grid_of(probability) != grid_of(layer):
        problem = "Cannot average probabilities on another grid than the map's."
        raise GridError(problem, remedy="Align them first: probability.geoml.align(map).")
    return view_of(layer)


def _write_codes(view: View, grid: GeoBox, folder: Path) -> tuple[Path, Path]:
    """Write codes and valid pixels as uncompressed files with the transform `FILES`, block by block."""
    height, width = grid.shape
    paths = folder / "codes.tif", folder / "valid.tif"
    profile = {"driver": "GTiff", "tiled": True, "bigtiff": "IF_SAFER", "transform": FILES}
    shape = {"height": height, "width": width, "count": 1}
    any_valid = False
    with (
        rasterio.open(paths[0], "w", **profile, **shape, dtype="int32") as codes_file,
        rasterio.open(paths[1], "w", **profile, **shape, dtype="uint8") as valid_file,
    ):
        for block in _blocks(full_window(grid)):
            values, valid = (part[0, 0] for part in view.read(block))
            codes = np.where(valid, values, 0).astype(np.int64)
            if np.abs(codes).max() > np.iinfo(np.int32).max:
                problem = "Cannot make polygons of class codes beyond 32 bits."
                raise LabelError(problem, remedy="Map them to smaller codes.")
            any_valid |= bool(valid.any())
            window = rasterio.windows.Window(block.col, block.row, block.width, block.height)
            codes_file.write(codes.astype(np.int32), 1, window=window)
            valid_file.write(valid.astype(np.uint8), 1, window=window)
    if not any_valid:
        raise OverlapError("Cannot make polygons: no pixel of the map is valid.", remedy="Pass another map.")
    return paths


def _blocks(window: Window) -> list[Window]:
    return [
        Window(row, col, min(BLOCK, window.height - row), min(BLOCK, window.width - col))
        for row in range(0, window.height, BLOCK)
        for col in range(0, window.width, BLOCK)
    ]


def _size(grid: GeoBox, min_area: float | None) -> int:
    """Return the minimum number of pixels of a polygon; 0 for any."""
    return 0 if not min_area else int(np.ceil(min_area * HECTARE / pixel_area(grid) - 1e-9))


def _outlines(paths: tuple[Path, Path], size: int, connectivity: int) -> tuple[Array, Array]:
    """Return polygons in pixel coordinates and their codes."""
    with rasterio.open(paths[0]) as codes_file, rasterio.open(paths[1]) as valid_file:
        source: Any = rasterio.band(codes_file, 1)
        mask: Any = rasterio.band(valid_file, 1)
        if size > 1:
            mask = valid_file.read(1)
            source, before = codes_file.read(1), None
            while before is None or not np.array_equal(source, before):  # a pass keeps polygons with small neighbours
                before = source
                source = rasterio.features.sieve(before, size, mask=mask, connectivity=connectivity)
        outlines = list(rasterio.features.shapes(source, mask=mask, connectivity=connectivity, transform=FILES))
    shapes = np.array([shapely.geometry.shape(geometry) for geometry, _ in outlines], object)
    shapes = shapely.transform(shapes, lambda p: p / (FILES.a, FILES.e))
    if connectivity == 8:  # GDAL's rings touch themselves at corners
        shapes = shapely.make_valid(shapes, method="structure", keep_collapsed=False)
    codes = np.array([int(code) for _, code in outlines], np.int64)
    left, top, _, _ = shapely.bounds(shapes).T
    order = np.lexsort((left, top))
    return shapes[order], codes[order]


def _areas(shapes: Array, grid: GeoBox) -> Floats:
    """Return ground areas in square metres of polygons in pixel coordinates."""
    centers = shapely.centroid(shapes)
    areas = shapely.area(shapes) * point_areas(grid, shapely.get_y(centers), shapely.get_x(centers))
    left, top, right, bottom = shapely.bounds(shapes).T
    for index in np.flatnonzero((np.maximum(right - left, bottom - top) > LARGE) | ~np.isfinite(areas)):
        areas[index] = ground_area(shapes[index], grid)
    return np.asarray(areas, float)


def _means(shapes: Array, view: View, grid: GeoBox) -> Floats:
    """Return the mean of a layer over the valid pixels of each polygon."""
    tree = shapely.STRtree(shapes)
    totals, counts = np.zeros(len(shapes) + 1), np.zeros(len(shapes) + 1)
    for block in _blocks(full_window(grid)):
        row, col = block.stop
        inside = tree.query(shapely.box(block.col, block.row, col, row), predicate="intersects")
        if not len(inside):
            continue
        numbered = ((shapes[index], int(index) + 1) for index in inside)
        transform = Affine.translation(block.col, block.row)
        ids = rasterio.features.rasterize(numbered, block.shape, transform=transform, dtype="int32")
        values, valid = view.read(block)
        labeled = valid[0, 0] & (ids > 0)
        totals += np.bincount(ids[labeled], values[0, 0][labeled].astype(float), len(totals))
        counts += np.bincount(ids[labeled], minlength=len(counts))
    with np.errstate(invalid="ignore"):
        return np.asarray(totals[1:] / counts[1:], float)
