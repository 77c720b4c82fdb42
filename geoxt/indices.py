"""Spectral indices as further bands of a layer, computed lazily where it is lazy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.source import is_categorical, nodata_of
from geoxt.transforms.spectral_indices import INDICES, Index, evaluate, find_bands, indices_of, table
from geoxt.types import Array

__all__ = ["INDICES", "append", "table"]


def append(
    layer: xr.DataArray,
    indices: str | Iterable[str],
    *,
    bands: Mapping[str, str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
) -> xr.DataArray:
    """Return a layer with spectral indices as further bands.

    Parameters
    ----------
    layer
        Continuous, with a dimension `band`. Its bands are found by the coordinate `common_name`, else by their names.
    indices
        Names out of `geoxt.indices.INDICES`.
    bands
        Names of bands by common name, where the layer does not tell: `{"red": "B4", "nir": "B8"}`.
    scale, offset
        Physical = stored * scale + offset, for the bands that the indices use. Left out, what the layer's attributes
        `scales` and `offsets` say; without these its numbers are taken as they are.

    Returns
    -------
    xarray.DataArray
        float32, dimensions as before, lazy where the layer was. Its own bands keep their numbers; nodata is NaN. An
        index is NaN where one of its bands is missing, and where it is not finite (division by zero). `common_name` and
        other text along the bands is "" for an index, numbers are NaN.

    Raises
    ------
    InputError
        Where there is no such index or a band is missing, or where an index needs reflectance and nothing says how to
        get it from integers.

    See Also
    --------
    geoxt.transforms.AppendIndices : The same on tensors, bit for bit.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> layer = xr.DataArray(np.float32([[[0.25]], [[0.75]]]), dims=("band", "y", "x"), coords={"band": ["red", "nir"]})
    >>> append(layer, "ndvi").sel(band="ndvi").item()
    0.5
    """
    chosen = indices_of(indices)
    names, common = _names(layer, chosen)
    if layer.chunks is None and not getattr(layer.variable, "_in_memory", True):
        layer = layer.chunk()  # lazy without dask: asking for its data would load it whole
    nodata = nodata_of(layer)
    bare = layer.drop_vars([name for name, coord in layer.coords.items() if "band" in coord.dims])
    parts = [_lazily(_filled, [bare], nodata=nodata)]
    for index in chosen:
        places = find_bands(index, names, common, bands)
        numbers = dict(zip(("scale", "offset"), _radiometry(layer, index, places, scale, offset), strict=True))
        used = [bare.isel(band=place) for place in places]
        parts.append(_lazily(_index, used, name=index.name, nodata=nodata, **numbers).expand_dims("band"))
    joined = xr.concat(parts, "band", coords="minimal", compat="override", join="override", combine_attrs="drop")
    return _described(joined.transpose(*layer.dims), layer, [*names, *(index.name for index in chosen)])


def _names(layer: xr.DataArray, chosen: Sequence[Index]) -> tuple[list[str], list[str]]:
    """Return the bands' own names and their common names, the latter empty where the layer has none."""
    what = f"Cannot append {', '.join(index.name for index in chosen)} to {layer.name!r}"
    if is_categorical(layer):
        msg = f"{what}: its pixels are class codes (flag_values). Pass a layer of measured bands."
        raise InputError(msg)
    if "band" not in layer.dims or "band" not in layer.coords:
        msg = f"{what}: it has the dimensions {tuple(map(str, layer.dims))}, and no names of bands. "
        raise InputError(msg + "Give it bands with assign_coords(band=[…]).")
    names = [str(name) for name in layer["band"].to_numpy()]
    taken = {name.lower() for name in names} & {index.name for index in chosen}
    if taken:
        msg = f"{what}: it has a band {min(taken)!r} already. Leave that index out, or rename the band."
        raise InputError(msg)
    common = layer.coords.get("common_name")
    along = common is not None and common.dims == ("band",)
    return names, [str(name) for name in common.to_numpy()] if common is not None and along else []


def _radiometry(
    layer: xr.DataArray, index: Index, places: Sequence[int], scale: float | None, offset: float | None
) -> tuple[float, float]:
    """Return the scale and the offset that make physical values of the bands of an index."""
    if scale is not None or offset is not None:
        return 1.0 if scale is None else float(scale), 0.0 if offset is None else float(offset)
    count, attrs = layer.sizes["band"], layer.attrs
    found = []
    for key, plain in (("scales", 1.0), ("offsets", 0.0)):
        told = [float(number) for number in np.atleast_1d(attrs.get(key, plain))]
        used = {told[place] for place in places} if len(told) == count else set(told)
        if len(used) > 1:
            msg = f"Cannot compute {index.name} of {layer.name!r}: {key} of its bands differ, {sorted(used)}. "
            raise InputError(msg + "Open the layer with rescale=True, or pass scale= and offset=.")
        found.append(used.pop())
    vague = str(attrs.get("radiometry", "")).startswith("as stored") and "scales" not in attrs
    if vague or (layer.dtype.kind in "iu" and "scales" not in attrs and not index.scale_free):
        why = attrs["radiometry"] if vague else f"it needs reflectance, and the layer is {layer.dtype} without scales"
        msg = f"Cannot compute {index.name} of {layer.name!r}: {why}. "
        raise InputError(msg + "Open the layer with rescale=True, or pass scale= and offset=.")
    return found[0], found[1]


def _lazily(function: Any, layers: Sequence[xr.DataArray], **options: Any) -> xr.DataArray:
    """Apply a function to arrays of one shape, block by block where they are lazy."""
    return xr.apply_ufunc(function, *layers, kwargs=options, dask="parallelized", output_dtypes=[np.float32])


def _filled(values: Array, *, nodata: float | None) -> Array:
    """Return values as float32, NaN where they are nodata."""
    found = values.astype("float32")
    return found if nodata is None or np.isnan(nodata) else np.where(values == nodata, np.float32("nan"), found)


def _index(*bands: Array, name: str, nodata: float | None, scale: float, offset: float) -> Array:
    """Return an index, NaN where it has no value. It goes by name: that pickles, and has a dask token."""
    with np.errstate(all="ignore"):
        found = evaluate(INDICES[name], [_filled(band, nodata=nodata) for band in bands], scale=scale, offset=offset)
    return np.where(np.isfinite(found), found, np.float32("nan"))


def _described(joined: xr.DataArray, layer: xr.DataArray, names: list[str]) -> xr.DataArray:
    """Return the result with coordinates along its bands and attributes that hold for it."""
    more = len(names) - layer.sizes["band"]
    coords: dict[str, Any] = {"band": names}
    for name, coord in layer.coords.items():
        if coord.dims == ("band",) and name != "band" and coord.dtype.kind in "UOf":
            filler = [np.nan if coord.dtype.kind == "f" else ""] * more
            coords[str(name)] = ("band", [*coord.to_numpy().tolist(), *filler])
    attrs = dict(layer.attrs)
    for key, plain in (("scales", 1.0), ("offsets", 0.0)):
        if len(np.atleast_1d(attrs.get(key, []))) == layer.sizes["band"]:
            attrs[key] = [*np.atleast_1d(attrs[key]).tolist(), *[plain] * more]
    if attrs.get("units", "1") != "1":
        del attrs["units"]  # indices have none
    if "nodata" in attrs or "_FillValue" in attrs:
        attrs["_FillValue"] = float("nan")
        attrs.pop("nodata", None)
    found = joined.assign_coords(coords).rename(layer.name)
    found.attrs = attrs
    return found
