"""NWPU VHR-10: bounding boxes and polygons of ten object classes."""

from __future__ import annotations

from geoxt.datasets.assets import Boxes, Raster
from geoxt.datasets.spec import RGB, Archive, RandomSplit, Spec, classes

_ROOT = "NWPU VHR-10 dataset"

VHR10 = Spec(
    name="vhr10",
    title="NWPU VHR-10",
    task="detection",
    source="Google Earth, Vaihingen",
    classes=classes(
        """
        airplane
        ship
        storage tank
        baseball diamond
        tennis court
        basketball court
        ground track field
        harbor
        bridge
        vehicle
        """,
        first=1,
    ),
    assets={
        "image": Raster(f"{_ROOT}/{{set:positive|negative}} image set/{{n:3d}}.jpg", bands=RGB, shape=(600, 900)),
        "boxes": Boxes(f"{_ROOT}/annotations.json", image="{n:3d}.jpg", where={"set": ("positive",)}),
    },
    archives=(
        Archive(
            file="NWPU VHR-10 dataset.zip",
            url="https://hf.co/datasets/isaaccorley/vhr10/resolve/60ecc4be33609184e2224606858cd00b7daba8df/NWPU%20VHR-10%20dataset.zip",
            md5="6add6751469c12dd8c8d6223064c6c4d",
            sha256="3e8c0299bad6b5d2b4d4034095c3581f50a02bc0dcb97fca70f6ad739f7cbf53",
            members=("NWPU VHR-10 dataset/positive image set/", "NWPU VHR-10 dataset/negative image set/"),
        ),
        Archive(
            file="annotations.json",
            url="https://hf.co/datasets/isaaccorley/vhr10/resolve/7e7968ad265dadc4494e0ca4a079e0b63dc6f3f8/annotations.json",
            md5="7c76ec50c17a61bb0514050d20f22c08",
            sha256="dde27d9362d9c6aa358a1cab160c9e075e57405d3fe876de049973c6e6150f0e",
            members=("NWPU VHR-10 dataset/annotations.json",),
        ),
    ),
    splits=RandomSplit(),
    samples=800,
    image_size="358-1,728",
    resolution=(0.08, 2),
    cite="10.1109/IGARSS.2019.8898573",
    license="CC-BY-NC-4.0",
    homepage="https://github.com/chaozhong2010/VHR-10_dataset_coco",
    quirks=(
        "Image numbers repeat in the folders of images with and without objects.",
        "Images of Vaihingen have the bands near infrared, red and green.",
        "Object counts differ from the first publication.",
    ),
    paper_row="NWPU VHR-10",
)
SPECS = (VHR10,)
