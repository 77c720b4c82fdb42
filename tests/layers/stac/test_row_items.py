"""Items read from the columns of a table equal the items of its rows, parsed one by one, in odd tables too."""

from datetime import UTC, datetime, timedelta

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.layers import open_stac
from geoxt.layers.stac import row_items as module
from geoxt.layers.stac.pages import parse_item, remote_item
from geoxt.layers.stac.parquet import dict_rows
from geoxt.layers.stac.row_items import RowItem, row_items
from geoxt.layers.stac.sources import _absolute

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
START = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
PROJ = "https://stac-extensions.github.io/projection/v1.0.0/schema.json"
URL = "https://example.com/items.parquet"
SHAPES = [
    shapely.box(10, 40, 11, 41), shapely.Polygon([(10, 40), (11, 40.1), (11, 41), (10, 41)]), shapely.Point(1, 2),
    shapely.Polygon([(10, 40, 1), (11, 40, 1), (11, 41, 1), (10, 41, 1)]), shapely.Polygon(),
]  # fmt: skip


def row(number, **fields):
    grid = {"proj:shape": [20, 20], "proj:transform": [1000.0, 0.0, 6e5 + 1000 * number, 0.0, -1000.0, 4.5e6]}
    assets = {
        key: {
            "href": f"https://example.com/{number}/{key}.tif", "type": "image/tiff; application=geotiff",
            "title": f"{key} of {number}", "roles": ["data"], "raster:bands": [{"data_type": "uint16", "nodata": 0}],
            **grid,
        }
        for key in ("red", "nir", "text")
    }  # fmt: skip
    box = dict(zip(("xmin", "ymin", "xmax", "ymax"), (10.0, 40.0, 11.0, 41.0), strict=True))
    return {
        "id": f"i{number}", "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [PROJ], "collection": "c",
        "datetime": START + timedelta(days=number), "proj:epsg": 32632, "eo:cloud_cover": 10.5, "bbox": box,
        "geometry": shapely.to_wkb(SHAPES[0]), "assets": assets,
    } | fields  # fmt: skip


FIELDS = {
    "id": [None, "a", "ü"],
    "stac_version": ["1.1.0", "0.9.0", "1.0.0-rc.1", None],
    "stac_extensions": [[], None, ["https://stac-extensions.github.io/version/v1.2.0/schema.json", PROJ]],
    "collection": [None, "d"],
    "datetime": [None],
    "start_datetime": [START],
    "end_datetime": [START + timedelta(hours=1)],
    "created": ["2022-05-18T00:00:00Z", "yesterday"],
    "proj:epsg": [None, 0, 32633],
    "proj:code": ["EPSG:32632", "EPSG:32601"],
    "license": ["proprietary", "CC-BY-4.0"],
    "deprecated": [True, False],
    "eo:cloud_cover": [None, float("nan"), -1.0],
    "eo:bands": [[{"name": "red", "common_name": "red"}]],
    "data_type": ["uint8", "nonsense"],
    "geometry": [None, b"broken", *(shapely.to_wkb(shape) for shape in SHAPES)],
    "bbox": [None, dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), 5.0), {"xmin": 1.0, "ymin": None}],
    "assets": [None, {}],
}
ASSET_FIELDS = {
    "href": [None, "/data/a.tif", "./a.tif", "a\\b.tif", "s3://bucket/a.tif", "ftp://example.com/a.tif"],
    "type": [None, "image/jp2", "text/xml", "application/vnd+zarr"],
    "roles": [None, ["metadata"]],
    "title": [None, "same"],
    "proj:epsg": [32633, 0],
    "proj:code": ["EPSG:32633"],
    "proj:shape": [None, [20], [30, 30]],
    "proj:transform": [None, [1.0, 2.0]],
    "raster:bands": [None, [{"data_type": "float32", "nodata": float("nan")}], [{"scale": 0.1, "offset": -1.0}]],
    "file:size": [5],
}


def batch_of(rows):
    schemas = [pa.Table.from_pylist([fields]).schema for fields in rows]
    table = pa.Table.from_pylist(rows, schema=pa.unify_schemas(schemas, promote_options="permissive"))
    return table.combine_chunks().to_batches()[0]


@st.composite
def tables(draw):
    rows = [row(number) for number in range(draw(st.integers(1, 24)))]
    for _ in range(draw(st.integers(0, 3))):
        changed = draw(st.sampled_from([rows, rows[:1], rows[-1:], rows[::3]]))
        name = draw(st.sampled_from([*FIELDS, *ASSET_FIELDS]))
        if name in FIELDS:
            value = draw(st.sampled_from(FIELDS[name]))
            for changed_row in changed:
                changed_row[name] = value
        else:
            value = draw(st.sampled_from(ASSET_FIELDS[name]))
            key = draw(st.sampled_from(["red", "text"]))
            for changed_row in changed:
                if changed_row["assets"]:
                    changed_row["assets"][key][name] = value
    return batch_of(rows)


def content(item):
    assets = {
        k: (a.href, a.title, a.description, a.media_type, a.roles, a.extra_fields) for k, a in item.assets.items()
    }
    position = item.collection_id, item.geometry, item.bbox, item.datetime, item.get_self_href()
    return repr((item.id, position, item.stac_extensions, item.properties, item.extra_fields, assets))


def outcome(read):
    """Return the items before the first error, and its text."""
    result = []
    try:
        result.extend(content(item) for item in read())
    except Exception as error:  # noqa: BLE001 (any error must be the same)
        return result, f"{type(error).__name__}: {error}"
    return result, None


def parser(address):
    if address is None:
        return lambda row: _absolute(parse_item(row, "items.parquet"), "items.parquet")
    return lambda row: _absolute(remote_item(row, address))


@given(tables(), st.sampled_from([None, URL]))
@settings(max_examples=15, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_items_of_columns_equal_parsed_rows(batch, address):
    parse = parser(address)
    expected = outcome(lambda: map(parse, dict_rows(batch)))
    result = outcome(lambda: row_items(batch, parse, address=address))
    assert result == expected


def test_one_row_of_each_structure_is_parsed():
    rows = [row(number) for number in range(60)]
    for fields in rows[1::2]:  # another collection with another layout, in between
        fields |= {"collection": "d", "view:off_nadir": 5.0}
        fields["assets"]["red"]["raster:bands"] = [{"data_type": "float32", "nodata": float("nan")}]
    for fields in rows[40:]:
        del fields["assets"]["text"]
    parsed = []

    def parse(fields):
        parsed.append(fields["id"])
        return parse_item(fields)

    items = list(row_items(batch_of(rows), parse))
    assert all(isinstance(item, RowItem) for item in items)
    assert len(parsed) == 4
    assert [item.id for item in items] == [fields["id"] for fields in rows]
    assert [len(item.assets) for item in items] == [3] * 40 + [2] * 20


def test_relative_hrefs_of_a_row_are_resolved(tmp_path):
    rows = [row(number) for number in range(20)]
    rows[7]["assets"]["red"]["href"] = "red.tif"
    items = list(row_items(batch_of(rows), parser(URL), address=URL))
    assert items[7].assets["red"].href == "https://example.com/red.tif"
    assert items[7].get_self_href() == items[8].get_self_href() == URL


def test_layers_of_columns_equal_those_of_parsed_rows(tmp_path, monkeypatch):
    rows = [row(number, collection="cd"[number % 2]) for number in range(40)]
    for fields in rows[::3]:
        fields |= {"geometry": shapely.to_wkb(SHAPES[1]), "eo:cloud_cover": -1.0}
        fields["assets"]["nir"] |= {"raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 0.5}]}
    rows[5] |= {"stac_version": "0.9.0", "start_datetime": START, "end_datetime": START}
    rows[6] |= {"deprecated": True, "proj:code": "EPSG:32632"}
    parquet.write_table(pa.Table.from_batches([batch_of(rows)]), tmp_path / "items.parquet")
    options = {"bands": ["nir", "red"], "groupby": "time", "resolution": 1000}
    layer = open_stac(str(tmp_path / "items.parquet"), **options)
    monkeypatch.setattr(module, "_groups", lambda _: [])
    expected = open_stac(str(tmp_path / "items.parquet"), **options)
    assert layer.identical(expected)
    assert layer.data.name == expected.data.name  # the token of all scenes
