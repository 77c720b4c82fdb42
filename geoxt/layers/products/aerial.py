"""Aerial images: the National Agriculture Imagery Program (NAIP) of the United States."""

from __future__ import annotations

from geoxt.layers.products.catalogs import earth_search, planetary_computer
from geoxt.layers.products.product import Band, Product
from geoxt.template import Template

_QUAD = r"m_{quadrangle:\d{7}}_{quarter_quad:ne|nw|se|sw}_{utm_zone:2d}_{resolution:[0-9a-z]{1,3}}_{date:%Y%m%d}"
_BANDS = (("R", "red"), ("G", "green"), ("B", "blue"), ("NIR", "nir"))

NAIP = Product(
    name="naip",
    title="National Agriculture Imagery Program",
    kind="image",
    # One file holds all bands; older ones lack the infrared. The cameras differ, so no wavelengths.
    bands=tuple(
        Band(name=name, common=common, assets=("image",), index=at) for at, (name, common) in enumerate(_BANDS, start=1)
    ),
    rgb=("R", "G", "B"),
    files=(
        Template(_QUAD + ".{_ext:tif|jp2}"),
        Template(_QUAD + "_{processing_date:%Y%m%d}.{_ext:tif|jp2}"),
    ),
    dtypes=(("*", "uint8"),),
    collections=(planetary_computer("naip"), earth_search("naip", paid=True)),
    mission=("2003-01-01", None),
    license="public domain",
    cite="https://www.fisheries.noaa.gov/inport/item/49508/citation",
)
PRODUCTS = (NAIP,)
