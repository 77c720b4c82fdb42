"""ADVANCE: aerial images with sound recordings of the same location."""

from __future__ import annotations

from geoxt.datasets.assets import Audio, Raster
from geoxt.datasets.spec import RGB, Archive, RandomSplit, Spec, classes

_ADVANCE_URL = "https://zenodo.org/records/3828124/files"

ADVANCE = Spec(
    name="advance",
    title="ADVANCE",
    task="classification",
    source="Google Earth, Freesound",
    classes=classes(
        """
        airport
        beach
        bridge
        farmland
        forest
        grassland
        harbour
        lake
        orchard
        residential
        sparse shrub land
        sports land
        train station
        """
    ),
    assets={
        "image": Raster("vision/{label}/{id}.jpg", bands=RGB, shape=(512, 512)),
        "audio": Audio("sound/{label}/{id}.wav", sample_rate=22050, duration=10),
    },
    archives=(
        Archive(
            file="ADVANCE_vision.zip",
            url=f"{_ADVANCE_URL}/ADVANCE_vision.zip?download=1",
            md5="a9e8748219ef5864d3b5a8979a67b471",
            members=("vision/",),
        ),
        Archive(
            file="ADVANCE_sound.zip",
            url=f"{_ADVANCE_URL}/ADVANCE_sound.zip?download=1",
            md5="a2d12f2d2a64f5c3d3a9d8c09aaf1c31",
            members=("sound/",),
        ),
    ),
    splits=RandomSplit(
        fractions={"train": 0.7, "val": 0.1, "test": 0.2},
        group=("label", "recording"),
        patterns={"id": r"(?P<recording>.+?)(?:_\d)?"},
    ),
    samples=5075,
    resolution=(0.5,),
    modality="RGB",
    cite="10.1007/978-3-030-58586-0_5",
    license="CC-BY-4.0",
    homepage="https://akchen.github.io/ADVANCE-DATASET/",
    quirks=("A recording has up to four images, shifted around its location (`id`, `id_1`, …): they share one split.",),
    unverified=("sampling rate and channels of the recordings",),
    paper_row="ADVANCE",
)
SPECS = (ADVANCE,)
