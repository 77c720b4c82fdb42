"""Common names, wavelengths and bandwidths of the bands that pretrained encoders take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BandMetadata:
    """Common name, wavelength and bandwidth of a band."""

    common: str = ""
    """Common name, "" if it has none."""
    wavelength: float = math.nan
    """Center wavelength in micrometres; NaN for radar and for bands that are not of images."""
    bandwidth: float = math.nan
    """Nominal bandwidth in nanometres, NaN if unknown."""


def _optical(common: str, wavelength: float, bandwidth: float = math.nan) -> BandMetadata:
    return BandMetadata(common=common, wavelength=wavelength, bandwidth=bandwidth)


# Wavelengths of Sentinel-2A; nominal bandwidths of ESA, as TorchGeo's CopernicusFM documents them.
SENTINEL2: Mapping[str, BandMetadata] = {
    "B01": _optical("coastal", 0.4427, 20),
    "B02": _optical("blue", 0.4927, 65),
    "B03": _optical("green", 0.5598, 35),
    "B04": _optical("red", 0.6646, 30),
    "B05": _optical("rededge1", 0.7041, 15),
    "B06": _optical("rededge2", 0.7405, 15),
    "B07": _optical("rededge3", 0.7828, 20),
    "B08": _optical("nir", 0.8328, 115),
    "B8A": _optical("nir08", 0.8647, 20),
    "B09": _optical("nir09", 0.9451, 20),
    "B10": _optical("cirrus", 1.3735, 30),
    "B11": _optical("swir16", 1.6137, 90),
    "B12": _optical("swir22", 2.2024, 180),
}
# Landsat 8 and 9, by the names of the weights' authors; the thermal bands share the common name lwir.
LANDSAT8: Mapping[str, BandMetadata] = {
    "B01": _optical("coastal", 0.443),
    "B02": _optical("blue", 0.482),
    "B03": _optical("green", 0.5615),
    "B04": _optical("red", 0.6545),
    "B05": _optical("nir08", 0.865),
    "B06": _optical("swir16", 1.6085),
    "B07": _optical("swir22", 2.2005),
    "B08": _optical("pan", 0.5895),
    "B09": _optical("cirrus", 1.3735),
    "B10": _optical("lwir11", 10.895),
    "B11": _optical("lwir12", 12.005),
}
RGB: Mapping[str, BandMetadata] = {
    "R": _optical("red", 0.66),
    "G": _optical("green", 0.56),
    "B": _optical("blue", 0.48),
    "NIR": _optical("nir", 0.84),
    "N": _optical("nir", 0.84),
}
RADAR: Mapping[str, BandMetadata] = {name: BandMetadata(common=name.lower()) for name in ("VV", "VH", "HH", "HV")}
HLS: Mapping[str, BandMetadata] = {
    "BLUE": SENTINEL2["B02"],
    "GREEN": SENTINEL2["B03"],
    "RED": SENTINEL2["B04"],
    "NIR_NARROW": SENTINEL2["B8A"],
    "SWIR_1": SENTINEL2["B11"],
    "SWIR_2": SENTINEL2["B12"],
}
COMMON: Mapping[str, BandMetadata] = {band.common: band for band in (*SENTINEL2.values(), *RADAR.values())}
"""Bands by common name, for models that take any bands."""


def band_metadata_of(name: str, sensor: str | None) -> BandMetadata:
    """Return the metadata of a sensor's band; empty if the name is unknown."""
    landsat = sensor is not None and "landsat" in sensor.lower()
    tables = (LANDSAT8 if landsat else SENTINEL2, RGB, RADAR, HLS, COMMON)
    return next((table[name] for table in tables if name in table), BandMetadata())
