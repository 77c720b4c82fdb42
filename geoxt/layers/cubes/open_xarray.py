"""Open NetCDF, HDF5 and GRIB files, and Datasets of xarray, as lazy layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack, overload

import dask.base
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import ReadError
from geoxt.layers import products
from geoxt.layers.area import SomeBounds, SomeGeometry, area_of
from geoxt.layers.assemble import LayerOptions, requested_grid
from geoxt.layers.cubes.assemble_cube import BandOptions, assemble_cube, not_spatial_error
from geoxt.layers.cubes.grid_mapping import crs_of
from geoxt.layers.cubes.grids import grid_of_variable
from geoxt.layers.cubes.planes import Select, bands_of
from geoxt.layers.cubes.scenes import AssetArray
from geoxt.layers.cubes.variable import Variable
from geoxt.layers.options import XarrayOptions
from geoxt.layers.products import Product
from geoxt.layers.radiometry import check_baseline
from geoxt.layers.time import Composite, GroupBy
from geoxt.pixels.xarray_planes import XarrayPlanes, file_token
from geoxt.types import Resampling, SomeCRS, SomePath

SIDE = 512
"""Pixels: side of the parts of variables that have no chunks."""
_ENGINES = {".grib": "cfgrib", ".grib2": "cfgrib", ".grb": "cfgrib", ".grb2": "cfgrib"}
_PACKAGES = "h5netcdf for NetCDF, cfgrib for GRIB"


@overload
def open_xarray(
    data: SomePath | xr.Dataset | xr.DataArray, *, crs: Literal["native"], **options: Unpack[XarrayOptions]
) -> xr.DataTree: ...
@overload
def open_xarray(
    data: SomePath | xr.Dataset | xr.DataArray, *, crs: SomeCRS | None = None, **options: Unpack[XarrayOptions]
) -> xr.DataArray: ...
def open_xarray(
    data: SomePath | xr.Dataset | xr.DataArray,
    *,
    engine: str | None = None,
    open_kwargs: Mapping[str, Any] | None = None,
    product: str | Product | None = None,
    bands: str | Sequence[str] | None = None,
    select: Select | None = None,
    bbox: SomeBounds | None = None,
    intersects: SomeGeometry | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    like: xr.DataArray | xr.Dataset | None = None,
    groupby: GroupBy = None,
    composite: Composite = "first",
    rescale: bool = False,
    baseline: str | None = None,
    categorical: bool | None = None,
    nodata: float | None = None,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    name: str | None = None,
) -> xr.DataArray | xr.DataTree:
    """Open a NetCDF, HDF5 or GRIB file, or a Dataset, as a lazy layer.

    Variables become bands; rows are ordered from north to south, and longitudes of 0 to 360 become -180 to 180. Windows
    are read from the file without a dask graph.

    Parameters
    ----------
    data
        Path of a local file that xarray can open, or a Dataset or DataArray, such as one of `xarray.open_mfdataset`.
        The values of a Dataset are taken unchanged, decoded or not.
    engine
        Engine of `xarray.open_dataset`; by default cfgrib for `.grib`, `.grib2`, `.grb` and `.grb2`, else that of
        xarray.
    open_kwargs
        Further arguments of `xarray.open_dataset`, such as `{"group": "science"}`, or for GRIB
        `{"filter_by_keys": {"typeOfLevel": "surface"}}`.
    product, bands, select, bbox, intersects, crs, resolution, grid, like
        See `open_zarr`.
    groupby, composite, rescale, baseline, categorical, nodata, source_crs, resampling, chunks, errors, name
        See `open_zarr`.

    Returns
    -------
    xarray.DataArray
        As for `open_zarr`; stored values of a file (`scales` and `offsets` in `attrs`) unless rescaled.
    xarray.DataTree
        For `crs="native"`.

    Raises
    ------
    ReadError
        If the file cannot be opened, or the package of its engine is not installed.
    InputError
        If a band is missing, or a dimension must be selected.
    CRSError, GridError
        If there is no CRS, or coordinates are irregular or two-dimensional.

    Examples
    --------
    >>> import xarray as xr
    >>> lat = ("lat", [1.5, 0.5], {"units": "degrees_north"})
    >>> lon = ("lon", [0.5, 1.5], {"units": "degrees_east"})
    >>> temperature = ("level", "lat", "lon"), [[[1.0, 2], [3, 4]]] * 2
    >>> ds = xr.Dataset({"t": temperature}, {"lat": lat, "lon": lon, "level": [850, 500]})
    >>> open_xarray(ds, select={"level": [500, 850]}).band.values.tolist()
    ['t_500', 't_850']
    """
    area = area_of(bbox, intersects)
    product = products.resolve(product)
    check_baseline([product], baseline)
    names = [bands] if isinstance(bands, str) else bands
    file = None if isinstance(data, (xr.Dataset, xr.DataArray)) else os.fspath(data)
    ds = _dataset(data) if isinstance(data, (xr.Dataset, xr.DataArray)) else _open(os.fspath(data), engine, open_kwargs)
    label = name or (os.path.basename(file).partition(".")[0] if file else "dataset")  # noqa: PTH119
    variables = _variables(ds)
    spatial = [v for v in variables if v.name not in ds.coords and v.spatial and v.dtype.kind in "biuf"]
    if not spatial:
        raise not_spatial_error(variables, label)
    selected = [v for v in spatial if names is not None and v.name in names] or spatial
    all_bands = [band for variable in selected for band in bands_of(variable, select or {})]
    selection = BandOptions(bands=names, product=product, categorical=categorical, label=label, baseline=baseline)
    options = LayerOptions(
        crs=crs, resolution=resolution, grid=requested_grid(grid, like), area=area, groupby=groupby,
        composite=composite, rescale=rescale, nodata=nodata, resampling=resampling, chunks=chunks, errors=errors,
        name=name or (product.name if product else None),
    )  # fmt: skip
    return assemble_cube(all_bands, lambda v: _locate(v, label, file, source_crs), selection, options)


def _dataset(data: xr.Dataset | xr.DataArray) -> xr.Dataset:
    return (
        data.to_dataset(name="band_1" if data.name is None else data.name) if isinstance(data, xr.DataArray) else data
    )


def _open(path: str, engine: str | None, open_kwargs: Mapping[str, Any] | None) -> xr.Dataset:
    """Open a file with xarray, without decoding values."""
    if not os.path.exists(path):  # noqa: PTH110
        raise ReadError(f"Cannot open {path!r}: there is no such file.", remedy="Check the path.")
    engine = engine or _ENGINES.get(os.path.splitext(path)[1].lower())  # noqa: PTH122
    options = {"mask_and_scale": engine == "cfgrib", "cache": False, **(open_kwargs or {})}
    try:
        return xr.open_dataset(path, engine=engine, **options)
    except Exception as error:  # engines raise many classes
        text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        lacks_engine = "engine" in text or isinstance(error, ImportError)
        remedy = (
            f"Install the package of its format ({_PACKAGES})."
            if lacks_engine
            else "Pass {open_kwargs} that select it."
        )
        raise ReadError(f"Cannot open {path!r} by xarray: {text}.", remedy=remedy) from error


def _variables(ds: xr.Dataset) -> list[Variable]:
    """Return the variables and coordinates of a Dataset with two or more dimensions."""
    small = [name for name, variable in ds.variables.items() if variable.ndim < 2]
    coords = ds[small]
    result = []
    for key, variable in ds.variables.items():
        if variable.ndim < 2:
            continue
        encoded = {k: variable.encoding[k] for k in ("grid_mapping", "coordinates") if k in variable.encoding}
        attrs = {**encoded, **variable.attrs}
        if "coordinates" not in attrs and key in ds.data_vars:
            two_dimensional = [
                str(n) for n, c in ds.coords.items() if c.ndim == 2 and set(c.dims) <= set(variable.dims)
            ]
            attrs |= {"coordinates": " ".join(two_dimensional)} if two_dimensional else {}
        result.append(
            Variable(
                name=str(key), group="", dims=tuple(map(str, variable.dims)), shape=tuple(variable.shape),
                dtype=np.dtype(variable.dtype), attrs=attrs, chunks=_stored_chunks(variable), coords=coords,
                parents=(), array=variable,
            )
        )  # fmt: skip
    return result


def _stored_chunks(variable: xr.Variable) -> tuple[int, ...] | None:
    sizes = variable.encoding.get("chunksizes")
    return tuple(map(int, sizes)) if sizes is not None and len(sizes) == variable.ndim else None


def _locate(variable: Variable, label: str, file: str | None, source_crs: SomeCRS | None) -> AssetArray:
    """Return the address, the grid and the array of a variable."""
    grid = grid_of_variable(variable, crs_of(variable, source_crs))
    name = f"{file or label}/{variable.name}"
    chunks = variable.chunks or tuple(SIDE if axis in variable.axes else 1 for axis in range(len(variable.dims)))
    chunks = tuple(min(n, size) for n, size in zip(chunks, variable.shape, strict=True))
    version = file_token(file) if file is not None else _token(variable.array)
    array = XarrayPlanes(
        name=name, variable=variable.array, axes=variable.axes, chunks=chunks, file=file, version=version
    )
    return name, grid, array


def _token(variable: xr.Variable) -> str:
    """Return a token of a variable's values; for lazy values, of their file and position in it."""
    if variable.chunks is not None or variable._in_memory:  # noqa: SLF001 (xarray has no public name for it)
        return str(dask.base.tokenize(variable.data))
    source = variable.encoding.get("source", "")
    return repr((source, file_token(source) if source else "", variable.dims, variable.shape, repr(variable._data)))  # noqa: SLF001
