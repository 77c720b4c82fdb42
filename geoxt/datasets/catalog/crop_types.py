"""Crop types from Sentinel-2 time series: fields in Kenya (CV4A) and cashew plantations in Benin."""

from __future__ import annotations

from geoxt.datasets.assets import Raster, Vector
from geoxt.datasets.spec import Archive, RandomSplit, Spec, classes, sensor_bands
from geoxt.layers.products import Band

_BAND_NAMES = "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"
_BAND = "{band:" + _BAND_NAMES.replace(" ", "|") + "}"
_CLOUD = (Band(name="CLD", resolution=10),)
"""Cloud probability in percent."""
_TILE = ("data/{tile:0|1|2|3}/", "data/0{tile:0|1|2|3}/")
_BENIN = "imagery/00/00_{date:%Y%m%d}/00_{date}_"
_KENYA_URL = "https://source.coop/radiantearth/african-crops-kenya-02"
_BENIN_URL = "https://source.coop/technoserve/cashews-benin"

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
            bands=sensor_bands("sentinel2", _BAND_NAMES),
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
            tuple(f"{tile}{{tile}}_field_id.tif" for tile in _TILE), dtype="int32", instances=True, shape=(3035, 2016)
        ),
    },
    archives=(
        Archive(file="data", members=("data/",), instructions=f"Copy the folder data from {_KENYA_URL}."),
        Archive(file="FieldIds.csv", instructions=f"Copy it from {_KENYA_URL}."),
    ),
    splits=RandomSplit(group=("tile",), instances="fields"),
    window=256,
    samples=4,
    resolution=(10,),
    modality="MSI",
    cite="10.34911/rdnt.dw605x",
    license="CC-BY-SA-4.0",
    homepage=_KENYA_URL,
    quirks=(
        "A sample is a window of one of four tiles with 13 dates; fields are a few pixels wide.",
        "The contest splits fields: 3,286 have a class, the 1,402 test fields only a number in `fields`.",
        "Splits of geoxt are by location and share no field; FieldIds.csv lists the fields of the contest's splits.",
        "Some mirrors name the folders of tiles 00 to 03, and their files 0 to 3.",
    ),
    unverified=("scale", "georeferencing of the files"),
    paper_differences="4,688 samples, which are fields; the images are 4 tiles of 13 dates",
    paper_row="CV4A Kenya Crop Type",
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
            bands=sensor_bands("sentinel2", _BAND_NAMES),
            dtype="uint16",
            shape=(1186, 1122),
            scale=0.0001,
        ),
        "cloud": Raster(f"{_BENIN}CLD_10m.tif", bands=_CLOUD, dtype="uint16", shape=(1186, 1122)),
        "mask": Vector("labels/00.geojson", crs="EPSG:32631", column="class", ignore=(0,)),
    },
    archives=(
        Archive(file="imagery", members=("imagery/",), instructions=f"Copy the folder imagery from {_BENIN_URL}."),
        Archive(file="labels/00.geojson", instructions=f"Copy it from {_BENIN_URL}."),
    ),
    splits=RandomSplit(),
    window=256,
    samples=70,
    resolution=(10,),
    georeferenced=True,
    modality="MSI",
    cite="10.34911/rdnt.hfv20i",
    license="CC-BY-4.0",
    homepage=_BENIN_URL,
    quirks=(
        "A sample is a window of the site on one date; all dates of a location share one split and one mask.",
        "The GeoJSON has UTM coordinates in metres, contrary to the standard.",
        "The documentation states 71 dates.",
    ),
    unverified=("DOI", "scale"),
    paper_differences=(
        "Airbus Pleiades of 0.5 m; the images are Sentinel-2 of 10 m, and only the polygons were drawn on Pleiades"
    ),
    paper_row="Smallholder Cashew Plantations in Benin",
)
SPECS = (KENYA, BENIN)
