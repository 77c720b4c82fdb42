"""Valid pixels of maps of change and of series."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.models import Card, Network
from geoxt.testing import make_grid

BANDS = ("green", "red", "nir")
CHANGE = Card(
    task="change", model="test_fc_siam_diff", bands=BANDS, mean=(100.0,) * 3, std=(30.0,) * 3, codes=(0, 1),
    names=("same", "changed"), colors=("#dddddd", "#ff0000"), size=(32, 32),
)  # fmt: skip
SERIES = replace(CHANGE, task="time-series", model="test_ltae")


def make_series(steps, *, shape=(40, 50), holes=(), seed=0):
    """Return dates (time, band, y, x); `holes` are (step, band) that lack some pixels, each others."""
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 200, (steps, len(BANDS), *shape)).astype("int16")
    gone = np.zeros(values.shape, bool)
    for step, band in holes:
        gone[step, band] = rng.random(shape) < 0.3
    values[gone] = -1
    times = np.datetime64("2020-01-01", "ns") + np.arange(steps) * np.timedelta64(10, "D")
    layer = xr.DataArray(
        values, dims=("time", "band", "y", "x"), attrs={"_FillValue": -1},
        coords={"time": times, "band": list(BANDS), **coordinates(make_grid(shape))},
    )  # fmt: skip
    return layer, gone.any(axis=1)


@pytest.mark.parametrize("holes", [[(0, 1)], [(1, 2)], [(0, 0), (1, 2)]])
@pytest.mark.parametrize("chunked", [False, True])
def test_change_is_valid_if_both_dates_are(holes, chunked):
    layer, gone = make_series(2, holes=holes)
    layer = layer.chunk(y=17, x=23) if chunked else layer
    predicted = predict(layer, Network(CHANGE), size=32, overlap=8)
    np.testing.assert_array_equal(predicted.to_numpy() == predicted.attrs["_FillValue"], gone.any(axis=0))
    assert 0 < gone.any(axis=0).mean() < 1
    chances = predict(layer, Network(CHANGE), size=32, overlap=8, output="probabilities")
    np.testing.assert_array_equal(np.isnan(chances.to_numpy()).any(axis=0), gone.any(axis=0))


def test_dates_without_common_valid_pixels_give_nodata():
    layer, _ = make_series(2)
    west = np.broadcast_to(np.arange(50) < 25, layer.shape[1:])
    values = layer.to_numpy().copy()
    values[0][west], values[1][~west] = -1, -1
    predicted = predict(layer.copy(data=values), Network(CHANGE), size=32, overlap=8)
    assert (predicted.to_numpy() == predicted.attrs["_FillValue"]).all()


def test_series_is_valid_if_any_date_is():
    layer, gone = make_series(3, holes=[(0, 0), (1, 1), (2, 2)])
    predicted = predict(layer, Network(SERIES), size=32, overlap=8)
    np.testing.assert_array_equal(predicted.to_numpy() == predicted.attrs["_FillValue"], gone.all(axis=0))
    assert 0 < gone.all(axis=0).sum() < gone.any(axis=0).sum()


def test_missing_dates_are_the_mean_of_each_band():
    layer, gone = make_series(3, shape=(32, 32), holes=[(1, 0)])
    network = Network(SERIES).eval()
    predicted = predict(layer, network, size=32, overlap=0, output="logits").to_numpy()
    images = np.where(gone[:, None], 100, layer).astype("float32")
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)[None])[0].numpy()
    assert gone[1].any()
    np.testing.assert_allclose(predicted, expected, atol=1e-4)


def test_dates_keep_the_order_of_the_layer():
    layer, _ = make_series(2, shape=(32, 32))
    network = Network(replace(CHANGE, model="test_fc_siam_conc")).eval()
    predicted = predict(layer, network, size=32, overlap=0, output="logits").to_numpy()
    with torch.inference_mode():
        expected = network(torch.from_numpy(layer.to_numpy().astype("float32"))[None])[0].numpy()
    np.testing.assert_allclose(predicted, expected, atol=1e-4)
    turned = predict(layer.isel(time=[1, 0]).drop_vars("time"), network, size=32, overlap=0, output="logits").to_numpy()
    assert not np.allclose(turned, expected, atol=1e-2)
