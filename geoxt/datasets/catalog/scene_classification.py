"""Scene classification with one folder per class: EuroSAT (13 bands, and RGB) and UC Merced."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, ListSplit, Spec, Statistics, classes, sensor_bands

_EUROSAT_URL = "https://hf.co/datasets/torchgeo/eurosat/resolve/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c"
_UCMERCED_URL = "https://hf.co/datasets/torchgeo/ucmerced/resolve/7c5ef3454d9b1cccfa7ccde0c01fc8f00a45909a"

_SPLIT_LISTS = ListSplit(path="eurosat-{split:train|val|test}.txt", columns=("{label}_{n:d}.jpg",), official=False)
_EUROSAT_LISTS = (
    Archive(
        file="eurosat-train.txt",
        url=f"{_EUROSAT_URL}/eurosat-train.txt",
        md5="908f142e73d6acdf3f482c5e80d851b1",
        sha256="1c1d2e855f95deee605a3d992f914d113fddbecf422ec61648057d029a37d695",
    ),
    Archive(
        file="eurosat-val.txt",
        url=f"{_EUROSAT_URL}/eurosat-val.txt",
        md5="95de90f2aa998f70a3b2416bfe0687b4",
        sha256="b385741f31daa9f1250cf1e1fe03adfab394e1172e0693df40141af004f60330",
    ),
    Archive(
        file="eurosat-test.txt",
        url=f"{_EUROSAT_URL}/eurosat-test.txt",
        md5="7ae5ab94471417b6e315763121e67c5f",
        sha256="cf37948894c12bd953930ff54ee9b7abf0b31478abb8d25fd2c6c721db74c592",
    ),
)
_EUROSAT_CLASSES = classes(
    "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
)

EUROSAT = Spec(
    name="eurosat",
    title="EuroSAT",
    task="classification",
    source="Sentinel-2",
    classes=_EUROSAT_CLASSES,
    assets={
        "image": Raster(
            (
                "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/{label}/{label}_{n:d}.tif",
                "{label}/{label}_{n:d}.tif",
            ),
            bands=sensor_bands("sentinel2_l1c", "B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B8A"),
            dtype="uint16",
            shape=(64, 64),
            scale=0.0001,
        ),
    },
    archives=(
        Archive(
            file="EuroSATallBands.zip",
            url=f"{_EUROSAT_URL}/EuroSATallBands.zip",
            md5="5ac12b3b2557aa56e1826e981e8e200e",
            sha256="751f070f9bffa2eed48b24ca2dd0b02959280c08837e8c9a5532a67ba611df59",
            size=2067725275,
            members=("ds/images/remote_sensing/otherDatasets/sentinel_2/tif/",),
        ),
        *_EUROSAT_LISTS,
    ),
    splits=_SPLIT_LISTS,
    samples=27000,
    split_sizes={"train": 16200, "val": 5400, "test": 5400},
    resolution=(10,),
    georeferenced=True,
    modality="MSI",
    statistics=(
        Statistics(
            asset="image",
            mean=(
                1354.40546513,
                1118.24399958,
                1042.92983953,
                947.62620298,
                1199.47283961,
                1999.79090914,
                2369.22292565,
                2296.82608323,
                732.08340178,
                12.11327804,
                1819.01027855,
                1118.92391149,
                2594.14080798,
            ),
            std=(
                245.71762908,
                333.00778264,
                395.09249139,
                593.75055589,
                566.4170017,
                861.18399006,
                1086.63139075,
                1117.98170791,
                404.91978886,
                4.77584468,
                1002.58768311,
                761.30323499,
                1231.58581042,
            ),
            units="DN",
            source="TorchGeo, train split",
        ),
    ),
    cite="10.1109/JSTARS.2019.2918242",
    license="MIT",
    homepage="https://github.com/phelber/EuroSAT",
    quirks=(
        "B8A is stored last, after B12.",
        "B10 (cirrus) is nearly empty.",
        "The split lists name the JPEG files of `eurosat_rgb`.",
    ),
    paper_row="EuroSAT",
)

EUROSAT_RGB = Spec(
    name="eurosat_rgb",
    title="EuroSAT (RGB)",
    task="classification",
    source="Sentinel-2",
    classes=_EUROSAT_CLASSES,
    assets={"image": Raster("2750/{label}/{label}_{n:d}.jpg", bands=RGB, shape=(64, 64))},
    archives=(
        Archive(
            file="EuroSAT.zip",
            url="https://madm.dfki.de/files/sentinel/EuroSAT.zip",
            sha256="8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
            size=94280567,
            members=("2750/",),
        ),
        *_EUROSAT_LISTS,
    ),
    splits=_SPLIT_LISTS,
    samples=27000,
    split_sizes={"train": 16200, "val": 5400, "test": 5400},
    resolution=(10,),
    cite="10.1109/JSTARS.2019.2918242",
    license="MIT",
    homepage="https://github.com/phelber/EuroSAT",
)

UCMERCED = Spec(
    name="ucmerced",
    title="UC Merced Land Use",
    task="classification",
    source="USGS National Map",
    classes=classes(
        """
        agricultural
        airplane
        baseballdiamond
        beach
        buildings
        chaparral
        denseresidential
        forest
        freeway
        golfcourse
        harbor
        intersection
        mediumresidential
        mobilehomepark
        overpass
        parkinglot
        river
        runway
        sparseresidential
        storagetanks
        tenniscourt
        """
    ),
    assets={"image": Raster("UCMerced_LandUse/Images/{label}/{label}{n:2d}.tif", bands=RGB)},
    archives=(
        Archive(
            file="UCMerced_LandUse.zip",
            url=f"{_UCMERCED_URL}/UCMerced_LandUse.zip",
            md5="5b7ec56793786b6dc8a908e8854ac0e4",
            sha256="06c539ef28703a58fb07bd2837991ac7c48b813b00bb12ac197efd813a18daeb",
            size=332468434,
            members=("UCMerced_LandUse/",),
        ),
        Archive(
            file="uc_merced-train.txt",
            url=f"{_UCMERCED_URL}/uc_merced-train.txt",
            md5="f2fb12eb2210cfb53f93f063a35ff374",
            sha256="d625ea884cb2870e007774c1d64e904e9ae71ba3e7b4b92a9e8aa6065e2cd8cc",
        ),
        Archive(
            file="uc_merced-val.txt",
            url=f"{_UCMERCED_URL}/uc_merced-val.txt",
            md5="11ecabfc52782e5ea6a9c7c0d263aca0",
            sha256="4459da518e2c1486471b4ea57734950c9c7c449611fe3468c0d1ca34a4bd3a56",
        ),
        Archive(
            file="uc_merced-test.txt",
            url=f"{_UCMERCED_URL}/uc_merced-test.txt",
            md5="046aff88472d8fc07c4678d03749e28d",
            sha256="0d3b64706fd2a9f9faaa1d7dade934ec8b4fd258a9853f037983b1f2db239220",
        ),
    ),
    splits=ListSplit(
        path="uc_merced-{split:train|val|test}.txt", columns=("{label:[a-z]+}{n:2d}.tif",), official=False
    ),
    samples=2100,
    split_sizes={"train": 1260, "val": 420, "test": 420},
    resolution=(0.3,),
    cite="10.1145/1869790.1869829",
    license="public domain",
    homepage="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
    quirks=("44 images are a few pixels smaller than 256 x 256.",),
    unverified=("split sizes",),
    paper_differences="21,000 samples; the release has 2,100",
    paper_row="UC Merced",
)
SPECS = (EUROSAT, EUROSAT_RGB, UCMERCED)
