"""ETCI 2021: flood and water masks of Sentinel-1 tiles."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, FolderSplit, Spec, Statistics, classes, sensor_bands

_TILES = "{split:train|test|test_internal}/{region:[a-z]+}_{date:%Y%m%dt%H%M%S}/tiles"
_NAME = "{region}_{date}_x-{x:d}_y-{y:d}"
_CODES = {0: 0, 255: 1}
_DOWNLOAD = "Download it in a browser from https://drive.google.com/file/d"

ETCI = Spec(
    name="etci2021",
    title="ETCI 2021 Flood Detection",
    task="segmentation",
    source="Sentinel-1",
    classes=classes("no flood / no water\nflood / water"),
    assets={
        "image": Raster(
            f"{_TILES}/{{band:vv|vh}}/{_NAME}_{{band}}.png", bands=sensor_bands("sentinel1", "VV VH"), channel=1
        ),
        "mask": Raster(
            f"{_TILES}/flood_label/{_NAME}.png", codes=_CODES, channel=1, where={"split": ("train", "test")}
        ),
        "water": Raster(f"{_TILES}/water_body_label/{_NAME}.png", codes=_CODES, channel=1),
    },
    archives=(
        Archive(
            file="train.zip",
            md5="1e95792fe0f6e3c9000abdeab2a8ab0f",
            members=("train/",),
            instructions=f"{_DOWNLOAD}/14HqNW5uWLS92n7KrxKgDwUTsSEST6LCr.",
        ),
        Archive(
            file="val_with_ref_labels.zip",
            md5="fd18cecb318efc69f8319f90c3771bdf",
            members=("test/",),
            instructions=f"{_DOWNLOAD}/19sriKPHCZLfJn_Jmk3Z_0b3VaCBVRVyn.",
        ),
        Archive(
            file="test_without_ref_labels.zip",
            md5="da9fa69e1498bd49d5c766338c6dac3d",
            members=("test_internal/",),
            instructions=f"{_DOWNLOAD}/1rpMVluASnSHBfm2FhpPDio0GyCPOqg7E.",
        ),
    ),
    splits=FolderSplit(names={"test": "val", "test_internal": "test"}),
    group=("region", "x", "y"),
    split_sizes={"train": 33405, "val": 10400, "test": 12348},
    resolution=(5, 20),
    modality="SAR",
    statistics=(
        Statistics(
            asset="image",
            mean=(128.02253931, 128.11221701),
            std=(89.8145088, 95.2797861),
            units="as stored",
            source="TorchGeo",
        ),
    ),
    cite="https://nasa-impact.github.io/etci2021/",
    homepage="https://nasa-impact.github.io/etci2021/",
    quirks=(
        "The folder test is the validation split; test_internal is the test split, without flood masks.",
        "Files repeat one band in three channels; the first is read.",
        "Many tiles at the edge of the swath are blank.",
    ),
    unverified=("sizes of val and test", "value of nodata pixels"),
    paper_differences=(
        "66,810 samples, which are two images of each of 33,405 training tiles; there are 56,153 tiles in all splits"
    ),
    paper_row="ETCI 2021 Flood Detection",
    examples={"region": ("bangladesh", "florence", "redrivernorth")},
)
SPECS = (ETCI,)
