"""One raster onto one window: copied bit for bit where grids coincide, one read of what is needed, refusals."""

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window as FileWindow
from support import strategies as some

from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.pixels import reader
from geoxt.pixels.resample import resample
from geoxt.pixels.transform import PixelTransform
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window


class Fetch:
    """Reads an array, and keeps the windows that were asked for."""

    def __init__(self, values):
        self.values, self.asked = values, []

    def __call__(self, window):
        self.asked.append(window)
        rows, cols = window.within(whole_of(self.values))
        return self.values[:, rows, cols], None


def whole_of(values):
    return Window(0, 0, *values.shape[-2:])


@given(st.integers(-30, 60), st.integers(-30, 60), st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_coinciding_grids_are_copied(rows, cols, data, how):
    values = distinct((2, 40, 50), "float64") + 0.1
    target = make_grid((40, 50), left=600_000 + 30 * cols, top=4_550_000 - 30 * rows)
    window = Window(*data.draw(some.windows((40, 50))))
    found = resample(Fetch(values), PixelTransform(target, make_grid((40, 50))), window, how)
    moved = window.shift(rows, cols)
    shared = moved.intersect(whole_of(values))
    if shared is None:
        assert found is None
        return
    got, valid = found
    mine, its = shared.within(moved), shared.within(whole_of(values))
    assert got.dtype == values.dtype
    assert np.array_equal(got[:, *mine], values[:, *its])
    assert valid is None or valid.sum() == 2 * shared.height * shared.width


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"tiled": True}, {"tiled": True, "compress": "deflate", "predictor": 2}])
def test_a_copy_is_what_rasterio_reads(write, dtype, options):
    grid = make_grid((70, 60))
    path = write(distinct((3, 70, 60), dtype), grid, **options)
    target = make_grid((20, 10), left=600_000 + 300, top=4_550_000 - 900)
    found, valid = resample(
        lambda need: reader.read(path, [3, 1], need), PixelTransform(target, grid), full_window(target), "bilinear"
    )
    with rasterio.open(path) as file:
        assert np.array_equal(found, file.read([3, 1], window=FileWindow(10, 30, 10, 20)))
    assert valid is None


@given(some.grid_pairs(shape=some.shapes(1, 60)), st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_only_the_pixels_near_a_window_are_read_and_only_once(pair, data, how):
    fetch = Fetch(distinct((1, *pair.src.shape), "float32"))
    mapping = PixelTransform(pair.dst, pair.src)
    window = Window(*data.draw(some.windows(tuple(pair.dst.shape))))
    found = resample(fetch, mapping, window, how)
    assert len(fetch.asked) == (0 if found is None else 1)
    for asked in fetch.asked:
        assert whole_of(fetch.values).contains(asked)
        spread = [np.hypot(window.height, window.width) * s + 4 * max(s, 1) + 4 for s in mapping.scale]
        assert pair.src.shape[0] < 8 or asked.height <= 2 * spread[0]
        assert pair.src.shape[1] < 8 or asked.width <= 2 * spread[1]


@pytest.mark.parametrize("how", ["nearest", "bilinear", "average"])
def test_a_window_beside_the_raster_reads_nothing(how):
    fetch = Fetch(distinct((1, 40, 40), "float32"))
    mapping = PixelTransform(make_grid((40, 40), resolution=20.0), make_grid((40, 40)))
    for window in (Window(0, 900, 8, 8), Window(-500, -500, 20, 20), Window(2**26, 0, 4, 4)):
        assert resample(fetch, mapping, window, how) is None
    assert fetch.asked == []


def test_a_method_that_is_not_there_is_refused_by_name():
    mapping = PixelTransform(make_grid((40, 40), resolution=20.0), make_grid((40, 40)))
    with pytest.raises(InputError, match=r"Cannot resample by 'spline'\. Pass resampling=, one of nearest"):
        resample(Fetch(distinct((1, 40, 40))), mapping, Window(0, 0, 8, 8), "spline")


def test_one_pixel_is_enough():
    fetch = Fetch(np.full((1, 1, 1), 7, "uint16"))
    target = make_grid((6, 6), left=600_000 - 15, top=4_550_000 + 15, resolution=10.0)
    for how, count in (("nearest", 9), ("bilinear", 4)):
        values, valid = resample(fetch, PixelTransform(target, make_grid((1, 1))), full_window(target), how)
        assert valid.sum() == count
        assert np.allclose(values[valid], 7, rtol=1e-6)
