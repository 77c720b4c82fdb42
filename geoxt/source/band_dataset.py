"""Layers as Datasets of one variable per band, the shape that `odc.stac.load` returns, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of, with_yx_dims
from geoxt.source.derived import resolve_attrs
from geoxt.source.layer import DIMS, is_categorical
from geoxt.source.stored_attrs import nodata_of

_CF = {"scales": "scale_factor", "offsets": "add_offset"}
"""Attributes of a layer with one number per band, and their CF names on a variable."""
_IDENTITY = {"scales": 1.0, "offsets": 0.0}
_BAND_COORDS = ("common_name", "wavelength")
_MISSING = ("_FillValue", "nodata")


def is_band_dataset(data: xr.Dataset) -> bool:
    """Return whether a Dataset holds one variable per band, as `odc.stac.load` returns it.

    Its variables share their dimensions, have no `band` dimension and no class codes; a Dataset of layers, such as an
    `image` with bands and a `mask` of class codes, is no such Dataset.
    """
    layers = _spatial_variables(with_yx_dims(data))
    shared = {frozenset(map(str, layer.dims)) for layer in layers.values()}
    return len(shared) == 1 and "band" not in next(iter(shared)) and not any(map(is_categorical, layers.values()))


def stack_bands(data: xr.Dataset, *, name: Hashable = "image") -> xr.DataArray:
    """Stack the variables of a Dataset along a `band` dimension; lazy if the variables are.

    Parameters
    ----------
    data
        One variable per band on (time, y, x) or (y, x), or on latitude and longitude, as `odc.stac.load` returns it.
        Nodata is `nodata` or `_FillValue` of each variable; `scale_factor` and `add_offset`, `common_name` and
        `wavelength` are read from its attributes.
    name
        Name of the layer.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); `band` holds the names of the variables. The dtype is the smallest that holds
        the values of all variables exactly. If the nodata values differ and the dtype is a float, missing pixels
        become NaN.

    Raises
    ------
    InputError
        If variables have different dimensions, hold class codes, differ in nodata as integers, or have no common
        dtype that is exact.
    GridError
        If no variable has spatial dimensions.

    Examples
    --------
    >>> red = xr.DataArray(np.ones((2, 3), "uint16"), dims=("y", "x"), attrs={"nodata": 0})
    >>> stack_bands(xr.Dataset({"red": red, "nir": red})).band.values.tolist()
    ['red', 'nir']
    """
    layers = _spatial_variables(with_yx_dims(data))
    _require_bands(layers)
    layers = {key: resolve_attrs(layer) for key, layer in layers.items()}
    dtype = _common_dtype(layers)
    nodata = _common_nodata(layers, dtype)
    filled = {key: _filled(layer, dtype, nodata) for key, layer in layers.items()}
    stacked = xr.Dataset(filled).to_dataarray("band", name=name).transpose(*DIMS, missing_dims="ignore")
    attrs: dict[Hashable, Any] = _shared_attrs(layers)
    if nodata is not None:
        attrs["_FillValue"] = nodata
    for attr, cf in _CF.items():
        if any(key in layer.attrs for layer in layers.values() for key in _CF.values()):
            attrs[attr] = [float(layer.attrs.get(cf, _IDENTITY[attr])) for layer in layers.values()]
    coords = {
        key: ("band", [layer.attrs.get(key, missing) for layer in layers.values()])
        for key, missing in zip(_BAND_COORDS, ("", np.nan), strict=True)
        if any(key in layer.attrs for layer in layers.values())
    }
    result = stacked.assign_coords(coords).assign_attrs(attrs)
    result.encoding = {"grid_mapping": "spatial_ref"} if "spatial_ref" in result.coords else {}
    return result


def as_layer(data: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Return a Dataset of one variable per band, or of one layer, as a layer with dimensions y and x.

    Raises
    ------
    InputError
        If the variables of a Dataset are not bands of one layer, or the data are a tree.
    GridError
        If no variable of a Dataset has spatial dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> import xarray as xr
    >>> from geoxt.source import as_layer
    >>> band = make_layer(np.zeros((4, 4)))
    >>> as_layer(xr.Dataset({"red": band, "nir": band})).band.values
    array(['red', 'nir'], dtype=object)
    """
    if isinstance(data, xr.DataTree):
        remedy = "Pass the layer of a node, such as tree['EPSG:32632']['image']."
        raise InputError("Cannot use a tree as one layer.", remedy=remedy)
    data = with_yx_dims(data)
    if not isinstance(data, xr.Dataset):
        return data
    layers = list(_spatial_variables(data).values())
    return layers[0] if len(layers) == 1 else stack_bands(data)


def unstack_bands(layer: xr.DataArray, *, names: Literal["band", "common_name"] = "band") -> xr.Dataset:
    """Return a layer as a Dataset of one variable per band, as `odc.stac.load` returns it; lazy if the layer is.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x). Without `band`, the Dataset holds one variable of the layer's name.
    names
        Coordinate that names the variables: `band` or `common_name` ("red").

    Returns
    -------
    xarray.Dataset
        Variables on (time, y, x) with the attributes `nodata`, `scale_factor`, `add_offset`, `common_name` and
        `wavelength`, as far as the layer states them; on (time, latitude, longitude) if the CRS is geographic, as
        `odc.stac.load` has it. `stack_bands` is the inverse.

    Raises
    ------
    InputError
        If names are missing, not unique, or the name of another coordinate.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.source import unstack_bands
    >>> sorted(unstack_bands(make_layer(np.zeros((2, 4, 4)), bands=["red", "nir"])))
    ['nir', 'red']
    """
    keys = _variable_names(layer, names)
    parts = [layer.isel(band=i, drop=True) for i in range(len(keys))] if "band" in layer.dims else [layer]
    variables = {}
    for i, (key, part) in enumerate(zip(keys, parts, strict=True)):
        attrs = {k: v for k, v in layer.attrs.items() if k not in (*_MISSING, *_CF)}
        attrs |= {cf: float(layer.attrs[attr][i]) for attr, cf in _CF.items() if attr in layer.attrs}
        for coord in _BAND_COORDS:
            if coord in layer.coords and layer[coord].dims == ("band",):
                attrs[coord] = layer[coord].values[i].item()
        if (nodata := nodata_of(layer)) is not None:
            attrs["nodata"] = nodata
        variables[key] = part.rename(None).drop_attrs(deep=False).assign_attrs(attrs)
        variables[key].encoding = {"grid_mapping": "spatial_ref"} if "spatial_ref" in layer.coords else {}
    crs = grid_of(layer).crs
    dims = {"y": "latitude", "x": "longitude"} if crs is not None and crs.geographic else {}
    return xr.Dataset(variables).rename(dims)


def _spatial_variables(data: xr.Dataset) -> dict[str, xr.DataArray]:
    return {str(key): layer for key, layer in data.data_vars.items() if {"y", "x"} <= set(layer.dims)}


def _require_bands(layers: Mapping[str, xr.DataArray]) -> None:
    if not layers:
        msg = "Cannot stack the bands of a Dataset: none of its variables has spatial dimensions (y, x)."
        raise GridError(msg, remedy="Pass a Dataset as odc.stac.load returns it.")
    dims = {key: tuple(map(str, layer.dims)) for key, layer in layers.items()}
    first = next(iter(dims))
    for key, layer_dims in dims.items():
        if "band" in layer_dims or set(layer_dims) != set(dims[first]):
            problem = f"Cannot stack the bands of a Dataset: variable {key!r} has the dimensions {layer_dims}"
            problem += ", a band dimension among them." if "band" in layer_dims else f", {first!r} has {dims[first]}."
            raise InputError(problem, remedy="Pass one of its layers, or select variables of the same dimensions.")
        if is_categorical(layers[key]) and len(layers) > 1:
            problem = f"Cannot stack the bands of a Dataset: variable {key!r} holds class codes."
            raise InputError(problem, remedy="Select the other variables first: data.drop_vars(…).")


def _common_dtype(layers: Mapping[str, xr.DataArray]) -> np.dtype[Any]:
    dtypes = {key: layer.dtype for key, layer in layers.items()}
    dtype = np.result_type(*dtypes.values())
    for key, layer_dtype in dtypes.items():
        # numpy promotes int64 and uint64 to float64, which holds integers up to 2**53 only
        exact = layer_dtype.kind == dtype.kind or (
            np.can_cast(layer_dtype, dtype, "safe") and not (layer_dtype.itemsize == 8 and layer_dtype.kind in "iu")
        )
        if not exact:
            problem = f"Cannot stack the bands of a Dataset: no data type holds {dict(dtypes)} exactly ({key!r})."
            raise InputError(problem, remedy="Convert the variables first: data.astype(…).")
    return dtype


def _common_nodata(layers: Mapping[str, xr.DataArray], dtype: np.dtype[Any]) -> float | None:
    """Return the nodata value of the stack; NaN if those of the variables differ and the dtype is a float."""
    markers = {key: nodata_of(layer) for key, layer in layers.items()}
    first = next(iter(markers.values()))
    if all(_same(marker, first) for marker in markers.values()):
        return first
    if dtype.kind == "f":
        return float("nan")
    problem = f"Cannot stack the bands of a Dataset: their nodata values differ, {markers}."
    raise InputError(problem, remedy="Select variables of one nodata value, or convert them to float32 with NaN.")


def _filled(layer: xr.DataArray, dtype: np.dtype[Any], nodata: float | None) -> xr.DataArray:
    """Return a variable in the dtype of the stack, with the stack's nodata value."""
    marker = nodata_of(layer)
    bare = layer.drop_attrs(deep=False)
    if marker is not None and not _same(marker, nodata):
        return bare.astype(dtype).where(bare != marker)
    return bare.astype(dtype, copy=False)


def _same(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and np.isnan(a) and np.isnan(b))


def _shared_attrs(layers: Mapping[str, xr.DataArray]) -> dict[Hashable, Any]:
    """Return the attributes that all variables share, without per-band attributes."""
    per_band = {*_MISSING, *_CF.values(), *_BAND_COORDS}
    first, *others = layers.values()
    return {
        key: value
        for key, value in first.attrs.items()
        if key not in per_band
        and all(key in other.attrs and np.array_equal(value, other.attrs[key]) for other in others)
    }


def _variable_names(layer: xr.DataArray, names: str) -> list[str]:
    if "band" not in layer.dims:
        return ["band" if layer.name is None else str(layer.name)]
    if names not in layer.coords:
        problem = f"Cannot name the bands of {layer.name!r}: it has no coordinate {names!r} along band."
        raise InputError(problem, remedy="Assign it first: layer.assign_coords(band=[…]).", argument="names")
    keys = [str(value) for value in layer[names].values.tolist()]
    taken = {str(coord) for coord in layer.coords} | {"latitude", "longitude"}
    for key in keys:
        if not key or keys.count(key) > 1 or key in taken:
            why = "is empty" if not key else "is not unique" if key not in taken else "is the name of a coordinate"
            problem = f"Cannot name one variable per band of {layer.name!r}: band name {key!r} {why}."
            raise InputError(problem, remedy="Rename the bands first: layer.assign_coords(band=[…]).", argument="names")
    return keys
