"""Colors of the pixels of layers: stretched bands, or class colors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.source import as_layer, nodata_of, resolve_attrs
from geoxt.types import Array, Mask

_NATURAL = ("red", "green", "blue")
_PERCENT = (2.0, 98.0)
"""Percentiles of the valid pixels drawn as black and white."""
_TITLE_WIDTH = 44
"""Characters of a line above a panel."""


def rgb(layer: xr.DataArray | xr.Dataset, *, bands: Sequence[str | int] | None = None) -> Array:
    """Return an RGBA image of a layer, stretched between percentiles 2 and 98 of each band.

    Parameters
    ----------
    layer
        A continuous layer (band, y, x) or (y, x), or with a time dimension of length 1. It is computed.
    bands
        Names, common names or positions of the red, green and blue bands. By default the bands with these names or
        common names, else the third, second and first, else the first band in gray.

    Returns
    -------
    ndarray
        float32 (y, x, 4): red, green, blue and opacity, 0 to 1. Pixels with an invalid band are transparent.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import plot
    >>> values = np.random.default_rng(0).random((3, 8, 8))
    >>> image = make_layer(values)
    >>> plot.rgb(image).shape
    (8, 8, 4)
    """
    layer = resolve_attrs(as_layer(layer))
    values, valid = _cube(layer)
    rgb_bands = natural_color(layer, len(values)) if bands is None else [_position(layer, band) for band in bands]
    return stretch(values[rgb_bands], np.all(valid[rgb_bands], axis=0))


def classes(layer: xr.DataArray | xr.Dataset, legend: Legend | None = None) -> Array:
    """Return an RGBA image of a categorical layer in its class colors.

    Returns
    -------
    ndarray
        float32 (y, x, 4): red, green, blue and opacity, 0 to 1. Nodata and codes without a class are transparent.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import Legend, plot
    >>> land = make_layer(np.array([[1, 2]], dtype="uint8"))
    >>> plot.classes(land, Legend([1, 2], ["forest", "water"], ["#008000", "#0000ff"]))[0, 1]
    array([0., 0., 1., 1.], dtype=float32)
    """
    layer = resolve_attrs(as_layer(layer))
    legend = legend or Legend.of(layer)
    values = without_single_dims(layer.to_numpy(), layer)
    is_class = legend.encode(values, missing=-1) >= 0
    nodata = nodata_of(layer)
    if nodata is not None:
        is_class &= values != nodata
    return np.dstack((legend.rgb(values) / 255, is_class)).astype("float32")


def gray_limits(layer: xr.DataArray) -> tuple[float, float] | None:
    """Return the values drawn as black and white of a layer of one band; `None` for a color image."""
    values, valid = _cube(layer)
    if len(values) > 1 or not valid.any():
        return None
    low, high = np.percentile(values[0][valid[0]], _PERCENT)
    return float(low), float(high)


def _cube(layer: xr.DataArray) -> tuple[Array, Mask]:
    """Return values (band, y, x) of a layer as float32, and their valid mask."""
    ordered = layer.transpose(..., "y", "x")
    values = ordered.to_numpy()
    nodata = nodata_of(layer)
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        valid &= values != nodata
    shape = (-1, *values.shape[-2:])
    without_single_dims(values[..., :1, :1], layer, band=True)
    return values.reshape(shape).astype("float32"), valid.reshape(shape)


def without_single_dims(values: Array, layer: xr.DataArray, *, band: bool = False) -> Array:
    """Return values without dimensions of length 1; raise if more than an image is left."""
    ndim = 3 if band else 2
    extra = [f"{dim} ({size})" for dim, size in layer.sizes.items() if size > 1 and dim not in {"band", "y", "x"}]
    extra += [f"band ({layer.sizes['band']})"] if not band and layer.sizes.get("band", 1) > 1 else []
    if extra:
        raise InputError(
            f"Cannot plot {layer.name!r}: it also has {', '.join(extra)}.", remedy="Select one with isel()."
        )
    return values.reshape(values.shape[-ndim:] if values.ndim >= ndim else values.shape)


def stretch(values: Array, valid: Mask) -> Array:
    """Return an RGBA image (y, x, 4) of one or three bands."""
    out = np.zeros((*values.shape[-2:], 4), "float32")
    if valid.any():
        for channel in range(3):
            band = values[min(channel, len(values) - 1)]
            low, high = np.percentile(band[valid], _PERCENT)
            out[..., channel] = np.clip((band - low) / max(high - low, 1e-12), 0, 1)
    out[~valid] = 0
    out[..., 3] = valid
    return out


def is_one_picture(layer: xr.DataArray) -> bool:
    """Return whether a layer makes one image: one band, a color image, or at least three bands of a sensor."""
    count = layer.sizes.get("band", 1)
    if count == 1 or len(natural_color(layer, 1)) > 1:
        return True
    common = layer.coords.get("common_name")
    unnamed = common is not None and common.dims == ("band",) and not any(common.to_numpy())
    return count >= 3 and not unnamed


def natural_color(layer: xr.DataArray, count: int) -> list[int]:
    """Return the positions of the bands drawn as red, green and blue, or of one band drawn in gray."""
    for coord in ("band", "common_name"):
        names = [str(name).lower() for name in np.atleast_1d(layer[coord].values)] if coord in layer.coords else []
        if all(color in names for color in _NATURAL):
            return [names.index(color) for color in _NATURAL]
    return [2, 1, 0] if count >= 3 else [0]


def picture_title(name: str, layer: xr.DataArray) -> str:
    """Return the title of the picture of a layer: its name, and the bands drawn as red, green and blue of false color.

    Examples
    --------
    >>> layer = xr.DataArray([0, 1, 2], dims="band", coords={"band": ["red", "nir", "swir16"]})
    >>> picture_title("image", layer)
    'image (swir16, nir, red)'
    """
    if layer.sizes.get("band", 1) < 3 or "band" not in layer.coords or len(natural_color(layer, 1)) > 1:
        return name
    bands = f"({', '.join(str(layer['band'].values[at]) for at in natural_color(layer, 3))})"
    separator = " " if len(name + bands) < _TITLE_WIDTH else "\n"
    return f"{name}{separator}{bands}".lstrip()


def _position(layer: xr.DataArray, band: str | int) -> int:
    """Return the position of a band given by its name, common name or position."""
    if isinstance(band, int):
        return band
    names = [str(name) for name in np.atleast_1d(layer["band"].values)] if "band" in layer.coords else []
    common = [str(name) for name in np.atleast_1d(layer["common_name"].values)] if "common_name" in layer.coords else []
    if band not in names and common.count(band) == 1:
        return common.index(band)
    if band not in names:
        raise InputError(
            f"Cannot plot band {band!r} of {layer.name!r}: it has {', '.join(names) or 'no band names'}.",
            remedy="Pass {bands} as names or positions.",
            value=band,
            argument="bands",
        )
    return names.index(band)
