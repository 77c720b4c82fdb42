"""Items with fields that cannot be read: the next source of the field, or an error that names item and file."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from geoxt.errors import InputError, ReadError
from geoxt.grid import grid_of
from geoxt.layers import open_stac
from geoxt.testing import distinct, make_grid, make_item

GRID = make_grid((60, 80))
WHEN = datetime(2020, 5, 17, 10, 30, tzinfo=UTC)


@pytest.fixture
def feature(write):
    """An item as a dict; its only asset is "b"."""
    return make_item("one", {"b": write(distinct((60, 80)), GRID)}, time=WHEN, collection="some").to_dict()


def value_of(source, **options):
    return float(open_stac(source, **options)[0, 0, 5])


@pytest.mark.parametrize("scale", ["n/a", [0.1], 0, "NaN", None, True])
def test_scale_that_is_no_factor_is_not_applied(feature, scale):
    stored = value_of(feature)
    feature["assets"]["b"]["raster:bands"] = [{"data_type": "uint16", "scale": scale, "offset": "NaN"}]
    assert value_of(feature, rescale=True) == value_of(feature) == stored


@pytest.mark.parametrize("stated", ["12.5 %", "", -1, float("nan"), [3], None])
def test_cloud_cover_that_is_no_percentage_is_unknown(feature, stated):
    feature["properties"]["eo:cloud_cover"] = stated
    assert open_stac(feature).shape == (1, 60, 80)
    with pytest.raises(InputError, match="'one' does not state its cloud cover"):
        open_stac([feature, feature], composite="least cloudy")


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Polygon", "coordinates": []},
        {"type": "Foo", "coordinates": [1]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]},
        {"type": "GeometryCollection", "geometries": []},
    ],
)
def test_unusable_geometry_is_replaced_by_the_bounding_box(feature, geometry):
    feature["geometry"] = geometry
    west, south, east, north = feature["bbox"]
    assert open_stac(feature, bbox=(west, south, east, north)).shape == (1, 60, 80)
    with pytest.raises(InputError, match="no matching items"):
        open_stac(feature, bbox=(west + 5, south, east + 5, north))


@pytest.mark.parametrize(
    ("media_type", "roles"),
    [("IMAGE/TIFF; application=geotiff", ["data"]), ("IMAGE/JP2", None), ("image/tiff", "data"), (None, ["Data"])],
)
def test_case_of_types_and_roles_is_ignored(feature, media_type, roles):
    feature["assets"]["b"] |= {"type": media_type, "roles": roles}
    assert open_stac(feature).shape == (1, 60, 80)


@pytest.mark.parametrize("field", ["raster:bands", "eo:bands", "bands"])
@pytest.mark.parametrize("band", [None, {}, {"name": None}, {"name": ["a"]}, {"common_name": 5}, 7])
def test_unusable_names_of_bands_are_those_of_the_asset(feature, field, band):
    feature["assets"]["b"][field] = [band]
    assert open_stac(feature).band.item() == "b"


@pytest.mark.parametrize("values", [["0x1", 2], [None, 2], [1, 1], [1.5, 2]])
def test_unusable_class_codes_raise(feature, values):
    feature["assets"]["b"]["classification:classes"] = [{"value": value, "name": "a"} for value in values]
    with pytest.raises(InputError, match="Cannot read the classes of asset 'b'"):
        open_stac(feature)


def test_asset_without_href_is_left_out(feature):
    feature["assets"]["other"] = {"href": None, "type": "image/tiff", "roles": ["data"]}
    assert list(open_stac(feature).band.values) == ["b"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "it has no id"),
        ({"properties": None}, "Cannot read item 'one'"),
        ({"properties": {"datetime": None}}, "datetime is None"),
        ({"properties": {"datetime": "yesterday"}}, "yest"),
        ({"properties": {"datetime": 20200517}}, "TypeError"),
        ({"stac_version": None}, "Cannot read item 'one'"),
    ],
)
def test_unreadable_items_raise_with_their_file(feature, tmp_path, change, reason):
    feature |= change
    with pytest.raises(ReadError, match=reason):
        open_stac(feature)
    path = tmp_path / "item.json"
    path.write_text(json.dumps(feature))
    with pytest.raises(ReadError, match=r"item\.json.*" + reason if "Cannot" not in reason else r"item\.json"):
        open_stac(path)


def test_unreadable_start_raises_with_the_item(feature):
    feature["properties"] |= {"start_datetime": "May", "end_datetime": "June"}
    with pytest.raises(InputError, match="times of item 'one'"):
        open_stac(feature)


@pytest.mark.parametrize("content", ["[1]", "null", '{"type": "Catalog"}', '{"type": "Collection", "id": "a"}'])
def test_files_that_are_no_stac_raise_with_their_name(tmp_path, content):
    path = tmp_path / "some.json"
    path.write_text(content)
    with pytest.raises(ReadError, match=r"some\.json"):
        open_stac(path)


def test_items_of_other_planets_are_opened(write, feature):
    mars, pixels = make_grid((60, 80), crs="IAU_2015:49910", left=0, top=0, resolution=100), distinct((60, 80))
    feature["properties"].pop("proj:code")
    feature["bbox"], feature["geometry"] = [0, -0.1, 0.13, 0], None
    feature["assets"]["b"] |= {"href": write(pixels, mars), "proj:code": "IAU_2015:49910"}
    feature["assets"]["b"]["proj:transform"] = list(mars.affine[:6])
    layer = open_stac(feature)
    assert grid_of(layer) == mars
    assert np.array_equal(layer[0], pixels)
