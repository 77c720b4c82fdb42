"""Arrays as sources: the same pixels as from a file, for numpy and dask, of any dtype and with any gaps."""

import pickle

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from support import oracles, strategies

from geoxt.alignment import align
from geoxt.grid import coordinates, full_window
from geoxt.layers import open_cogs
from geoxt.source import ArraySource, view_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window


def layer_of(values, grid, **attrs):
    dims = ("band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(grid), attrs=attrs, name="array")


@given(
    strategies.grid_pairs(shape=strategies.shapes(2, 50), rotated=False),
    st.sampled_from(["nearest", "bilinear"]),
    st.data(),
)
def test_numpy_dask_and_file_sources_are_bit_equal(write, pair, how, data):
    values, _, nodata = data.draw(strategies.nodata_rasters((2, *pair.src.shape)))
    file = open_cogs(write(values, pair.src, nodata=nodata), grid=pair.dst, resampling=how)
    chunked = dask.array.from_array(values[None], chunks=(1, 1, 17, 13))
    options = {"array_grid": pair.src, "grid": pair.dst, "nodata": nodata, "resampling": how}
    results = {
        "file": view_of(file).read(full_window(pair.dst)),
        "numpy": ArraySource(array=values[None], **options).read(full_window(pair.dst)),
        "dask": ArraySource(array=chunked, **options).read(full_window(pair.dst)),
    }
    for name in ("numpy", "dask"):
        for a, b in zip(results[name], results["file"], strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), name


@pytest.mark.parametrize(
    "dtype", [">u2", ">f4", ">f8", "bool", "int8", "uint32", "int64", "uint64", "float16", "float64"]
)
@pytest.mark.parametrize("chunks", [None, 16])
def test_arrays_of_any_dtype_are_aligned(dtype, chunks):
    grid, target = make_grid((40, 40)), make_grid((30, 30), left=600_100, top=4_549_900, resolution=20.0)
    values = (distinct((40, 40), "uint16") % 100).astype(dtype)
    layer = layer_of(values, grid)
    moved = align(layer if chunks is None else layer.chunk(chunks), target, resampling="nearest")
    exact = oracles.nearest(values, grid, target)
    sure = exact.margin > 1e-3
    assert moved.dtype.newbyteorder("=") == layer.dtype.newbyteorder("=")
    assert np.array_equal(moved.values[sure], exact.values[sure])
    if np.dtype(dtype).kind != "b":
        smooth = align(layer if chunks is None else layer.chunk(chunks), target, resampling="bilinear").values
        assert np.abs(smooth.astype("float64") - oracles.bilinear(values, None, grid, target).values).max() < 1


def test_time_and_band_order_is_preserved():
    grid, target = make_grid((30, 30)), make_grid((20, 20), resolution=20.0)
    values = distinct((3, 2, 30, 30), "float64")
    layer = xr.DataArray(
        values, dims=("time", "band", "y", "x"), coords={"time": [3, 1, 2], "band": ["a", "b"], **coordinates(grid)}
    )
    for variant in (layer, layer.chunk(8), layer.transpose("y", "band", "x", "time")):
        moved = align(variant, target).transpose("time", "band", "y", "x")
        assert moved.time.values.tolist() == [3, 1, 2]
        for t in range(3):
            for b in range(2):
                exact = oracles.bilinear(values[t, b], None, grid, target)
                assert np.allclose(moved.values[t, b][exact.valid], exact.values[exact.valid], atol=0.05)


def test_nodata_and_nan_are_invalid():
    grid = make_grid((20, 20))
    values = distinct((20, 20), "float32")
    values[2, 2], values[4, 4] = np.nan, -9999
    for layer in (layer_of(values, grid, _FillValue=-9999), layer_of(values, grid, _FillValue=-9999).chunk(7)):
        _, valid = view_of(layer).read(Window(0, 0, 20, 20))
        assert np.argwhere(~valid[0, 0]).tolist() == [[2, 2], [4, 4]]


def test_pixels_outside_the_array_hold_the_fill_value():
    grid = make_grid((9, 9))
    for attrs, dtype, fill in [({}, "int16", 0), ({"_FillValue": -5}, "int16", -5), ({}, "float32", np.nan)]:
        values, valid = view_of(layer_of(np.ones((9, 9), dtype), grid, **attrs)).read(Window(-2, 7, 4, 4))
        assert np.array_equal(values[0, 0, 0], np.full(4, fill, dtype), equal_nan=dtype == "float32")
        assert valid.sum() == 4


def test_large_window_of_a_small_array_is_filled():
    layer = align(layer_of(distinct((8, 8), "uint16"), make_grid((8, 8))), make_grid((8, 8), resolution=20.0))
    values, valid = view_of(layer).read(Window(-600, -700, 1400, 1500))
    assert values.shape == (1, 1, 1400, 1500)
    assert valid.sum() == 64


def test_array_source_pickles():
    grid, target = make_grid((20, 20)), make_grid((9, 9), resolution=40.0)
    for array in (distinct((1, 1, 20, 20)), dask.array.from_array(distinct((1, 1, 20, 20)), chunks=8)):
        source = ArraySource(array=array, array_grid=grid, grid=target)
        other = pickle.loads(pickle.dumps(source))
        assert np.array_equal(source.read(full_window(target))[0], other.read(full_window(target))[0])


class Recorder:
    """An array that records the keys by which it is indexed."""

    def __init__(self, values):
        self.values, self.keys = values, []
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype

    def __getitem__(self, key):
        self.keys.append(key)
        return self.values[key]


@pytest.mark.parametrize("dims", [("y", "x"), ("band", "y", "x"), ("time", "y", "x"), ("time", "band", "y", "x")])
def test_window_of_a_dask_array_reads_only_that_window_of_its_source(dims):
    grid = make_grid((40, 30))
    values = distinct((2,) * (len(dims) - 2) + grid.shape.yx, "uint16")
    recorder = Recorder(values)
    lazy = dask.array.from_array(recorder, values.shape, name="recorded", asarray=False, meta=values[..., :0, :0])
    view = view_of(xr.DataArray(lazy, dims=dims, coords=coordinates(grid)))
    read, valid = view.read(Window(3, 5, 7, 6))
    assert valid.all()
    assert np.array_equal(read.reshape(*values.shape[:-2], 7, 6), values[..., 3:10, 5:11])
    bounds = {(rows.start, rows.stop, cols.start, cols.stop) for *_, rows, cols in recorder.keys}
    assert bounds == {(3, 10, 5, 11)}
