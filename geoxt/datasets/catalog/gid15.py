"""GID-15: land cover of Gaofen-2 scenes."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, FolderSplit, Spec, Statistics, classes

_SCENE = "{split:train|val|test}/GF2_{camera:PMS1|PMS2}__L1A{scene:10d}-MSS{part:1|2}"
_SHAPE = (6800, 7200)

GID15 = Spec(
    name="gid15",
    title="GID-15",
    task="segmentation",
    source="Gaofen-2",
    classes=classes(
        "background industrial_land urban_residential rural_residential traffic_land paddy_field irrigated_land "
        "dry_cropland garden_plot arbor_woodland shrub_land natural_grassland artificial_grassland river lake pond",
        colors="#000000 #c80000 #fa0096 #c89696 #fa9696 #00c800 #96fa00 #96c896 #c800c8 #9600fa #9696fa #fac800 "
        "#c8c800 #0000c8 #0096c8 #00c8fa",
    ),
    assets={
        "image": Raster(f"GID/img_dir/{_SCENE}.tif", bands=RGB, shape=_SHAPE),
        "mask": Raster(
            f"GID/ann_dir/{_SCENE}_15label.png", codes={}, ignore=(0,), shape=_SHAPE, where={"split": ("train", "val")}
        ),
    },
    archives=(
        Archive(
            file="gid-15.zip",
            md5="615682bf659c3ed981826c6122c10c83",
            members=("GID/",),
            instructions="Download it in a browser from https://drive.google.com/file/d/1zbkCEXPEKEV6gq19OKmIbaT8bXXfWW6u.",
        ),
    ),
    splits=FolderSplit(),
    samples=150,
    split_sizes={"train": 100, "val": 10, "test": 40},
    resolution=(3.2, 4),
    statistics=(
        Statistics(
            asset="image",
            mean=(90.76, 95.96, 87.58),
            std=(59.24, 58.03, 57.23),
            units="DN",
            source="public code for GID",
        ),
    ),
    cite="10.1016/j.rse.2019.111322",
    homepage="https://captain-whu.github.io/GID15/",
    quirks=(
        "The test scenes have no masks.",
        "Background (0) is unlabelled land, and the nodata value of the masks.",
        "The images are not georeferenced.",
    ),
    unverified=("split sizes",),
    paper_differences="3 m; multispectral pixels of Gaofen-2 are 3.2 to 4 m",
    paper_row="GID-15",
)
SPECS = (GID15,)
