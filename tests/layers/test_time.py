"""Time steps: which scenes share one, in which order, and when it is."""

from datetime import datetime

import numpy as np
import pytest

from geoxt.errors import InputError
from geoxt.layers.time import ordered, steps_of, to_datetime64
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
def test_scenes_share_a_step(groupby, steps, times):
    found, when = steps_of(SCENES, groupby)
    assert found == steps
    assert np.array_equal(when, np.array(times, "datetime64[ns]"))
    assert when.dtype == "datetime64[ns]"


def test_a_mosaic_has_no_time_and_keeps_the_order():
    assert steps_of(SCENES, "mosaic") == (((0, 1, 2, 3),), None)
    assert steps_of([scene("a", None)], "mosaic") == (((0,),), None)


def test_the_sun_goes_by_the_longitude_of_the_scene():
    late = "2020-02-01T13:00"  # past midnight in Fiji (177 E), still the same day in Hawaii
    there = [scene("a", "2020-02-01T11:00", grid=FIJI), scene("b", late, grid=FIJI)]
    assert steps_of(there, "solar_day")[0] == ((0,), (1,))
    assert steps_of([scene("a", "2020-02-01T11:00"), scene("b", late)], "solar_day")[0] == ((0, 1),)


def test_scenes_are_ordered_by_what_a_composite_goes_by():
    steps = ((1, 3, 2), (0,))
    assert ordered(SCENES, steps, "latest") == (((2, 1, 3), (0,)), "first")
    assert ordered(SCENES, steps, "least cloudy") == (((2, 1, 3), (0,)), "first")
    assert ordered(SCENES, steps, "median") == (steps, "median")


def test_the_latest_goes_by_the_end_of_the_interval():
    long = [scene("a", "2020-01-01", end="2020-12-31"), scene("b", "2020-06-01")]
    assert ordered(long, ((0, 1),), "latest")[0] == ((0, 1),)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: steps_of([scene("x", None)], "day"), "group scenes by day: scene 'x' has no date. Pass groupby"),
        (lambda: steps_of(SCENES, "fortnight"), "Cannot group scenes by 'fortnight': .*frequency such as 'MS'"),
        (lambda: ordered([scene("x", None)], ((0,),), "latest"), "scene 'x' has no date"),
        (lambda: ordered([scene("x", "2020-01-01")], ((0,),), "least cloudy"), "'x' does not state its cloud cover"),
        (lambda: ordered(SCENES, ((0,),), "best"), "Cannot compose scenes by 'best'. Pass composite=, one of 'first'"),
    ],
)
def test_what_cannot_be_grouped_says_why(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_moments_are_utc():
    assert to_datetime64(None) is None
    naive, aware = np.datetime64("2020-01-01T01:00", "ns"), "2020-01-01T02:00+01:00"
    assert (
        to_datetime64(datetime.fromisoformat(aware))
        == to_datetime64(datetime.fromisoformat("2020-01-01T01:00"))
        == naive
    )
