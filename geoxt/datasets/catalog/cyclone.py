"""Tropical cyclones: wind speed of infrared images from geostationary satellites."""

from __future__ import annotations

from geoxt.datasets.assets import Raster, Table
from geoxt.datasets.spec import Archive, FolderSplit, Spec, plain_bands

_URL = "https://source.coop/radiantearth/nasa-tropical-storm-challenge"
_IMAGE_ID = {"Image ID": "{storm:[a-z]{3}}_{frame:3d}"}

CYCLONE = Spec(
    name="tropical_cyclone",
    title="Tropical Cyclone Wind Estimation",
    task="regression",
    source="GOES 8-16",
    assets={
        "image": Raster(
            "{split:train|test}/{storm:[a-z]{3}}_{frame:3d}.jpg",
            bands=plain_bands("lwir11", wavelengths=(10.3,)),
            shape=(366, 366),
        ),
        "label": Table("{_part:training|test}_set_labels.csv", columns=_IMAGE_ID, value="Wind Speed"),
        "seconds": Table("{_part:training|test}_set_features.csv", columns=_IMAGE_ID, value="Relative Time"),
    },
    archives=(
        Archive(file="train", members=("train/",), instructions=f"Copy the folder train from {_URL}."),
        Archive(file="test", members=("test/",), instructions=f"Copy the folder test from {_URL}."),
        Archive(file="training_set_labels.csv", instructions=f"Copy it from {_URL}."),
        Archive(file="training_set_features.csv", instructions=f"Copy it from {_URL}."),
        Archive(file="test_set_labels.csv", instructions=f"Copy it from {_URL}."),
        Archive(file="test_set_features.csv", instructions=f"Copy it from {_URL}."),
    ),
    splits=FolderSplit(),
    group=("storm",),
    samples=114634,
    split_sizes={"train": 70257, "test": 44377},
    resolution=(4000, 8000),
    modality="infrared",
    cite="10.1109/JSTARS.2020.3011907",
    license="CC-BY-4.0",
    homepage=_URL,
    quirks=(
        "Wind speed is in knots; `seconds` counts from the start of the storm.",
        "Storms are in both splits; test images are later than train images of the same storm.",
        "A few images are not 366 x 366.",
    ),
    unverified=("file names of the images", "units"),
    paper_differences="108,110 samples of 256x256, MSI; the release has 114,634 of 366x366 in one infrared band",
    paper_row="Tropical Cyclone Wind Estimation",
    examples={"storm": ("abc", "abd")},
)
SPECS = (CYCLONE,)
