"""Values of windows return to their grid, at any resolution."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoxt.bridge import loader, to_xarray
from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.testing import make_grid
from geoxt.windows import Window

GRID = make_grid((40, 50))
RAMP = np.arange(2000.0).reshape(40, 50)


def cut(windows):
    return np.stack([RAMP[w.row : w.stop[0], w.col : w.stop[1]] for w in windows])


@given(st.lists(st.builds(Window, st.integers(0, 30), st.integers(0, 40), st.just(10), st.just(10)), min_size=1))
def test_values_return_to_their_windows(windows):
    array = to_xarray(cut(windows), windows, like=GRID)
    top, left = min(w.row for w in windows), min(w.col for w in windows)
    expected = np.full(RAMP.shape, np.nan)
    for w in windows:
        expected[w.row : w.stop[0], w.col : w.stop[1]] = RAMP[w.row : w.stop[0], w.col : w.stop[1]]
    rows, cols = array.shape
    assert np.array_equal(array.values, expected[top : top + rows, left : left + cols], equal_nan=True)
    assert grid_of(array).affine == GRID[top : top + rows, left : left + cols].affine
    assert np.isnan(array.attrs["_FillValue"])


def test_values_return_by_the_transforms_of_a_batch(ds):
    sampler = GridSampler(ds, size=32, stride=32, edge="shift")
    batches = list(loader(ds, sampler, batch_size=len(sampler)))
    image = to_xarray(batches[0]["image"], batches[0])
    assert grid_of(image) == grid_of(ds.image)
    assert np.array_equal(image.values, ds.image.values)
    again = to_xarray(batches[0]["image"], sampler)
    assert again.identical(image)
    part = next(iter(loader(ds, RandomSampler(ds, size=16, length=3, seed=1), batch_size=3)))
    mask = to_xarray(part["mask"], part, fill=255, legend=Legend.of(ds.mask))
    inside = ds.mask.sel(y=mask.y, x=mask.x).values
    assert np.array_equal(mask.values[mask.values != 255], inside[mask.values != 255])
    assert mask.attrs["flag_meanings"] == ds.mask.attrs["flag_meanings"]
    assert mask.attrs["_FillValue"] == 255


def test_first_of_overlapping_windows_wins():
    windows = [Window(0, 0, 4, 4), Window(0, 2, 4, 4)]
    array = to_xarray(torch.stack([torch.zeros(4, 4), torch.ones(4, 4)]), windows, like=GRID)
    assert array.values.tolist() == [[0] * 4 + [1] * 2] * 4


@pytest.mark.parametrize(("side", "pixel"), [(2, 4), (16, 0.5)])
def test_resolution_follows_from_the_size_of_values(side, pixel):
    windows = [Window(0, 0, 8, 8), Window(8, 16, 8, 8)]
    values = torch.arange(2 * 3 * side * side, dtype=torch.float64).reshape(2, 3, side, side)
    array = to_xarray(values, windows, like=GRID)
    assert array.dims == ("band", "y", "x")
    assert grid_of(array).affine.a == GRID.affine.a * pixel
    assert (array.x[0] - grid_of(array).affine.a / 2).item() == GRID.affine.c
    assert np.array_equal(array.values[:, :side, :side], values[0])
    assert np.array_equal(array.values[:, side:, 2 * side :], values[1])
    assert np.isnan(array.values[:, :side, 2 * side :]).all()


def test_time_dimension_precedes_band():
    assert to_xarray(np.zeros((1, 5, 2, 4, 4)), [Window(0, 0, 4, 4)], like=GRID).dims == ("time", "band", "y", "x")


def test_values_without_a_grid_raise(ds):
    window = [Window(0, 0, 4, 4)]
    batch = {"transform": torch.zeros(1, 6), "bounds": torch.zeros(1, 4), "crs": ["EPSG:32615"]}
    turned = next(iter(loader(ds, [Window(0, 0, 4, 4), Window(9, 9, 4, 4)], batch_size=2)))
    turned["transform"][1, 2] += 7
    cases = [
        (np.zeros((2, 4, 4)), window, {"like": GRID}, InputError, "2 values on 1 windows"),
        (np.zeros((4, 4)), window, {"like": GRID}, InputError, "shape \\(4, 4\\)"),
        (np.zeros((1, 4, 4)), window, {}, InputError, "Pass like="),
        (np.zeros((1, 3, 3)), [Window(1, 0, 4, 4)], {"like": GRID}, None, ""),
        (np.zeros((2, 2, 2)), [Window(0, 0, 4, 4), Window(1, 0, 4, 4)], {"like": GRID}, GridError, "between"),
        (np.zeros((2, 4, 4), int), [*window, Window(9, 9, 4, 4)], {"like": GRID}, InputError, "Pass fill="),
        (np.zeros((2, 4, 4)), [*window, Window(0, 0, 5, 4)], {"like": GRID}, InputError, "sizes"),
        (np.zeros((1, 4, 4)), {"crs": []}, {}, InputError, "has no 'transform'"),
        (np.zeros((1, 4, 4)), batch, {}, InputError, "'<layer>_valid'"),
        (np.zeros((2, 4, 4)), turned, {}, GridError, "lies 9.*columns"),
        (np.zeros((2, 4, 4)), turned | {"crs": ["EPSG:1", "EPSG:2"]}, {}, GridError, "One CRS|one CRS"),
    ]
    for values, windows, options, error, text in cases:
        if error is None:
            assert to_xarray(values, windows, **options).shape == (3, 3)
            continue
        with pytest.raises(error, match=text):
            to_xarray(values, windows, **options)


def test_like_accepts_a_grid(ds):
    assert isinstance(grid_of(ds.image), GeoBox)
    values = np.zeros((1, 4, 4))
    assert to_xarray(values, [Window(1, 2, 4, 4)], like=ds).identical(
        to_xarray(values, [Window(1, 2, 4, 4)], like=grid_of(ds.image))
    )
