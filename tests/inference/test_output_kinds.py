"""Kinds of maps equal a loop in numpy: series, embeddings, heads, regression."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates, grid_of
from geoxt.inference import predict
from geoxt.legend import Legend
from geoxt.models import Card, Network
from geoxt.testing import make_grid


def make_layer(shape=(24, 20), *, bands=3, times=None, nodata=None):
    sizes = {} if times is None else {"time": times}
    sizes |= {"band": bands, "y": shape[0], "x": shape[1]}
    values = np.random.default_rng(0).normal(size=tuple(sizes.values())).astype("float32")
    coords = {"band": [f"b{i}" for i in range(bands)], **coordinates(make_grid(shape))}
    if times is not None:
        coords["time"] = np.array(["2024-01-01", "2024-02-01", "2024-03-01"], "datetime64[ns]")[:times]
    layer = xr.DataArray(values, dims=tuple(sizes), coords=coords)
    return layer if nodata is None else layer.assign_attrs(_FillValue=nodata)


class Means(nn.Module):
    """The mean of each block of 4 x 4 pixels."""

    def forward(self, images):
        return nn.functional.avg_pool2d(images, 4)


class Vector(nn.Module):
    """One vector for a tile: the mean of each band, and a count."""

    def forward(self, images):
        means = images.mean(dim=(2, 3))
        return torch.cat([means, torch.ones_like(means[:, :1])], dim=1)


class Series(nn.Module):
    """The last date less the first."""

    def forward(self, series):
        return series[:, -1] - series[:, 0]


class Heads(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, images):
        predicted = {"twice": 2 * images, "first": images[:, :1]}
        return predicted if self.kind == "dict" else tuple(predicted.values())


def test_time_steps_are_mapped_separately():
    layer = make_layer(times=3)
    predicted = predict(layer, nn.Identity(), size=8, overlap=3, output="values", chunks=10)
    assert predicted.dims == ("time", "band", "y", "x")
    assert predicted.chunksizes["time"] == (1, 1, 1)
    np.testing.assert_array_equal(predicted.to_numpy(), layer.to_numpy())
    np.testing.assert_array_equal(predicted["time"], layer["time"])
    np.testing.assert_array_equal(predicted.isel(time=[2, 0], y=slice(3, 9)), layer.isel(time=[2, 0], y=slice(3, 9)))
    classes = predict(layer, nn.Identity(), size=8, overlap=3)
    assert classes.dims == ("time", "y", "x")
    np.testing.assert_array_equal(classes.to_numpy(), layer.to_numpy().argmax(axis=1))


def test_series_is_one_input():
    layer = make_layer(times=3, nodata=-9.0)
    gone = np.zeros(layer.shape, bool)
    gone[0, 1, :4, :4] = True  # a step lacks a band there
    gone[:, :, 10:, 15:] = True  # no step holds anything there
    layer = layer.copy(data=np.where(gone, np.float32(-9), layer))
    predicted = predict(layer, Series(), series=True, size=8, overlap=2, output="values")
    assert predicted.dims == ("band", "y", "x")
    clean = np.where(gone.any(axis=1, keepdims=True), 0, layer.to_numpy())
    expected = np.where(gone.all(axis=(0, 1)), np.nan, clean[2] - clean[0])
    np.testing.assert_array_equal(predicted.to_numpy(), expected)


@pytest.mark.parametrize("shape", [(24, 20), (23, 18), (3, 2)])
@pytest.mark.parametrize("overlap", [0, 4, 8])
def test_embeddings_have_the_grid_of_the_stride(shape, overlap):
    layer = make_layer(shape)
    predicted = predict(layer, Means(), size=12, overlap=overlap, output="embeddings")
    rows, cols = -(-shape[0] // 4), -(-shape[1] // 4)
    assert predicted.shape == (3, rows, cols)
    grid, layer_grid = grid_of(predicted), grid_of(layer)
    assert (grid.affine.a, grid.affine.e) == (4 * layer_grid.affine.a, 4 * layer_grid.affine.e)
    assert (grid.affine.c, grid.affine.f) == (layer_grid.affine.c, layer_grid.affine.f)
    padded = np.zeros((3, rows * 4, cols * 4), "float32")
    padded[:, : shape[0], : shape[1]] = layer
    expected = padded.reshape(3, rows, 4, cols, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(predicted.to_numpy(), expected, atol=1e-6)


def test_embedding_is_nodata_if_no_pixel_is_valid():
    layer = make_layer(nodata=-9.0)
    values = layer.to_numpy().copy()
    values[0, 4:9, 8:12] = -9
    predicted = predict(layer.copy(data=values), Means(), size=12, overlap=4, output="embeddings")
    gone = np.zeros((6, 5), bool)
    gone[1, 2] = True
    np.testing.assert_array_equal(np.isnan(predicted.to_numpy()).all(axis=0), gone)


def test_vector_per_tile_makes_a_map_of_tiles():
    layer = make_layer((16, 24))
    predicted = predict(layer, Vector(), size=8, output="embeddings")
    assert predicted.shape == (4, 2, 3)
    expected = layer.to_numpy().reshape(3, 2, 8, 3, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(predicted.to_numpy()[:3], expected, atol=1e-6)
    assert (predicted[3] == 1).all()


def test_embeddings_come_from_embed_or_forward_features():
    class Embeds(nn.Identity):
        def embed(self, images):
            return images[:, :2] + 1

    layer = make_layer()
    predicted = predict(layer, Embeds(), size=8, overlap=2, output="embeddings")
    np.testing.assert_allclose(predicted.to_numpy(), layer.to_numpy()[:2] + 1, rtol=1e-6)


@pytest.mark.parametrize(("kind", "twice", "first"), [("dict", "twice", "first"), ("tuple", 0, 1)])
def test_head_selects_one_of_several_outputs(kind, twice, first):
    layer = make_layer()
    options = {"size": 8, "overlap": 2, "output": "values"}
    np.testing.assert_array_equal(predict(layer, Heads(kind), head=twice, **options).to_numpy(), 2 * layer.to_numpy())
    np.testing.assert_array_equal(predict(layer, Heads(kind), head=first, **options).to_numpy(), layer[:1].to_numpy())
    with pytest.raises(InputError, match=f"the output None of a model with the outputs {twice!r}, {first!r}"):
        predict(layer, Heads(kind), **options)


def test_logits_and_probabilities_have_class_names():
    layer, legend = make_layer(), Legend((3, 1, 7), ("a", "b", "c"))
    options = {"size": 8, "overlap": 2, "legend": legend}
    logits = predict(layer, nn.Identity(), output="logits", **options)
    chances = predict(layer, nn.Identity(), output="probabilities", **options)
    assert list(logits["band"].values) == list(chances["band"].values) == ["a", "b", "c"]
    np.testing.assert_array_equal(logits.to_numpy(), layer.to_numpy())
    power = np.exp(layer.to_numpy().astype("float64"))
    np.testing.assert_allclose(chances.to_numpy(), power / power.sum(axis=0), rtol=1e-5)


def test_regression_of_one_channel():
    layer = make_layer(bands=1)
    predicted = predict(layer, nn.Identity(), size=8, overlap=2, output="regression")
    assert predicted.attrs["long_name"] == "predicted quantity"
    np.testing.assert_array_equal(predicted.to_numpy(), layer.to_numpy())
    with pytest.raises(InputError, match="probabilities of 1 channel"):
        predict(layer, nn.Identity(), size=8, overlap=2)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Means(), {"output": "values"}, "output has \\(3, 3\\).*output='embeddings'"),
        (Means(), {"output": "embeddings", "overlap": 3}, "overlap=, a multiple of 4"),
        (Means(), {"output": "embeddings", "size": 13}, "stride is not a whole number"),
    ],
)
def test_stride_that_fits_no_grid_raises(model, options, message):
    with pytest.raises(InputError, match=message):
        predict(make_layer(), model, **{"size": 12, **options})


def test_fingerprint_includes_settings_of_modules():
    layer = make_layer()
    names = {
        predict(layer, Heads(kind), head=head, size=8, output="values").data.name
        for kind, head in (("dict", "twice"), ("dict", "first"), ("tuple", 0))
    }
    assert len(names) == 3


def network_for(task, *, model, codes=(7, 2), bands=("b0", "b1", "b2")):
    card = Card(
        task=task,
        model=model,
        bands=bands,
        mean=(0.0,) * len(bands),
        std=(1.0,) * len(bands),
        codes=codes,
        names=tuple(f"name {code}" for code in codes),
        colors=("#000000",) * len(codes),
        size=(32, 32),
    )
    return Network(card).eval()


OUTPUTS_OF_TASK = {
    "segmentation": ("test_unet", "classes", {"probabilities", "logits", "embeddings", "values"}, {"regression"}),
    "classification": ("test_classifier", "classes", {"probabilities", "logits", "values"}, {"regression"}),
    "multilabel": ("test_classifier", "probabilities", {"logits", "values"}, {"classes", "regression"}),
    "pixelwise-regression": ("test_unet", "regression", {"values"}, {"classes", "probabilities", "logits"}),
    "regression": ("test_classifier", "regression", {"values"}, {"classes", "probabilities", "logits"}),
    "self-supervised": ("test_classifier", "embeddings", {"values"}, {"classes", "probabilities", "regression"}),
}


@pytest.mark.parametrize("task", OUTPUTS_OF_TASK)
def test_default_output_is_that_of_the_task(task):
    model, default, others, wrong = OUTPUTS_OF_TASK[task]
    network, layer, options = network_for(task, model=model), make_layer((32, 32)), {"size": 32}
    made = predict(layer, network, **options)
    xr.testing.assert_identical(made.compute(), predict(layer, network, output=default, **options).compute())
    assert (made.dtype == "float32") == (default != "classes")
    for output in others:
        assert predict(layer, network, output=output, **options).dtype == "float32"
    for output in wrong:
        message = f"Cannot predict {output} with a model for {task}: .*Pass output=, one of"
        with pytest.raises(InputError, match=message):
            predict(layer, network, output=output, **options)


def test_multilabel_probabilities_are_sigmoids():
    network, layer = network_for("multilabel", model="test_classifier", codes=(0, 1, 2)), make_layer((32, 32))
    made = predict(layer, network, size=32)
    with torch.no_grad():
        expected = network(torch.from_numpy(layer.to_numpy())[None]).sigmoid()[0]
    np.testing.assert_allclose(made.to_numpy()[:, 0, 0], expected, rtol=1e-5)
    assert list(made["band"].values) == ["name 0", "name 1", "name 2"]


def test_detector_makes_no_map():
    network = network_for("detection", model="faster_rcnn")
    for output in (None, "classes", "values"):
        with pytest.raises(InputError, match="a model for detection: its outputs are objects. Call detect"):
            predict(make_layer((32, 32)), network, size=32, output=output)
