"""BigEarthNet v1 and v2: multi-label land cover of Sentinel-2 patches, with Sentinel-1 patches of nearby dates."""

from __future__ import annotations

from dataclasses import replace

from geoxt.datasets.assets import Asset, Raster, Table
from geoxt.datasets.spec import Archive, ListSplit, Spec, Statistics, classes, sensor_bands

_V1_URL = "https://zenodo.org/records/12687186/files"
_SPLITS_URL = "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/9a5be07346ab0884b2d9517475c27ef9db9b5104/splits"
_V2_URL = "https://hf.co/datasets/torchgeo/bigearthnet/resolve/3cf3a5910a5302d449fdb8e570e5b78de24fe07f/V2"

_COLORS = (
    "#e6004d #cc4df2 #ffffa8 #e68000 #e6e64d #ffe64d #e6cc4d #f2cca6 #80ff00 #00a600 "
    "#4dff00 #ccf24d #a6ff80 #a6f200 #e6e6e6 #a6a6ff #ccccff #80f2e6 #e6f2ff"
)
_CLASSES = classes(
    """
    Urban fabric
    Industrial or commercial units
    Arable land
    Permanent crops
    Pastures
    Complex cultivation patterns
    Land principally occupied by agriculture, with significant areas of natural vegetation
    Agro-forestry areas
    Broad-leaved forest
    Coniferous forest
    Mixed forest
    Natural grassland and sparsely vegetated areas
    Moors, heathland and sclerophyllous vegetation
    Transitional woodland, shrub
    Beaches, dunes, sands
    Inland wetlands
    Coastal wetlands
    Inland waters
    Marine waters
    """,
    colors=_COLORS,
)
_CLASS_OF_CORINE = {
    "Continuous urban fabric": "Urban fabric",
    "Discontinuous urban fabric": "Urban fabric",
    "Road and rail networks and associated land": None,
    "Port areas": None,
    "Airports": None,
    "Mineral extraction sites": None,
    "Dump sites": None,
    "Construction sites": None,
    "Green urban areas": None,
    "Sport and leisure facilities": None,
    "Non-irrigated arable land": "Arable land",
    "Permanently irrigated land": "Arable land",
    "Rice fields": "Arable land",
    "Vineyards": "Permanent crops",
    "Fruit trees and berry plantations": "Permanent crops",
    "Olive groves": "Permanent crops",
    "Annual crops associated with permanent crops": "Permanent crops",
    "Natural grassland": "Natural grassland and sparsely vegetated areas",
    "Moors and heathland": "Moors, heathland and sclerophyllous vegetation",
    "Sclerophyllous vegetation": "Moors, heathland and sclerophyllous vegetation",
    "Transitional woodland/shrub": "Transitional woodland, shrub",
    "Bare rock": None,
    "Sparsely vegetated areas": "Natural grassland and sparsely vegetated areas",
    "Burnt areas": None,
    "Inland marshes": "Inland wetlands",
    "Peatbogs": "Inland wetlands",
    "Salt marshes": "Coastal wetlands",
    "Salines": "Coastal wetlands",
    "Intertidal flats": None,
    "Water courses": "Inland waters",
    "Water bodies": "Inland waters",
    "Coastal lagoons": "Marine waters",
    "Estuaries": "Marine waters",
    "Sea and ocean": "Marine waters",
}
"""Class of the 19-class nomenclature by CORINE class of the label files, if their names differ; `None` if dropped."""
_S2_BANDS = "B01|B02|B03|B04|B05|B06|B07|B08|B8A|B09|B11|B12"
_S2_NAME = r"S2[AB]_MSIL2A_\d{8}T\d{5,6}_\d+_\d+"
_S1_NAME = r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_\d{2}[A-Z]{3}_\d+_\d+"
_STATISTICS = (
    Statistics(
        asset="image",
        mean=(
            340.76769064,
            429.9430203,
            614.21682446,
            590.23569706,
            950.68368468,
            1792.46290469,
            2075.46795189,
            2218.94553375,
            2266.46036911,
            2246.0605464,
            1594.42694882,
            1009.32729131,
        ),
        std=(
            554.81258967,
            572.41639287,
            582.87945694,
            675.88746967,
            729.89827633,
            1096.01480586,
            1273.45393088,
            1365.45589904,
            1356.13789355,
            1302.3292881,
            1079.19066363,
            818.86747235,
        ),
        units="DN",
        source="rsim BigEarthNet models",
    ),
    Statistics(
        asset="sar",
        mean=(-12.619993741972035, -19.29044597721542),
        std=(5.115911777546365, 5.464428464912864),
        units="dB",
        source="rsim BigEarthNet models",
    ),
)


def _assets(s2: str, s1: str, label: Table) -> dict[str, Asset]:
    """Return the assets of both versions, given the path prefixes of Sentinel-2 and Sentinel-1 files."""
    optical, radar = sensor_bands("sentinel2", _S2_BANDS.replace("|", " ")), sensor_bands("sentinel1_grd", "VV VH")
    size = (120, 120)
    return {
        "image": Raster(
            f"{s2}_{{band:{_S2_BANDS}}}.tif",
            bands=optical,
            dtype="uint16",
            shape=size,
            mixed_resolution=True,
            scale=0.0001,
        ),
        "sar": Raster(f"{s1}_{{band:VV|VH}}.tif", bands=radar, dtype="float32", shape=size, optional=True),
        "label": label,
    }


V1 = Spec(
    name="bigearthnet",
    title="BigEarthNet",
    task="multilabel",
    source="Sentinel-1/2",
    classes=_CLASSES,
    assets=_assets(
        f"BigEarthNet-v1.0/{{patch:{_S2_NAME}}}/{{patch}}",
        f"BigEarthNet-S1-v1.0/{{s1:{_S1_NAME}}}/{{s1}}",
        Table(
            f"BigEarthNet-v1.0/{{patch:{_S2_NAME}}}/{{patch}}_labels_metadata.json",
            value="labels",
            label_kind="multilabel",
            class_names=_CLASS_OF_CORINE,
        ),
    ),
    archives=(
        Archive(
            file="BigEarthNet-S1-v1.0.tar.gz",
            url=f"{_V1_URL}/BigEarthNet-S1-v1.0.tar.gz",
            md5="94ced73440dea8c7b9645ee738c5a172",
            members=("BigEarthNet-S1-v1.0/",),
        ),
        Archive(
            file="BigEarthNet-S2-v1.0.tar.gz",
            url=f"{_V1_URL}/BigEarthNet-S2-v1.0.tar.gz",
            md5="5a64e9ce38deb036a435a7b59494924c",
            sha256="58744cf96b8cf02a7bd339a4a9602deea774ae98c6fe209f0d48d7ee0eef5700",
            size=70032164579,
            members=("BigEarthNet-v1.0/",),
        ),
        Archive(
            file="bigearthnet-train.csv",
            url=f"{_SPLITS_URL}/train.csv?inline=false",
            md5="623e501b38ab7b12fe44f0083c00986d",
        ),
        Archive(
            file="bigearthnet-val.csv",
            url=f"{_SPLITS_URL}/val.csv?inline=false",
            md5="22efe8ed9cbd71fa10742ff7df2b7978",
        ),
        Archive(
            file="bigearthnet-test.csv",
            url=f"{_SPLITS_URL}/test.csv?inline=false",
            md5="697fb90677e30571b9ac7699b7e5b432",
        ),
    ),
    splits=ListSplit(path="bigearthnet-{split:train|val|test}.csv", columns=("{patch}", "{s1}")),
    samples=590326,
    split_sizes={"train": 269695, "val": 123723, "test": 125866},
    resolution=(10,),
    georeferenced=True,
    modality="SAR, MSI",
    statistics=_STATISTICS,
    cite="10.1109/MGRS.2021.3089174",
    license="CDLA-Permissive-1.0",
    homepage="https://bigearth.net/",
    quirks=(
        "Bands have 120x120, 60x60 or 20x20 pixels; all are resampled to 120x120 (bilinear).",
        "Names of some Sentinel-2 patches lack the leading zero of the hour.",
        "57 patches have none of the 19 classes; the splits exclude patches with snow or clouds.",
        "Only the split lists pair Sentinel-2 with Sentinel-1 patches: patches in no list have no 'sar'.",
    ),
    paper_row="BigEarthNet",
    examples={
        "patch": ("S2A_MSIL2A_20170613T101031_87_48", "S2B_MSIL2A_20170924T93020_69_24"),
        "s1": ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_87_48", "S1A_IW_GRDH_1SDV_20170924T165043_33UUP_69_24"),
    },
)
_TILE = r"S2[AB]_MSIL2A_\d{8}T\d{6}_N9999_R\d{3}_T\d{2}[A-Z]{3}"
_V2_PARTS = {
    "S1.tar.gzaa": "073255325113a90cc03a68b81adeea66e27c2ad6ad986f5926935c5639386a69",
    "S1.tar.gzab": "0b5a53fec6cd77bb7375b46370b6608bbee10d65a20bb0d26dd89765b4bf951c",
    "S2.tar.gzaa": "a44e4c9d8dde1affd7107640dd0070b811ca848205363f8dd8f75bebccea0ed3",
    "S2.tar.gzab": "e0bfe57038e07ff09add42e5bff108d221da10a6e45533fd2eb4ac05e6d90dc2",
}
"""SHA-256 of each part of an archive."""

V2 = replace(
    V1,
    name="bigearthnet_v2",
    title="BigEarthNet v2 (reBEN)",
    assets=_assets(
        f"BigEarthNet-S2/{{_tile:{_TILE}}}/{{patch:{_TILE}_\\d+_\\d+}}/{{patch}}",
        f"BigEarthNet-S1/{{_scene}}/{{s1:{_S1_NAME}}}/{{s1}}",
        Table(
            "metadata.parquet", columns={"patch_id": "{patch}"}, value="labels", label_kind="multilabel", optional=True
        ),
    ),
    archives=(
        *(
            Archive(
                file=f"BigEarthNet-{part}",
                url=f"{_V2_URL}/BigEarthNet-{part}",
                sha256=sha256,
                members=(f"BigEarthNet-{part[:2]}/",),
                part_of=f"BigEarthNet-{part[:2]}.tar.gz",
            )
            for part, sha256 in _V2_PARTS.items()
        ),
        Archive(
            file="metadata.parquet",
            url=f"{_V2_URL}/metadata.parquet",
            md5="55687065e77b6d0b0f1ff604a6e7b49c",
        ),
    ),
    splits=ListSplit(
        path="metadata.parquet",
        columns={"patch_id": "{patch}", "s1_name": "{s1}", "split": "{split:train|validation|test}"},
        names={"validation": "val"},
    ),
    samples=549488,
    split_sizes={"train": 237871, "val": 122342, "test": 119825},
    cite="https://arxiv.org/abs/2407.03653",
    quirks=V1.quirks[:1],
    unverified=("sample counts", "columns of metadata.parquet"),
    paper_row="",
    examples={
        "_tile": ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP",),
        "patch": ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43",),
        "s1": ("S1A_IW_GRDH_1SDV_20170613T165043_33UUP_75_43",),
        "_scene": ("S1A_IW_GRDH_1SDV_20170613T165043",),
    },
)
SPECS = (V1, V2)
