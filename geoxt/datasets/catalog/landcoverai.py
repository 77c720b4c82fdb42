"""LandCover.ai: buildings, woodland, water and roads in Poland, as patches with official splits and as scenes."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, ListSplit, RandomSplit, Spec, classes

_URL = "https://hf.co/datasets/dragon7/LandCover.ai/resolve/262c75fbbf77d107f0a8335e9eef1f6234481d08"

_CLASSES = classes("Background Building Woodland Water Road", colors="#000000 #614a4a #267300 #00c5ff #cfcfcf")

LANDCOVERAI = Spec(
    name="landcoverai",
    title="LandCover.ai",
    task="segmentation",
    source="aerial",
    classes=_CLASSES,
    assets={
        "image": Raster("output/{tile}_{n:d}.jpg", bands=RGB, shape=(512, 512)),
        "mask": Raster("output/{tile}_{n:d}_m.png", codes={}, channel=3, shape=(512, 512)),  # three equal bands
    },
    archives=(
        Archive(
            file="output.zip",
            url=f"{_URL}/output.zip",
            sha256="0edd6b7049d089519e63450e371037890b5e9552b1df056dbbddcc88770fd0da",
            members=("output/",),
        ),
        Archive(
            file="train.txt",
            url=f"{_URL}/train.txt",
            sha256="3db55adca08bb2161448875e7798102a313a9bd4b7a2caf60892293f0ca98450",
        ),
        Archive(
            file="val.txt",
            url=f"{_URL}/val.txt",
            sha256="521d28411921e97602eb619a55058ddb3702a743f9b4c3aefd56130ae122c6ea",
        ),
        Archive(
            file="test.txt",
            url=f"{_URL}/test.txt",
            sha256="df381ab217cb7bfd526cca4249bc863cb11d8b99edbe6837b086f513fe9c123f",
        ),
    ),
    splits=ListSplit(path="{split:train|val|test}.txt", columns=("{tile}_{n:d}",)),
    group=("tile",),
    samples=10674,
    split_sizes={"train": 7470, "val": 1602, "test": 1602},
    resolution=(0.25, 0.5),
    cite="10.1109/CVPRW53098.2021.00121",
    license="CC-BY-NC-SA-4.0",
    homepage="https://landcover.ai.linuxpolska.com/",
    quirks=(
        "Patches are cut from the scenes of `landcoverai_scenes` and are not georeferenced.",
        "Patches of one scene are in several splits.",
        "The script of the first release cuts patches of the same names in its own folder.",
        "Patches are stored as lossy JPEG, the scenes are not.",
    ),
    unverified=("split sizes",),
    paper_row="LandCover.ai",
)

SCENES = Spec(
    name="landcoverai_scenes",
    title="LandCover.ai (scenes)",
    task="segmentation",
    source="aerial",
    classes=_CLASSES,
    assets={
        "image": Raster("images/{tile}.tif", bands=RGB, shape=(9000, 9500)),
        "mask": Raster("masks/{tile}.tif", codes={}, shape=(9000, 9500)),
    },
    archives=(
        Archive(
            file="landcover.ai.v1.zip",
            url="https://landcover.ai.linuxpolska.com/download/landcover.ai.v1.zip",
            md5="3268c89070e8734b4e91d531c0617e03",
            sha256="dd448287ff3a76291f2b159084b8a265f2ba4559bb80b0551fc8c6c0eb149a4b",
            members=("images/", "masks/"),
        ),
    ),
    splits=RandomSplit(block=5000),
    samples=41,
    image_size="about 4,200x4,700 and 9,000x9,500",
    resolution=(0.25, 0.5),
    georeferenced=True,
    cite="10.1109/CVPRW53098.2021.00121",
    license="CC-BY-NC-SA-4.0",
    homepage="https://landcover.ai.linuxpolska.com/",
    quirks=(
        "The CRS in the files has no EPSG code; it is documented as EPSG:2180, from which it differs by less than 1 m.",
        "The published lists split patches, not scenes.",
        "The archive has no top-level folder: use a separate root.",
    ),
)
SPECS = (LANDCOVERAI, SCENES)
