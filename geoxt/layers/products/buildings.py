"""Building outlines: Microsoft's Canadian Building Footprints, second release."""

from __future__ import annotations

from geoxt.layers.products.product import Product
from geoxt.legend import Legend
from geoxt.template import Template

_PROVINCES = (
    "Alberta",
    "BritishColumbia",
    "Manitoba",
    "NewBrunswick",
    "NewfoundlandAndLabrador",
    "NorthwestTerritories",
    "NovaScotia",
    "Nunavut",
    "Ontario",
    "PrinceEdwardIsland",
    "Quebec",
    "Saskatchewan",
    "YukonTerritory",
)

CANADA = Product(
    name="canadian_building_footprints",
    title="Microsoft Canadian Building Footprints",
    kind="shapes",
    files=(Template("{province:" + "|".join(_PROVINCES) + "}.geojson"),),  # not any GeoJSON beside them
    crs="EPSG:4326",
    legend=Legend((1,), ("building",)),
    license="ODbL-1.0",
    cite="https://github.com/microsoft/CanadianBuildingFootprints",
)
PRODUCTS = (CANADA,)
