"""Splits by region, column and time: parts are disjoint, and samplers stay in them."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, grid_of
from geoxt.samplers import (
    GridRegion,
    GridSampler,
    PointSampler,
    RandomBatchSampler,
    RandomSampler,
    Region,
    StratifiedSampler,
    TripletSampler,
    time_periods,
    time_steps,
)
from geoxt.splits import Split, by_block, by_column, by_region, by_time, check
from geoxt.testing import make_grid
from geoxt.windows import Window

GRID = make_grid((80, 100))
LEFT, TOP = GRID.affine.c, GRID.affine.f
STAMPS = pd.date_range("2021-01-01", periods=24, freq="15D")
POINTS = np.random.default_rng(0).random((60, 2)) * (3000, -2400) + (LEFT, TOP)


def make_layer(**dims):
    coords = {**({"time": STAMPS[: dims["time"]]} if dims else {}), **coordinates(GRID)}
    return xr.DataArray(np.zeros((*dims.values(), 80, 100), "uint8"), dims=(*dims, "y", "x"), coords=coords)


def pixel_box(left, top, right, bottom):
    return shapely.box(LEFT + 30 * left, TOP - 30 * bottom, LEFT + 30 * right, TOP - 30 * top)


def board(windows):
    out = np.zeros((80, 100), bool)
    for w in windows:
        shared = w.intersect(Window(0, 0, 80, 100))
        out[shared.within(Window(0, 0, 80, 100))] = True
    return out


def samplers(layer, region):
    return [
        RandomSampler(layer, size=6, length=40, region=region),
        RandomBatchSampler(layer, size=6, length=40, batch_size=4, region=region),
        GridSampler(layer, size=6, region=region),
        TripletSampler(layer, size=6, length=10, radius=6, region=region),
        StratifiedSampler(layer, size=6, length=40, labels=layer, region=region),
        PointSampler(layer, size=6, points=POINTS, length=60, jitter=9, placement="inside", region=region),
    ]


@settings(max_examples=8)
@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 80)), min_size=3, max_size=3, unique=True), st.integers(0, 3)
)
def test_polygons_and_their_windows_share_no_pixel(seeds, buffer):
    """Voronoi pieces of three points; the oracle is a board of pixels."""
    corners = shapely.MultiPoint([(x, y) for x, y in seeds])
    pieces = shapely.get_parts(shapely.voronoi_polygons(corners, extend_to=shapely.box(-20, -20, 120, 100)))
    if len(pieces) < 3:
        return
    pieces = [shapely.transform(p, lambda c: c * (30, -30) + (LEFT, TOP)) for p in pieces]
    layer = make_layer()
    try:
        split = by_region(layer, train=pieces[0], val=pieces[1], test=pieces[2], buffer=buffer)
    except OverlapError:
        return  # a piece too thin for its buffer
    check(split)
    parts = [board(region) for region in split.parts.values()]
    assert (sum(p.astype(int) for p in parts) <= 1).all()
    if buffer == 0:
        assert sum(p.sum() for p in parts) == 8000
    for n, region in enumerate(split.parts.values()):
        enlarged = board([w.pad(2 * buffer) for w in region])
        assert not any((enlarged & other).any() for m, other in enumerate(parts) if m != n)
        try:
            drawn = [w for sampler in samplers(layer, region) for w in sampler]
        except (InputError, OverlapError):
            continue  # no window fits
        assert not (board(drawn) & ~parts[n]).any()


def test_overlapping_regions_raise():
    layer = make_layer()
    with pytest.raises(InputError, match=r"train and test share 200 pixels. Pass regions that do not overlap"):
        by_region(layer, train=pixel_box(0, 0, 40, 80), test=pixel_box(30, 60, 60, 100))
    with pytest.raises(OverlapError, match=r"region given as val"):
        by_region(layer, train=pixel_box(0, 0, 40, 80), val=pixel_box(300, 0, 310, 80))
    split = by_region(layer, train=pixel_box(0, 0, 40, 80), test=GridRegion(GRID, (Window(0, 50, 80, 50),)))
    assert (len(split.val), split.train.pixels, split.test.pixels) == (0, 3200, 4000)


def test_column_of_parts_or_of_groups():
    gpd = pytest.importorskip("geopandas")
    fields = [pixel_box(10 * i, 0, 10 * i + 10, 80) for i in range(10)]
    rows = {"part": ["train"] * 6 + ["val"] * 2 + ["test"] * 2, "farm": list("abcdeabcde"), "year": [2020, 2021] * 5}
    frame = gpd.GeoDataFrame(rows, geometry=fields, crs=GRID.crs)
    layer = make_layer()
    by_name = by_column(layer, frame, "part")
    assert [r.pixels for r in by_name.parts.values()] == [4800, 1600, 1600]
    by_group = by_column(layer, frame.to_crs(4326), "farm", seed=3)
    owner = {name: {i for i in range(10) if board(r)[40, 10 * i + 5]} for name, r in by_group.parts.items()}
    assert sorted(map(len, owner.values())) == [2, 2, 6]
    assert all(
        {i % 5 for i in farms} == {(i + 5) % 10 % 5 for i in farms} and len(farms) % 2 == 0 for farms in owner.values()
    )
    named = by_column(layer, frame, "year", parts={"train": [2020], "test": [2021]}, buffer=1)
    assert (len(named.val), named.train.nodes[""].margin) == (0, 1)
    for options, message in (
        ({"column": "county"}, r"column 'county': the table has \['part'"),
        ({"column": "year", "parts": {"training": [2020]}}, r"'training' is not a part"),
        ({"column": "year", "parts": {"train": [1999]}}, r"1999 is not one of its values \[2020, 2021\]"),
        ({"column": "year"}, r"2 values of 'year'.*a part gets none. Pass parts="),
        ({"column": "farm", "fractions": (1, 1, 1)}, r"three numbers that add up to 1"),
    ):
        with pytest.raises(InputError, match=message):
            by_column(layer, frame, **options)


@given(st.integers(2, 24), st.integers(0, 60), st.data())
def test_parts_by_time_share_no_step_and_keep_the_gap(count, gap, data):
    layer = make_layer(time=count)
    cuts = sorted(data.draw(st.lists(st.integers(0, 360), min_size=2, max_size=2)))
    days = [pd.Timestamp("2021-01-01") + pd.Timedelta(d, "D") for d in (0, *cuts, 365)]
    moment = pd.Timedelta(1, "s")
    intervals = [(a, b - moment) for a, b in pairwise(days) if b - moment >= a]
    if len(intervals) < 2:
        return
    names = dict(zip(("train", "val", "test"), intervals, strict=False))
    try:
        split = by_time(layer, **names, gap=f"{gap}D")
    except InputError as error:
        assert "has no time step left" in str(error)  # noqa: PT017
        return
    check(split)
    regions = {name: region.nodes[""] for name, region in split.parts.items()}
    steps = {n: np.array(r.times, "datetime64[ns]") for n, r in regions.items() if r.times}
    for a in steps:
        for b in set(steps) - {a}:
            apart = np.abs(steps[a][:, None] - steps[b]).min()
            assert apart >= max(np.timedelta64(gap, "D"), np.timedelta64(1, "D"))


def test_samplers_take_only_time_steps_of_their_part():
    layer = make_layer(time=24)
    intervals = {"train": ("2021-01", "2021-06"), "val": ("2021-07", "2021-08"), "test": ("2021-09", "2021-12")}
    split = by_time(layer, **intervals, gap="20D")
    for data in (layer, layer.isel(time=slice(3, None)), layer.isel(time=slice(None, None, 2))):
        for name, region in split.parts.items():
            steps = set(np.array(region.nodes[""].times, "datetime64[ns]"))
            for times in (None, time_steps(data, stride=1), time_periods(data, "Q", take=1)):
                if times is not None and name == "val" and times.take:
                    continue  # no quarter lies wholly in it
                windows = RandomSampler(data, size=6, length=40, region=region, times=times)
                drawn = {t for w in windows for t in data.time.to_numpy()[list(w.time)].astype("datetime64[ns]")}
                assert drawn <= steps
            assert {w.time is None for w in GridSampler(data, size=40, region=region)} == {False}
    with pytest.raises(InputError, match=r"has none of the region's .* time steps"):
        RandomSampler(layer.isel(time=[0, 1]), size=6, length=4, region=split.test)


def test_overlapping_intervals_raise():
    layer = make_layer(time=24)
    with pytest.raises(InputError, match=r"val shares 3 time steps with a later part, first 2021-06-30"):
        by_time(layer, train=("2021-01", "2021-03"), val=("2021-04", "2021-07"), test=("2021-06-20", "2021-12"))
    with pytest.raises(InputError, match=r"train from 2020 to 2020 has no time step left"):
        by_time(layer, train=("2020", "2020"), test=("2021", "2021"))
    with pytest.raises(InputError, match=r"gap='-3D'. Pass gap="):
        by_time(layer, train=("2021-01", "2021-03"), gap="-3D")


def test_check_detects_shared_pixels_buffers_and_gaps():
    a, b = GridRegion(GRID, (Window(0, 0, 20, 20),), margin=2), GridRegion(GRID, (Window(0, 23, 20, 20),), margin=2)
    with pytest.raises(InputError, match=r"train and val lie less than their buffers apart, 4 pixels"):
        check(a, b)
    check(a, GridRegion(GRID, (Window(0, 24, 20, 20),), margin=2))
    days = np.array(["2021-01-01", "2021-01-02", "2021-02-01"], "datetime64[ns]")
    first, second, third = (
        GridRegion(GRID, (Window(0, 0, 20, 20),), times=tuple(days[i])) for i in ([0, 1], [1, 2], [2])
    )
    with pytest.raises(InputError, match=r"train and val share 400 pixels"):
        check(first, second)
    check(first, third)
    train, val, test = (Region({"": region}) for region in (first, GridRegion(GRID, ()), third))
    split = Split(train=train, val=val, test=test, gap=np.timedelta64(31, "D"))
    with pytest.raises(InputError, match=r"train and test are 30 days apart, less than the gap of 31"):
        check(split)
    assert grid_of(make_layer()) == by_block(make_layer(), size=20).grid
