"""LEVIR-CD+: building change between two images of high resolution."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, FolderSplit, Spec, classes

LEVIRCD = Spec(
    name="levircd_plus",
    title="LEVIR-CD+",
    task="change",
    source="Google Earth",
    classes=classes("no_change change"),
    assets={
        "image": Raster("LEVIR-CD+/{split:train|test}/{time:A|B}/{id}.png", bands=RGB, shape=(1024, 1024)),
        "mask": Raster("LEVIR-CD+/{split:train|test}/label/{id}.png", codes={0: 0, 255: 1}, shape=(1024, 1024)),
    },
    archives=(
        Archive(
            file="LEVIR-CD+.zip",
            url="https://huggingface.co/datasets/satellite-image-deep-learning/LEVIR-CD/resolve/d4f83dcbb571ee7573079129a5c327d18592a849/LEVIR-CD+.zip",
            md5="1adf156f628aa32fb2e8fe6cada16c04",
            members=("LEVIR-CD+/",),
        ),
    ),
    splits=FolderSplit(),
    samples=985,
    split_sizes={"train": 637, "test": 348},
    resolution=(0.5,),
    cite="10.3390/rs13245094",
    homepage="https://github.com/S2Looking/Dataset",
    quirks=("Masks mark only buildings that were built or removed.", "No validation split is published."),
    unverified=("split sizes",),
    paper_row="LEVIR-CD+",
)
SPECS = (LEVIRCD,)
