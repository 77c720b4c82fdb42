"""Faults in COCO and GeoJSON files are errors that name the file; no object is lost."""

import json

import pytest

from geoxt.datasets.assets import Boxes, Vector
from geoxt.datasets.vector_labels import Drawing, read_coco
from geoxt.errors import ReadError
from geoxt.legend import Legend
from geoxt.testing import make_grid

LEGEND = Legend((1, 2), ("ship", "tank"))
SHIP = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 1, 3, 3]}


def read(path, *annotations):
    content = {
        "images": [{"id": 1, "file_name": "x.jpg"}],
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
        read(path, *[SHIP | change] * 4)


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
