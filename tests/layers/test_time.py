"""Time steps: grouping of scenes, order within a step, and its time."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from geoxt.errors import InputError
from geoxt.layers.time import sort_steps, steps_of, to_datetime64
from geoxt.source import Asset, Scene
from geoxt.testing import make_grid

HAWAII = make_grid((10, 10), crs="EPSG:32604", left=600_000, top=2_300_000)
FIJI = make_grid((10, 10), crs="EPSG:32760", left=600_000, top=8_000_000)


def scene(name, start, *, grid=HAWAII, end=None, cloud=None):
    asset = Asset(href=f"{name}.tif", band=1, grid=grid, dtype="uint8")
    begin, finish = (None if t is None else np.datetime64(t, "ns") for t in (start, end or start))
    return Scene(id=name, assets=(asset,), start=begin, end=finish, cloud_cover=cloud)


TIMES = ("2020-03-02T21:00", "2020-02-01T22:00", "2020-02-02T02:00", "2020-02-01T22:00")
SCENES = [scene(f"s{n}", t, cloud=c) for n, (t, c) in enumerate(zip(TIMES, (5, 50, 20, 80), strict=True))]


@pytest.mark.parametrize(
    ("groupby", "steps", "times"),
    [
        (None, ((1,), (3,), (2,), (0,)), (TIMES[1], TIMES[1], TIMES[2], TIMES[0])),
        ("time", ((1, 3), (2,), (0,)), (TIMES[1], TIMES[2], TIMES[0])),
        ("day", ((1, 3), (2,), (0,)), (TIMES[1], TIMES[2], TIMES[0])),
        ("solar_day", ((1, 3, 2), (0,)), (TIMES[1], TIMES[0])),  # noon in Hawaii is 22 h UTC
        ("MS", ((1, 3, 2), (0,)), ("2020-02-01", "2020-03-01")),
        ("7D", ((1, 3, 2), (0,)), ("2020-02-01", "2020-02-29")),
    ],
)
def test_scenes_are_grouped_into_steps(groupby, steps, times):
    grouped, step_times = steps_of(SCENES, groupby)
    assert grouped == steps
    assert np.array_equal(step_times, np.array(times, "datetime64[ns]"))
    assert step_times.dtype == "datetime64[ns]"


def test_mosaic_has_no_time_and_preserves_order():
    assert steps_of(SCENES, "mosaic") == (((0, 1, 2, 3),), None)
    assert steps_of([scene("a", None)], "mosaic") == (((0,),), None)


def test_solar_day_follows_the_longitude():
    late = "2020-02-01T13:00"  # past midnight in Fiji (177 E), still the same day in Hawaii
    fiji_scenes = [scene("a", "2020-02-01T11:00", grid=FIJI), scene("b", late, grid=FIJI)]
    assert steps_of(fiji_scenes, "solar_day")[0] == ((0,), (1,))
    assert steps_of([scene("a", "2020-02-01T11:00"), scene("b", late)], "solar_day")[0] == ((0, 1),)


def test_composite_orders_scenes():
    steps = ((1, 3, 2), (0,))
    assert sort_steps(SCENES, steps, "latest") == (((2, 1, 3), (0,)), "first")
    assert sort_steps(SCENES, steps, "least cloudy") == (((2, 1, 3), (0,)), "first")
    assert sort_steps(SCENES, steps, "median") == (steps, "median")


def test_latest_compares_interval_ends():
    long = [scene("a", "2020-01-01", end="2020-12-31"), scene("b", "2020-06-01")]
    assert sort_steps(long, ((0, 1),), "latest")[0] == ((0, 1),)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: steps_of([scene("x", None)], "day"), "group scenes by day: scene 'x' has no date. Pass groupby"),
        (lambda: steps_of(SCENES, "fortnight"), "Cannot group scenes by 'fortnight': .*frequency such as 'MS'"),
        (lambda: sort_steps([scene("x", None)], ((0,),), "latest"), "scene 'x' has no date"),
        (lambda: sort_steps([scene("x", "2020-01-01")], ((0,),), "least cloudy"), "'x' does not state its cloud cover"),
        (
            lambda: sort_steps(SCENES, ((0,),), "best"),
            "Cannot compose scenes by 'best'. Pass composite=, one of 'first'",
        ),
    ],
)
def test_impossible_groups_and_orders_raise(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_datetimes_are_utc():
    assert to_datetime64(None) is None
    naive, aware = np.datetime64("2020-01-01T01:00", "ns"), "2020-01-01T02:00+01:00"
    assert (
        to_datetime64(datetime.fromisoformat(aware))
        == to_datetime64(datetime.fromisoformat("2020-01-01T01:00"))
        == naive
    )


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=-9, minutes=-30)), ZoneInfo("Europe/Berlin")])
@pytest.mark.parametrize("year", [1, 1677, 1678, 1970, 2024, 2261])
def test_time_in_utc_is_that_of_pandas(year, zone):
    time = datetime(year, 10, 27, 2, 30, 1, 123456, zone)
    stamp = pd.Timestamp(time) if zone is None else pd.Timestamp(time).tz_convert(None)
    assert to_datetime64(time) == np.datetime64(stamp, "ns")
    assert to_datetime64(time).dtype == "datetime64[ns]"
