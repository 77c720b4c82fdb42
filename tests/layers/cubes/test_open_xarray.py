"""Layers of NetCDF files and Datasets: the values of xarray, and errors for grids that are not regular."""

import pickle

import dask
import numpy as np
import pytest
import xarray as xr

import geoxt
from geoxt.errors import CatalogError, CRSError, GridError, InputError, ReadError
from geoxt.grid import coordinates, grid_of
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

GRID = make_grid((60, 70))
TIMES = np.array(["2020-01-05", "2020-02-05"], "datetime64[ns]")


def era5(levels=(1000, 850, 500)):
    """Return a Dataset of the shape of ERA5: longitudes of 0 to 360, packed integers."""
    values = distinct((2, len(levels), 19, 36), "int16")
    packing = {"scale_factor": 0.01, "add_offset": 200.0, "_FillValue": np.int16(-32767)}
    coords = {
        "time": TIMES, "level": list(levels),
        "latitude": ("latitude", np.arange(90, -91, -10.0), {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(0, 360, 10.0), {"units": "degrees_east"}),
    }  # fmt: skip
    return xr.Dataset({"t": (("time", "level", "latitude", "longitude"), values, packing)}, coords)


@pytest.fixture
def netcdf(tmp_path):
    pytest.importorskip("h5netcdf")
    path = tmp_path / "era5.nc"
    ds = era5()
    ds.to_netcdf(path, engine="h5netcdf", encoding={"t": {"chunksizes": (2, 1, 10, 12), "zlib": True}})
    return path


def rolled(values):
    """Return values with the longitudes of -180 to 170 instead of 0 to 350."""
    return np.roll(values, 18, axis=-1)


def test_netcdf_levels_and_longitudes(netcdf):
    values = era5().t.values
    with pytest.raises(InputError, match="dimension 'level' .1000, 850, 500.*select={'level': 1000}"):
        geoxt.open_xarray(netcdf)
    layer = geoxt.open_xarray(netcdf, select={"level": [850, 1000]})
    assert layer.dims == ("time", "band", "y", "x")
    assert layer.band.values.tolist() == ["t_850", "t_1000"]
    assert layer.dtype == "int16"
    assert layer.odc.crs.epsg == 4326
    assert layer.x.values[[0, -1]].tolist() == [-180, 170]
    assert np.array_equal(layer.time.values, TIMES)
    assert np.array_equal(layer.values, rolled(values[:, [1, 0]]))
    assert layer.attrs["scales"] == [0.01, 0.01]
    view = view_of(layer)
    assert view.direct
    for window in (Window(3, 15, 9, 7), Window(0, 0, 19, 36)):
        rows, cols = window.within(Window(0, 0, 19, 36))
        assert np.array_equal(view.read(window)[0], layer.values[..., rows, cols])
    physical = geoxt.open_xarray(netcdf, select={"level": 500}, rescale=True)
    assert np.allclose(physical.values[:, 0], rolled(values[:, 2]) * 0.01 + 200, rtol=1e-6)


def test_netcdf_pickles_and_notices_a_replaced_file(netcdf):
    layer = geoxt.open_xarray(netcdf, select={"level": 500})
    assert dask.base.tokenize(layer) == dask.base.tokenize(geoxt.open_xarray(netcdf, select={"level": 500}))
    assert np.array_equal(pickle.loads(pickle.dumps(layer)).values, layer.values)
    netcdf.unlink()
    (era5() * 2).to_netcdf(netcdf, engine="h5netcdf")
    with pytest.raises(CatalogError, match="was replaced since the layer was opened"):
        view_of(layer).read(Window(0, 0, 5, 5))


@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_datasets_in_memory_and_of_dask(kind):
    ds = era5().isel(latitude=slice(None, None, -1))
    ds = ds.chunk(latitude=5) if kind == "dask" else ds
    layer = geoxt.open_xarray(ds, select={"level": 850})
    assert np.array_equal(layer.values[:, 0], rolled(era5().t.values[:, 1]))
    assert layer.y.values[0] == 90
    assert dask.base.tokenize(layer) == dask.base.tokenize(geoxt.open_xarray(ds, select={"level": 850}))


def test_window_crosses_longitude_0_and_regional_cubes():
    ds = era5().isel(level=0, time=0, drop=True)
    layer = geoxt.open_xarray(ds.sel(longitude=slice(200, 250)))
    assert layer.x.values.tolist() == [-160, -150, -140, -130, -120, -110]
    across = geoxt.open_xarray(ds.sel(longitude=slice(160, 210)))
    assert across.x.values.tolist() == [160, 170, 180, 190, 200, 210]
    world = geoxt.open_xarray(ds)
    assert np.array_equal(view_of(world).read(Window(5, 16, 3, 4))[0][0, 0], rolled(ds.t.values)[5:8, 16:20])


def test_projected_variables_with_a_grid_mapping():
    values = distinct((2, 60, 70), "float32")
    values[0, :5] = np.nan
    variables = {name: (("y", "x"), v, {"grid_mapping": "spatial_ref"}) for name, v in zip("ab", values, strict=True)}
    layer = geoxt.open_xarray(xr.Dataset(variables, coordinates(GRID)))
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.values, values, equal_nan=True)
    assert not view_of(layer).read(Window(0, 0, 6, 6))[1][0, 0, :5].any()
    cf = GRID.crs.proj.to_cf() | {"crs_wkt": ""}
    coords = {key: coordinates(GRID)[key] for key in "yx"}
    named = {"a": (("y", "x"), values[0], {"grid_mapping": "utm"}), "utm": ((), 0, cf)}
    assert geoxt.open_xarray(xr.Dataset(named, coords)).odc.crs.proj.equals(GRID.crs.proj, ignore_axis_order=True)
    with pytest.raises(CRSError, match="Pass source_crs"):
        geoxt.open_xarray(xr.Dataset({"a": (("y", "x"), values[0])}, coords))


def test_curvilinear_and_irregular_grids_raise():
    lat, lon = np.mgrid[0:4.0, 0:5.0]
    values = {"t": (("y", "x"), np.zeros((4, 5)))}
    with pytest.raises(GridError, match="Resample it to a regular grid"):
        geoxt.open_xarray(xr.Dataset(values, {"lat": (("y", "x"), lat), "lon": (("y", "x"), lon)}), source_crs=4326)
    named = {"lat": (("j", "i"), lat, {"standard_name": "latitude"}), "t": (("j", "i"), lat)}
    with pytest.raises(GridError, match="its grid is not regular, but given by lat"):
        geoxt.open_xarray(xr.Dataset(named))
    ds = era5().isel(level=0)
    uneven = ds.assign_coords(latitude=("latitude", np.sort(ds.latitude.values**3), ds.latitude.attrs))
    with pytest.raises(GridError, match="latitude is not regular"):
        geoxt.open_xarray(uneven)
    bare = ds.assign_coords(latitude=ds.latitude.values, longitude=ds.longitude.values)
    with pytest.raises(CRSError):
        geoxt.open_xarray(bare)


def test_other_calendars_and_files_raise(tmp_path):
    numbered = era5().isel(level=0).assign_coords(time=[3, 4])
    with pytest.raises(InputError, match="not dates of the standard calendar"):
        geoxt.open_xarray(numbered)
    assert geoxt.open_xarray(numbered, select={"time": 4}).dims == ("band", "y", "x")
    with pytest.raises(ReadError, match="there is no such file"):
        geoxt.open_xarray(tmp_path / "a.nc")
    (tmp_path / "a.nc").write_text("no NetCDF")
    with pytest.raises(ReadError, match="Cannot open .* by xarray"):
        geoxt.open_xarray(tmp_path / "a.nc")


MARKERS = {
    "list": (
        "int16",
        {"_FillValue": np.int16(-99), "missing_value": np.array([-98, -97], "int16")},
        [-99, -98, -97],
        [5, 0],
    ),
    "fractions": ("float32", {"missing_value": np.array([-1.5, -2.5], "float32")}, [-1.5, -2.5], [-1, -2]),
    "fill": ("float32", {"_FillValue": np.float32(-9999), "missing_value": -999.9}, [-9999, -999.9], [-999]),
    "double": ("float32", {"_FillValue": np.float32(np.nan), "missing_value": 1e20}, [np.nan, 1e20], [3]),
    "infinite": ("float32", {"_FillValue": np.float32(-1), "missing_value": np.float32(np.inf)}, [-1, np.inf], [3]),
    "text": ("int16", {"missing_value": "-99"}, [-99], [3]),
    "other text": ("int16", {"missing_value": "none"}, [], [0, 3]),
    "beyond the type": ("uint8", {"_FillValue": np.uint8(255), "missing_value": -9999.0}, [255], [3, 0]),
}


def in_degrees(values, attrs):
    pixels = np.array(values)[None]
    coords = {"y": [40.0, 30.0], "x": np.arange(0, 10.0 * pixels.shape[1], 10)}
    return xr.Dataset({"t": (("y", "x"), np.concatenate([pixels, pixels]), attrs)}, coords)


@pytest.mark.parametrize("zarr", [False, True])
@pytest.mark.parametrize("case", MARKERS)
def test_all_markers_of_missing_pixels_count(tmp_path, case, zarr):
    dtype, attrs, missing, valid = MARKERS[case]
    data = in_degrees(np.array([*missing, *valid, 7], dtype), attrs)
    if zarr:
        data.to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
        layer = geoxt.open_zarr(tmp_path / "a.zarr", source_crs="EPSG:4326")
    else:
        layer = geoxt.open_xarray(data, source_crs="EPSG:4326")
    mask = view_of(layer).read(Window(0, 0, *layer.shape[-2:]))[1]
    assert mask.reshape(2, -1).tolist() == [[False] * len(missing) + [True] * (len(valid) + 1)] * 2


@pytest.mark.parametrize(("dtype", "unsigned", "word"), [("int8", "true", "unsigned"), ("uint8", "false", "signed")])
def test_integers_stored_as_the_other_sign_raise(dtype, unsigned, word):
    with pytest.raises(InputError, match=f"Write it again with its {word} type"):
        geoxt.open_xarray(in_degrees(np.ones(2, dtype), {"_Unsigned": unsigned}), source_crs="EPSG:4326")
    same = geoxt.open_xarray(in_degrees(np.ones(2, "u1" if word == "unsigned" else "i1"), {"_Unsigned": unsigned}),
                             source_crs="EPSG:4326")  # fmt: skip
    assert (same == 1).all()


def write_grib(path, fields):
    """Write fields on a global grid of 10 degrees by (name, level, date); NaN is missing."""
    eccodes = pytest.importorskip("eccodes")  # after geoxt: its PROJ replaces that of pyproj otherwise
    pytest.importorskip("cfgrib")
    keys = {
        "Ni": 36, "Nj": 19, "latitudeOfFirstGridPointInDegrees": 90, "latitudeOfLastGridPointInDegrees": -90,
        "longitudeOfFirstGridPointInDegrees": 0, "longitudeOfLastGridPointInDegrees": 350,
        "iDirectionIncrementInDegrees": 10, "jDirectionIncrementInDegrees": 10, "dataTime": 0, "bitsPerValue": 16,
    }  # fmt: skip
    with path.open("wb") as file:
        for (name, level, date), values in fields.items():
            message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
            for key, value in (keys | {"dataDate": date, "level": level, "shortName": name}).items():
                eccodes.codes_set(message, key, value)
            eccodes.codes_set(message, "bitmapPresent", int(np.isnan(values).any()))
            eccodes.codes_set(message, "missingValue", 9999.0)
            eccodes.codes_set_values(message, np.nan_to_num(values, nan=9999.0).ravel())
            eccodes.codes_write(message, file)
            eccodes.codes_release(message)
    return path


def test_grib_levels_dates_and_missing_values(tmp_path):
    keys = [(name, level, date) for name in "tu" for level in (850, 500) for date in (20200105, 20200205)]
    fields = {key: np.arange(19 * 36.0).reshape(19, 36) + 1000 * i for i, key in enumerate(keys)}
    fields["t", 850, 20200205][3, 4] = np.nan
    path = write_grib(tmp_path / "a.grib2", fields)
    with pytest.raises(InputError, match="isobaricInhPa"):
        geoxt.open_xarray(path)
    layer = geoxt.open_xarray(path, select={"isobaricInhPa": [500, 850]})
    assert layer.dims == ("time", "band", "y", "x")
    assert layer.band.values.tolist() == ["t_500", "t_850", "u_500", "u_850"]
    assert np.array_equal(layer.time.values, TIMES)
    assert layer.x.values[[0, -1]].tolist() == [-180, 170]
    expected = np.array(
        [[fields[name, level, date] for name in "tu" for level in (500, 850)] for date in (20200105, 20200205)]
    )
    assert np.array_equal(layer.values, rolled(expected), equal_nan=True)
    values, valid = view_of(layer.isel(time=[1], band=[1])).read(Window(2, 20, 5, 7))
    assert np.array_equal(values[0, 0], rolled(expected)[1, 1, 2:7, 20:27], equal_nan=True)
    assert valid.sum() == 34
    assert not valid[0, 0, 1, 2]


def test_grib_of_one_date_and_level(tmp_path):
    values = np.arange(19 * 36.0).reshape(19, 36)
    layer = geoxt.open_xarray(write_grib(tmp_path / "a.grib", {("t", 850, 20200105): values}), bands=["t"])
    assert np.array_equal(layer.values.reshape(19, 36), rolled(values))
