"""Land cover from class maps: the Cropland Data Layer and the Chesapeake Bay products."""

from __future__ import annotations

from datetime import datetime

from geoxt.layers.products import chesapeake_classes as chesapeake
from geoxt.layers.products.catalogs import planetary_computer
from geoxt.layers.products.cdl_classes import CLASSES
from geoxt.layers.products.product import Band, Collection, Product
from geoxt.legend import Legend
from geoxt.template import Interval, Template

CDL = Product(
    name="cdl",
    title="USDA NASS Cropland Data Layer",
    kind="labels",
    bands=(Band(name="cropland", resolution=30, files=("cdls",), assets=("cropland",)),),
    extras=(
        Band(name="confidence", resolution=30, files=("confidence",), assets=("confidence",)),
        Band(name="cultivated", resolution=30, files=("cultivated",), assets=("cultivated",)),
        *(
            Band(name=crop, resolution=30, assets=(crop,), nodata=255)
            for crop in ("corn", "cotton", "soybeans", "wheat")
        ),
    ),
    files=(
        Template("{date:%Y}_30m_{band:cdls}.tif"),
        Template("{date:%Y}_10m_{band:cdls}.tif"),  # from 2024 on; unverified
        Template("{date:%Y}_30m_{band:cdls|confidence|cultivated}{_mark:[_-]}{tile}.tif"),  # unverified
    ),
    crs="EPSG:5070",  # unverified: the files spell it out without a code
    nodata=0,
    dtypes=(("*", "uint8"),),
    ignore=(0,),
    legend=Legend.from_rows(CLASSES),
    collections=(planetary_computer("usda-cdl"),),
    mission=("2008-01-01", "2024-12-31"),
    license="public domain",
    cite="10.1080/10106049.2011.562309",
)

_BAYWIDE: Interval = (datetime(2013, 1, 1), datetime(2014, 12, 31, 23, 59, 59, 999999))  # noqa: DTZ001 - UTC, as all dates
_LAND_COVER = (
    "https://www.chesapeakeconservancy.org/conservation-innovation-center/high-resolution-data/land-cover-data-project/"
)
_EDITION_2022 = "10.5066/P981GV1L"


def _chesapeake(
    name: str,
    title: str,
    classes: tuple[tuple[int, str, str], ...],
    *files: str,
    collection: str | None = None,
    nodata: int = 0,
    cite: str = _LAND_COVER,
) -> Product:
    collections: tuple[Collection, ...] = (planetary_computer(collection, nodata=nodata),) if collection else ()
    return Product(
        name=f"chesapeake_{name}",
        title=f"Chesapeake Bay {title}",
        kind="labels",
        bands=(Band(name="class", resolution=1, assets=("data",)),),
        files=tuple(Template(file) for file in files),
        period=_BAYWIDE,
        crs="ESRI:102039",
        resolution=1,
        nodata=nodata,
        dtypes=(("*", "uint8"),),
        ignore=tuple(sorted({0, nodata})),
        legend=Legend.from_rows(classes),
        collections=collections,
        mission=("2013-01-01", "2018-12-31"),
        license="CC0-1.0",
        cite=cite,
    )


PRODUCTS = (
    CDL,
    _chesapeake(
        "lc_7",
        "land cover 2013/14, 7 classes",
        chesapeake.COVER_7,
        "Baywide_7class_20132014.tif",
        collection="chesapeake-lc-7",
        nodata=15,
    ),
    _chesapeake(
        "lc_13",
        "land cover 2013/14, 13 classes",
        chesapeake.COVER_13,
        "Baywide_13Class_20132014.tif",
        "{state:DE|MD|NY|PA|VA|WV}_STATEWIDE.tif",  # that these hold the 13 classes is unverified
        "{state:DC}_11001.img",  # as above
        collection="chesapeake-lc-13",
    ),
    _chesapeake("lu", "land use 2013/14", chesapeake.USE_2013, collection="chesapeake-lu"),
    _chesapeake(
        "lulc",
        "land use and land cover, 2022 edition",
        chesapeake.EDITION_2022,
        "{state:dc|de|md|ny|pa|va|wv}_lulc_{date:%Y}_2022-Edition.tif",
        cite=_EDITION_2022,
    ),
)
