"""Faults in COCO and GeoJSON files are errors that name the file; no object is lost."""

import json

import pytest

from geoxt.datasets.assets import Boxes, Vector
from geoxt.datasets.vector_labels import Drawing, read_coco
from geoxt.errors import LabelError, ReadError
from geoxt.legend import Legend
from geoxt.testing import make_grid

LEGEND = Legend((1, 2), ("ship", "tank"))
SHIP = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 1, 3, 3]}


def read(path, *annotations, images=({"id": 1, "file_name": "x.jpg"},)):
    content = {
        "images": images,
        "categories": [{"id": 9, "name": "tank"}],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return read_coco(path, Boxes(path.name, image="{id}.jpg"), LEGEND)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": "1"}, "not listed, such as id '1'"),
        ({"image_id": 77}, "not listed, such as id 77"),
        ({"bbox": [1, 1, 3, 3, 0.5]}, "is not left, top, width and height"),
        ({"bbox": [4, 4, -2, 3]}, "is not left, top, width and height"),
        ({"bbox": [1, 1, float("nan"), 3]}, "of annotation 1 is not"),
    ],
)
def test_lost_or_malformed_boxes_raise(tmp_path, change, reason):
    path = tmp_path / "boxes.json"
    assert read(path, SHIP)[0][1]["boxes"].tolist() == [[1, 1, 4, 4]]
    with pytest.raises(ReadError, match=rf"boxes\.json.*{reason}"):
        read(path, *[SHIP | change | {"id": number} for number in (1, 2, 3, 4)])


@pytest.mark.parametrize(
    "content",
    [
        {"features": None},
        {"features": [None]},
        {"features": [], "crs": "EPSG:32615"},
        {"features": [{"geometry": {"type": "Foo", "coordinates": []}}]},
        {"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]},
    ],
)
def test_malformed_polygons_raise_with_their_file(tmp_path, content):
    path = tmp_path / "shapes.geojson"
    path.write_text(json.dumps(content))
    with pytest.raises(ReadError, match=r"shapes\.geojson"):
        Drawing(asset=Vector(path.name, column="c"), path=str(path)).read(make_grid((10, 10)), LEGEND)


SIZED = {"id": 1, "file_name": "x.jpg", "height": 20, "width": 10}


@pytest.mark.parametrize(
    ("images", "annotations", "reason"),
    [
        ([SIZED, SIZED | {"file_name": "y.jpg"}], [SHIP], "two images have the id 1"),
        (
            [SIZED, SIZED | {"id": 2}],
            [SHIP, SHIP | {"image_id": 2, "id": 2}],
            r"two images have the file_name 'x\.jpg'",
        ),
        ([SIZED], [SHIP, SHIP], "an object is listed twice, with the id 1"),
        (
            [SIZED],
            [SHIP | {"bbox": [10, 1, 3, 3]}],
            r"the box \[10, 1, 3, 3\] of annotation 1 is outside its image of 20x10",
        ),
        ([SIZED], [SHIP | {"bbox": [1, -5, 3, 4]}], "is outside its image"),
        ([SIZED], [SHIP | {"bbox": [-3, 25, 5, 4]}], "is outside its image"),
    ],
)
def test_repeated_or_outside_objects_raise(tmp_path, images, annotations, reason):
    with pytest.raises(ReadError, match=rf"boxes\.json.*{reason}"):
        read(tmp_path / "boxes.json", *annotations, images=images)


def test_objects_that_share_an_id_or_exceed_the_image_remain(tmp_path):
    objects = [SHIP, SHIP | {"bbox": [8, 18, 5, 5]}]
    assert read(tmp_path / "boxes.json", *objects, images=[SIZED])[0][1]["boxes"].tolist() == [
        [1, 1, 4, 4],
        [8, 18, 13, 23],
    ]


def test_crowd_regions_are_no_objects(tmp_path):
    crowd = SHIP | {"id": 2, "iscrowd": 1, "bbox": [0, 0, 9, 9], "segmentation": {"counts": [0, 200], "size": [20, 10]}}
    ((_, objects),) = read(tmp_path / "boxes.json", SHIP | {"iscrowd": 0}, crowd, images=[SIZED])
    assert objects["boxes"].tolist() == [[1, 1, 4, 4]]
    ((_, objects),) = read(tmp_path / "boxes.json", crowd, images=[SIZED])
    assert objects["boxes"].shape == (0, 4)


@pytest.mark.parametrize("code", [True, False])
def test_logical_values_are_no_class_codes(tmp_path, code):
    path = tmp_path / "shapes.geojson"
    geometry = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    path.write_text(json.dumps({"features": [{"geometry": geometry, "properties": {"c": code}}]}))
    with pytest.raises(LabelError, match=f"its c {code} is not a whole number"):
        Drawing(asset=Vector(path.name, column="c"), path=str(path)).read(make_grid((10, 10)), LEGEND)
