"""xView2: buildings before and after disasters, with four damage levels."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, FolderSplit, Spec, classes

_NAME = "{disaster:[a-z-]+}_{id:8d}"
_SPLIT = "{split:train|test|hold|tier3}"
_REQUEST = "Register at https://xview2.org/dataset and download it there."

XVIEW2 = Spec(
    name="xview2",
    title="xView2",
    task="change",
    source="Maxar",
    classes=classes(
        "background no-damage minor-damage major-damage destroyed",
        colors="#000000 #008000 #0000ff #ffa500 #ff0000",
    ),
    assets={
        "image": Raster(f"{_SPLIT}/images/{_NAME}_{{time:pre|post}}_disaster.png", bands=RGB, shape=(1024, 1024)),
        "mask": Raster(f"{_SPLIT}/targets/{_NAME}_post_disaster_target.png", codes={}, shape=(1024, 1024)),
        "before": Raster(f"{_SPLIT}/targets/{_NAME}_pre_disaster_target.png", codes={0: 0, 1: 1}, shape=(1024, 1024)),
    },
    archives=(
        Archive(
            file="train_images_labels_targets.tar.gz",
            md5="a20ebbfb7eb3452785b63ad02ffd1e16",
            sha256="a5941b7a3e523eafc4aeaa740a1c83f1af6a18c894e7e8c62dd830a76921ecd4",
            members=("train/",),
            instructions=_REQUEST,
        ),
        Archive(
            file="test_images_labels_targets.tar.gz",
            md5="1b39c47e05d1319c17cc8763cee6fe0c",
            sha256="0fcdbfe3ee7d0842729dd2230217e74b2f12be35546ff666df4dae5388e2541c",
            members=("test/",),
            instructions=_REQUEST,
        ),
        Archive(file="hold_images_labels_targets.tar.gz", members=("hold/",), instructions=_REQUEST, optional=True),
        Archive(file="tier3.tar.gz", members=("tier3/",), instructions=_REQUEST, optional=True),
    ),
    splits=FolderSplit(extra=("hold", "tier3")),
    samples=3732,
    split_sizes={"train": 2799, "test": 933, "hold": 933, "tier3": 6369},
    resolution=(0.8,),
    cite="https://arxiv.org/abs/1911.09296",
    license="CC-BY-NC-SA-4.0",
    homepage="https://xview2.org/dataset",
    quirks=(
        "`mask` is the damage after the disaster; `before` has all buildings as undamaged.",
        "Polygons were drawn before the disaster and shifted to the image after it, which is not exactly aligned.",
        "The JSON files in the folders labels (polygons in degrees) are not read.",
        "The contest's holdout (`hold`) and extra training data (`tier3`) are loaded by name, and not counted.",
    ),
    unverified=("split sizes", "archive names of hold and tier3", "targets of tier3"),
    paper_differences="4 classes; the masks also have background",
    paper_row="xView2",
    examples={"disaster": ("guatemala-volcano", "hurricane-florence", "palu-tsunami", "socal-fire")},
)
SPECS = (XVIEW2,)
