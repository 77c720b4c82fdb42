"""Sentinel-2: 13 optical bands, as surface reflectance (L2A) and at the top of the atmosphere (L1C)."""

from __future__ import annotations

from geoxt.layers.products.catalogs import earth_search, planetary_computer
from geoxt.layers.products.product import Band, Collection, Product, Sidecar
from geoxt.layers.products.qa import Qa
from geoxt.layers.products.scale_offset import Radiometry
from geoxt.legend import Legend
from geoxt.template import Template


def _optical(name: str, common: str, wavelength: float, resolution: int) -> Band:
    """Return a band; the Planetary Computer names assets after the band, Earth Search after the common name."""
    return Band(
        name=name, common=common, wavelength=wavelength, resolution=resolution, files=(name,), assets=(name, common)
    )


# Centres of Sentinel-2A's responses. Sentinel-2B's differ by up to 0.017 um.
_OPTICAL = (
    _optical("B01", "coastal", 0.4427, 60),
    _optical("B02", "blue", 0.4927, 10),
    _optical("B03", "green", 0.5598, 10),
    _optical("B04", "red", 0.6646, 10),
    _optical("B05", "rededge1", 0.7041, 20),
    _optical("B06", "rededge2", 0.7405, 20),
    _optical("B07", "rededge3", 0.7828, 20),
    _optical("B08", "nir", 0.8328, 10),
    _optical("B8A", "nir08", 0.8647, 20),
    _optical("B09", "nir09", 0.9451, 60),
    _optical("B10", "cirrus", 1.3735, 60),
    _optical("B11", "swir16", 1.6137, 20),
    _optical("B12", "swir22", 2.2024, 20),
)
_TCI = Band(name="TCI", resolution=10, files=("TCI",), assets=("visual",))
_L2A_EXTRAS = (
    Band(name="SCL", resolution=20, files=("SCL",), assets=("SCL", "scl", "SCL_20m")),
    Band(name="AOT", files=("AOT",), assets=("AOT", "aot")),
    Band(name="WVP", files=("WVP",), assets=("WVP", "wvp")),
    Band(name="MSK_CLDPRB", resolution=20, files=("MSK_CLDPRB",), assets=("cloud",)),
    Band(name="MSK_SNWPRB", resolution=20, files=("MSK_SNWPRB",), assets=("snow",)),
    _TCI,
)
_RULES = (
    Radiometry(scale=0.0001, files=("B*",), until="04.00"),
    Radiometry(scale=0.0001, offset=-0.1, files=("B*",), since="04.00"),
    Radiometry(scale=0.001, files=("AOT",)),
    Radiometry(scale=0.001, unit="cm", files=("WVP",)),
)
# The colours are unverified.
_SCL = (
    (0, "no data", "#000000"),
    (1, "saturated or defective", "#ff0000"),
    (2, "dark area pixels", "#2f2f2f"),
    (3, "cloud shadows", "#643200"),
    (4, "vegetation", "#00a000"),
    (5, "not vegetated", "#ffe65a"),
    (6, "water", "#0000ff"),
    (7, "unclassified", "#808080"),
    (8, "cloud medium probability", "#c0c0c0"),
    (9, "cloud high probability", "#ffffff"),
    (10, "thin cirrus", "#64c8ff"),
    (11, "snow", "#ff96ff"),
)
_QA = Qa(
    band="SCL",
    legend=Legend.from_rows(_SCL),
    groups=(
        ("clouds", ("cloud_medium_probability", "cloud_high_probability", "thin_cirrus")),
        ("shadows", ("cloud_shadows",)),
        ("defective", ("saturated_or_defective",)),
    ),
    fill="no_data",
)


_SAFE = (
    r"S2{mission:[A-D]}_MSI{level:LEVEL}_{date:%Y%m%dT%H%M%S}_N{baseline:\d{4}}_R{orbit:\d{3}}"
    r"_T{tile:\d{2}[A-Z]{3}}_{discriminator:%Y%m%dT%H%M%S}"
)
_BAND = r"{band:B[018][\dA]|AOT|WVP|SCL|TCI}"
_FLAT = r"T{tile:\d{2}[A-Z]{3}}_{date:%Y%m%dT%H%M%S}_" + _BAND
_IN_SAFE = r".SAFE/GRANULE/{_granule}/IMG_DATA/FOLDERT{tile}_{_taken:\d{8}T\d{6}}_" + _BAND
_SIZE = "{resolution:10m|20m|60m}"
_IN_L2A = "WHOLE" + _IN_SAFE.replace("FOLDERT", f"R{_SIZE}/FILE") + "_{resolution}"
_END = ".{_ext:jp2|tif}"


def _sentinel2(
    name: str,
    level: str,
    *,
    bands: tuple[Band, ...],
    extras: tuple[Band, ...],
    files: tuple[str, ...],
    collections: tuple[Collection, ...],
    qa: tuple[Qa, ...] = (),
) -> Product:
    safe = _SAFE.replace("LEVEL", level)
    return Product(
        name=name,
        title=f"Sentinel-2 {level}",
        kind="image",
        bands=bands,
        extras=extras,
        rgb=("B04", "B03", "B02"),
        files=tuple(Template(file.replace("WHOLE", safe) + _END) for file in files),
        scenes=(Template(safe), Template(f"{safe}.SAFE")),
        nodata=0,
        dtypes=(("B*", "uint16"), ("AOT", "uint16"), ("WVP", "uint16"), ("*", "uint8")),
        rules=_RULES,
        sidecar=Sidecar(
            form="sentinel2-mtd", names=(f"MTD_MSI{level}.xml",), within=".SAFE", files=("B*", "AOT", "WVP")
        ),
        qa=qa,
        collections=collections,
        instruments=("msi",),
        mission=("2015-06-23", None),  # unverified
        license="Copernicus Sentinel Data Terms",
        cite="10.1016/j.rse.2011.11.026",
    )


L2A = _sentinel2(
    "sentinel2",
    "L2A",
    bands=tuple(band for band in _OPTICAL if band.name != "B10"),
    extras=_L2A_EXTRAS,
    files=(
        _IN_L2A.replace("FILE", "T"),
        _IN_L2A.replace("FILE", "L2A_T"),  # until 2018
        "WHOLE.SAFE/GRANULE/{_granule}/QI_DATA/{band:MSK_CLDPRB|MSK_SNWPRB}_{resolution:20m|60m}",
        f"{_FLAT}_{_SIZE}",
        _FLAT,
    ),
    collections=(
        planetary_computer("sentinel-2-l2a"),
        earth_search("sentinel-2-l2a", harmonised="earthsearch:boa_offset_applied"),
        earth_search("sentinel-2-c1-l2a"),  # unverified
    ),
    qa=(_QA,),
)
L1C = _sentinel2(
    "sentinel2_l1c",
    "L1C",
    bands=_OPTICAL,
    extras=(_TCI,),
    files=("WHOLE" + _IN_SAFE.replace("FOLDER", ""), _FLAT),
    collections=(earth_search("sentinel-2-l1c", paid=True),),
)
PRODUCTS = (L2A, L1C)
