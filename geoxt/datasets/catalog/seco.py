"""Seasonal Contrast: unlabelled Sentinel-2 images of locations on five dates, for self-supervision; two releases."""

from __future__ import annotations

from dataclasses import replace

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, RandomSplit, Spec, sensor_bands

_BAND_NAMES = "B1 B2 B3 B4 B5 B6 B7 B8 B8A B9 B11 B12"
_SCENE = r"{time:%Y%m%dT%H%M%S}_{_gen:\d{8}T\d{6}}_{_tile:T\d{2}[A-Z]{3}}"
_FILES = f"SET/{{location:6d}}/{_SCENE}/{{band:{_BAND_NAMES.replace(' ', '|')}}}.tif"
_IMAGE = Raster(
    _FILES.replace("SET", "seasonal_contrast_1m"),
    bands=sensor_bands("sentinel2", "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B11 B12"),
    shape=(264, 264),
    mixed_resolution=True,
    scale=0.00392157,
)

LARGE = Spec(
    name="seasonal_contrast",
    title="Seasonal Contrast",
    task="self-supervised",
    source="Sentinel-2",
    assets={"image": _IMAGE},
    archives=(
        Archive(
            file="seco_1m.zip",
            url="https://zenodo.org/records/4728033/files/seco_1m.zip?download=1",
            md5="187963d852d4d3ce6637743ec3a4bd9e",
            members=("seasonal_contrast_1m/",),
        ),
    ),
    splits=RandomSplit(fractions={"train": 0.9, "val": 0.1}, block=100_000),
    samples=200000,
    resolution=(10,),
    georeferenced=True,
    modality="MSI",
    cite="10.1109/ICCV48922.2021.00928",
    license="CC-BY-4.0",
    homepage="https://github.com/ServiceNow/seasonal-contrast",
    quirks=(
        "A sample is one location on five dates, about three months apart: 1,000,000 images in all.",
        "Pixel values are reflectance x 255, from lossy JPEG; bands of 20 and 60 m have 132x132 and 44x44 pixels.",
        "The CRS is geographic, without an EPSG code.",
    ),
    unverified=("DOI", "acquisition years"),
    paper_differences="100K-1M samples, which are images; the releases have 20,000 and 200,000 locations on five dates",
    paper_row="Seasonal Contrast",
    examples={"_gen": ("20190803T154611",), "_tile": ("T18QVG",)},
)
SMALL = replace(
    LARGE,
    name="seasonal_contrast_100k",
    title="Seasonal Contrast (100K)",
    assets={"image": replace(_IMAGE, path=_FILES.replace("SET", "seasonal_contrast_100k"))},
    archives=(
        Archive(
            file="seco_100k.zip",
            url="https://zenodo.org/records/4728033/files/seco_100k.zip?download=1",
            md5="ebf2d5e03adc6e657f9a69a20ad863e0",
            members=("seasonal_contrast_100k/",),
        ),
    ),
    samples=20000,
    quirks=(
        "A sample is one location on five dates, about three months apart: 100,000 images in all.",
        *LARGE.quirks[1:],
        "Previews beside the folders of dates are reported as extra files by `verify`.",
    ),
    paper_differences="",
)
SPECS = (LARGE, SMALL)
