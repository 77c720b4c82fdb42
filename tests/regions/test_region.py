"""Regions and plans: rectangles of a grid, moved to another one, and tables of windows as values."""

import numpy as np
import pytest
import xarray as xr

from geoxt.alignment import align
from geoxt.errors import GridError, OverlapError
from geoxt.grid import coordinates, window_grid
from geoxt.layers import open_cogs
from geoxt.regions.region import region_of, shares
from geoxt.regions.valid_footprint import footprint_of
from geoxt.samplers import Region, WindowSequence
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((40, 50))


def test_a_region_counts_its_pixels():
    region = Region(GRID, (Window(0, 0, 4, 5), Window(10, 10, 2, 2)))
    assert (len(region), region.pixels, region.geometry.area) == (2, 24, 24)


def test_a_region_moves_to_a_part_of_its_grid_and_is_cut():
    region = Region(GRID, (Window(0, 0, 20, 20), Window(30, 40, 10, 10)))
    moved = region.on(window_grid(GRID, Window(10, 5, 20, 20)))
    assert moved.windows == (Window(0, 0, 10, 15),)
    with pytest.raises(GridError, match=r"do not coincide. Split the layer you sample"):
        region.on(make_grid((40, 50), left=600_010))


def test_the_share_of_a_window_is_its_area_in_the_footprint(tmp_path):
    path = write_cog(tmp_path / "a.tif", np.ones((40, 50), "uint8"), grid=GRID, tiled=False)
    moved = align(open_cogs(path), make_grid((40, 50), left=600_000 - 600))
    area = footprint_of(moved)
    assert area.bounds == (20, 0, 50, 40)
    assert shares([Window(0, 0, 10, 10), Window(0, 15, 10, 10), Window(5, 25, 10, 10)], area).tolist() == [0, 0.5, 1]


def test_layers_without_a_place_in_common_are_refused(tmp_path):
    path = write_cog(tmp_path / "a.tif", np.ones((40, 50), "uint8"), grid=GRID, tiled=False)
    layer = open_cogs(path, grid=make_grid((40, 50), left=650_000))
    with pytest.raises(OverlapError, match=r"Cannot sample: no place lies in the footprints.*Check"):
        footprint_of(layer)


def test_without_a_region_it_is_the_whole_grid():
    layer = xr.DataArray(np.zeros((40, 50)), dims=("y", "x"), coords=coordinates(GRID))
    assert region_of(layer, None).windows == (Window(0, 0, 40, 50),)


def test_plans_are_immutable_values():
    table = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    plan = WindowSequence({"": GRID}, table)
    assert list(plan) == [Window(0, 1, 2, 3), Window(4, 5, 6, 7)]
    assert plan == WindowSequence({"": GRID}, table.copy())
    assert plan != WindowSequence({"": make_grid((40, 51))}, table.copy())
    with pytest.raises(ValueError, match="read-only"):
        plan.table[0, 0] = 9
    assert "2 windows" in repr(plan)
