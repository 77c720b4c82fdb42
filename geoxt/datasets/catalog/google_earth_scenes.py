"""Scene classification on Google Earth images: PatternNet and RESISC45."""

from __future__ import annotations

from geoxt.datasets.assets import Raster
from geoxt.datasets.spec import RGB, Archive, ListSplit, RandomSplit, Spec, Statistics, classes

_RESISC45_URL = "https://hf.co/datasets/isaaccorley/resisc45/resolve/883edc0eee77b2c84225472f10f126e3ed83fa6e"


PATTERNNET = Spec(
    name="patternnet",
    title="PatternNet",
    task="classification",
    source="Google Earth",
    classes=classes(
        "airplane baseball_field basketball_court beach bridge cemetery chaparral christmas_tree_farm closed_road "
        "coastal_mansion crosswalk dense_residential ferry_terminal football_field forest freeway golf_course harbor "
        "intersection mobile_home_park nursing_home oil_gas_field oil_well overpass parking_lot parking_space railway "
        "river runway runway_marking shipping_yard solar_panel sparse_residential storage_tank swimming_pool "
        "tennis_court transformer_station wastewater_treatment_plant"
    ),
    assets={"image": Raster("PatternNet/images/{label:[a-z_]+}/{_prefix:[a-z_]+}{n:3d}.jpg", bands=RGB)},
    archives=(
        Archive(
            file="PatternNet.zip",
            url="https://hf.co/datasets/torchgeo/PatternNet/resolve/2dbd901b00e301967a5c5146b25454f5d3455ad0/PatternNet.zip",
            md5="96d54b3224c5350a98d55d5a7e6984ad",
            sha256="456dd031950b0429518b8ec7d30a5c4b3f6456261ee1dd573a3eee43efb29958",
            members=("PatternNet/",),
        ),
    ),
    splits=RandomSplit(),
    samples=30400,
    resolution=(0.062, 4.693),
    statistics=(
        Statistics(
            asset="image",
            mean=(91.48, 91.78, 81.23),
            std=(49.74, 47.18, 45.43),
            units="DN",
            source="TorchGeo, whole dataset",
        ),
    ),
    cite="10.1016/j.isprsjprs.2018.01.004",
    license="CC-BY-4.0",
    homepage="https://sites.google.com/view/zhouwx/dataset",
    quirks=(
        "Labels are folder names; file names spell some classes without underscores.",
        "Each class has its own resolution.",
    ),
    unverified=("license", "spelling of classes in file names", "range of resolutions"),
    paper_row="PatternNet",
    examples={"_prefix": ("airplane", "baseballfield")},
)

RESISC45 = Spec(
    name="resisc45",
    title="NWPU-RESISC45",
    task="classification",
    source="Google Earth",
    classes=classes(
        "airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud "
        "commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor "
        "industrial_area intersection island lake meadow medium_residential mobile_home_park mountain overpass palace "
        "parking_lot railway railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg "
        "sparse_residential stadium storage_tank tennis_court terrace thermal_power_station wetland"
    ),
    assets={"image": Raster("NWPU-RESISC45/{label:[a-z_]+}/{label}_{n:3d}.jpg", bands=RGB)},
    archives=(
        Archive(
            file="NWPU-RESISC45.zip",
            url=f"{_RESISC45_URL}/NWPU-RESISC45.zip",
            md5="75206b2e16446591afa88e2628744886",
            sha256="beeecd0b63656290ae6d65cf7763185b0c1c4c54a753ef8088d6fba3faaf1f53",
            members=("NWPU-RESISC45/",),
        ),
        Archive(
            file="resisc45-train.txt",
            url=f"{_RESISC45_URL}/resisc45-train.txt",
            md5="b5a4c05a37de15e4ca886696a85c403e",
            sha256="ecfa963be4d85eac83665f8be8634abcb4fe6f3546472cc0e87999e2cab4449b",
        ),
        Archive(
            file="resisc45-val.txt",
            url=f"{_RESISC45_URL}/resisc45-val.txt",
            md5="a0770cee4c5ca20b8c32bbd61e114805",
            sha256="08d81f642526bec240589000af7f49a47e8d071a6e7925b0f36246a78ab64342",
        ),
        Archive(
            file="resisc45-test.txt",
            url=f"{_RESISC45_URL}/resisc45-test.txt",
            md5="3dda9e4988b47eb1de9f07993653eb08",
            sha256="e0927e80130b47317a2f18520d98382b6fc56f0d3edd3345140f7d02267c3805",
        ),
    ),
    splits=ListSplit(
        path="resisc45-{split:train|val|test}.txt", columns=("{label:[a-z_]+}_{n:3d}.jpg",), official=False
    ),
    samples=31500,
    split_sizes={"train": 18900, "val": 6300, "test": 6300},
    resolution=(0.2, 30),
    statistics=(
        Statistics(
            asset="image",
            mean=(93.89391792, 97.11226906, 87.56775284),
            std=(51.84919672, 47.2365918, 47.06308786),
            units="DN",
            source="TorchGeo, train split",
        ),
    ),
    cite="10.1109/JPROC.2017.2675998",
    license="CC-BY-NC-4.0",
    homepage="https://doi.org/10.1109/jproc.2017.2675998",
    quirks=(
        "Islands, lakes, mountains and snowbergs are coarser than 30 m.",
        "The first release is a RAR archive of the same layout: extract it by hand.",
    ),
    unverified=("split sizes", "classes coarser than 30 m"),
    paper_row="RESISC45",
)
SPECS = (PATTERNNET, RESISC45)
