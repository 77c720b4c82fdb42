"""A Dataset of one variable per band, as odc.stac.load returns it, is a layer and back."""

from datetime import UTC, datetime

import numpy as np
import odc.stac
import pytest
import xarray as xr

from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of, with_yx_dims
from geoxt.layers import open_cogs, open_stac
from geoxt.source import nodata_of, view_of
from geoxt.source.band_dataset import is_band_dataset, stack_bands, unstack_bands
from geoxt.testing import distinct, make_grid, make_item, write_cog
from geoxt.trees import nodes_of
from geoxt.windows import Window

GRID = make_grid((60, 70))
DAYS = (1, 17)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    created = []
    for day in DAYS:
        values = distinct((3, 60, 70)) + day
        values[:, :day, :5] = 0
        paths = {
            n: write_cog(folder / f"{n}{day}.tif", v, grid=GRID, nodata=0) for n, v in zip("bgr", values, strict=True)
        }
        created.append(make_item(f"day{day}", paths, time=datetime(2020, 5, day, tzinfo=UTC), collection="made"))
    return created


@pytest.mark.parametrize("chunks", [None, {"y": 32}])
def test_stacked_dataset_of_odc_stac_equals_open_stac(items, chunks):
    data = odc.stac.load(items, chunks=chunks)
    layer, expected = stack_bands(data), open_stac(items, groupby="time")
    assert is_band_dataset(data)
    assert grid_of(layer) == grid_of(expected)
    assert layer.dims == expected.dims == ("time", "band", "y", "x")
    assert (layer.dtype, nodata_of(layer)) == (expected.dtype, nodata_of(expected)) == (np.dtype("uint16"), 0)
    np.testing.assert_array_equal(layer, expected)
    assert layer.band.values.tolist() == expected.band.values.tolist()
    assert np.array_equal(layer.time, expected.time)
    assert (layer.chunks is None) == (chunks is None)


def test_unstacked_layer_equals_odc_stac_load(items):
    ours, theirs = unstack_bands(open_stac(items, groupby="time")), odc.stac.load(items, chunks={})
    extra = set(ours.coords) - set(theirs.coords)
    assert extra == set()
    xr.testing.assert_equal(ours, theirs.assign_coords(time=theirs.time.astype(ours.time.dtype)))
    assert {key: ours[key].attrs["nodata"] for key in "bgr"} == {key: theirs[key].attrs["nodata"] for key in "bgr"}
    assert ours.odc.geobox == theirs.odc.geobox
    assert ours.b.odc.nodata == 0


def test_geographic_dims_are_latitude_longitude_in_odc_and_y_x_in_a_layer(items):
    data = odc.stac.load(items, crs="EPSG:4326", resolution=0.0003, chunks={})
    assert {"latitude", "longitude"} <= set(data.dims)
    layer = stack_bands(data)
    assert layer.dims == ("time", "band", "y", "x")
    assert grid_of(layer) == grid_of(with_yx_dims(data)) == data.odc.geobox
    xr.testing.assert_equal(unstack_bands(layer), data)


def test_layer_survives_unstacking_and_stacking(tmp_path):
    values = distinct((2, 20, 30))
    path = write_cog(tmp_path / "a.tif", values, grid=make_grid((20, 30)), nodata=7, bands=["red", "nir"], scale=0.5)
    layer = open_cogs(path).assign_coords(common_name=("band", ["red", "nir08"]), wavelength=("band", [0.6, np.nan]))
    data = unstack_bands(layer)
    assert (data.red.attrs["scale_factor"], data.red.attrs["add_offset"]) == (0.5, 0)
    assert data.nir.attrs["common_name"] == "nir08"
    again = stack_bands(data, name=layer.name)
    xr.testing.assert_identical(again.drop_attrs(deep=False), layer.drop_attrs(deep=False))
    assert again.attrs == layer.attrs
    assert list(unstack_bands(layer, names="common_name")) == ["red", "nir08"]


def test_layer_without_bands_is_one_variable(tmp_path):
    path = write_cog(tmp_path / "a.tif", distinct((20, 30)), grid=make_grid((20, 30)), nodata=0)
    layer = open_cogs(path, categorical=True, name="labels")
    data = unstack_bands(layer)
    assert list(data) == ["labels"]
    assert data.labels.dims == ("y", "x")


def variable(values, **attrs):
    return xr.DataArray(np.array([values]), dims=("y", "x"), attrs=attrs)


def test_dtypes_are_promoted_exactly():
    data = xr.Dataset({"a": variable(np.uint8([0, 255]), nodata=0), "b": variable(np.uint16([0, 60000]), nodata=0)})
    layer = stack_bands(data)
    assert (layer.dtype, layer.attrs["_FillValue"]) == ("uint16", 0)
    assert layer.values.tolist() == [[[0, 255]], [[0, 60000]]]


def test_differing_nodata_values_become_nan_in_floats():
    data = xr.Dataset({"a": variable(np.float32([-9999, 1]), nodata=-9999), "b": variable(np.uint8([0, 3]), nodata=0)})
    layer = stack_bands(data)
    assert layer.dtype == "float32"
    assert np.isnan(layer.attrs["_FillValue"])
    np.testing.assert_array_equal(layer, [[[np.nan, 1]], [[np.nan, 3]]])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"a": variable(np.uint8([1]), nodata=0), "b": variable(np.uint8([1]), nodata=255)}, "nodata values differ"),
        ({"a": variable(np.uint8([1]), nodata=0), "b": variable(np.uint8([1]))}, "nodata values differ"),
        ({"a": variable(np.uint64([1])), "b": variable(np.int8([1]))}, "no data type holds"),
        ({"a": variable(np.int64([1])), "b": variable(np.float32([1]))}, "no data type holds"),
        ({"a": variable(np.uint8([1])), "b": variable(np.uint8([1]), flag_values=[1])}, "'b' holds class codes"),
        ({"a": variable(np.uint8([1])), "b": variable(np.uint8([1])).expand_dims("band")}, "'b' has the dimensions"),
        ({"a": variable(np.uint8([1])), "b": variable(np.uint8([1])).expand_dims("time")}, "'b' has the dimensions"),
    ],
)
def test_variables_that_cannot_be_stacked_exactly_raise(variables, message):
    with pytest.raises(InputError, match=message):
        stack_bands(xr.Dataset(variables))


def test_dataset_of_layers_is_no_band_dataset():
    image = variable(np.uint8([1]))
    assert is_band_dataset(xr.Dataset({"a": image, "b": image}))
    assert not is_band_dataset(xr.Dataset({"image": image.expand_dims("band")}))
    assert not is_band_dataset(xr.Dataset({"a": image, "mask": image.assign_attrs(flag_values=[1])}))
    assert not is_band_dataset(xr.Dataset({"a": ("t", [1])}))
    with pytest.raises(GridError, match="none of its variables"):
        stack_bands(xr.Dataset({"a": ("t", [1])}))


@pytest.mark.parametrize(
    ("bands", "why"), [(["a", "a"], "not unique"), (["x", "a"], "a coordinate"), (["", "a"], "empty")]
)
def test_unknown_band_names_raise(tmp_path, bands, why):
    path = write_cog(tmp_path / "a.tif", distinct((2, 20, 30)), grid=make_grid((20, 30)))
    with pytest.raises(InputError, match=why):
        unstack_bands(open_cogs(path).assign_coords(band=bands))


def test_geographic_dataset_is_read_by_windows_and_as_a_node(items):
    data = odc.stac.load(items, crs="EPSG:4326", resolution=0.0003)
    values, valid = view_of(data.b).read(Window(2, 3, 8, 9))
    np.testing.assert_array_equal(values[:, 0], data.b[:, 2:10, 3:12])
    np.testing.assert_array_equal(valid[:, 0], data.b[:, 2:10, 3:12] != 0)
    assert nodes_of(data)[""].b.dims == ("time", "y", "x")
