"""Band statistics against numpy, nodata left out; classes are those that the labels hold."""

import numpy as np
import pytest
import xarray as xr

from geoxt.errors import InputError, LabelError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.testing import make_grid
from geoxt.trainers import band_statistics, legend_of
from geoxt.windows import Window

WHOLE = [Window(row, col, 20, 15) for row in (0, 20) for col in (0, 15)]


def make_layer(values, **attrs):
    dims = ("band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(make_grid(values.shape[-2:])), attrs=attrs, name="it")


def test_mean_and_deviation_are_those_of_the_valid_pixels():
    values = np.random.default_rng(0).normal(3e4, 2, (3, 40, 30)).astype("float32")
    values[0, :7] = -9999
    values[2, 5] = np.nan
    mean, std = band_statistics(make_layer(values, _FillValue=-9999.0), WHOLE)
    known = np.where(values == -9999, np.nan, values).astype("float64").reshape(3, -1)
    np.testing.assert_allclose(mean, np.nanmean(known, axis=1), rtol=1e-12)
    np.testing.assert_allclose(std, np.nanstd(known, axis=1), rtol=1e-9)


def test_a_flat_band_is_not_divided_by_zero_and_an_empty_one_is_refused():
    mean, std = band_statistics(make_layer(np.full((1, 40, 30), 7, "uint8")), WHOLE)
    assert (mean.item(), std.item()) == (7, 1)
    with pytest.raises(InputError, match="Cannot scale band 1 of 'it': it has no valid pixel"):
        band_statistics(make_layer(np.zeros((1, 40, 30), "uint8"), _FillValue=0), WHOLE)


def test_classes_are_those_that_are_there_with_their_names():
    legend = Legend((1, 2, 3, 9), ("a", "b", "c", "d"))
    values = np.full((40, 30), 3, "uint8")
    values[:4], values[9:12] = 1, 0
    assert legend_of(make_layer(values, _FillValue=0, **legend.attrs())) == legend.only([1, 3])
    plain = legend_of(make_layer(values, _FillValue=0))
    assert (plain.codes, plain.names) == ((1, 3), ("1", "3"))
    values[0, 0] = 5
    grown = legend_of(make_layer(values, _FillValue=0, **legend.attrs()))
    assert grown.names == ("a", "c", "5")
    assert grown.colors[:2] == legend.only([1, 3]).colors


def test_whole_numbers_in_floating_point_are_codes():
    values = np.full((40, 30), 3, "float32")
    values[:4], values[9:12], values[20] = 1, -9999, np.nan
    layer = make_layer(values, _FillValue=-9999.0)
    assert legend_of(layer).codes == (1, 3)
    values[30, 4] = 2.5
    with pytest.raises(LabelError, match="its type is float32, and 2.5 is no whole number"):
        legend_of(layer)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.full((40, 30), 1j), {}, "its type is complex128"),
        (np.zeros((40, 30), "uint8"), {}, "no valid pixel"),
        (
            np.arange(1200, dtype="int16").reshape(40, 30),
            {},
            "more than the 256 classes expected, such as the codes 1, 2",
        ),
        (np.arange(1200, dtype="int16").reshape(40, 30) % 9, {"most": 4}, "more than the 4 classes expected"),
    ],
)
def test_what_is_no_label_layer_is_refused(values, options, message):
    with pytest.raises(LabelError, match=message):
        legend_of(make_layer(values, _FillValue=0), **options)
