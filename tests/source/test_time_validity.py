"""Validity of layers calculated over time: a valid pixel does not depend on the numbers of missing ones.

The oracle sets the missing pixels of a copy in memory to several numbers: a result is right where it does not change.
"""

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr

import geoxt
from geoxt.errors import InputError
from geoxt.grid import full_window, grid_of
from geoxt.source import view_of
from geoxt.testing import make_grid, write_cog

GRID = make_grid((4, 5))
RNG = np.random.default_rng(0)
VALID = RNG.random((4, 2, 4, 5)) > 0.25
STORED = np.where(VALID, RNG.integers(1, 200, VALID.shape), 0).astype("uint16")
VALID[:, :, 0], STORED[:, :, 0] = True, RNG.integers(1, 200, (4, 2, 5))
DATES = ("20200101", "20200115", "20200301", "20200315")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    for t, date in enumerate(DATES):
        for b in range(2):
            path = folder / f"LC08_L2SP_024031_{date}_20200827_02_T1_SR_B{4 + b}.TIF"
            write_cog(path, STORED[t, b][None], grid=GRID, tiled=False, nodata=0)
    return geoxt.open_cogs(str(folder / "*.TIF"), product="landsat8", groupby="time")


@pytest.fixture(scope="module")
def concatenated(series):
    """Return the series as layers of single dates that a user concatenates."""
    folder = next(iter(view_of(series).source.scenes)).assets[0].href.rpartition("/")[0]
    dates = [geoxt.open_cogs(f"{folder}/*_{date}_*.TIF", product="landsat8") for date in DATES]
    return xr.concat(dates, "time").assign_coords(time=series.time)


def to_float(layer):
    return layer.astype("float32")


KNOWN = {
    "max": lambda a: a.max("time"),
    "mean": lambda a: a.mean("time"),
    "sum of float": lambda a: to_float(a).sum("time"),
    "std": lambda a: a.std("time"),
    "weighted": lambda a: a.weighted(xr.DataArray([1.0, 2, 3, 4], dims="time")).mean("time"),
    "where": lambda a: a.where(a > 50),
    "where other": lambda a: a.where(a > 50, 7),
    "fillna": lambda a: a.where(a > 50).fillna(3),
    "concat": lambda a: xr.concat([a.isel(time=slice(2)), a.isel(time=slice(2, 4))], "time"),
    "concat of products": lambda a: xr.concat([a.isel(time=[0]) * 2, a.isel(time=[3]) * 2], "time"),
    "diff": lambda a: a.astype("int32").diff("time"),
    "difference from the first": lambda a: to_float(a) - to_float(a).isel(time=0, drop=True),
    "shift": lambda a: a.shift(time=1),
    "repeated": lambda a: (a * 2).isel(time=[1, 1, 0]),
    "sorted": lambda a: to_float(a).sortby("time", ascending=False),
}
UNKNOWN = {
    "rolling mean": lambda a: a.rolling(time=2).mean(),
    "rolling maximum": lambda a: a.rolling(time=3, min_periods=1).max(),
    "anomaly": lambda a: to_float(a) - a.mean("time"),
    "ratio to the maximum": lambda a: a / a.max(),
    "mean as a step": lambda a: a.mean("time").expand_dims(time=a.time[:1]),
    "groupby": lambda a: a.groupby("time.month").mean().rename(month="time"),
    "resample": lambda a: a.resample(time="1MS").mean(),
    "coarsen": lambda a: a.coarsen(time=2).mean(),
    "quantile": lambda a: a.chunk(time=-1).quantile(0.5, "time"),
    "cumsum": lambda a: a.cumsum("time"),
}


def independent(function, shape):
    """Return the pixels of a result that are the same for any numbers of missing pixels, and the result."""
    results = []
    for fill in (0, 17, 190):
        values = np.where(VALID, STORED, fill).astype("uint16")
        layer = xr.DataArray(values, dims=("time", "band", "y", "x"), coords={"time": np.array(DATES, "datetime64[D]")})
        result = function(layer.astype("uint16").chunk(time=1)).transpose(
            "time", "band", "y", "x", missing_dims="ignore"
        )
        results.append(np.asarray(result).reshape(shape).astype("float64"))
    same = [(result == results[0]) | (np.isnan(result) & np.isnan(results[0])) for result in results]
    return np.all(same, axis=0), results[0]


@pytest.mark.parametrize("opened", ["series", "concatenated"])
@pytest.mark.parametrize("name", KNOWN)
def test_valid_pixels_do_not_depend_on_missing_ones(name, opened, request):
    derived = KNOWN[name](request.getfixturevalue(opened))
    values, valid = view_of(derived).read(full_window(grid_of(derived)))
    same, expected = independent(KNOWN[name], valid.shape)
    assert not (valid & ~same).any()
    assert np.allclose(values[valid], expected[valid])
    always = np.isfinite(expected[:, :, 0])  # the first row is valid on all dates
    assert valid[:, :, 0][always].all()


@pytest.mark.parametrize("name", ["where other", "fillna", "concat", "concat of products", "repeated", "sorted"])
def test_steps_that_stay_apart_keep_their_validity(concatenated, series, name):
    """No step loses pixels that are missing on another date."""
    order = {"concat of products": [0, 3], "repeated": [1, 1, 0], "sorted": [3, 2, 1, 0]}.get(name, [0, 1, 2, 3])
    for layer in (series, concatenated):
        derived = KNOWN[name](layer)
        assert np.array_equal(view_of(derived).read(full_window(GRID))[1], VALID[order])


@pytest.mark.parametrize("opened", ["series", "concatenated"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_validity_raises(name, opened, request):
    with pytest.raises(InputError, match="Cannot tell the valid pixels"):
        view_of(UNKNOWN[name](request.getfixturevalue(opened)))


@pytest.mark.parametrize("name", sorted({*UNKNOWN, *KNOWN} - {"diff"}))  # which casts NaN to int32
def test_missing_pixels_as_nan_are_those_of_xarray(name, series):
    """The remedy of the error: NaN for missing pixels before the calculation, which all operations know."""
    function = {**UNKNOWN, **KNOWN}[name]
    masked = series.where(series != 0).assign_attrs(_FillValue=float("nan"))
    derived = function(masked).assign_attrs(_FillValue=float("nan"))
    known = derived.transpose("time", "band", "y", "x", missing_dims="ignore").values
    values, valid = view_of(derived).read(full_window(grid_of(derived)))
    assert np.array_equal(valid, np.isfinite(known).reshape(valid.shape))
    assert np.array_equal(values[valid], known.reshape(valid.shape)[valid])


def written(layer, folder):
    """Return the values and valid pixels of a layer written as a COG."""
    with rasterio.open(geoxt.to_cog(layer, folder / "layer.tif")) as file:
        values = file.read()
        return values, (file.read_masks() > 0) & np.isfinite(values)


@pytest.mark.parametrize(
    "name", ["mean", "std", "where other", "concat of products", "diff", "difference from the first"]
)
def test_outputs_keep_the_validity_of_calculated_layers(name, series, tmp_path):
    derived = KNOWN[name](series)
    last = derived.isel(time=-1) if "time" in derived.dims else derived
    expected, valid = (a[0] for a in view_of(last).read(full_window(GRID)))
    values, is_valid = written(last, tmp_path)
    assert np.array_equal(is_valid, valid)
    assert 0 < valid.sum() < valid.size
    assert np.allclose(values[valid], expected[valid])
    predicted = geoxt.predict(last, torch.nn.Conv2d(2, 2, 1), size=4, output="values").values
    assert np.array_equal(np.isfinite(predicted), np.broadcast_to(valid.all(0), predicted.shape))


@pytest.mark.parametrize("hold", [lambda layer: layer, xr.DataArray.compute])
@pytest.mark.parametrize("name", ["groupby", "resample", "quantile"])
def test_outputs_of_unknown_validity_raise(name, hold, series, tmp_path):
    layer = hold(UNKNOWN[name](series)).isel(time=-1, missing_dims="ignore")
    for use in (lambda: written(layer, tmp_path), lambda: geoxt.predict(layer, torch.nn.Conv2d(2, 2, 1), size=4)):
        with pytest.raises(InputError, match="Cannot tell the valid pixels"):
            use()


def test_a_label_given_to_a_reduction_is_not_the_step_that_it_is_made_from(series):
    labeled = series.mean("time").assign_coords(time=series.time[0])
    with pytest.raises(InputError, match="Cannot tell the valid pixels"):
        view_of(labeled).read(full_window(GRID))
    step = series.isel(time=0)
    assert np.array_equal(view_of(step.mean("band")).read(full_window(GRID))[1][0, 0], VALID[0].all(0))


DAILY = {
    "monthly median": lambda a: a.resample(time="1MS").median(),
    "mean of each month": lambda a: a.groupby("time.month").mean().rename(month="time"),
    "quantile": lambda a: a.chunk(time=-1).quantile(0.5, "time"),
    "coarsen": lambda a: a.coarsen(time=2).mean(),
    "monthly anomaly": lambda a: a.groupby("time.month") - a.groupby("time.month").mean(),
}


@pytest.mark.filterwarnings("ignore:All-NaN slice encountered")
@pytest.mark.parametrize("hold", [lambda layer: layer, xr.DataArray.compute])
@pytest.mark.parametrize("name", DAILY)
def test_operations_over_time_with_nan_for_missing_pixels(name, hold, series, tmp_path):
    """The lines of docs/how-to/data-cubes.md."""
    stored = xr.DataArray(np.where(VALID, STORED, np.nan), dims=series.dims, coords=series.coords).drop_vars(
        "spatial_ref"
    )
    expected = DAILY[name](stored).isel(time=-1, missing_dims="ignore").transpose("band", "y", "x").values
    masked = series.where(series != series.attrs["_FillValue"]).assign_attrs(_FillValue=float("nan"))
    values, is_valid = written(hold(DAILY[name](masked)).isel(time=-1, missing_dims="ignore"), tmp_path)
    assert np.array_equal(is_valid, np.isfinite(expected))
    assert np.allclose(values[is_valid], expected[is_valid])
