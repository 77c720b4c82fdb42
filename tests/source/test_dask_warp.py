"""Resampling of dask layers: bit-equal to the computed layer, small tasks, only the needed blocks."""

import pickle

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

from geoxt.alignment import align
from geoxt.grid import coordinates
from geoxt.source.dask_warp import warp_dask
from geoxt.testing import distinct, make_grid


def layer_of(values, grid, **attrs):
    dims = ("time", "band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(grid), attrs=attrs)


@settings(max_examples=settings.default.max_examples // 2)
@given(
    strategies.grid_pairs(shape=strategies.shapes(2, 50), rotated=False),
    st.sampled_from(["nearest", "bilinear"]),
    st.data(),
)
def test_result_is_independent_of_chunks(pair, method, data):
    values, _, nodata = data.draw(strategies.nodata_rasters((2, 2, *pair.src.shape)))
    chunks = {d: data.draw(st.integers(1, 60)) for d in ("time", "band", "y", "x")}
    array = dask.array.from_array(values, chunks=tuple(chunks.values()))
    warped = warp_dask(array, pair.src, pair.dst, method, nodata, data.draw(st.sampled_from([None, 7, {"y": 9}])))
    unchunked = warp_dask(dask.array.from_array(values, chunks=-1), pair.src, pair.dst, method, nodata)
    assert warped.chunks[0] == array.chunks[0]
    assert np.array_equal(
        warped.compute(scheduler="synchronous"),
        unchunked.compute(scheduler="synchronous"),
        equal_nan=values.dtype.kind == "f",
    )


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_aligned_dask_layer_equals_aligned_computed_layer(method):
    grid, target = make_grid((60, 60)), make_grid((50, 40), crs="EPSG:5070", left=349_000, top=2_017_500)
    layer = layer_of(distinct((2, 3, 60, 60), "float64"), grid).chunk({"y": 11, "x": 13, "time": 1})
    derived = layer * 2 + 1
    assert np.array_equal(
        align(derived, target, resampling=method).compute(scheduler="synchronous"),
        align(derived.compute(scheduler="synchronous"), target, resampling=method).compute(scheduler="synchronous"),
        equal_nan=True,
    )


def test_align_is_lazy_and_a_block_computes_only_its_input_blocks():
    computed_blocks = []

    def touch(block, block_info=None):
        computed_blocks.append(tuple(block_info[0]["chunk-location"]))
        return block

    array = dask.array.from_array(distinct((200, 200), "float64"), chunks=20).map_blocks(
        touch, dtype=float, meta=np.empty((0, 0))
    )
    layer = layer_of(array, make_grid((200, 200)))
    target = make_grid((400, 400), resolution=15.0)
    with dask.config.set(scheduler=raise_on_compute):
        aligned = align(layer, target, chunks=40)
    assert computed_blocks == []
    aligned.isel(y=slice(80, 120), x=slice(200, 240)).compute(scheduler="synchronous")
    assert {r for r, _ in computed_blocks} <= {1, 2, 3}
    assert {c for _, c in computed_blocks} <= {4, 5, 6}


def raise_on_compute(*_, **__):
    msg = "computed"
    raise AssertionError(msg)


def test_task_size_is_independent_of_layer_size():
    largest = []
    for side in (200, 800):
        layer = layer_of(dask.array.zeros((side, side), chunks=20), make_grid((side, side))) + 1
        aligned = align(layer, make_grid((side, side), left=600_007), chunks=20)
        graph = dict(aligned.data.dask)
        sizes = [len(pickle.dumps(n)) for k, n in graph.items() if isinstance(k, tuple) and k[0] == aligned.data.name]
        assert len(sizes) == (side // 20) ** 2
        largest.append(max(sizes))
    assert largest[1] < 4000
    assert largest[1] <= largest[0] + 64


def test_grid_and_method_change_the_name():
    array = dask.array.from_array(distinct((30, 30)), chunks=10)
    grid = make_grid((30, 30))
    names = {
        warp_dask(array, grid, make_grid((9, 9)), "nearest", None).name,
        warp_dask(array, grid, make_grid((9, 9)), "nearest", None).name,
        warp_dask(array, grid, make_grid((9, 9)), "bilinear", None).name,
        warp_dask(array, grid, make_grid((9, 9)), "nearest", 0).name,
        warp_dask(array, grid, make_grid((9, 8)), "nearest", None).name,
        warp_dask(array, grid, make_grid((9, 9), left=600_001), "nearest", None).name,
    }
    assert len(names) == 5
