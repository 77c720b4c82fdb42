"""One raster onto one window: copied bit for bit if grids coincide, one read of the needed pixels, errors."""

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window as FileWindow
from support import strategies

from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.pixels import reader
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window


class Fetch:
    """Read windows of an array and record them."""

    def __init__(self, values):
        self.values, self.windows = values, []

    def __call__(self, window):
        self.windows.append(window)
        rows, cols = window.within(whole_of(self.values))
        return self.values[:, rows, cols], None


def whole_of(values):
    return Window(0, 0, *values.shape[-2:])


@given(st.integers(-30, 60), st.integers(-30, 60), st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_coinciding_grids_are_copied(rows, cols, data, method):
    values = distinct((2, 40, 50), "float64") + 0.1
    target = make_grid((40, 50), left=600_000 + 30 * cols, top=4_550_000 - 30 * rows)
    window = Window(*data.draw(strategies.windows((40, 50))))
    resampled = resample(Fetch(values), PixelTransform(target, make_grid((40, 50))), window, method)
    shifted = window.shift(rows, cols)
    overlap = shifted.intersect(whole_of(values))
    if overlap is None:
        assert resampled is None
        return
    actual, valid = resampled
    window_part, raster_part = overlap.within(shifted), overlap.within(whole_of(values))
    assert actual.dtype == values.dtype
    assert np.array_equal(actual[:, *window_part], values[:, *raster_part])
    assert valid is None or valid.sum() == 2 * overlap.height * overlap.width


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"tiled": True}, {"tiled": True, "compress": "deflate", "predictor": 2}])
def test_copied_window_equals_rasterio(write, dtype, options):
    grid = make_grid((70, 60))
    path = write(distinct((3, 70, 60), dtype), grid, **options)
    target = make_grid((20, 10), left=600_000 + 300, top=4_550_000 - 900)
    actual, valid = resample(
        lambda need: reader.read(path, [3, 1], need), PixelTransform(target, grid), full_window(target), "bilinear"
    )
    with rasterio.open(path) as file:
        assert np.array_equal(actual, file.read([3, 1], window=FileWindow(10, 30, 10, 20)))
    assert valid is None


@given(strategies.grid_pairs(shape=strategies.shapes(1, 60)), st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_one_read_covers_only_pixels_near_the_window(pair, data, method):
    fetch = Fetch(distinct((1, *pair.src.shape), "float32"))
    transform = PixelTransform(pair.dst, pair.src)
    window = Window(*data.draw(strategies.windows(tuple(pair.dst.shape))))
    resampled = resample(fetch, transform, window, method)
    assert len(fetch.windows) == (0 if resampled is None else 1)
    for read in fetch.windows:
        assert whole_of(fetch.values).contains(read)
        bounds = [np.hypot(window.height, window.width) * s + 4 * max(s, 1) + 4 for s in transform.scale]
        assert pair.src.shape[0] < 8 or read.height <= 2 * bounds[0]
        assert pair.src.shape[1] < 8 or read.width <= 2 * bounds[1]


@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
def test_window_outside_the_raster_reads_no_pixel(method):
    fetch = Fetch(distinct((1, 40, 40), "float32"))
    transform = PixelTransform(make_grid((40, 40), resolution=20.0), make_grid((40, 40)))
    for window in (Window(0, 900, 8, 8), Window(-500, -500, 20, 20), Window(2**26, 0, 4, 4)):
        assert resample(fetch, transform, window, method) is None
    assert fetch.windows == []


def test_unknown_resampling_method_raises():
    transform = PixelTransform(make_grid((40, 40), resolution=20.0), make_grid((40, 40)))
    with pytest.raises(InputError, match=r"Cannot resample by 'spline'\. Pass resampling=, one of nearest"):
        resample(Fetch(distinct((1, 40, 40))), transform, Window(0, 0, 8, 8), "spline")


def test_raster_of_one_pixel_is_resampled():
    fetch = Fetch(np.full((1, 1, 1), 7, "uint16"))
    target = make_grid((6, 6), left=600_000 - 15, top=4_550_000 + 15, resolution=10.0)
    for method, count in (("nearest", 9), ("bilinear", 4)):
        values, valid = resample(fetch, PixelTransform(target, make_grid((1, 1))), full_window(target), method)
        assert valid.sum() == count
        assert np.allclose(values[valid], 7, rtol=1e-6)
