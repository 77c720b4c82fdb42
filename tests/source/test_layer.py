"""Views: windows equal computing the layer after any xarray operation, and selections of a source bypass dask."""

import itertools
from dataclasses import replace

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.errors import CRSError, GridError, InputError
from geoxt.grid import coordinates, grid_of
from geoxt.layers import open_cogs
from geoxt.source import to_layer, view_of
from geoxt.source.layer import is_categorical, nodata_of, resampling_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

GRID = make_grid((40, 50))
count = itertools.count()


@pytest.fixture(scope="module")
def layer(write):
    """Three bands, chunked small, with nodata."""
    values = distinct((3, 40, 50), "int32")
    values[:, 5:9, 7:20] = 0
    return open_cogs(write(values, GRID, nodata=0, bands=["r", "g", "b"]), chunks=16, name="image")


@pytest.fixture(scope="module")
def cube(write):
    """Two time steps of two bands."""
    paths = [
        write(distinct((2, 40, 50), "float32") + 10_000 * t, make_grid((40, 50), left=600_000 + 30 * t)) for t in (0, 1)
    ]
    views = [view_of(open_cogs(p)) for p in paths]
    scenes = tuple(v.source.scenes[0] for v in views)
    source = replace(views[0].source, scenes=scenes, steps=((0,), (1,)))
    times = np.array(["2020-01-01", "2020-02-01"], "datetime64[ns]")
    return to_layer(
        source, dims=("time", "band", "y", "x"), coords={"time": times, "band": ["a", "b"]}, attrs={}, chunks=16
    )


class ComputedError(Exception):
    """A dask scheduler was used."""


@pytest.fixture
def no_dask(monkeypatch):
    """Any use of a dask scheduler raises."""

    def raise_on_compute(*_, **__):
        raise ComputedError

    monkeypatch.setattr(dask.array.Array, "compute", raise_on_compute)
    with dask.config.set(scheduler=raise_on_compute):
        yield


def cut(draw, length):
    start = draw(st.integers(0, length - 1))
    return slice(start, draw(st.integers(start + 1, length)))


def bands_of(layer):
    return layer.sizes.get("band", 0)


def choose_bands(layer, draw):
    if not bands_of(layer):
        return layer
    return layer.isel(band=draw(st.lists(st.integers(0, bands_of(layer) - 1), min_size=1, max_size=3)))


def one_band(layer, draw):
    return layer.isel(band=draw(st.integers(-bands_of(layer), bands_of(layer) - 1))) if bands_of(layer) else layer


def first_band_by_name(layer, draw):
    named = bands_of(layer) and "band" in layer.indexes and layer.indexes["band"].is_unique
    return layer.sel(band=[layer.band.values[0]]) if named else layer


def concatenated(layer, draw):
    return xr.concat([layer, layer + 1], "band", join="outer") if bands_of(layer) else layer


def rolled(layer, draw):
    return layer.rolling(x=3, center=True, min_periods=1).mean() if layer.sizes["x"] > 3 else layer


def changed_dtype(layer, draw):
    dtypes = ["float64", "float32"] if layer.dtype.kind == "f" else ["float64", "int64", "int16"]
    return layer.astype(draw(st.sampled_from(dtypes)))


OPERATIONS = {
    "rows": lambda a, draw: a.isel(y=cut(draw, a.sizes["y"])),
    "columns": lambda a, draw: a.isel(x=cut(draw, a.sizes["x"])),
    "rows by list": lambda a, draw: a.isel(y=list(range(*cut(draw, a.sizes["y"]).indices(a.sizes["y"])))),
    "upside down": lambda a, draw: a.isel(y=slice(None, None, -1)),
    "mirrored": lambda a, draw: a[..., ::-1],
    "every second column": lambda a, draw: a.isel(x=slice(draw(st.integers(0, 1)), None, 2)) if a.sizes["x"] > 4 else a,
    "by coordinates": lambda a, draw: a.sel(x=slice(*sorted(a.x.values[[0, -1]]))) if a.x[0] <= a.x[-1] else a,
    "bands": choose_bands,
    "a band": one_band,
    "a named band": first_band_by_name,
    "rename": lambda a, draw: a.rename("other"),
    "copy": lambda a, draw: a.copy(deep=draw(st.booleans())),
    "transpose": lambda a, draw: a.transpose(*draw(st.permutations(a.dims))),
    "plus": lambda a, draw: a + draw(st.integers(0, 3)),
    "in place": lambda a, draw: a.copy().__iadd__(1),
    "where": lambda a, draw: a.where(a % 3 > 0),
    "where other": lambda a, draw: a.where(a % 3 > 0, 7),
    "astype": changed_dtype,
    "concat": concatenated,
    "rolling": rolled,
    "shift": lambda a, draw: a.shift(x=1, fill_value=0),
    "roll": lambda a, draw: a.roll(y=3, roll_coords=False),
    "chunk": lambda a, draw: a.chunk({"y": draw(st.integers(5, 40)), "x": 7}),
    "fillna": lambda a, draw: a.fillna(3),
    "clip": lambda a, draw: a.clip(2, 900),
    "persist": lambda a, draw: a.persist(scheduler="synchronous"),
    "compute": lambda a, draw: a.compute(scheduler="synchronous"),
    "load": lambda a, draw: a.copy().load(scheduler="synchronous"),
    "attributes": lambda a, draw: a.drop_attrs(deep=False).assign_attrs(source="made up"),
    "moved": lambda a, draw: a.assign_coords(x=a.x + 30 * draw(st.integers(-9, 9))),
    "in a dataset": lambda a, draw: xr.Dataset({"v": a, "w": a * 2})["v"],
    "out of a dataset": lambda a, draw: xr.Dataset({"v": a, "w": a * 2})["w"],
    "expand": lambda a, draw: a.expand_dims("time") if "time" not in a.dims else a.isel(time=0),
    "map_blocks": lambda a, draw: a.copy(data=a.data.map_blocks(np.negative)) if a.chunks else -a,
    "optimized": lambda a, draw: dask.optimize(a)[0],
}


def same(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def assert_window_equals_compute(layer, draw):
    """Compare a window of the view, possibly beyond the edge, with the valid pixels of the computed layer.

    After arithmetic on numbers that include nodata, valid pixels may be unknown: an error, never a guess.
    """
    try:
        view = view_of(layer)
    except InputError as error:
        if "valid pixels" in str(error):
            return
        raise
    values = layer.compute(scheduler="synchronous").transpose(..., "y", "x")
    full = values.transpose("time", "band", "y", "x", missing_dims="ignore").values.reshape(view.shape)
    rows, cols = view.grid.shape
    row, col = draw(st.integers(-3, rows - 1)), draw(st.integers(-3, cols - 1))
    window = Window(row, col, draw(st.integers(1, rows + 3 - row)), draw(st.integers(1, cols + 3 - col)))
    actual, valid = view.read(window)
    overlap = window.intersect(Window(0, 0, rows, cols))
    outside = np.ones(window.shape, bool)
    if overlap is not None:
        window_part, layer_part = overlap.within(window), overlap.within(Window(0, 0, rows, cols))
        outside[window_part] = False
        part, part_valid = actual[:, :, *window_part], valid[:, :, *window_part]
        assert np.can_cast(full.dtype, part.dtype)  # wider if the fill needs it
        assert np.array_equal(part[part_valid], full[:, :, *layer_part][part_valid])
    assert valid.shape == actual.shape == (*view.shape[:2], *window.shape)
    assert not valid[:, :, outside].any()
    assert grid_of(layer) == view.grid


@settings(max_examples=2 * settings.default.max_examples)
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=4), st.data())
def test_window_equals_compute_after_operations(layer, names, data):
    for name in names:
        layer = OPERATIONS[name](layer, data.draw)
    assert_window_equals_compute(layer, data.draw)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=max(settings.default.max_examples // 10, 2))
@given(data=st.data())
def test_window_equals_compute_after_each_operation(layer, cube, name, data):
    for variant in (layer, cube):
        assert_window_equals_compute(OPERATIONS[name](variant, data.draw), data.draw)


@settings(max_examples=settings.default.max_examples // 3)
@given(name=st.sampled_from(["rows", "bands", "plus", "where", "upside down"]), data=st.data())
def test_window_equals_compute_after_a_zarr_round_trip(layer, tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("zarr") / f"{next(count)}.zarr"
    changed = OPERATIONS[name](layer, data.draw).chunk({"y": 16, "x": 16})
    changed.rename("v").to_dataset().to_zarr(path, zarr_format=2)
    with xr.open_zarr(path, decode_coords="all") as reopened:
        assert_window_equals_compute(reopened["v"], data.draw)


SELECTIONS = {
    "as opened": lambda a: a,
    "cut": lambda a: a.isel(y=slice(3, 30), x=slice(10, 11)),
    "cut twice": lambda a: a.isel(y=slice(3, 30)).isel(y=slice(5, 20), x=slice(4, 44)),
    "one band": lambda a: a.isel(band=1),
    "bands in another order": lambda a: a.isel(band=[1, 0]),
    "renamed": lambda a: a.rename("other").assign_attrs(note="x"),
    "in a dataset": lambda a: xr.Dataset({"v": a})["v"],
    "cut in a dataset": lambda a: xr.Dataset({"v": a}).isel(y=slice(2, 22))["v"],
    "copied": lambda a: a.copy(),
    "by coordinates": lambda a: a.sel(x=slice(a.x.values[4], a.x.values[20])),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selection_of_a_source_bypasses_dask(layer, cube, name, no_dask):
    for variant in (layer, cube):
        view = view_of(SELECTIONS[name](variant))
        assert view.direct
        view.read(Window(0, 0, *view.grid.shape))


def test_in_memory_layer_bypasses_dask(layer, no_dask):
    values = xr.DataArray(np.ones((40, 50)), dims=("y", "x"), coords=coordinates(GRID))
    assert view_of(values).direct
    view_of(values).read(Window(0, 0, 4, 4))


def test_derived_layer_computes_its_window_by_dask(layer, no_dask):
    view = view_of(layer + 1)
    assert not view.direct
    with pytest.raises(ComputedError):
        view.read(Window(0, 0, 4, 4))


def test_window_selects_time_steps(cube):
    full = cube.compute(scheduler="synchronous").values
    for variant, steps in (
        (cube, full),
        (cube.compute(scheduler="synchronous"), full),
        (cube.isel(time=[1]), full[1:]),
    ):
        view = view_of(variant)
        for time in [(0,), (len(steps) - 1,), tuple(range(len(steps)))]:
            values, _ = view.read(Window(3, 4, 5, 6, time))
            assert same(values, steps[list(time), :, 3:8, 4:10])


def test_valid_mask_is_equal_direct_and_computed(layer):
    window = Window(-2, -2, 30, 30)
    actual, direct = view_of(layer).read(window)
    other, computed = view_of(layer.compute(scheduler="synchronous")).read(window)
    assert same(actual, other)
    assert np.array_equal(direct, computed)
    assert not direct[0, 0, 7:11, 9:22].any()
    assert direct.mean() > 0.5


@pytest.mark.parametrize("dtype", [">u2", ">f4", "bool", "int8", "uint32", "float64", "float16", "int64", "uint64"])
def test_in_memory_layer_of_any_dtype_is_read(dtype):
    values = distinct((40, 50), "uint16").astype(dtype)
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(GRID))
    actual, valid = view_of(layer).read(Window(-1, -1, 10, 10))
    assert actual.dtype.newbyteorder("=") == layer.dtype.newbyteorder("=")
    assert np.array_equal(actual[0, 0, 1:, 1:], values[:9, :9])
    assert valid.sum() == 81
    assert same(view_of(layer.chunk(16)).read(Window(3, 3, 9, 9))[0][0, 0], values[3:12, 3:12])


def test_extra_dimensions_raise(layer):
    with pytest.raises(GridError, match=r"windows of 'image': it has the dimensions \['model'\].*isel"):
        view_of(layer.expand_dims(model=2))


def test_layer_without_grid_or_crs_raises(layer):
    with pytest.raises(GridError, match=r"its dimensions are \('band', 'lat', 'lon'\).*rename"):
        view_of(layer.rename(y="lat", x="lon"))
    plain = xr.DataArray(np.ones((3, 3)), dims=("y", "x"), coords={"y": [2, 1, 0], "x": [0, 1, 2]}, name="plain")
    with pytest.raises(CRSError, match="'plain': it has no CRS"):
        view_of(plain)
    with pytest.raises(GridError, match=r"'image': its dimensions are \('band', 'y'\)"):
        view_of(layer.isel(x=3))


def test_nodata_is_read_from_attributes_or_encoding():
    layer = xr.DataArray(np.ones((2, 2), "int16"))
    assert nodata_of(layer) is None
    assert nodata_of(layer.assign_attrs(_FillValue=np.int16(-9))) == -9
    assert nodata_of(layer.assign_attrs(nodata=3)) == 3
    layer.encoding["_FillValue"] = 5
    assert nodata_of(layer) == 5
    assert nodata_of(layer.astype("float32")) is None


def test_layer_is_categorical_by_its_attributes():
    layer = xr.DataArray(np.ones((2, 2), "uint8"))
    assert (is_categorical(layer), resampling_of(layer)) == (False, "bilinear")
    layer.attrs["flag_values"] = np.array([1, 2])
    assert (is_categorical(layer), resampling_of(layer)) == (True, "nearest")
    assert resampling_of(layer.drop_attrs().astype(bool)) == "nearest"
