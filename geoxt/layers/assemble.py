"""Assemble scenes to a lazy layer: one CRS, resolution and grid, grouped into time steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.crs import common_crs, crs_name, parse_crs
from geoxt.errors import CRSError, GridError, InputError
from geoxt.grid import grid_of, snap_grid
from geoxt.layers.area import Area
from geoxt.layers.extent import bounds_in, pixel_size_in
from geoxt.layers.radiometry import attrs_of, require_common_scale
from geoxt.layers.time import Composite, GroupBy, sort_steps, steps_of
from geoxt.legend import Legend
from geoxt.pixels.credentials import Credentials
from geoxt.source import Mosaic, Scene, mark_interpolated, to_layer
from geoxt.source.embedding_attrs import require_whole_vectors
from geoxt.source.fill import covers, free_fill, has_invalid
from geoxt.source.interpolated import source_interpolates
from geoxt.types import Floats, Resampling, SomeCRS

MAX_PIXELS = 10**14
"""Pixels of a layer on a derived grid; the Earth in pixels of 2.5 m has as many."""
MAX_SIDE = 2**31 - 1
"""Rows or columns of a layer on a derived grid; rasters of GDAL have no more."""
SAME_RESOLUTION = 1e-6
"""Relative difference below which resolutions are equal."""
SIMILAR_RESOLUTION = 0.1
"""Relative difference below which resolutions of files in CRSs other than the layer's are taken as equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMetadata:
    """Bands, classes and attributes that the scenes of a layer share."""

    bands: tuple[str, ...]
    """Names of the bands, in order."""
    legend: Legend | None = None
    """Classes, for a categorical layer."""
    attrs: Mapping[Hashable, Any] = field(default_factory=dict)
    """Attributes of the layer, beside nodata and legend."""
    coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further coordinates along the bands, such as their common names."""
    categorical: bool = False
    """Whether pixels are class codes; the layer then has no band dimension."""
    units: tuple[str, ...] = ()
    """Unit of each band's physical values."""
    unit_length: int = 0
    """Number of bands of vectors of unit length, whose averages are scaled to it; 0 for other pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """Options of openers for the grid, time steps and pixels of a layer; `None` derives them from the scenes."""

    crs: SomeCRS | None = None
    """Coordinate reference system of the layer."""
    resolution: float | tuple[float, float] | None = None
    """Pixel size in CRS units: one number, or (width, height)."""
    grid: GeoBox | None = None
    """Grid of the layer; excludes `crs` and `resolution`."""
    area: Area | None = None
    """Area to which the layer is cropped, unless `grid` is given."""
    groupby: GroupBy = "mosaic"
    """Grouping of scenes into time steps."""
    composite: Composite = "first"
    """Reduction of the scenes of a time step."""
    rescale: bool = False
    """Whether pixels become physical values: float32, NaN if missing."""
    nodata: float | None = None
    """Stored value of missing pixels, if the files state none."""
    resampling: Resampling | None = None
    """Resampling method."""
    chunks: Mapping[str, int] | int | None = None
    """Dask chunk sizes by dimension."""
    errors: Literal["raise", "nodata"] = "raise"
    """Whether a scene that cannot be read raises or gives nodata."""
    name: str | None = None
    """Name of the layer."""
    credentials: Credentials | None = None
    """Credentials to open files with."""


def requested_grid(grid: GeoBox | None, like: xr.DataArray | xr.Dataset | None) -> GeoBox | None:
    """Return the grid of an opener's `grid=` or `like=`.

    Raises
    ------
    InputError
        If both are given.
    """
    if like is None:
        return None if grid is None else grid_of(grid)
    if grid is not None:
        raise InputError("Cannot open a layer on two grids.", remedy="Pass either {like} or {grid}.", argument="like")
    return grid_of(like)


def assemble(scenes: Sequence[Scene], metadata: LayerMetadata, options: LayerOptions) -> xr.DataArray:
    """Return the lazy layer of scenes.

    Raises
    ------
    CRSError, GridError
        If the scenes differ in CRS or resolution, and `options` has none.
    """
    if not scenes:
        raise InputError("Cannot open a layer: there are no scenes.", remedy="Widen the selection.")
    _check_options(metadata, options)
    quantized = any(asset is not None and asset.quantization for scene in scenes for asset in scene.assets)
    rescale = (options.rescale or quantized) and not metadata.categorical
    steps, times = steps_of(scenes, options.groupby)
    steps, composite = sort_steps(scenes, steps, options.composite)
    grid = _grid(scenes, options)
    dtype, nodata = _dtype_and_nodata(scenes, steps, grid, options)
    if metadata.categorical and composite in {"mean", "median"}:
        remedy = "Pass {composite:'first'}, 'latest' or 'least cloudy'."
        raise InputError(f"Cannot take the {composite} of class codes.", remedy=remedy, argument="composite")
    if composite != "first" and not rescale:
        require_common_scale(scenes, steps, composite)
    source = Mosaic(
        grid=grid,
        scenes=tuple(scenes),
        steps=steps,
        bands=metadata.bands,
        dtype=np.dtype("float32") if rescale else dtype,
        nodata=float("nan") if rescale else nodata,
        resampling=options.resampling or ("nearest" if metadata.categorical else "bilinear"),
        errors=options.errors,
        composite=composite,
        rescale=rescale,
        unit_length=metadata.unit_length,
        credentials=options.credentials,
    )
    dims = ["time"] * (times is not None) + ["band"] * (not metadata.categorical) + ["y", "x"]
    coords: dict[str, Any] = {} if times is None else {"time": times}
    if not metadata.categorical:
        coords |= {"band": list(metadata.bands), **{k: ("band", list(v)) for k, v in metadata.coords.items()}}
    attrs = dict(metadata.attrs) | (metadata.legend.attrs() if metadata.legend else {})
    if metadata.categorical:
        attrs.setdefault("flag_values", np.empty(0, dtype))
    else:
        attrs |= attrs_of(scenes, metadata.units, rescale=rescale)
    if quantized:
        attrs["radiometry"] = "dequantized, as published"
    if source.nodata is not None:
        attrs["_FillValue"] = source.dtype.type(source.nodata).item()
    layer = to_layer(source, dims=dims, coords=coords, attrs=attrs, name=options.name, chunks=options.chunks)
    may_hold_codes = not metadata.categorical and dtype.kind in "iu"  # in any of its bands, which may be selected
    return mark_interpolated(layer) if may_hold_codes and source_interpolates(source) else layer


def _dtype_and_nodata(
    scenes: Sequence[Scene], steps: Sequence[Sequence[int]], grid: GeoBox, options: LayerOptions
) -> tuple[np.dtype[Any], float | None]:
    """Return the data type and the nodata value of a layer of stored pixels.

    They are those of the files if one nodata value marks all invalid pixels, or no pixel can be invalid. Otherwise the
    type is widened, so that nodata is a value of no valid pixel: `.compute()`, writers and arithmetic keep no masks.
    """
    assets = [a for s in scenes for a in s.assets if a is not None]
    dtype = np.result_type(*{a.dtype for a in assets})
    _check_type(dtype, scenes[0].id)
    _check_nodata(options.nodata, dtype)
    nodata_values = {None if a.nodata is None or np.isnan(a.nodata) else dtype.type(a.nodata).item() for a in assets}
    if len(nodata_values) == 1 and nodata_values != {None}:
        return dtype, nodata_values.pop()
    if nodata_values == {None} and (
        dtype.kind == "f"
        or (
            options.errors == "raise"
            and not has_invalid(scenes)
            and all(covers((scenes[i] for i in step), grid) for step in steps)
        )
    ):
        nodata = next((a.nodata for a in assets if a.nodata is not None), None)
        return dtype, nodata
    return free_fill(dtype)


def _check_options(metadata: LayerMetadata, options: LayerOptions) -> None:
    if options.errors not in {"raise", "nodata"}:
        problem = f"Cannot handle read errors by {options.errors!r}."
        remedy = "Pass {errors:'raise'} or 'nodata'."
        raise InputError(problem, remedy=remedy, value=options.errors, argument="errors")
    _check_resampling(metadata, options.resampling)
    require_whole_vectors(metadata.attrs, options.resampling, "resampling")
    require_whole_vectors(metadata.attrs, options.composite, "composite")


def _check_resampling(metadata: LayerMetadata, method: Resampling | None) -> None:
    if metadata.categorical and method not in {None, "nearest", "mode"}:
        problem, remedy = f"Cannot resample class codes by {method!r}.", "Pass {resampling:'nearest'} or 'mode'."
        raise InputError(problem, remedy=remedy, value=method, argument="resampling")


def _grid(scenes: Sequence[Scene], options: LayerOptions) -> GeoBox:
    if options.grid is not None:
        return options.grid
    grid = choose_grid(scenes, crs=options.crs, resolution=options.resolution, area=options.area)
    grid = grid if options.area is None else options.area.cut(grid)
    rows, cols = grid.shape
    if rows * cols > MAX_PIXELS or max(rows, cols) > MAX_SIDE:
        problem = f"Cannot open a layer of {rows} x {cols} pixels: the resolution is {_size(grid)[0]:g} units of"
        raise GridError(
            f"{problem} {crs_name(grid.crs)}.", remedy="Pass {resolution} or {grid}.", argument="resolution"
        )
    return grid


def choose_grid(
    scenes: Sequence[Scene],
    *,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    area: Area | None = None,
) -> GeoBox:
    """Return the smallest grid that covers all scenes, on the pixel lattice of the first scene in its CRS.

    If scenes extend beyond the domain of the CRS, only their parts in the area are covered.

    Raises
    ------
    CRSError
        If the scenes are in several CRSs and none is given.
    GridError
        If they have several resolutions and none is given.
    """
    grids: dict[GeoBox, str] = {}
    files: dict[GeoBox, str] = {}
    visited: set[object] = set()  # hashing a GeoBox is slow: it hashes the CRS's WKT
    for scene in scenes:
        for asset in scene.assets:
            if asset is None or id(asset.grid) in visited:
                continue
            key = id(asset.grid.crs), asset.grid.affine, *asset.grid.shape
            visited.add(id(asset.grid))
            if key not in visited:
                visited.add(key)
                grids[asset.grid] = scene.id
                files[asset.grid] = asset.href.partition("?")[0].rpartition("/")[2]
    if crs is None:
        target = common_crs((name, grid.crs) for grid, name in grids.items() if grid.crs is not None)
    else:
        target = parse_crs(crs)
    in_target = [grid for grid in grids if grid.crs == target]
    try:
        bounds = bounds_in(list(grids), target)
    except CRSError:
        if area is None:
            raise
        parts = {area.cut(grid): (grids[grid], files[grid]) for grid in grids if area.overlaps(grid)}
        grids, files = {g: scene for g, (scene, _) in parts.items()}, {g: file for g, (_, file) in parts.items()}
        in_target = [grid for grid in grids if grid.crs == target]
        bounds = bounds_in(list(grids), target)
    pixel_size = _pair(resolution) if resolution is not None else _resolution(list(grids), target, grids, files)
    lattice = [g for g in in_target if _is_axis_aligned(g) and np.allclose(_size(g), pixel_size, rtol=SAME_RESOLUTION)]
    anchor = lattice[0].affine if lattice else Affine.identity()
    if target.geographic:
        bounds = _unwrap_longitudes(bounds)
    (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    if resolution is not None and target.geographic and min(pixel_size) > max(right - left, top - bottom):
        problem = f"Cannot open a layer of pixels of {pixel_size[0]:g} degrees: its files cover {right - left:.3g} by "
        remedy = f"Pass {{resolution}} in degrees, the units of {crs_name(target)}."
        raise GridError(f"{problem}{top - bottom:.3g} degrees.", remedy=remedy, value=resolution, argument="resolution")
    if target.geographic and right - left > 360:
        left, right = (-180, 180) if bounds[0, 2] - bounds[0, 0] < 360 else bounds[0, [0, 2]]
    return snap_grid((left, bottom, right, top), pixel_size, anchor, target)


def _resolution(
    grids: Sequence[GeoBox], target: CRS, scenes: Mapping[GeoBox, str], files: Mapping[GeoBox, str]
) -> tuple[float, float]:
    """Return the pixel size of all grids in the target CRS; raise if they differ.

    Grids in other CRSs, which are resampled in any case, may differ by `SIMILAR_RESOLUTION`. Sizes in degrees are not
    compared with sizes in units of length.
    """
    ordered = [grid for grid in grids if grid.crs == target] or list(grids)
    ordered += [grid for grid in grids if grid.crs != target and grid is not ordered[0]]
    first: dict[bool, tuple[GeoBox, float, float]] = {}
    units: dict[int, tuple[bool, float]] = {}
    for grid in ordered:
        if id(grid.crs) not in units:
            units[id(grid.crs)] = _unit(grid.crs)
        in_degrees, factor = units[id(grid.crs)]
        width, height = _size(grid)
        other, *size = first.setdefault(in_degrees, (grid, width * factor, height * factor))
        tolerance = SAME_RESOLUTION if grid.crs == target else SIMILAR_RESOLUTION
        if any(abs(n * factor - m) > tolerance * m for n, m in zip((width, height), size, strict=True)):
            raise _resolution_error(other, grid, target, scenes, files)
    return _size_in(ordered[0], target)


def _unit(crs: CRS | None) -> tuple[bool, float]:
    """Return whether the coordinates of a CRS are degrees, and else their unit in metres."""
    if crs is None or crs.geographic:
        return True, 1.0
    return False, float(crs.proj.axis_info[0].unit_conversion_factor)


def _size_in(grid: GeoBox, target: CRS) -> tuple[float, float]:
    return _size(grid) if grid.crs == target and _is_axis_aligned(grid) else pixel_size_in(grid, target)


def _resolution_error(
    first: GeoBox, other: GeoBox, target: CRS, scenes: Mapping[GeoBox, str], files: Mapping[GeoBox, str]
) -> GridError:
    """Return the error of grids of two pixel sizes; its value is the smaller one in the target CRS."""
    sizes = [_size_in(grid, target) for grid in (first, other)]
    a, b = (f"{size[0]:g}" for size in sizes)
    same_scene = scenes[first] == scenes[other]  # then its bands differ: name their files
    name, other_name = (files[g] if same_scene else scenes[g] for g in (first, other))
    of = f" of {scenes[other]!r}" if same_scene and scenes[other] not in name else ""
    where = f"{name!r}{of} has pixels of {a}, {other_name!r} of {b} units of {crs_name(target)}"
    remedy = f"Pass {{resolution:{a}}} or {{resolution:{b}}}."
    return GridError(
        f"Cannot choose one resolution: {where}.", remedy=remedy, value=float(min(sizes)[0]), argument="resolution"
    )


def _unwrap_longitudes(bounds: Floats) -> Floats:
    """Return bounds with longitudes of 0 to 360 if that makes their union narrower than -180 to 180."""
    centers = bounds[:, [0, 2]].mean(1)
    shifted = np.where(centers < 0, centers + 360, centers)
    if np.ptp(shifted) < np.ptp(centers):
        shift = shifted - centers
        return np.asarray(bounds + np.stack((shift, 0 * shift, shift, 0 * shift), axis=1))
    return bounds


def _pair(resolution: float | tuple[float, float]) -> tuple[float, float]:
    x, y = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if not (x > 0 and y > 0):
        problem, remedy = f"Cannot use pixels of size {resolution!r}.", "Pass {resolution} above zero, in CRS units."
        raise GridError(problem, remedy=remedy, value=resolution, argument="resolution")
    return float(x), float(y)


def _size(grid: GeoBox) -> tuple[float, float]:
    return float(np.hypot(grid.affine.a, grid.affine.d)), float(np.hypot(grid.affine.b, grid.affine.e))


def _is_axis_aligned(grid: GeoBox) -> bool:
    return bool(grid.affine.b == 0 and grid.affine.d == 0)


def _check_nodata(nodata: float | None, dtype: np.dtype[Any]) -> None:
    if nodata is not None and representable(nodata, str(dtype)) is None:
        problem = f"Cannot use nodata value {nodata:g}: {dtype} pixels cannot hold it."
        remedy = f"Pass {{nodata}} as a value of {dtype}."
        raise InputError(problem, remedy=remedy, value=nodata, argument="nodata")


def representable(nodata: float | None, dtype: str) -> float | None:
    """Return a nodata value, or `None` if the data type cannot hold it."""
    if dtype == "complex_int16":  # GDAL's CInt16, which numpy lacks
        problem = "Cannot open a raster of complex_int16 pixels: they are not real numbers."
        raise InputError(problem, remedy="Write its parts as real bands.")
    kind = np.dtype(dtype)
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    return nodata if limits.min <= nodata <= limits.max and nodata == int(nodata) else None


def _check_type(dtype: np.dtype[Any], scene: str) -> None:
    if dtype.kind not in "iufb":
        problem = f"Cannot open scene {scene!r}: its pixels are {dtype}, not real numbers."
        raise InputError(problem, remedy="Write its parts as real bands.")
