"""Crops from time series of Sentinel-2 over one place: fields in Kenya (CV4A), cashew plantations in Benin."""

from __future__ import annotations

from geoxt.datasets.assets import Raster, Vector
from geoxt.datasets.spec import Archive, Rule, Spec, classes, sensor_bands
from geoxt.layers.products import Band

_NAMES = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
_BAND = "{band:" + _NAMES.replace(" ", "|") + "}"
_CLOUD = (Band(name="CLD", resolution=10),)
"""Probability of cloud, in percent."""
_TILE = ("data/{tile:0|1|2|3}/", "data/0{tile:0|1|2|3}/")
_BENIN = "imagery/00/00_{date:%Y%m%d}/00_{date}_"
_IN_KENYA = "https://source.coop/radiantearth/african-crops-kenya-02"
_IN_BENIN = "https://source.coop/technoserve/cashews-benin"

KENYA = Spec(
    name="cv4a_kenya_crop_type",
    title="CV4A Kenya Crop Type",
    task="segmentation",
    source="Sentinel-2",
    classes=classes(
        """
        no field or test field
        Maize
        Cassava
        Common Bean
        Maize & Common Bean (intercropping)
        Maize & Cassava (intercropping)
        Maize & Soybean (intercropping)
        Cassava & Common Bean (intercropping)
        """
    ),
    assets={
        "image": Raster(
            tuple(f"{tile}{{time:%Y%m%d}}/{{tile}}_{_BAND}_{{time}}.tif" for tile in _TILE),
            bands=sensor_bands("sentinel2", _NAMES),
            dtype="float32",
            shape=(3035, 2016),
            scale=0.0001,
        ),
        "cloud": Raster(
            tuple(f"{tile}{{time:%Y%m%d}}/{{tile}}_CLD_{{time}}.tif" for tile in _TILE),
            bands=_CLOUD,
            dtype="float32",
            shape=(3035, 2016),
        ),
        "mask": Raster(tuple(f"{tile}{{tile}}_label.tif" for tile in _TILE), codes={}, ignore=(0,), shape=(3035, 2016)),
        "fields": Raster(
            tuple(f"{tile}{{tile}}_field_id.tif" for tile in _TILE), dtype="int32", value="number", shape=(3035, 2016)
        ),
    },
    archives=(
        Archive(file="data", holds=("data/",), manual=f"Copy the folder data from {_IN_KENYA}."),
        Archive(file="FieldIds.csv", manual=f"Copy it from {_IN_KENYA}."),
    ),
    splits=Rule(group=("tile",), shapes="fields"),
    window=256,
    samples=4,
    resolution=(10,),
    modality="MSI",
    cite="10.34911/rdnt.dw605x",
    licence="CC-BY-SA-4.0",
    homepage=_IN_KENYA,
    quirks=(
        "A sample is a window of one of four tiles with 13 dates; fields are a few pixels wide.",
        "The contest splits fields, not places: 3,286 have a class, the 1,402 to be told only a number in `fields`.",
        "Splits here are of places and share no field; FieldIds.csv lists the fields of the contest's.",
        "Some mirrors write the tile's folder as 00, its files as 0.",
    ),
    unverified=("scale", "whether files say where they lie"),
    paper="4,688 samples are fields; the images are 4 tiles of 13 dates",
    row="CV4A Kenya Crop Type",
)
BENIN = Spec(
    name="benin_cashews",
    title="Smallholder Cashew Plantations in Benin",
    task="segmentation",
    source="Sentinel-2",
    classes=classes(
        """
        No data
        Well-managed plantation
        Poorly-managed plantation
        Non-plantation
        Residential
        Background
        Uncertain
        """
    ),
    assets={
        "image": Raster(
            f"{_BENIN}{_BAND}_10m.tif",
            bands=sensor_bands("sentinel2", _NAMES),
            dtype="uint16",
            shape=(1186, 1122),
            scale=0.0001,
        ),
        "cloud": Raster(f"{_BENIN}CLD_10m.tif", bands=_CLOUD, dtype="uint16", shape=(1186, 1122)),
        "mask": Vector("labels/00.geojson", crs="EPSG:32631", column="class", ignore=(0,)),
    },
    archives=(
        Archive(file="imagery", holds=("imagery/",), manual=f"Copy the folder imagery from {_IN_BENIN}."),
        Archive(file="labels/00.geojson", manual=f"Copy it from {_IN_BENIN}."),
    ),
    splits=Rule(),
    window=256,
    samples=70,
    resolution=(10,),
    georeferenced=True,
    modality="MSI",
    cite="10.34911/rdnt.hfv20i",
    licence="CC-BY-4.0",
    homepage=_IN_BENIN,
    quirks=(
        "A sample is a window of one date of the one site; a place is in one split on all dates, under one mask.",
        "GeoJSON in metres (UTM), against the standard.",
        "The documentation says 71 dates.",
    ),
    unverified=("DOI", "scale"),
    paper="Airbus Pleiades of 0.5 m; the images are of Sentinel-2, 10 m, and only the outlines were drawn on Pleiades",
    row="Smallholder Cashew Plantations in Benin",
)
SPECS = (KENYA, BENIN)
