"""Legends of label layers: the codes that occur, with names and colors from CF attributes."""

import numpy as np
import pytest
import xarray as xr

from geoxt.errors import LabelError, LabelWarning
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.testing import make_grid
from geoxt.trainers import legend_of_labels


def make_layer(values, **attrs):
    dims = ("band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(make_grid(values.shape[-2:])), attrs=attrs, name="it")


def test_legend_has_the_codes_that_occur_with_their_names():
    legend = Legend((1, 2, 3, 9), ("a", "b", "c", "d"))
    values = np.full((40, 30), 3, "uint8")
    values[:4], values[9:12] = 1, 0
    assert legend_of_labels(make_layer(values, _FillValue=0, **legend.attrs())) == legend.only([1, 3])
    unnamed = legend_of_labels(make_layer(values, _FillValue=0))
    assert (unnamed.codes, unnamed.names) == ((1, 3), ("1", "3"))
    values[0, 0] = 5
    grown = legend_of_labels(make_layer(values, _FillValue=0, **legend.attrs()))
    assert grown.names == ("a", "c", "5")
    assert grown.colors[:2] == legend.only([1, 3]).colors


def test_whole_numbers_in_floating_point_are_codes():
    values = np.full((40, 30), 3, "float32")
    values[:4], values[9:12], values[20] = 1, -9999, np.nan
    layer = make_layer(values, _FillValue=-9999.0)
    assert legend_of_labels(layer).codes == (1, 3)
    values[30, 4] = 2.5
    with pytest.raises(LabelError, match="its dtype is float32, and 2.5 is not a whole number"):
        legend_of_labels(layer)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.full((40, 30), 1j), {}, "its dtype is complex128"),
        (np.zeros((40, 30), "uint8"), {}, "no valid pixel"),
        (
            np.arange(1200, dtype="int16").reshape(40, 30),
            {},
            "more than 256 classes, among them the codes 1, 2",
        ),
        (np.arange(1200, dtype="int16").reshape(40, 30) % 9, {"max_codes": 4}, "more than 4 classes"),
    ],
)
def test_layers_without_class_codes_raise(values, options, message):
    with pytest.raises(LabelError, match=message):
        legend_of_labels(make_layer(values, _FillValue=0), **options)


@pytest.mark.parametrize("unknown", [-1, -100, -(2**15)])
@pytest.mark.parametrize("dtype", ["int16", "int64", "float32"])
def test_negative_codes_are_unknown(unknown, dtype):
    values = np.full((40, 30), 3, dtype)
    values[:4], values[9:12] = 0, unknown
    assert legend_of_labels(make_layer(values)).codes == (0, 3)


def test_255_is_unknown_where_the_legend_lacks_it():
    values = np.full((40, 30), 3, "uint8")
    values[:4], values[9:12] = 1, 255
    assert legend_of_labels(make_layer(values, **Legend((1, 3), ("a", "b")).attrs())).codes == (1, 3)
    assert legend_of_labels(make_layer(values, **Legend((1, 3, 255), ("a", "b", "c")).attrs())).codes == (1, 3, 255)
    with pytest.warns(LabelWarning, match="'it' has the code 255, which is taken as a class"):
        assert legend_of_labels(make_layer(values)).codes == (1, 3, 255)
    values[values == 1] = 3
    assert legend_of_labels(make_layer(values)).codes == (3, 255)  # a mask of two values
    categorical = make_layer(values, flag_values=np.empty(0, "uint8"))  # class codes without names
    assert legend_of_labels(categorical).codes == (3, 255)
