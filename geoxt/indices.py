"""Spectral indices as additional bands of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.source import as_layer, is_categorical, nodata_of, resolve_attrs, unmarked
from geoxt.transforms.spectral_indices import INDICES, Index, evaluate, find_bands, indices_of, table
from geoxt.types import Array

__all__ = ["INDICES", "append", "table"]


def append(
    layer: xr.DataArray | xr.Dataset,
    indices: str | Iterable[str],
    *,
    bands: Mapping[str, str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
) -> xr.DataArray:
    """Append spectral indices to a layer as bands.

    Parameters
    ----------
    layer
        A continuous layer with a `band` dimension. Bands are selected by the coordinate `common_name`, else by name.
    indices
        Names in `geoxt.indices.INDICES`.
    bands
        Band name by common name, for layers without common names: `{"red": "B4", "nir": "B8"}`.
    scale, offset
        Reflectance = stored value * scale + offset, of the bands of the indices. By default the attributes `scales`
        and `offsets` of the layer, else 1 and 0.

    Returns
    -------
    xarray.DataArray
        float32 with the dims of the layer, lazy if the layer is. The values of its bands are unchanged, with nodata as
        NaN. An index is NaN where one of its bands is missing or the result is not finite (division by zero). Of
        coordinates along `band`, text is "" and numbers are NaN for an index.

    Raises
    ------
    InputError
        An index is unknown, a band is missing, or an index needs reflectance and the layer has integers without scales.

    See Also
    --------
    geoxt.transforms.AppendIndices : The same for tensors, bit for bit.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> layer = xr.DataArray(np.float32([[[0.25]], [[0.75]]]), dims=("band", "y", "x"), coords={"band": ["red", "nir"]})
    >>> append(layer, "ndvi").sel(band="ndvi").item()
    0.5
    """
    selected = indices_of(indices)
    layer = resolve_attrs(as_layer(layer))
    names, common = _names(layer, selected)
    if layer.chunks is None and not getattr(layer.variable, "_in_memory", True):
        layer = layer.chunk()  # lazily indexed without dask: apply_ufunc would load it whole
    nodata = nodata_of(layer)
    bare = layer.drop_vars([name for name, coord in layer.coords.items() if "band" in coord.dims])
    parts = [_lazily(_fill_nodata, [bare], nodata=nodata)]
    for index in selected:
        positions = find_bands(index, names, common, bands)
        numbers = dict(zip(("scale", "offset"), _radiometry(layer, index, positions, scale, offset), strict=True))
        used = [bare.isel(band=position) for position in positions]
        parts.append(_lazily(_index, used, name=index.name, nodata=nodata, **numbers).expand_dims("band"))
    joined = xr.concat(parts, "band", coords="minimal", compat="override", join="override", combine_attrs="drop")
    return _with_metadata(joined.transpose(*layer.dims), layer, [*names, *(index.name for index in selected)])


def _names(layer: xr.DataArray, selected: Sequence[Index]) -> tuple[list[str], list[str]]:
    """Return band names and common names; the latter are empty for a layer without them."""
    problem = f"Cannot append {', '.join(index.name for index in selected)} to {layer.name!r}"
    if is_categorical(layer):
        raise InputError(
            f"{problem}: its pixels are class codes (flag_values).",
            remedy="Pass a continuous {layer}.",
            argument="layer",
        )
    if "band" not in layer.dims or "band" not in layer.coords:
        raise InputError(
            f"{problem}: it has the dims {tuple(map(str, layer.dims))} and no band names.",
            remedy="Name its bands with assign_coords(band=[…]).",
            argument="layer",
        )
    names = [str(name) for name in layer["band"].to_numpy()]
    repeated = {name.lower() for name in names} & {index.name for index in selected}
    if repeated:
        raise InputError(
            f"{problem}: it already has a band {min(repeated)!r}.",
            remedy="Leave the index out of {indices}, or rename the band.",
            value=min(repeated),
            argument="indices",
        )
    common = layer.coords.get("common_name")
    along = common is not None and common.dims == ("band",)
    return names, [str(name) for name in common.to_numpy()] if common is not None and along else []


def _radiometry(
    layer: xr.DataArray, index: Index, positions: Sequence[int], scale: float | None, offset: float | None
) -> tuple[float, float]:
    """Return the scale and offset to reflectance of the bands of an index."""
    if scale is not None or offset is not None:
        return 1.0 if scale is None else float(scale), 0.0 if offset is None else float(offset)
    count, attrs = layer.sizes["band"], layer.attrs
    depends = str(attrs.get("radiometry", "")).endswith("unknown")
    remedy = f"Open the layer with rescale=True{' or baseline=' * depends}, or pass {{scale}} and {{offset}}."
    factors = []
    for key, default in (("scales", 1.0), ("offsets", 0.0)):
        numbers = [float(number) for number in np.atleast_1d(attrs.get(key, default))]
        used = {numbers[position] for position in positions} if len(numbers) == count else set(numbers)
        if len(used) > 1:
            raise InputError(
                f"Cannot compute {index.name} of {layer.name!r}: {key} of its bands differ, {sorted(used)}.",
                remedy=remedy,
            )
        factors.append(used.pop())
    unscaled = str(attrs.get("radiometry", "")).startswith("as stored") and "scales" not in attrs
    if unscaled or (layer.dtype.kind in "iu" and "scales" not in attrs and not index.scale_free):
        reason = "it needs reflectance, and the layer is " + (
            f"{attrs['radiometry']}" if unscaled else f"{layer.dtype} without scales"
        )
        raise InputError(f"Cannot compute {index.name} of {layer.name!r}: {reason}.", remedy=remedy)
    return factors[0], factors[1]


def _lazily(function: Any, layers: Sequence[xr.DataArray], **options: Any) -> xr.DataArray:
    """Apply a function to arrays of one shape; block by block with dask."""
    return xr.apply_ufunc(function, *layers, kwargs=options, dask="parallelized", output_dtypes=[np.float32])


def _fill_nodata(values: Array, *, nodata: float | None) -> Array:
    """Return values as float32 with nodata as NaN."""
    floats = values.astype("float32")
    return floats if nodata is None or np.isnan(nodata) else np.where(values == nodata, np.float32("nan"), floats)


def _index(*bands: Array, name: str, nodata: float | None, scale: float, offset: float) -> Array:
    """Return an index, with NaN where it is not finite. The name, unlike a function, has a dask token and pickles."""
    with np.errstate(all="ignore"):
        result = evaluate(
            INDICES[name], [_fill_nodata(band, nodata=nodata) for band in bands], scale=scale, offset=offset
        )
    return np.where(np.isfinite(result), result, np.float32("nan"))


def _with_metadata(joined: xr.DataArray, layer: xr.DataArray, names: list[str]) -> xr.DataArray:
    """Return the result with band coordinates and attributes."""
    count = len(names) - layer.sizes["band"]
    coords: dict[str, Any] = {"band": names}
    for name, coord in layer.coords.items():
        if coord.dims == ("band",) and name != "band" and coord.dtype.kind in "UOf":
            filler = [np.nan if coord.dtype.kind == "f" else ""] * count
            coords[str(name)] = ("band", [*coord.to_numpy().tolist(), *filler])
    attrs = unmarked(layer.attrs)
    for key, default in (("scales", 1.0), ("offsets", 0.0)):
        if len(np.atleast_1d(attrs.get(key, []))) == layer.sizes["band"]:
            attrs[key] = [*np.atleast_1d(attrs[key]).tolist(), *[default] * count]
    if attrs.get("units", "1") != "1":
        del attrs["units"]  # indices have none
    if "nodata" in attrs or "_FillValue" in attrs:
        attrs["_FillValue"] = float("nan")
        attrs.pop("nodata", None)
    result = joined.assign_coords(coords).rename(layer.name)
    result.attrs = attrs
    return result
