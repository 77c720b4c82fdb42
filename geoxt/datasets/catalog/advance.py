"""ADVANCE: aerial pictures with recordings of the same place."""

from __future__ import annotations

from geoxt.datasets.archive_list import hosted
from geoxt.datasets.assets import Audio, Raster
from geoxt.datasets.spec import RGB, Rule, Spec, classes

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
        "audio": Audio("sound/{label}/{id}.wav", rate=22050, seconds=10),
    },
    archives=hosted(
        "https://zenodo.org/records/3828124/files/{}?download=1",
        """
        ADVANCE_vision.zip a9e8748219ef5864d3b5a8979a67b471 vision/
        ADVANCE_sound.zip a2d12f2d2a64f5c3d3a9d8c09aaf1c31 sound/
        """,
    ),
    splits=Rule(fractions={"train": 0.7, "val": 0.1, "test": 0.2}),
    samples=5075,
    resolution=(0.5,),
    modality="RGB",
    cite="10.1007/978-3-030-58586-0_5",
    licence="CC-BY-4.0",
    homepage="https://akchen.github.io/ADVANCE-DATASET/",
    unverified=("rate and channels of the recordings",),
    row="ADVANCE",
)
SPECS = (ADVANCE,)
