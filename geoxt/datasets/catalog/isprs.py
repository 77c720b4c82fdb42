"""ISPRS Potsdam and Vaihingen: aerial tiles of two German towns, labelled with six classes."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, FieldSplit, Spec, classes, plain_bands

_PAGE = "https://www.isprs.org/resources/datasets/benchmarks/UrbanSemLab"
_CLASSES = classes(
    """
    Clutter/background
    Impervious surfaces
    Building
    Low Vegetation
    Tree
    Car
    """,
    colors="#ff0000 #ffffff #0000ff #00ffff #00ff00 #ffff00",
)
_REQUEST = "Request access from the ISPRS at"
_TILE = "top_potsdam_{tile:[0-9]+_[0-9]+}"
_POTSDAM = {
    "train": "2_10 2_11 2_12 3_10 3_11 3_12 4_10 4_11 4_12 5_10 5_11 5_12 6_10 6_11 6_12 6_7 6_8 6_9 7_10 7_11 7_12 "
    "7_7 7_8 7_9",
    "test": "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13",
}

POTSDAM = Spec(
    name="potsdam",
    title="ISPRS Potsdam",
    task="segmentation",
    source="aerial",
    classes=_CLASSES,
    assets={
        "image": Raster(
            f"4_Ortho_RGBIR/{_TILE}_RGBIR.tif", bands=plain_bands("red green blue nir"), shape=(6000, 6000)
        ),
        "mask": Raster(f"{_TILE}_label.tif", colors="snap", shape=(6000, 6000)),
    },
    archives=(
        Archive(
            file="4_Ortho_RGBIR.zip",
            md5="c4a8f7d8c7196dd4eba4addd0aae10c1",
            members=("4_Ortho_RGBIR/",),
            instructions=f"{_REQUEST} {_PAGE}/2d-sem-label-potsdam.aspx.",
        ),
        Archive(
            file="5_Labels_all.zip",
            members=("top_potsdam_",),
            instructions=f"{_REQUEST} {_PAGE}/2d-sem-label-potsdam.aspx.",
        ),
    ),
    splits=FieldSplit(field="tile", values={split: tuple(tiles.split()) for split, tiles in _POTSDAM.items()}),
    samples=38,
    split_sizes={"train": 24, "test": 14},
    resolution=(0.05,),
    georeferenced=True,
    crs="EPSG:32633",
    modality="RGB, NIR",
    cite="10.5194/isprsannals-I-3-293-2012",
    homepage=f"{_PAGE}/2d-sem-label-potsdam.aspx",
    quirks=(
        "Masks of tiles 4_12 and 6_7 have inexact colours: each channel is rounded to 0 or 255.",
        "Masks have a world file and no CRS; the CRS of the images applies.",
        "The annotation of tile 7_10 is known to be wrong in parts.",
        "The contest numbers the classes in another order, with clutter last.",
    ),
    unverified=("tile 7_10",),
    paper_row="Potsdam",
)

VAIHINGEN = Spec(
    name="vaihingen",
    title="ISPRS Vaihingen",
    task="segmentation",
    source="aerial",
    classes=_CLASSES,
    assets={
        "image": Raster("top/top_mosaic_09cm_area{area:d}.tif", bands=plain_bands("nir red green"), shape=(2550, 1900)),
        "mask": Raster("top_mosaic_09cm_area{area:d}.tif", colors="exact", shape=(2550, 1900)),
    },
    archives=(
        Archive(
            file="ISPRS_semantic_labeling_Vaihingen.zip",
            md5="462b8dca7b6fa9eaf729840f0cdfc7f3",
            members=("top/",),
            instructions=f"{_REQUEST} {_PAGE}/2d-sem-label-vaihingen.aspx.",
        ),
        Archive(
            file="ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE.zip",
            md5="4802dd6326e2727a352fb735be450277",
            members=("top_mosaic_09cm_area",),
            instructions=f"{_REQUEST} {_PAGE}/2d-sem-label-vaihingen.aspx.",
        ),
    ),
    splits=FieldSplit(
        field="area",
        values={
            "train": (1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37),
            "test": (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38),
        },
    ),
    samples=33,
    split_sizes={"train": 16, "test": 17},
    image_size="1,281-3,816",
    resolution=(0.09,),
    modality="NIR, red, green",
    cite="10.5194/isprsannals-I-3-293-2012",
    homepage=f"{_PAGE}/2d-sem-label-vaihingen.aspx",
    quirks=(
        "Image and mask have the same file name, in different folders.",
        "Tiles have world files and no CRS.",
        "Area numbers are not consecutive.",
    ),
    unverified=("other folders of the first archive", "typical size of a tile"),
    paper_differences="bands RGB; the release has near infrared, red and green",
    paper_row="Vaihingen",
)
SPECS = (POTSDAM, VAIHINGEN)
