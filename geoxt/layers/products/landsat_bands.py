"""Bands of Landsat's instruments, Collection 2, with scale and offset."""

from __future__ import annotations

from geoxt.layers.products.product import Band
from geoxt.layers.products.scale_offset import Radiometry

_AUXILIARY = (
    ("ST_ATRAN", "atran", 0.0001, "1"),
    ("ST_CDIST", "cdist", 0.01, "km"),
    ("ST_DRAD", "drad", 0.001, "W m-2 sr-1 um-1"),
    ("ST_URAD", "urad", 0.001, "W m-2 sr-1 um-1"),
    ("ST_TRAD", "trad", 0.001, "W m-2 sr-1 um-1"),
    ("ST_EMIS", "emis", 0.0001, "1"),
    ("ST_EMSD", "emsd", 0.0001, "1"),
    ("ST_QA", "qa", 0.01, "K"),
)
"""Auxiliary bands of Level 2: file, asset, scale and unit."""
_OPACITY = ("SR_ATMOS_OPACITY", "atmos_opacity", 0.001, "1")
"""Auxiliary bands of Level 2 of Landsat 4 to 7."""

# Level 1 has no rule: its coefficients are in each scene's metadata file. Nodata is masked before scaling.
RULES = (
    Radiometry(scale=0.0000275, offset=-0.2, files=("SR_B*",)),
    Radiometry(scale=0.00341802, offset=149.0, unit="K", files=("ST_B*",)),
    *(Radiometry(scale=scale, unit=unit, files=(file,)) for file, _, scale, unit in (*_AUXILIARY, _OPACITY)),
)


# Level 1 of the older instruments has 8 bits.
DTYPES = (
    ("SR_QA_AEROSOL", "uint8"),
    ("SR_CLOUD_QA", "uint8"),
    (_OPACITY[0], "int16"),
    *((file, "int16") for file, *_ in _AUXILIARY),
    *((file, "uint16") for file in ("SR_B*", "ST_B*", "QA_*")),
)


def _band(name: str, common: str, limits: tuple[float, float], resolution: int, *files: str) -> Band:
    """Return a band, by default with a Level-2 and a Level-1 file."""
    names = files or (f"SR_{name}", name)
    return Band(
        name=name,
        common=common,
        wavelength=round(sum(limits) / 2, 4),
        limits=limits,
        resolution=resolution,
        files=names,
        assets=(common, *(f"{file}.TIF" for file in names)),  # USGS used file endings as keys
    )


def _extra(file: str, asset: str, nodata: int | None = None) -> Band:
    return Band(name=file, files=(file,), assets=(asset, f"{file}.TIF"), nodata=nodata)


def _mss(first: int) -> tuple[Band, ...]:
    """Return the four bands of the Multispectral Scanner, numbered from 4 on Landsat 1 to 3 and from 1 after."""
    table = (("green", 0.5, 0.6), ("red", 0.6, 0.7), ("nir08", 0.7, 0.8), ("nir09", 0.8, 1.1))
    numbered = enumerate(table, start=first)
    return tuple(_band(f"B{n}", common, (low, high), 79, f"B{n}") for n, (common, low, high) in numbered)


EARLY_MSS = _mss(4)
MSS = _mss(1)
TM = (
    _band("B1", "blue", (0.45, 0.52), 30),
    _band("B2", "green", (0.52, 0.6), 30),
    _band("B3", "red", (0.63, 0.69), 30),
    _band("B4", "nir08", (0.76, 0.9), 30),
    _band("B5", "swir16", (1.55, 1.75), 30),
    _band("B6", "lwir", (10.4, 12.5), 120, "ST_B6", "B6"),
    _band("B7", "swir22", (2.08, 2.35), 30),
)
ETM = (
    *TM[:3],
    _band("B4", "nir08", (0.77, 0.9), 30),
    TM[4],
    _band("B6", "lwir", (10.4, 12.5), 60, "ST_B6", "B6_VCID_1"),
    _band("B7", "swir22", (2.09, 2.35), 30),
    _band("B8", "pan", (0.52, 0.9), 15, "B8"),
)
OLI = (
    _band("B1", "coastal", (0.43, 0.45), 30),
    _band("B2", "blue", (0.45, 0.51), 30),
    _band("B3", "green", (0.53, 0.59), 30),
    _band("B4", "red", (0.64, 0.67), 30),
    _band("B5", "nir08", (0.85, 0.88), 30),
    _band("B6", "swir16", (1.57, 1.65), 30),
    _band("B7", "swir22", (2.11, 2.29), 30),
    _band("B8", "pan", (0.5, 0.68), 15, "B8"),
    _band("B9", "cirrus", (1.36, 1.38), 30, "B9"),
    _band("B10", "lwir11", (10.6, 11.19), 100, "ST_B10", "B10"),
    _band("B11", "lwir12", (11.5, 12.51), 100, "B11"),
)

QUALITY = (_extra("QA_PIXEL", "qa_pixel", 1), _extra("QA_RADSAT", "qa_radsat"))
_TEMPERATURE = tuple(_extra(file, asset, -9999) for file, asset, _, _ in _AUXILIARY)
TM_EXTRAS = (*QUALITY, _extra("SR_CLOUD_QA", "cloud_qa"), _extra(*_OPACITY[:2], -9999), *_TEMPERATURE)
ETM_EXTRAS = (*TM_EXTRAS, Band(name="B6_VCID_2", files=("B6_VCID_2",), assets=("B6_VCID_2.TIF",)))
"""Level 1 holds the thermal band at low gain (`B6_VCID_1`, taken as B6) and at high gain (`B6_VCID_2`)."""
OLI_EXTRAS = (*QUALITY, _extra("SR_QA_AEROSOL", "qa_aerosol", 1), *_TEMPERATURE)
