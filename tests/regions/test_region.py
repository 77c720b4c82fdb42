"""Regions and window sequences as values: pixels, other grids, coverage by footprints, immutability."""

import numpy as np
import pytest
import xarray as xr

from geoxt.alignment import align
from geoxt.errors import GridError, OverlapError
from geoxt.grid import coordinates, window_grid
from geoxt.layers import open_cogs
from geoxt.regions.region import Region, covered_fractions, region_of
from geoxt.regions.valid_footprint import footprint_of
from geoxt.samplers import GridRegion, WindowSequence
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((40, 50))


def test_region_counts_its_pixels():
    region = GridRegion(GRID, (Window(0, 0, 4, 5), Window(10, 10, 2, 2)))
    assert (len(region), region.pixels, region.geometry.area) == (2, 24, 24)


def test_region_of_nodes_names_the_node_of_each_window():
    other = make_grid((40, 50), crs="EPSG:32616")
    region = Region({"west": GridRegion(GRID, (Window(0, 0, 4, 5),)), "east": GridRegion(other, (Window(1, 1, 2, 2),))})
    assert list(region) == [Window(0, 0, 4, 5, node="west"), Window(1, 1, 2, 2, node="east")]
    assert (len(region), region.pixels, region.grids) == (2, 24, {"west": GRID, "east": other})
    layer = xr.DataArray(np.zeros((40, 50)), dims=("y", "x"), coords=coordinates(GRID))
    assert region_of(layer, Region({"": region.nodes["west"]})) == region.nodes["west"]
    with pytest.raises(GridError, match=r"region of the nodes \['west', 'east'\] on one grid"):
        region_of(layer, region)


def test_region_on_part_of_its_grid_is_clipped():
    region = GridRegion(GRID, (Window(0, 0, 20, 20), Window(30, 40, 10, 10)))
    clipped = region.on(window_grid(GRID, Window(10, 5, 20, 20)))
    assert clipped.windows == (Window(0, 0, 10, 15),)
    with pytest.raises(GridError, match=r"do not coincide. Split the layer you sample"):
        region.on(make_grid((40, 50), left=600_010))


def test_covered_fraction_is_the_area_inside_the_footprint(tmp_path):
    path = write_cog(tmp_path / "a.tif", np.ones((40, 50), "uint8"), grid=GRID, tiled=False)
    aligned = align(open_cogs(path), make_grid((40, 50), left=600_000 - 600))
    footprint = footprint_of(aligned)
    assert footprint.bounds == (20, 0, 50, 40)
    windows = [Window(0, 0, 10, 10), Window(0, 15, 10, 10), Window(5, 25, 10, 10)]
    assert covered_fractions(windows, footprint).tolist() == [0, 0.5, 1]


def test_layers_without_overlap_raise(tmp_path):
    path = write_cog(tmp_path / "a.tif", np.ones((40, 50), "uint8"), grid=GRID, tiled=False)
    layer = open_cogs(path, grid=make_grid((40, 50), left=650_000))
    with pytest.raises(OverlapError, match=r"Cannot sample: the footprints of the layers do not overlap.*Check"):
        footprint_of(layer)


def test_default_region_is_the_whole_grid():
    layer = xr.DataArray(np.zeros((40, 50)), dims=("y", "x"), coords=coordinates(GRID))
    assert region_of(layer, None).windows == (Window(0, 0, 40, 50),)


def test_window_sequences_are_immutable_values():
    table = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    windows = WindowSequence({"": GRID}, table)
    assert list(windows) == [Window(0, 1, 2, 3), Window(4, 5, 6, 7)]
    assert windows == WindowSequence({"": GRID}, table.copy())
    assert windows != WindowSequence({"": make_grid((40, 51))}, table.copy())
    with pytest.raises(ValueError, match="read-only"):
        windows.table[0, 0] = 9
    assert "2 windows" in repr(windows)
