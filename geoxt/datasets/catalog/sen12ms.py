"""SEN12MS: Sentinel-1, Sentinel-2 and MODIS land cover, worldwide in four seasons."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, Level, ListSplit, Spec, classes, coded, sensor_bands

_URL = "ftp://m1474000:m1474000@dataserv.ub.tum.de"
_SPLITS_URL = "https://raw.githubusercontent.com/schmitt-muc/SEN12MS/3a41236a28d08d253ebe2fa1a081e5e32aa7eab4/splits"

_IGBP = classes(
    """
    Evergreen needleleaf forests
    Evergreen broadleaf forests
    Deciduous needleleaf forests
    Deciduous broadleaf forests
    Mixed forests
    Closed shrublands
    Open shrublands
    Woody savannas
    Savannas
    Grasslands
    Permanent wetlands
    Croplands
    Urban and built-up lands
    Cropland/natural vegetation mosaics
    Permanent snow and ice
    Barren
    Water bodies
    """,
    first=1,
    colors="#05450a #086a10 #54a708 #78d203 #009900 #c6b044 #dcd159 #dade48 #fbff13 #b6ff05 #27ff87 #c24f44 "
    "#a5a5a5 #ff6d4c #69fff8 #f9ffa4 #1c0dff",
)
_SIMPLIFIED = classes(
    """
    Forest
    Shrubland
    Savanna
    Grassland
    Wetlands
    Croplands
    Urban/Built-up
    Snow/Ice
    Barren
    Water
    """,
    first=1,
    colors="#009900 #c6b044 #fbff13 #b6ff05 #27ff87 #c24f44 #a5a5a5 #69fff8 #f9ffa4 #1c0dff",
)
_SIMPLIFIED_OF_IGBP = (1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10)
"""Simplified class of each IGBP class."""
_LCCS_LAND_COVER = coded(
    """
    1 Barren
    2 Permanent snow and ice
    3 Water bodies
    11 Evergreen needleleaf forests
    12 Evergreen broadleaf forests
    13 Deciduous needleleaf forests
    14 Deciduous broadleaf forests
    15 Mixed broadleaf/needleleaf forests
    16 Mixed broadleaf evergreen/deciduous forests
    21 Open forests
    22 Sparse forests
    31 Dense herbaceous
    32 Sparse herbaceous
    41 Dense shrublands
    42 Shrubland/grassland mosaics
    43 Sparse shrublands
    """
)
_LCCS_LAND_USE = coded(
    """
    1 Barren
    2 Permanent snow and ice
    3 Water bodies
    9 Urban and built-up lands
    10 Dense forests
    20 Open forests
    25 Forest/cropland mosaics
    30 Natural herbaceous
    35 Natural herbaceous/croplands mosaics
    36 Herbaceous croplands
    40 Shrublands
    """
)
_LCCS_HYDROLOGY = coded(
    """
    1 Barren
    2 Permanent snow and ice
    3 Water bodies
    10 Dense forests
    20 Open forests
    27 Woody wetlands
    30 Grasslands
    40 Shrublands
    50 Herbaceous wetlands
    51 Tundra
    """
)
_SEASON = "{season:ROIs1158_spring|ROIs1868_summer|ROIs1970_fall|ROIs2017_winter}"
_PATH = _SEASON + "/PART_{scene:d}/{season}_PART_{scene}_p{patch:d}.tif"
_CHECKSUMS = {
    "ROIs1158_spring_lc": "6e2e8fa8b8cba77ddab49fd20ff5c37b",
    "ROIs1158_spring_s1": "fba019bb27a08c1db96b31f718c34d79",
    "ROIs1158_spring_s2": "d58af2c15a16f376eb3308dc9b685af2",
    "ROIs1868_summer_lc": "2c5bd80244440b6f9d54957c6b1f23d4",
    "ROIs1868_summer_s1": "01044b7f58d33570c6b57fec28a3d449",
    "ROIs1868_summer_s2": "4dbaf72ecb704a4794036fe691427ff3",
    "ROIs1970_fall_lc": "9b126a68b0e3af260071b3139cb57cee",
    "ROIs1970_fall_s1": "19132e0aab9d4d6862fd42e8e6760847",
    "ROIs1970_fall_s2": "b8f117818878da86b5f5e06400eb1866",
    "ROIs2017_winter_lc": "0fa0420ef7bcfe4387c7e6fe226dc728",
    "ROIs2017_winter_s1": "bb8cbfc16b95a4f054a3d5380e0130ed",
    "ROIs2017_winter_s2": "3807545661288dcca312c9c538537b63",
}
"""MD5 of the archive of each season and sensor: `lc` is land cover, `s1` Sentinel-1, `s2` Sentinel-2."""

SEN12MS = Spec(
    name="sen12ms",
    title="SEN12MS",
    task="segmentation",
    source="Sentinel-1/2, MODIS",
    classes=_IGBP,
    levels={
        "igbp": Level(classes=_IGBP, channel=1),
        "simplified": Level(classes=_SIMPLIFIED, codes=dict(enumerate(_SIMPLIFIED_OF_IGBP, start=1)), channel=1),
        "lccs_land_cover": Level(classes=_LCCS_LAND_COVER, channel=2),
        "lccs_land_use": Level(classes=_LCCS_LAND_USE, channel=3),
        "lccs_surface_hydrology": Level(classes=_LCCS_HYDROLOGY, channel=4),
    },
    assets={
        "image": Raster(
            _PATH.replace("PART", "s2"),
            bands=sensor_bands("sentinel2_l1c", "B01 B02 B03 B04 B05 B06 B07 B08 B8A B09 B10 B11 B12"),
            dtype="uint16",
            scale=0.0001,
        ),
        "sar": Raster(_PATH.replace("PART", "s1"), bands=sensor_bands("sentinel1", "VV VH"), dtype="float32"),
        "mask": Raster(_PATH.replace("PART", "lc"), dtype="uint16", codes={}, ignore=(0, 255), channel=1),
    },
    archives=(
        *(
            Archive(file=f"{file}.tar.gz", url=f"{_URL}/{file}.tar.gz", md5=md5, members=(f"{file[:-3]}/{file[-2:]}_",))
            for file, md5 in _CHECKSUMS.items()
        ),
        Archive(file="train_list.txt", url=f"{_SPLITS_URL}/train_list.txt", md5="0a68d4e1eb24f128fccdb930000b2546"),
        Archive(file="test_list.txt", url=f"{_SPLITS_URL}/test_list.txt", md5="c7faad064001e646445c4c634169484d"),
    ),
    splits=ListSplit(path="{split:train|test}_list.txt", columns=(_SEASON + "_s2_{scene:d}_p{patch:d}.tif",)),
    group=("season", "scene"),
    samples=180662,
    split_sizes={"train": 162555, "test": 18106},
    resolution=(10,),
    georeferenced=True,
    modality="SAR, MSI",
    cite="10.5194/isprs-annals-IV-2-W7-153-2019",
    license="CC-BY-4.0",
    homepage="https://mediatum.ub.tum.de/1474000",
    quirks=(
        "Sentinel-1 is in dB, -25 to 0; Sentinel-2 is top-of-atmosphere reflectance x 10,000.",
        "A mask file has four MODIS land-cover bands, made at 500 m; the mask is the IGBP band, or that of `level`.",
        "`simplified` merges the 17 IGBP classes into 10, as the contest DFC2020 did.",
        "Neighbouring patches overlap by half; scene numbers are unique within a season only.",
        "ROIs1868_summer_s1_146_p202 is corrupt, and in neither split.",
        "There is no validation list: hold out scenes, as TorchGeo does with 20% of them.",
    ),
    unverified=(
        "class colours; those of the LCCS levels are geoxt's",
        "names of the LCCS classes",
        "codes of unlabelled pixels (0 and 255)",
        "seasons as of the northern hemisphere",
    ),
    paper_differences="33 classes, which are 17 of IGBP and 16 of LCCS land cover, two of the four bands of a mask",
    paper_row="SEN12MS",
)
SPECS = (SEN12MS,)
