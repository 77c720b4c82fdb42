"""Building footprints: SpaceNet 1 (Rio de Janeiro), 4 (Atlanta, off-nadir views) and 7 (monthly time series)."""

from __future__ import annotations

from dataclasses import replace

from geoxt.datasets.assets import Raster, Vector
from geoxt.datasets.catalog.spacenet import WORLDVIEW3
from geoxt.datasets.spec import RGB, Archive, FolderSplit, Spec, classes, plain_bands
from geoxt.layers.products import Band

_WORLDVIEW2 = tuple(replace(band, resolution=2.0) for band in WORLDVIEW3)
_PAN = (Band(name="PAN", common="pan", wavelength=0.625, limits=(0.45, 0.8), resolution=0.5),)
_BUILDINGS = classes("background building")
_SPACENET_URL = "s3://spacenet-dataset/spacenet"
_LICENSE, _ROW, _LABELED = "CC-BY-SA-4.0", "SpaceNet 1, 2, 4, 7", {"split": ("train",)}


def _tarball(path: str, md5: str, extract_to: str, folder: str = "") -> Archive:
    """Return the archive at a path of the bucket, which holds a folder below `extract_to`."""
    member = f"{extract_to}/{folder}/" if folder else f"{extract_to}/"
    file = f"{path.rpartition('/')[2]}.tar.gz"
    url = f"{_SPACENET_URL}/{path}.tar.gz"
    return Archive(file=file, url=url, md5=md5, extract_to=extract_to, members=(member,))


_RIO = "SN1_buildings/{split:train|test}"
_RIO_FOOTPRINTS = "SN1_buildings/train/geojson/Geo_AOI_1_RIO_img{n:d}.geojson"
_RIO_ARCHIVES = (
    ("train", "3band", "train_AOI_1_Rio_3band", "279e334a2120ecac70439ea246174516"),
    ("train", "8band", "train_AOI_1_Rio_8band", "6440a9eedbd7c4fe9741875135362c8c"),
    ("train", "geojson", "train_AOI_1_Rio_geojson_buildings", "b6e02fbd727f252ea038abe4f77a77b3"),
    ("test", "3band", "test_AOI_1_Rio_3band", "18283d78b21c239bc1831f3bf1d2c996"),
    ("test", "8band", "test_AOI_1_Rio_8band", "732b3a40603b76e80aac84e002e2b3e8"),
)
"""Split, folder, name and MD5 of each archive."""

SPACENET1 = Spec(
    name="spacenet1",
    title="SpaceNet 1",
    task="instance-segmentation",
    source="WorldView-2",
    classes=_BUILDINGS,
    assets={
        "image": Raster(_RIO + "/3band/3band_AOI_1_RIO_img{n:d}.tif", bands=RGB, shape=(406, 439)),
        "multispectral": Raster(
            _RIO + "/8band/8band_AOI_1_RIO_img{n:d}.tif",
            bands=_WORLDVIEW2,
            dtype="uint16",
            shape=(102, 110),
            nodata=0,
        ),
        "mask": Vector(_RIO_FOOTPRINTS, where=_LABELED),
        "instances": Vector(_RIO_FOOTPRINTS, where=_LABELED, instances=True),
    },
    archives=(
        *(
            _tarball(f"SN1_buildings/tarballs/SN1_buildings_{name}", md5, f"SN1_buildings/{split}", folder)
            for split, folder, name, md5 in _RIO_ARCHIVES
        ),
    ),
    splits=FolderSplit(),
    split_sizes={"train": 6940},
    resolution=(0.5, 1),
    georeferenced=True,
    modality="RGB, MSI",
    cite="https://arxiv.org/abs/1807.01232",
    license=_LICENSE,
    homepage="https://spacenet.ai/spacenet-buildings-dataset-v1/",
    quirks=(
        "The test images have no footprints.",
        "Images have black nodata margins, and sizes that differ by one pixel.",
        "The 8-band images have a resolution of 2 m, though the files state 1 m.",
    ),
    unverified=("data type of the 8-band images", "nodata"),
    paper_row=_ROW,
)

_VIEW = "SN4_buildings/{split:train|test}/**/Atlanta_nadir{angle:d}_catid_{catid:[0-9A-F]{16}}/"
_TILE = "_Atlanta_nadir{angle}_catid_{catid}_{easting:d}_{northing:d}.tif"
_ATLANTA_FOOTPRINTS = (
    "SN4_buildings/train/**/geojson/spacenet-buildings/spacenet-buildings_{easting:d}_{northing:d}.geojson"
)

_ATLANTA_CHECKSUMS = {
    "nadir7_catid_1030010003D22F00": "d41ab6ec087b07e1e046c55d1fa5754b",
    "nadir8_catid_10300100023BC100": "72f04a7c0c34dd4595c181ee1ae6cb4c",
    "nadir10_catid_1030010003993E00": "89559f42ac11a8de570cef9802a577ad",
    "nadir10_catid_1030010003CAF100": "5489ac756249c336ea506ef0acb3c09d",
    "nadir13_catid_1030010002B7D800": "bd9ed231cedd8631683ea51ea0602de1",
    "nadir14_catid_10300100039AB000": "c497a8a448ed7ccdf63e7706507c0603",
    "nadir16_catid_1030010002649200": "45d54eeecefdc60aa38320be6f29a17c",
    "nadir19_catid_1030010003C92000": "611528c0188bbc7e9cdf98609c6b0c49",
    "nadir21_catid_1030010003127500": "532fbf1ca73d3d2e8b03c585f61b7316",
    "nadir23_catid_103001000352C200": "538f48429b0968b6cfad97eb61fa8de1",
    "nadir25_catid_103001000307D800": "3c48e94bc6d9e66e27c3a9bc8d35d65d",
    "nadir27_catid_1030010003472200": "b78cdf951e7bf4fedbe9259abd1e047a",
    "nadir29_catid_1030010003315300": "f307ce3c623d12d5a2fd5acb1e0607e0",
    "nadir30_catid_10300100036D5200": "9a17574332cd5513d68a0bcc9c607bdd",
    "nadir32_catid_103001000392F600": "fe905ca809f7bd2ceef75bde23c326f3",
    "nadir34_catid_1030010003697400": "d9f2e4a5c8462f6f9f7d5c573d9a1dc6",
    "nadir36_catid_1030010003895500": "f9425ff38dc82bf0e8f25a6287ff1ad1",
    "nadir39_catid_1030010003832800": "7a6005d6fd972d5ce04caf9b42b36897",
    "nadir42_catid_10300100035D1B00": "7c5aa16bb64cacf766cf88f89b3093bd",
    "nadir44_catid_1030010003CCD700": "8f7e959eb0156ad2dfb0b966a1de06a9",
    "nadir46_catid_1030010003713C00": "62c4babcbe70034b7deb7c14d5ff61c2",
    "nadir47_catid_10300100033C5200": "8001d75f67534edf6932242324b8c1a7",
    "nadir49_catid_1030010003492700": "bc299cb5de432b5f5a1ce65a3bdb0abc",
    "nadir50_catid_10300100039E6200": "d7640eda7c4efaf825665e853037bec9",
    "nadir52_catid_1030010003BDDC00": "d4e1931551e9d3c6fd9bf1d8adfd07a0",
    "nadir53_catid_1030010003193D00": "b313e23ead8fe6e2c8671a49f2c9de37",
    "nadir53_catid_1030010003CD4300": "3bd8f07ad57bff841d0cf91c91c6f5ed",
}
"""MD5 of the archive of each view, by its angle and catalog number."""

SPACENET4 = Spec(
    name="spacenet4",
    title="SpaceNet 4",
    task="instance-segmentation",
    source="WorldView-2",
    classes=_BUILDINGS,
    assets={
        "image": Raster(
            _VIEW + "Pan-Sharpen/Pan-Sharpen" + _TILE,
            bands=plain_bands("red green blue nir"),
            dtype="uint16",
            shape=(900, 900),
            nodata=0,
        ),
        "multispectral": Raster(_VIEW + "MS/MS" + _TILE, bands=_WORLDVIEW2, dtype="uint16", shape=(225, 225), nodata=0),
        "pan": Raster(_VIEW + "PAN/PAN" + _TILE, bands=_PAN, dtype="uint16", shape=(900, 900), nodata=0),
        "mask": Vector(_ATLANTA_FOOTPRINTS, where=_LABELED),
        "instances": Vector(_ATLANTA_FOOTPRINTS, where=_LABELED, instances=True),
    },
    archives=(
        *(
            _tarball(f"SN4_buildings/tarballs/train/Atlanta_{view}", md5, "SN4_buildings/train", f"Atlanta_{view}")
            for view, md5 in _ATLANTA_CHECKSUMS.items()
        ),
        _tarball(
            "SN4_buildings/tarballs/train/geojson", "2556339e26a09e57559452eb240ef29c", "SN4_buildings/train", "geojson"
        ),
        _tarball(
            "SN4_buildings/tarballs/SN4_buildings_AOI_6_Atlanta_test_public",
            "0ec3874bfc19aed63b33ac47b039aace",
            "SN4_buildings/test",
            "",
        ),
    ),
    splits=FolderSplit(),
    group=("easting", "northing"),
    split_sizes={"train": 28728},
    resolution=(0.5, 2),
    georeferenced=True,
    modality="MSI",
    cite="https://arxiv.org/abs/1903.12239",
    license=_LICENSE,
    homepage="https://spacenet.ai/off-nadir-building-detection/",
    quirks=(
        "27 views of 1,064 locations share one set of footprints, which is not shifted as buildings lean.",
        "The challenge calls angles up to 25 degrees nadir, up to 40 off-nadir, and above 40 very off-nadir.",
        "Two views have an angle of 10 degrees and two of 53: `catid` distinguishes them.",
        "The test images have no footprints.",
    ),
    unverified=("CRS", "file names of the tiles", "order of the pan-sharpened bands", "data types"),
    paper_row=_ROW,
    examples={"angle": (7, 8), "catid": ("1030010003D22F00", "10300100023BC100")},
)

_MONTH = "global_monthly_{date:%Y_%m}_mosaic_{aoi}"
_AOI = r"/**/{aoi:L15-\d{4}E-\d{4}N_\d+_\d+_\d+}"
_MONTH_FOOTPRINTS = f"SN7_buildings/train{_AOI}/labels_match/{_MONTH}_Buildings.geojson"

SPACENET7 = Spec(
    name="spacenet7",
    title="SpaceNet 7",
    task="instance-segmentation",
    source="Planet Lab Dove",
    classes=_BUILDINGS,
    assets={
        "image": Raster(
            f"SN7_buildings/{{split:train|test_public}}{_AOI}/images_masked/{_MONTH}.tif",
            bands=RGB,
            shape=(1024, 1024),
            nodata=0,
        ),
        "mask": Vector(_MONTH_FOOTPRINTS, where=_LABELED),
        "instances": Vector(_MONTH_FOOTPRINTS, where=_LABELED, column="Id", instances=True),
    },
    archives=(
        _tarball(
            "SN7_buildings/tarballs/SN7_buildings_train", "6eda13b9c28f6f5cdf00a7e8e218c1b1", "SN7_buildings", "train"
        ),
        _tarball(
            "SN7_buildings/tarballs/SN7_buildings_test_public",
            "b3bde95a0f8f32f3bfeba49464b9bc97",
            "SN7_buildings",
            "test_public",
        ),
    ),
    splits=FolderSplit(names={"test_public": "test"}),
    group=("aoi",),
    samples=1889,
    split_sizes={"train": 1423, "test": 466},
    resolution=(4,),
    georeferenced=True,
    cite="10.1109/CVPR46437.2021.00633",
    license=_LICENSE,
    homepage="https://spacenet.ai/sn7-challenge/",
    quirks=(
        "A sample is one month of one location; a building keeps its number in `instances` over the months.",
        "Cloudy pixels are black (images_masked); some images have a side of 1,023 pixels.",
        "The test images have no footprints.",
    ),
    unverified=("CRS", "alpha as the fourth band", "DOI", "split sizes"),
    paper_row=_ROW,
    examples={"aoi": ("L15-0331E-1257N_1327_3160_13", "L15-0357E-1223N_1429_3296_13")},
)
SPECS = (SPACENET1, SPACENET4, SPACENET7)
