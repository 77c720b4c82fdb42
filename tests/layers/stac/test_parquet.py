"""stac-geoparquet: rows selected before they are converted equal the items selected one by one; files over HTTP."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pystac
import pytest
import shapely
import shapely.geometry
from support.servers import FileServer

from geoxt.errors import CatalogWarning, InputError, ReadError
from geoxt.layers import open_stac
from geoxt.layers.area import area_of
from geoxt.layers.stac.filters import Selection, parse_times, select_items
from geoxt.layers.stac.parquet import geometries_of, read_parquet
from geoxt.layers.stac.sources import read_items
from geoxt.testing import distinct, make_grid, make_item

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
START = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
SIDES = ("xmin", "ymin", "xmax", "ymax")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ("2022-02-15/2022-02-01", "its end is before its start"),
        ("01.02.2022", "Cannot read an interval"),
        (slice("2022"), "Cannot read an interval"),
    ],
)
def test_other_intervals_raise(times, message):
    with pytest.raises(InputError, match=message):
        parse_times(times)


def write_rows(path, rows, rows_per_group=None):
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=rows_per_group)
    return str(path)


def row_of(item):
    row = item.to_dict(include_self_link=False, transform_hrefs=False)
    properties = row.pop("properties") | {"datetime": item.datetime, "gsd": None}
    row["geometry"] = shapely.to_wkb(shapely.geometry.shape(row["geometry"]))
    row["bbox"] = dict(zip(SIDES, row["bbox"], strict=True))
    return row | properties | {"links": []}


@pytest.fixture(scope="module")
def items(write):
    stac_items = []
    for n in range(5):
        path = write(distinct((20, 20)), make_grid((20, 20), left=600_000 + 600 * n), nodata=0)
        kind = "even" if n % 2 == 0 else "odd"
        stac_items.append(make_item(f"i{n}", {"red": path}, time=START + timedelta(days=n), collection=kind))
    return stac_items


def test_rows_equal_their_items(items, tmp_path):
    path = write_rows(tmp_path / "items.parquet", [row_of(item) for item in items])
    dates = [i.datetime for i in items]
    assert [pystac.Item.from_dict(d).datetime for d in read_parquet(path)] == dates
    with pytest.raises(InputError, match=f"no matching items; its items are of {min(dates):%F} to {max(dates):%F}"):
        open_stac(path, datetime="2031")
    layer, exact = (open_stac(s, collections="even", bands=["red"], groupby="day") for s in (path, items))
    assert layer.identical(exact)
    assert layer.data.name == exact.data.name


def test_rows_of_one_id_are_items_of_one_id(items, tmp_path):
    rows = [row_of(item) for item in items]
    signed = {"red": rows[1]["assets"]["red"] | {"href": rows[1]["assets"]["red"]["href"] + "?sig=2"}}
    path = write_rows(tmp_path / "a.parquet", [*rows, rows[2], rows[1] | {"assets": signed}])
    assert [item.id for item in read_items(path)] == ["i0", "i1", "i2", "i3", "i4"]
    moved = rows[2] | {"geometry": rows[0]["geometry"]}
    with pytest.warns(CatalogWarning, match="a.parquet' have the id 'i2' and differ in footprint"):
        assert [item.id for item in read_items(write_rows(tmp_path / "a.parquet", [*rows, moved]))][2:] == [
            "i2", "i3", "i4", "i2",
        ]  # fmt: skip


def test_files_of_another_kind_raise(tmp_path):
    with pytest.raises(InputError, match=r"it has no columns \['assets', 'geometry'\]"):
        open_stac(write_rows(tmp_path / "short.parquet", [{"id": "a"}]))
    (tmp_path / "broken.parquet").write_text("no")
    with pytest.raises(ReadError, match="Cannot read stac-geoparquet"):
        open_stac(str(tmp_path / "broken.parquet"))
    row = {"id": "a", "assets": {"b": {"href": "/b.tif"}}, "geometry": b"no", "datetime": START}
    with pytest.raises(ReadError, match="Cannot read stac-geoparquet"):
        open_stac(write_rows(tmp_path / "geometry.parquet", [row]))


def test_a_file_over_http_is_read_by_ranges(items, tmp_path):
    write_rows(tmp_path / "items.parquet", [row_of(item) for item in items])
    local = read_items(str(tmp_path / "items.parquet"), Selection(collections=("odd",)))
    with FileServer(tmp_path) as server:
        remote = read_items(f"{server.url}/items.parquet?sig=secret", Selection(collections=("odd",)))
        with pytest.raises(ReadError, match=r"Cannot read stac-geoparquet from .*none.parquet") as error:
            read_items(f"{server.url}/none.parquet?sig=secret")
    assert [item.id for item in remote] == [item.id for item in local] == ["i1", "i3"]
    assert "secret" not in str(error.value)


def random_rows(rng, count):
    """Rows with boxes over the whole Earth, across the antimeridian and missing; instants, periods and no time."""
    rows = []
    for n in range(count):
        west, south = rng.uniform(-180, 180), rng.uniform(-88, 85)
        east, north = west + rng.choice([0.5, 5, 40, 120]), min(south + rng.choice([0.5, 5, 60]), 90)
        ring = shapely.box(west, south, east, north)
        crossing = east > 180
        if crossing and n % 2:
            left, right = shapely.box(west, south, 180, north), shapely.box(-180, south, east - 360, north)
            ring = shapely.MultiPolygon([left, right])  # two parts, as RFC 7946 asks for
        box = (west, south, east - 360 if crossing else east, north)
        day = START + timedelta(days=int(rng.integers(0, 100)))
        period = n % 3 == 0
        rows.append({
            "id": f"i{n}", "type": "Feature", "collection": f"c{n % 3}", "assets": {"b": {"href": f"/{n}.tif"}},
            "geometry": None if n % 17 == 0 else shapely.to_wkb(ring),
            "bbox": None if n % 17 == 0 else dict(zip(SIDES, np.float32(box).tolist(), strict=True)),
            "datetime": None if period else day,
            "start_datetime": day if period else None, "end_datetime": day + timedelta(days=9) if period else None,
        })  # fmt: skip
    return rows


AREAS = (
    {"bbox": (10, 40, 12, 42)},
    {"bbox": (170, -30, -170, 30)},
    {"bbox": (-180, -90, 180, 90)},
    {"bbox": (350, -10, 370, 10)},
    {"intersects": shapely.MultiPolygon([shapely.box(-60, -20, -50, 10), shapely.box(100, 0, 101, 1)])},
    {"intersects": shapely.Point(0, 51)},
    {},
)
TIMES = (None, "2022-06", "2022-06-20/..", "../2022-05-20")


@pytest.mark.parametrize(  # each area with two of the times
    ("area", "times"), [(area, TIMES[(n + m) % 4]) for n, area in enumerate(AREAS) for m in (0, 1)]
)
def test_selected_rows_equal_selected_items(area, times, tmp_path):
    rows = random_rows(np.random.default_rng(len(str(area)) + len(str(times))), 250)
    path = write_rows(tmp_path / "items.parquet", rows, rows_per_group=60)
    selection = Selection(
        collections=("c0", "c2"), area=area_of(area.get("bbox"), area.get("intersects")), times=parse_times(times)
    )
    all_items = [pystac.Item.from_dict(row) for row in read_parquet(path)]
    expected = [item.id for item in select_items(all_items, selection)]
    assert [item.id for item in read_items(path, selection)] == expected
    assert expected
    assert sum(1 for _ in read_parquet(path, selection)) <= 168  # rows of the two collections


def test_only_rows_near_the_area_are_converted(tmp_path):
    rows = random_rows(np.random.default_rng(0), 400)
    path = write_rows(tmp_path / "items.parquet", rows, rows_per_group=100)
    selection = Selection(area=area_of((10, 40, 12, 42), None), times=parse_times("2022-06"))
    assert sum(1 for _ in read_parquet(path, selection)) < 60


def test_collections_of_several_files_are_known_together(items, tmp_path):
    even = write_rows(tmp_path / "even.parquet", [row_of(item) for item in items[::2]])
    odd = write_rows(tmp_path / "odd.parquet", [row_of(item) for item in items[1::2]])
    assert [item.id for item in read_items([even, odd], Selection(collections=("odd",)))] == ["i1", "i3"]
    with pytest.raises(InputError, match=r"collections \['other'\]: there are \['even', 'odd'\]"):
        read_items([even, odd], Selection(collections=("other",)))


def test_other_types_of_columns_are_compared_as_items(items, tmp_path):
    rows = [row_of(item) for item in items]
    for row, item in zip(rows, items, strict=True):
        row["bbox"] = item.bbox
        row["datetime"] = item.datetime.isoformat()
    path = write_rows(tmp_path / "items.parquet", rows)
    selection = Selection(area=area_of(items[0].bbox, None), times=parse_times("2022-05-17/2022-05-18"))
    assert [i.id for i in read_items(path, selection)] == [i.id for i in read_items(items, selection)]


def test_geometries_are_those_of_shapely():
    shapes = [
        shapely.box(10, 50, 11, 51), None, shapely.Point(1, 2).buffer(1, quad_segs=3), shapely.Polygon(),
        shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]), shapely.Point(1, 2),
        shapely.Polygon([(0, 0, 5), (1, 0, 5), (1, 1, 5)]), shapely.box(0, 0, 3, 3) - shapely.box(1, 1, 2, 2),
        shapely.box(12, 50, 13, 51),
    ]  # fmt: skip
    expected = [None if shape is None else dict(shapely.geometry.mapping(shape)) for shape in shapes]
    stored = [None if shape is None else shapely.to_wkb(shape) for shape in shapes]
    assert geometries_of(stored) == expected
    assert geometries_of(expected) == expected
    assert geometries_of([None]) == [None]
