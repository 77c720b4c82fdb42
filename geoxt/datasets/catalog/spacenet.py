"""SpaceNet 2: building footprints on WorldView-3 images; `building_footprints` has SpaceNet 1, 4 and 7."""

from __future__ import annotations

from geoxt.datasets.assets import Raster, Vector
from geoxt.datasets.spec import Archive, FolderSplit, Spec, classes
from geoxt.layers.products import Band

_URL = "s3://spacenet-dataset/spacenet/SN2_buildings/tarballs"

WORLDVIEW3 = (
    Band(name="Coastal", common="coastal", wavelength=0.425, limits=(0.4, 0.45), resolution=1.24, index=1),
    Band(name="Blue", common="blue", wavelength=0.48, limits=(0.45, 0.51), resolution=1.24, index=2),
    Band(name="Green", common="green", wavelength=0.545, limits=(0.51, 0.58), resolution=1.24, index=3),
    Band(name="Yellow", common="yellow", wavelength=0.605, limits=(0.585, 0.625), resolution=1.24, index=4),
    Band(name="Red", common="red", wavelength=0.66, limits=(0.63, 0.69), resolution=1.24, index=5),
    Band(name="RedEdge", common="rededge", wavelength=0.725, limits=(0.705, 0.745), resolution=1.24, index=6),
    Band(name="NIR1", common="nir", wavelength=0.8325, limits=(0.77, 0.895), resolution=1.24, index=7),
    Band(name="NIR2", common="nir09", wavelength=0.95, limits=(0.86, 1.04), resolution=1.24, index=8),
)
"""Visible and near-infrared bands of WorldView-3."""
_CITY = "AOI_{aoi:2_Vegas|3_Paris|4_Shanghai|5_Khartoum}_{_part:Train|Test_public}"
_ROOT = "SN2_buildings/{split:train|test}/**/" + _CITY
_FOOTPRINTS = _ROOT + "/geojson/buildings/buildings_AOI_{aoi}_img{n:d}.geojson"
_LABELED = {"split": ("train",)}
_ARCHIVES = (
    ("train", "SN2_buildings_train_AOI_2_Vegas", "AOI_2_Vegas_Train", "307da318bc43aaf9481828f92eda9126"),
    ("train", "SN2_buildings_train_AOI_3_Paris", "AOI_3_Paris_Train", "4db469e3e4e7bf025368ad730aec0888"),
    ("train", "SN2_buildings_train_AOI_4_Shanghai", "AOI_4_Shanghai_Train", "986129eecd3e842ebc2063d43b407adb"),
    ("train", "SN2_buildings_train_AOI_5_Khartoum", "AOI_5_Khartoum_Train", "462b4bf0466c945d708befabd4d9115b"),
    ("test", "AOI_2_Vegas_Test_public", "AOI_2_Vegas_Test_public", "d45405afd6629e693e2f9168b1291ea3"),
    ("test", "AOI_3_Paris_Test_public", "AOI_3_Paris_Test_public", "2eaee95303e88479246e4ee2f2279b7f"),
    ("test", "AOI_4_Shanghai_Test_public", "AOI_4_Shanghai_Test_public", "f51dc51fa484dc7fb89b3697bd15a950"),
    ("test", "AOI_5_Khartoum_Test_public", "AOI_5_Khartoum_Test_public", "037d7be10530f0dd1c43d4ef79f3236e"),
)
"""Split, name, folder and MD5 of each archive."""

SPACENET2 = Spec(
    name="spacenet2",
    title="SpaceNet 2",
    task="instance-segmentation",
    source="WorldView-3",
    classes=classes("background building"),
    assets={
        "image": Raster(
            _ROOT + "/MUL-PanSharpen/MUL-PanSharpen_AOI_{aoi}_img{n:d}.tif",
            bands=WORLDVIEW3,
            dtype="uint16",
            shape=(650, 650),
            nodata=0,
        ),
        "mask": Vector(_FOOTPRINTS, where=_LABELED, on_error="empty"),
        "instances": Vector(_FOOTPRINTS, where=_LABELED, on_error="empty", instances=True),
    },
    archives=(
        *(
            Archive(
                file=f"{file}.tar.gz",
                url=f"{_URL}/{file}.tar.gz",
                md5=md5,
                extract_to=f"SN2_buildings/{split}",
                members=(f"SN2_buildings/{split}/{folder}/",),
            )
            for split, file, folder, md5 in _ARCHIVES
        ),
    ),
    splits=FolderSplit(),
    split_sizes={"train": 10592},
    resolution=(0.3,),
    georeferenced=True,
    modality="MSI",
    cite="https://arxiv.org/abs/1807.01232",
    license="CC-BY-SA-4.0",
    homepage="https://spacenet.ai/spacenet-buildings-dataset-v2/",
    quirks=(
        "The test images have no footprints.",
        "Some GeoJSON files are empty or invalid: they are read as images without buildings.",
        "Only the pan-sharpened bands are read; the release also has unsharpened, panchromatic and 16 bit RGB images.",
    ),
    unverified=("file names in the archives", "data type"),
    paper_row="SpaceNet 1, 2, 4, 7",
)
SPECS = (SPACENET2,)
