"""Models whose weights or outputs are not finite: an error, or pixels that are not valid, never a class."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference import detect, predict
from geoxt.models import Card, Network
from geoxt.testing import make_grid


def make_layer(shape=(40, 44), *, seed=0):
    values = np.random.default_rng(seed).normal(100, 30, (2, *shape)).astype("float32")
    return xr.DataArray(values, dims=("band", "y", "x"), coords={"band": ["a", "b"], **coordinates(make_grid(shape))})


def make_network(task="segmentation", model="test_unet"):
    card = Card(
        task=task, model=model, bands=("a", "b"), mean=(100.0, 100.0), std=(30.0, 30.0), codes=(7, 2),
        names=("water", "forest"), colors=("#0000ff", "#00ff00"), size=(32, 32),
    )  # fmt: skip
    return Network(card)


class Scores(nn.Module):
    """The bands as scores of two classes, not finite where a band is below a limit."""

    def __init__(self, value, *, limit=80, rows=None):
        super().__init__()
        self.value, self.limit, self.rows = value, limit, rows

    def forward(self, images):
        low = images < self.limit
        if self.rows is not None:
            low[:, :, self.rows :] = False
        return images.masked_fill(low, self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_weights_raise(value):
    network, layer = make_network(), make_layer()
    with torch.no_grad():
        next(network.body.parameters()).view(-1)[3] = value
    with pytest.raises(InputError, match="its weights 'body.* are not finite. Train it again"):
        predict(layer, network, size=32)
    with pytest.raises(InputError, match="its weights 'body.* are not finite. Train it again"):
        predict(layer, network, size=32, output="embeddings")


def test_nan_weights_of_detector_raise():
    network = make_network("detection", "faster_rcnn")
    with torch.no_grad():
        next(network.body.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(InputError, match="its weights 'body.* are not finite"):
        detect(make_layer(), network, size=32)


def test_module_whose_outputs_are_all_nan_raises():
    with pytest.raises(InputError, match="none of its outputs for . tiles is finite. Pass a model="):
        predict(make_layer(), Scores(float("nan"), limit=1e9), size=32).compute()


def test_outputs_that_all_overflow_raise():
    network = make_network()
    with torch.no_grad():
        for parameter in network.body.parameters():
            parameter.mul_(1e30)
    with pytest.raises(InputError, match="none of its outputs for . tiles is finite. Pass a model="):
        predict(make_layer(), network, size=32).compute()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixel_of_nonfinite_scores_is_not_valid(value):
    layer = make_layer()
    values, low = layer.to_numpy(), layer.to_numpy() < 80
    made = predict(layer, Scores(value), size=16, overlap=4)
    scores = np.where(low, value, values)
    softmax_is_nan = low.all(axis=0) if value == -np.inf else low.any(axis=0)  # exp(-inf) is 0, a probability
    expected = np.where(softmax_is_nan, made.attrs["_FillValue"], scores.argmax(axis=0))
    np.testing.assert_array_equal(made, expected)
    assert softmax_is_nan.any()
    assert not softmax_is_nan.all()
    probabilities = predict(layer, Scores(value), size=16, overlap=4, output="probabilities")
    np.testing.assert_array_equal(np.isnan(probabilities).any(axis=0), softmax_is_nan)


def test_pixel_takes_the_tiles_that_are_finite():
    layer = make_layer((24, 16))
    made = predict(layer, Scores(float("nan"), limit=1e9, rows=2), size=16, overlap=8)  # 2 rows of each tile fail
    expected = layer.to_numpy().argmax(axis=0).astype("uint8")
    expected[:2] = made.attrs["_FillValue"]  # no other tile covers the first rows
    np.testing.assert_array_equal(made, expected)
    for chunks in (8, 16):
        again = predict(layer, Scores(float("nan"), limit=1e9, rows=2), size=16, overlap=8, chunks=chunks)
        np.testing.assert_array_equal(again, expected)


def test_channels_of_values_are_nan_separately():
    layer = make_layer()
    made = predict(layer, Scores(float("nan")), size=16, overlap=4, output="values").to_numpy()
    np.testing.assert_array_equal(made, np.where(layer < 80, np.nan, layer))


def test_infinite_input_pixels_are_not_valid():
    layer, network = make_layer(), make_network()
    holes = layer.copy()
    holes[0, 5:9, 6:8] = np.inf
    gaps = layer.copy()
    gaps[0, 5:9, 6:8] = np.nan
    made = predict(holes, network, size=32)
    np.testing.assert_array_equal(made, predict(gaps, network, size=32))
    assert (made[5:9, 6:8] == made.attrs["_FillValue"]).all()
    assert (made == made.attrs["_FillValue"]).sum() == 8
