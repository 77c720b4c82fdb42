"""Windows around points: the point lies in the centre pixel, and each window has the index of its point."""

import numpy as np
import pytest
import shapely
import xarray as xr

from geoxt.crs import transformer
from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, full_window, grid_of
from geoxt.samplers import GridRegion, PointSampler
from geoxt.samplers.points import pixels_of
from geoxt.testing import make_grid
from geoxt.windows import Window

GRID = make_grid((60, 80), degrees=20)
POSITIONS = np.array([(5.5, 7.2), (0.1, 0.2), (59.9, 79.9), (30, 40), (-3, 4)])
POINTS = np.array([GRID.affine @ (col, row) for row, col in POSITIONS])


def make_layer():
    return xr.DataArray(np.zeros((60, 80), "uint8"), dims=("y", "x"), coords=coordinates(make_grid((60, 80))))


def test_pixels_of_points_in_any_crs():
    assert pixels_of(POINTS, GRID).tolist() == np.floor(POSITIONS).astype(int).tolist()
    lonlat = np.c_[transformer(GRID.crs, make_grid((2, 2), crs="EPSG:4326").crs).transform(*POINTS.T)]
    assert pixels_of((lonlat, "EPSG:4326"), GRID)[0].tolist() == [5, 7]
    gpd = pytest.importorskip("geopandas")
    frame = gpd.GeoDataFrame(geometry=[*shapely.points(POINTS[:2]), shapely.Point(POINTS[2]).buffer(1)], crs=GRID.crs)
    assert pixels_of(frame.to_crs(4326), GRID).tolist()[:1] == [[5, 7]]
    assert pixels_of(frame.geometry, GRID).tolist() == [[5, 7], [0, 0], [59, 79]]


def test_point_lies_in_the_centre_pixel():
    grid = make_grid((60, 80))
    points = np.array([grid.affine @ (col, row) for row, col in POSITIONS])
    sampler = PointSampler(make_layer(), points=points, size=(4, 7), min_covered=0)
    assert sampler.index.tolist() == [0, 1, 2, 3]
    assert [(w.row + 2, w.col + 3) for w in sampler] == np.floor(POSITIONS[:4]).astype(int).tolist() or [
        [w.row + 2, w.col + 3] for w in sampler
    ] == np.floor(POSITIONS[:4]).astype(int).tolist()
    inside = PointSampler(make_layer(), points=points, size=(4, 7), placement="inside")
    assert all(full_window(grid_of(make_layer())).contains(w) for w in inside)
    region = GridRegion(grid, (Window(0, 0, 10, 10),))
    assert PointSampler(make_layer(), points=points, size=4, region=region, min_covered=0).index.tolist() == [0, 1]
    assert PointSampler(make_layer(), points=points, size=4, min_covered=0.9).index.tolist() == [0, 3]


def test_weights_and_jitter_of_points():
    grid = make_grid((60, 80))
    points = np.array([grid.affine @ (col, row) for row, col in ((20, 20), (30, 30), (40, 40))])
    sampler = PointSampler(make_layer(), points=points, size=5, length=3000, weights=np.array([1, 2, 0]), jitter=2)
    assert abs(np.bincount(sampler.index, minlength=3) / 3000 - (1 / 3, 2 / 3, 0)).max() < 0.03
    steps = sampler.table[:, :2] + 2 - pixels_of(points, grid)[sampler.index]
    assert len(np.unique(steps, axis=0)) == 25
    assert abs(steps).max() == 2
    assert (sampler.at(1).index != sampler.index).any()


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((3, 3)), {}, r"array of shape \(3, 3\). Pass points= x and y"),
        ([(np.nan, 1)], {}, r"Cannot place point 0 on the grid"),
        ([(0, 0)], {}, r"around any of 1 points: 0 lie in the region.*Pass points="),
        ([(600_100, 4_549_900)], {"jitter": -1}, r"jitter=-1"),
        ([(600_100, 4_549_900)], {"weights": np.ones(1)}, r"and length="),
        ([(600_100, 4_549_900)], {"weights": np.zeros(1), "length": 2}, r"weights from 0 to 0. Pass weights="),
    ],
)
def test_invalid_points_raise(points, options, message):
    with pytest.raises((InputError, OverlapError), match=message):
        PointSampler(make_layer(), points=points, size=4, **options)
