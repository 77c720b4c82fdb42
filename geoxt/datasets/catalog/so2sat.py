"""So2Sat LCZ42: local climate zones of cities, from Sentinel-1 and Sentinel-2 patches in HDF5 files."""

from __future__ import annotations

from geoxt.datasets.assets import HDF5Array
from geoxt.datasets.spec import Archive, FolderSplit, Spec, Statistics, classes, sensor_bands
from geoxt.layers.products import Band

_URL = "ftp://m1483140:m1483140@dataserv.ub.tum.de"

_WAVELENGTH = sensor_bands("sentinel1", "VV")[0].wavelength
_SENTINEL1 = (
    Band(name="VH_real", wavelength=_WAVELENGTH, resolution=10, index=1),
    Band(name="VH_imag", wavelength=_WAVELENGTH, resolution=10, index=2),
    Band(name="VV_real", wavelength=_WAVELENGTH, resolution=10, index=3),
    Band(name="VV_imag", wavelength=_WAVELENGTH, resolution=10, index=4),
    Band(name="VH_lee_intensity", wavelength=_WAVELENGTH, resolution=10, index=5),
    Band(name="VV_lee_intensity", wavelength=_WAVELENGTH, resolution=10, index=6),
    Band(name="C12_lee_real", wavelength=_WAVELENGTH, resolution=10, index=7),
    Band(name="C12_lee_imag", wavelength=_WAVELENGTH, resolution=10, index=8),
)
_FILE = "{split:training|validation|testing}.h5"

SO2SAT = Spec(
    name="so2sat",
    title="So2Sat LCZ42",
    task="classification",
    source="Sentinel-1/2",
    classes=classes(
        """
        Compact high rise
        Compact mid rise
        Compact low rise
        Open high rise
        Open mid rise
        Open low rise
        Lightweight low rise
        Large low rise
        Sparsely built
        Heavy industry
        Dense trees
        Scattered trees
        Bush, scrub
        Low plants
        Bare rock or paved
        Bare soil or sand
        Water
        """,
        colors="#910613 #d9081c #ff0a22 #c54f1e #ff6628 #ff985e #fded3f #bbbbbb #ffcbab #565656 #006a18 #00a926 "
        "#628432 #b5da7f #000000 #fcf7b1 #656bfa",
    ),
    assets={
        "image": HDF5Array(
            _FILE,
            key="sen2",
            axes="nyxb",
            dtype="float64",
            shape=(32, 32, 10),
            bands=sensor_bands("sentinel2", "B02 B03 B04 B05 B06 B07 B08 B8A B11 B12"),
        ),
        "sar": HDF5Array(_FILE, key="sen1", axes="nyxb", dtype="float64", shape=(32, 32, 8), bands=_SENTINEL1),
        "label": HDF5Array(_FILE, key="label", axes="nc", dtype="float64", shape=(17,), label_kind="onehot"),
    },
    archives=(
        Archive(
            file="training.h5",
            url=f"{_URL}/training.h5",
            md5="702bc6a9368ebff4542d791e53469244",
            sha256="06df6c9b8875e37f172ba548f466640293d77ad3be335c2d5dfcba3d35942daf",
            size=52006404720,
        ),
        Archive(
            file="validation.h5",
            url=f"{_URL}/validation.h5",
            md5="71cfa6795de3e22207229d06d6f8775d",
            sha256="cab820b5176a6b5fb35ab423f434e40b073265a7b6317d9f6895a9fa7c0bb285",
            size=3559773496,
        ),
        Archive(file="testing.h5", url=f"{_URL}/testing.h5", md5="e81426102b488623a723beab52b31a8a"),
    ),
    splits=FolderSplit(names={"training": "train", "validation": "val", "testing": "test"}),
    samples=400673,
    split_sizes={"train": 352366, "val": 24119, "test": 24188},
    image_size="32x32",
    resolution=(10,),
    modality="SAR, MSI",
    statistics=(
        Statistics(
            asset="sar",
            mean=(
                -3.59122426e-05,
                -7.65856128e-06,
                5.93738575e-05,
                2.51662315e-05,
                0.0442011066,
                0.257610271,
                0.000755674337,
                0.00135034668,
            ),
            std=(0.17555201, 0.17556463, 0.45998793, 0.45598876, 2.85599092, 8.32480061, 2.44987574, 1.4647353),
            units="as stored",
            source="TorchGeo",
        ),
        Statistics(
            asset="image",
            mean=(
                0.12375696117681,
                0.10927746363683,
                0.10108552032678,
                0.1142398616114,
                0.1592656692023,
                0.18147236008771,
                0.17457403122913,
                0.19501607349635,
                0.15428468872076,
                0.1090505069957,
            ),
            std=(
                0.03958795,
                0.04777826,
                0.06636616,
                0.06358874,
                0.07744387,
                0.09101635,
                0.09218466,
                0.10164581,
                0.09991773,
                0.08780632,
            ),
            units="as stored",
            source="TorchGeo",
        ),
    ),
    cite="10.1109/MGRS.2020.2964708",
    license="CC-BY-4.0",
    homepage="https://mediatum.ub.tum.de/1483140",
    quirks=(
        "Sentinel-2 values are reflectances; no scale is needed.",
        "The first two channels of Sentinel-1 are VH, not VV.",
        "Only the second version of the release, with both sensors; it is not georeferenced.",
    ),
    unverified=("class colours", "sample counts of train and test"),
    paper_differences="Section 4.1: 30x30 pixels and 42 labels; the release has 32x32 and 17 (of 42 cities)",
    paper_row="So2Sat",
)
SPECS = (SO2SAT,)
