"""Inputs of an encoder from a layer: its bands matched by name, their units, dates, location and resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyproj

from geoxt.errors import InputError
from geoxt.models.band_match import BandNames, match_bands
from geoxt.models.encoders.band_metadata import COMMON, BandMetadata

Units = Literal["reflectance", "decibel", "power", "byte", "stored", "any"]
"""Units of a model's input: scaled reflectance, backscatter in dB or as linear power, bytes, other stored numbers, or
the units of the layer."""
MissingBands = Literal["raise", "mean"]
_METRES_PER_DEGREE = 111_320.0
RADAR_NAMES = frozenset({"vv", "vh", "hh", "hv"})
"""Common names of radar bands."""
_DECIBEL = frozenset({"db", "decibel", "decibels"})
_WIDE = frozenset({"uint16", "uint32", "int32"})
"""Data types of stored numbers beyond bytes; `int16` may hold bytes and a nodata value of -1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Date, location and resolution of a layer, for encoders that take them."""

    time: tuple[str, ...] = ()
    """ISO 8601 date of each time step; empty if unknown."""
    location: tuple[float, float] | None = None
    """Longitude and latitude of the center in degrees, `None` if unknown."""
    gsd: float | None = None
    """Ground sample distance in metres, `None` if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInputs:
    """Bands of a layer for an encoder."""

    bands: tuple[str, ...]
    """Names of the bands that the encoder takes from the layer, in the order of its channels."""
    metadata: tuple[BandMetadata, ...]
    """Common name and wavelength of each band."""
    channels: tuple[int, ...]
    """Channel of the encoder for each band."""
    count: int
    """Number of channels of the encoder."""
    scale: tuple[float, ...]
    """Factor of each band from values of the layer to units of the model."""
    offset: tuple[float, ...]
    """Offset of each band, added after the multiplication."""
    valid_max: tuple[float | None, ...] = ()
    """Largest valid value of each band in the units of the layer; `None` or empty if unknown."""
    filled: tuple[str, ...] = ()
    """Bands that the layer lacks and the encoder fills with their mean."""
    notes: tuple[str, ...] = ()
    """Dropped and filled bands, and unit conversions, as text."""
    units: tuple[Units, ...] = ()
    """Units of the model, of each band."""
    physical: tuple[tuple[float, float] | None, ...] = ()
    """Scale and offset from values of the layer to physical ones, of each band; `None` if the layer states none."""

    def require_layer(self, layer: Any, names: Sequence[str] | None, model: str) -> None:
        """Raise if values of a layer have other units than the model takes, or another scale than was converted.

        Parameters
        ----------
        layer
            A layer to which the conversion is applied.
        names
            Name in the layer of each of `bands`; `None` if its bands are those, without names.
        model
            Name of the weights, for errors.

        Raises
        ------
        InputError
            If the layer would be refused by `layer_inputs`, or both layers state scale and offset, and they differ.
        """
        available = [] if names is None else list(layer_band_names(layer).names)
        positions = range(len(self.bands)) if names is None else [available.index(name) for name in names]
        remedy = (
            f"Open {{layer}} with the same rescale=. Or load the encoder for it: models.load({model!r}, bands=layer)."
        )
        try:
            _require_depth(layer, set(self.units), model)
            for position, units in zip(positions, self.units, strict=False):
                _conversion(layer, position, units, 1.0, model)
        except InputError as error:
            raise InputError(
                error.problem, remedy=error.remedy.replace("{bands}", "{layer}"), argument="layer"
            ) from error
        for name, position, loaded in zip(self.bands, positions, self.physical, strict=False):
            stated = _physical(layer, position, model)
            if loaded is not None and stated is not None and not np.allclose(loaded, stated, rtol=1e-6, atol=1e-9):
                msg = f"Cannot predict: values of {name!r} are {_as_text(stated)} in the layer, and {_as_text(loaded)} "
                msg += f"in the layer for which {model!r} was loaded."
                raise InputError(msg, remedy=remedy, value=stated, argument="layer")


def layer_inputs(
    layer: Any,
    *,
    model: str,
    names: tuple[str, ...] | None,
    metadata: tuple[BandMetadata, ...],
    units: tuple[Units, ...],
    factor: float,
    missing: MissingBands,
    fillable: bool = True,
    groups: Sequence[Sequence[str]] = (),
) -> LayerInputs:
    """Match the bands of a layer to the channels of an encoder, with factors and offsets to the encoder's units.

    Parameters
    ----------
    layer
        A layer with band names, or band names.
    model
        Name of the weights, for errors.
    names
        Bands of the model in order; `None` if it takes any bands with a wavelength.
    metadata, units
        Common name and wavelength, and units, of each of `names`. For a model of any bands, `units` has one entry.
    factor
        Stored number of the model for a reflectance of 1.
    missing
        `"mean"` fills missing bands with their mean in the training data, `"raise"` raises.
    fillable
        Whether the mean of the training data is known, as the remedy of the error states.
    groups
        Groups of bands that may be missing as a whole, such as the bands of one sensor.

    Raises
    ------
    InputError
        If bands are missing, ambiguous or in units that cannot be converted.
    """
    if missing not in ("raise", "mean"):
        msg = f"Cannot handle missing bands with missing={missing!r}."
        raise InputError(msg, remedy="Pass {missing:'raise'} or {missing:'mean'}.", value=missing, argument="missing")
    available = layer_band_names(layer)
    if names is None:
        positions: list[int | None] = list(range(len(available)))
        metadata = tuple(_any_band(available, index, model) for index in range(len(available)))
        names = available.names
        radar: Units = "any" if units[0] == "any" else "power"
        units = tuple(radar if f.common in RADAR_NAMES else units[0] for f in metadata)
    else:
        requested = BandNames(
            names=names,
            common_names=tuple(f.common for f in metadata),
            wavelengths=tuple(f.wavelength for f in metadata),
        )
        positions = list(match_bands(requested, available))
    absent = [name for name, position in zip(names, positions, strict=True) if position is None]
    channels = tuple(channel for channel, position in enumerate(positions) if position is not None)
    # A group is omitted only as a whole: if the layer has some of its bands, the others are missing.
    omitted = {name for group in groups if set(group) <= set(absent) for name in group}
    required = [name for name in absent if name not in omitted]
    if not channels or (required and missing == "raise"):
        labels = ", ".join(available.label(index) for index in range(len(available)))
        listed = ", ".join(map(repr, required or absent))
        msg = f"Cannot match the bands of {model!r}: the layer has no band {listed}, only {labels}."
        remedy = "Pass {bands}, a layer with these bands, by these names or by common names."
        if channels and fillable:
            remedy += " Or pass {missing:'mean'} to fill them with their mean in the training data."
        raise InputError(msg, remedy=remedy, value=tuple(required or absent), argument="bands")
    matched = [position for position in positions if position is not None]
    _require_depth(layer, {units[channel] for channel in channels}, model)
    pairs = [_conversion(layer, p, units[c], factor, model) for c, p in zip(channels, matched, strict=True)]
    bytes_of_bands = [units[channel] == "byte" for channel in channels]
    dropped = [name for index, name in enumerate(available.names) if index not in matched]
    notes = (
        f"Dropped bands that the model does not take: {', '.join(dropped)}." if dropped else "",
        f"Not passed to the model: {', '.join(name for name in absent if name in omitted)}." if omitted else "",
        f"Filled with the mean of the training data: {', '.join(required)}." if required else "",
        "Values are converted to the units of the model." if any(pair != (1.0, 0.0) for pair in pairs) else "",
    )
    return LayerInputs(
        bands=tuple(available.names[position] for position in matched),
        metadata=tuple(metadata[channel] for channel in channels),
        channels=channels,
        count=len(names),
        scale=tuple(scale for scale, _ in pairs),
        offset=tuple(offset for _, offset in pairs),
        valid_max=tuple(255.0 if byte else None for byte in bytes_of_bands) if any(bytes_of_bands) else (),
        filled=tuple(required),
        notes=tuple(filter(None, notes)),
        units=tuple(units[channel] for channel in channels),
        physical=tuple(_physical(layer, position, model) for position in matched),
    )


def context_of(layer: Any, *, dates: int) -> Context:
    """Return dates, location and resolution of a layer, as far as it states them.

    Dates are empty if the layer has another number of time steps than the encoder takes.
    """
    coords = getattr(layer, "coords", {})
    time = np.atleast_1d(coords["time"].to_numpy()) if "time" in coords else np.array([])
    is_dated = len(time) == dates and np.issubdtype(time.dtype, np.datetime64) and not np.isnat(time).any()
    days = tuple(str(day) for day in time.astype("datetime64[D]")) if is_dated else ()
    grid = _geobox(layer)
    if grid is None or grid.crs is None:
        return Context(time=days)
    crs = pyproj.CRS(str(grid.crs))
    center = grid.affine @ (grid.shape[1] / 2, grid.shape[0] / 2)
    lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(*center)
    size = math.sqrt(abs(grid.affine.determinant))
    # a degree of longitude shrinks towards the poles: the side of a square of the same area
    metres = size * _METRES_PER_DEGREE * math.sqrt(math.cos(math.radians(lat))) if crs.is_geographic else size
    gsd = metres if crs.is_geographic else size * crs.axis_info[0].unit_conversion_factor
    return Context(time=days, location=(float(lon), float(lat)), gsd=float(gsd))


def _geobox(layer: Any) -> Any:
    accessor = getattr(layer, "odc", None)
    return None if accessor is None else accessor.geobox


def layer_band_names(layer: Any) -> BandNames:
    """Return names, common names and wavelengths of a layer's bands; only names from a sequence of names."""
    if not hasattr(layer, "coords"):
        if isinstance(layer, str) or not isinstance(layer, Sequence) or not layer or len(set(layer)) != len(layer):
            msg = f"Cannot match the bands {layer!r}."
            raise InputError(msg, remedy="Pass {bands}, a layer or distinct names.", value=layer, argument="bands")
        return BandNames(names=tuple(map(str, layer)))
    if "band" not in layer.coords:
        msg = "Cannot match the bands of a layer without names of bands."
        raise InputError(msg, remedy="Name them: layer.assign_coords(band=[...]).", argument="bands")
    along = {str(name): np.atleast_1d(c.to_numpy()) for name, c in layer.coords.items() if c.dims in (("band",), ())}
    names = tuple(map(str, along["band"]))
    common, wavelengths = along.get("common_name", ()), along.get("wavelength", ())
    return BandNames(names=names, common_names=tuple(map(str, common)), wavelengths=tuple(map(float, wavelengths)))


def _any_band(available: BandNames, index: int, model: str) -> BandMetadata:
    """Return the metadata of a layer's band for a model of any bands; a stated wavelength precedes the nominal one."""
    name, common = available.names[index].lower(), available.common(index)
    nominal = COMMON.get(common) or COMMON.get(name) or BandMetadata(common=common)
    wavelength = available.wavelength(index)
    is_radar = nominal.common in RADAR_NAMES
    if not is_radar and not math.isnan(wavelength):
        return BandMetadata(common=common, wavelength=wavelength, bandwidth=nominal.bandwidth)
    if not is_radar and math.isnan(nominal.wavelength):
        msg = f"Cannot pass the band {available.label(index)!r} to {model!r}, which embeds bands by their wavelengths: "
        msg += "the layer states none."
        remedy = "Pass {bands}, a layer with the coordinate wavelength (in micrometres) or common_name along band."
        raise InputError(msg, remedy=remedy, value=available.names[index], argument="bands")
    return nominal


def _require_depth(layer: Any, units: set[Units], model: str) -> None:
    """Raise if the dtype of a layer has more bits than the 8-bit images of a model, or fewer than reflectance."""
    dtype = str(getattr(layer, "dtype", ""))
    if units == {"byte"} and dtype in _WIDE:
        msg = f"Cannot pass a layer of {dtype} to {model!r}: it takes 8-bit images (0 to 255)."
        remedy = "Pass {bands}, a layer of 8-bit images. Or layer.astype('uint8') if no value is above 255."
        raise InputError(msg, remedy=remedy, value=dtype, argument="bands")
    if "reflectance" in units and dtype == "uint8" and getattr(layer, "attrs", {}).get("scales") is None:
        msg = f"Cannot pass a layer of 8-bit images to {model!r}: it takes reflectance."
        remedy = "Pass {bands}, a layer of reflectance, with its scale and offset or units of '1'."
        raise InputError(msg, remedy=remedy, value=dtype, argument="bands")


def _of_band(layer: Any, key: str, position: int, model: str) -> float | None:
    """Return the scale or offset of a band in the attributes of a layer, `None` if it states none.

    Raises
    ------
    InputError
        If bands differ in it, and some were selected, so that their numbers are not known.
    """
    numbers = np.atleast_1d(getattr(layer, "attrs", {}).get(key, [])).tolist()
    if not numbers:
        return None
    if len(set(numbers)) == 1:
        return float(numbers[0])
    if len(numbers) != np.atleast_1d(layer["band"]).size:
        msg = f"Cannot convert values for {model!r}: the layer states {len(numbers)} {key}, and has other bands."
        remedy = "Pass {bands}, a layer opened with bands= or rescale=True, instead of a selection of bands."
        raise InputError(msg, remedy=remedy, argument="bands")
    return float(numbers[position])


def _physical(layer: Any, position: int, model: str) -> tuple[float, float] | None:
    """Return scale and offset of a band from values of the layer to physical ones, `None` if they are unknown."""
    attrs = getattr(layer, "attrs", {})
    try:
        scale, offset = (_of_band(layer, key, position, model) for key in ("scales", "offsets"))
    except InputError:
        return None
    if scale is not None:
        return scale, offset or 0.0
    stated = str(attrs.get("radiometry", "")).startswith("physical") or str(attrs.get("units", "")).strip() == "1"
    return (1.0, 0.0) if stated else None


def _as_text(physical: tuple[float, float]) -> str:
    scale, offset = physical
    return "physical" if (scale, offset) == (1, 0) else f"stored, of scale {scale:g} and offset {offset:g}"


def _conversion(layer: Any, position: int, units: Units, factor: float, model: str) -> tuple[float, float]:
    """Return factor and offset that convert the values of a layer's band to the units of the model."""
    if units == "any":
        return 1.0, 0.0
    attrs = getattr(layer, "attrs", {})
    layer_units = str(attrs.get("units", "")).strip().lower()
    scale, offset = (_of_band(layer, key, position, model) for key in ("scales", "offsets"))
    if units == "decibel" and layer_units and layer_units not in _DECIBEL:
        msg = f"Cannot pass values in {attrs['units']!r} to {model!r}: it takes backscatter in dB."
        raise InputError(
            msg, remedy="Pass {bands}, a layer in dB: 10 * log10(power).", value=layer_units, argument="bands"
        )
    if units != "decibel" and layer_units in _DECIBEL:
        msg = f"Cannot pass values in dB to {model!r}: it takes {units!r}."
        raise InputError(
            msg, remedy="Pass {bands}, a layer in units of the model.", value=layer_units, argument="bands"
        )
    is_reflectance = layer_units == "1" or (units == "byte" and scale not in (None, 1))
    if units in ("byte", "stored") and is_reflectance:
        expected = "bytes (0 to 255)" if units == "byte" else "stored numbers"
        msg = f"Cannot pass reflectance to {model!r}: it takes {expected}."
        remedy = "Pass {bands}, a layer of " + ("8-bit images." if units == "byte" else "values without a scale.")
        raise InputError(msg, remedy=remedy, argument="bands")
    if units != "reflectance":
        return 1.0, 0.0
    radiometry = str(attrs.get("radiometry", ""))
    if scale is None and radiometry.startswith("as stored"):
        msg = f"Cannot pass a layer to {model!r}, which takes reflectance: the layer is {radiometry}."
        raise InputError(msg, remedy="Pass {bands}, a layer opened with rescale=True.", argument="bands")
    if scale is not None and offset is not None:
        return round(scale * factor, 9), round(offset * factor, 6)
    return (factor, 0.0) if layer_units == "1" else (1.0, 0.0)
