"""Items of one acquisition in several processings: the newest is first, or alone."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pystac
import pytest
import shapely

from geoxt.layers import open_stac
from geoxt.layers.stac.duplicates import _overlap_of_boxes, newest_first
from geoxt.testing import make_grid, make_item

WHEN = datetime(2022, 1, 7, 6, 22, 5, tzinfo=UTC)


def item_of(name, *, time=WHEN, box=(10, 50, 11, 51), keys=("B04", "B08"), collection="s2", **properties):
    properties = {key.replace("__", ":"): value for key, value in properties.items()}
    shape = shapely.geometry.mapping(shapely.box(*box))
    item = pystac.Item(name, shape, list(box), time, properties, collection=collection)
    for key in keys:
        item.add_asset(key, pystac.Asset(f"/{name}/{key}.tif"))
    return item


def names(items, **options):
    return [item.id for item in newest_first(items, **options)]


PROCESSED = {
    "processing:datetime": (
        {"processing__datetime": "2022-01-08T00:00:00Z"},
        {"processing__datetime": "2023-05-01T00:00:00+02:00"},
    ),
    "before updated": (
        {"processing__datetime": "2022-01-08T00:00:00Z", "updated": "2024-01-01T00:00:00Z"},
        {"processing__datetime": "2023-01-08T00:00:00Z", "updated": "2023-02-01T00:00:00Z"},
    ),
    "baseline": ({"s2__processing_baseline": "03.01"}, {"s2__processing_baseline": "05.00"}),
    "baseline of two digits": ({"s2__processing_baseline": "02.14"}, {"s2__processing_baseline": "05.09"}),
    "version": ({"processing__version": "9.2"}, {"processing__version": "10.0"}),
    "generation": ({"s2__generation_time": "2022-01-07T10:00:00.5Z"}, {"s2__generation_time": "2022-08-01T10:00:00Z"}),
    "product id": (
        {"title": "S2B_MSIL2A_20220107T062205_N0301_R048_T42TUM_20220107T082009"},
        {"title": "S2B_MSIL2A_20220107T062205_N0301_R048_T42TUM_20221007T082009"},
    ),
    "updated": ({"updated": "2022-02-01T00:00:00Z"}, {"updated": "2022-03-01T00:00:00Z"}),
    "created": ({"created": "2022-02-01T00:00:00Z"}, {"created": "2022-03-01T00:00:00Z"}),
}  # fmt: skip


@pytest.mark.parametrize("case", PROCESSED)
def test_newest_processing_is_first(case):
    old, new = (item_of(name, **properties) for name, properties in zip(("old", "new"), PROCESSED[case], strict=True))
    other = item_of("other", box=(12, 50, 13, 51))
    assert names([old, other, new]) == ["new", "other", "old"]
    assert names([new, other, old]) == ["new", "other", "old"]
    assert names([other, old, new], deduplicate=True) == ["other", "new"]


def test_ids_of_landsat_tell_the_processing():
    ids = ["LC08_L2SP_028030_20200114_20200121_02_T1", "LC08_L2SP_028030_20200114_20200824_02_T1"]
    assert names([item_of(name) for name in ids]) == ids[::-1]


DISTINCT = {
    "time": {"time": WHEN + timedelta(seconds=25)},
    "place": {"box": (10.9, 50, 11.9, 51)},
    "complementary parts": {"box": (10.6, 50, 11.6, 51)},
    "cell": {"grid__code": "MGRS-32UPU"},
    "platform": {"platform": "sentinel-2b"},
    "collection": {"collection": "other"},
    "assets": {"keys": ("tmax",)},
}  # fmt: skip


@pytest.mark.parametrize("case", DISTINCT)
def test_other_acquisitions_are_kept_in_order(case):
    options = {"platform": "sentinel-2a", "grid__code": "MGRS-32UNU"} | DISTINCT[case]
    first = item_of("a", updated="2022-01-01T00:00:00Z", platform="sentinel-2a", grid__code="MGRS-32UNU")
    assert names([first, item_of("b", updated="2023-01-01T00:00:00Z", **options)], deduplicate=True) == ["a", "b"]


def test_times_and_footprints_may_differ_slightly():
    a = item_of("a", updated="2022-01-01T00:00:00Z")
    b = item_of("b", updated="2023-01-01T00:00:00Z", time=WHEN + timedelta(milliseconds=700), box=(10, 50, 11.05, 51))
    assert names([a, b], deduplicate=True) == ["b"]


def test_items_without_time_or_geometry_are_kept():
    a, b = item_of("a"), item_of("b")
    a.geometry = b.geometry = a.bbox = b.bbox = None
    c, d = item_of("c"), item_of("d")
    c.datetime = d.datetime = None
    assert names([a, b, c, d], deduplicate=True) == ["a", "b", "c", "d"]


def test_equal_items_without_dates_keep_their_order():
    assert names([item_of("a"), item_of("b"), item_of("c")]) == ["a", "b", "c"]
    assert names([item_of("a"), item_of("b"), item_of("c")], deduplicate=True) == ["a"]


def test_composites_take_the_newest_processing(write):
    grid = make_grid((6, 7))
    items = [
        make_item(name, {"b": write(np.full((6, 7), value, "uint16"), grid, nodata=0)}, time=WHEN, collection="c",
                  processing__datetime=f"{year}-01-01T00:00:00Z")
        for name, value, year in (("old", 1, 2022), ("newest", 3, 2024), ("new", 2, 2023))
    ]  # fmt: skip
    for composite in ("first", "latest"):
        for groupby in ("mosaic", "day"):
            layer = open_stac(items, composite=composite, groupby=groupby).compute(scheduler="synchronous")
            assert np.unique(layer).tolist() == [3]
    assert open_stac(items, groupby=None).values[:, 0, 0, 0].tolist() == [3, 2, 1]
    single = open_stac(items, groupby=None, deduplicate=True)
    assert single.values[:, 0, 0, 0].tolist() == [3]
    assert np.unique(open_stac(items, composite="mean", deduplicate=True)).tolist() == [3]


def test_overlap_of_boxes_is_that_of_geometries():
    a, b = np.random.default_rng(0).integers(0, 12, (2, 300, 4)).astype(float)  # in any order of corners
    polygons = [shapely.box(*boxes.T) for boxes in (a, b)]
    shared = shapely.area(shapely.intersection(*polygons))
    united = shapely.area(shapely.union(*polygons))
    real = united > 0
    assert 50 < np.count_nonzero(shared) < 250
    np.testing.assert_allclose(_overlap_of_boxes(a, b)[real], shared[real] / united[real], rtol=1e-12)
