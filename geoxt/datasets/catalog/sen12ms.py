"""SEN12MS: Sentinel-1, Sentinel-2 and the land cover of MODIS, of places all over the world in four seasons."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import Archive, Lists, Spec, classes, sensor_bands

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
    colors=(
        "#05450a",
        "#086a10",
        "#54a708",
        "#78d203",
        "#009900",
        "#c6b044",
        "#dcd159",
        "#dade48",
        "#fbff13",
        "#b6ff05",
        "#27ff87",
        "#c24f44",
        "#a5a5a5",
        "#ff6d4c",
        "#69fff8",
        "#f9ffa4",
        "#1c0dff",
    ),
)
_SEASON = "{season:ROIs1158_spring|ROIs1868_summer|ROIs1970_fall|ROIs2017_winter}"
_PATH = _SEASON + "/PART_{scene:d}/{season}_PART_{scene}_p{patch:d}.tif"
_FTP = "ftp://m1474000:m1474000@dataserv.ub.tum.de"
_LISTS = "https://raw.githubusercontent.com/schmitt-muc/SEN12MS/3a41236a28d08d253ebe2fa1a081e5e32aa7eab4/splits"
_SUMS = {
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
"""MD5 of each archive, a season and a part each."""

SEN12MS = Spec(
    name="sen12ms",
    title="SEN12MS",
    task="segmentation",
    source="Sentinel-1/2, MODIS",
    classes=_IGBP,
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
            Archive(
                file=f"{name}.tar.gz",
                url=f"{_FTP}/{name}.tar.gz",
                md5=md5,
                holds=(f"{name[:-3]}/{name[-2:]}_",),
            )
            for name, md5 in _SUMS.items()
        ),
        Archive(file="train_list.txt", url=f"{_LISTS}/train_list.txt", md5="0a68d4e1eb24f128fccdb930000b2546"),
        Archive(file="test_list.txt", url=f"{_LISTS}/test_list.txt", md5="c7faad064001e646445c4c634169484d"),
    ),
    splits=Lists(path="{split:train|test}_list.txt", columns=(_SEASON + "_s2_{scene:d}_p{patch:d}.tif",)),
    samples=180662,
    sizes={"train": 162555, "test": 18106},
    resolution=(10,),
    georeferenced=True,
    modality="SAR, MSI",
    cite="10.5194/isprs-annals-IV-2-W7-153-2019",
    licence="CC-BY-4.0",
    homepage="https://mediatum.ub.tum.de/1474000",
    quirks=(
        "Sentinel-1 in dB, -25 to 0; Sentinel-2 at the top of the atmosphere, reflectance x 10,000.",
        "The mask is the first of four land covers in its file, that of the IGBP, made for pixels of 500 m.",
        "Neighbouring patches overlap by half; scene numbers are of one season.",
        "ROIs1868_summer_s1_146_p202 is damaged, and in neither split.",
        "There is no validation list: hold scenes out, as TorchGeo does with a fifth of them.",
    ),
    unverified=("colours of the classes", "codes without label (0 and 255)", "seasons are those of the north"),
    paper="33 classes; a mask has 17 (IGBP), the other 16 are of another scheme (LCCS) in the same file",
    row="SEN12MS",
)
SPECS = (SEN12MS,)
