"""Drawn values have the properties that the docstrings of the strategies state."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.oracles import source_coordinates
from support.strategies import (
    AREAS,
    dtypes,
    grid_pairs,
    grids,
    masks,
    nodata_rasters,
    rasters,
    shapes,
    windows,
)

quick = settings(
    max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@quick
@given(grid_pairs())
def test_pairs_project_into_each_other(pair):
    col, row = source_coordinates(pair.src, pair.dst)
    assert np.isfinite(col).any()
    assert np.isfinite(row).any()


@quick
@given(grid_pairs(shape=st.just((30, 30)), south_up=False, rotated=False))
def test_pairs_meet_at_their_scale(pair):
    col, row = source_coordinates(pair.src, pair.dst)
    assert (col.min(), row.min()) < (31, 31)
    assert col.max() > -1 - pair.scale
    step = np.hypot(np.diff(col, axis=1)[:, :-1], np.diff(row, axis=1)[:, :-1]).mean()
    assert 0.4 * pair.scale < step < 2.5 * pair.scale


@quick
@given(grids(crs="EPSG:5070", south_up=False, rotated=False))
def test_plain_grids_are_north_up(grid):
    assert (grid.affine.b, grid.affine.d) == (0, 0)
    assert grid.affine.e < 0 < grid.affine.a


def test_every_kind_is_drawn():
    drawn_kinds = set()

    @settings(quick, max_examples=300)
    @given(grid_pairs(), windows((20, 20)))
    def draw(pair, window):
        drawn_kinds.update({str(pair.src.crs), "south-up"} if pair.src.affine.e > 0 else {str(pair.src.crs)})
        drawn_kinds.update({"rotated"} if pair.dst.affine.b else ())
        drawn_kinds.update({"several CRSs"} if pair.src.crs != pair.dst.crs else {"one CRS"})
        drawn_kinds.update({"coarser"} if pair.scale > 2 else {"finer"} if pair.scale < 0.5 else ())
        row, _, height, _ = window
        drawn_kinds.update({"over both edges"} if row < 0 and row + height > 20 else {"outside"} if row >= 20 else ())

    draw()
    kinds = {"south-up", "rotated", "several CRSs", "one CRS", "coarser", "finer", "over both edges", "outside"}
    assert {*AREAS, *kinds} <= drawn_kinds


@quick
@given(windows((20, 30), over=0))
def test_windows_stay_inside_if_asked(window):
    row, col, height, width = window
    assert 0 <= row < row + height <= 20
    assert 0 <= col < col + width <= 30


@quick
@given(st.data())
def test_rasters_hold_nodata_only_where_not_valid(data):
    shape = data.draw(shapes())
    values, valid, nodata = data.draw(nodata_rasters((2, *shape)))
    held = np.isnan(values) if np.isnan(nodata) else values == nodata
    np.testing.assert_array_equal(held, np.broadcast_to(~valid, values.shape))


@quick
@given(st.data())
def test_shapes_and_dtypes(data):
    shape, kind = data.draw(shapes(2, 9)), data.draw(dtypes(floats=False))
    values = data.draw(rasters(shape, dtype=kind))
    assert (values.shape, values.dtype) == (shape, kind)
    assert data.draw(masks(shape)).shape == shape
