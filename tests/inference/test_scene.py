"""Prediction of scenes: identity, chunks, nodata and class names."""

import pickle
from dataclasses import replace

import dask
import dask.array
import numpy as np
import pytest
import torch
import xarray as xr
from dask.base import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from geoxt.errors import InputError, ReadError
from geoxt.grid import coordinates, grid_of
from geoxt.inference import predict
from geoxt.legend import Legend
from geoxt.models import Card, Network
from geoxt.testing import make_grid
from geoxt.windows import Window

BANDS = ("green", "red", "nir")


def make_layer(shape=(70, 53), *, bands=BANDS, nodata=None, seed=0, chunks=None):
    values = np.random.default_rng(seed).normal(100, 30, (len(bands), *shape)).astype("float32")
    layer = xr.DataArray(
        values, dims=("band", "y", "x"), coords={"band": list(bands), **coordinates(make_grid(shape))}, name="image"
    )
    if nodata is not None:
        layer.attrs["_FillValue"] = nodata
    return layer if chunks is None else layer.chunk(chunks)


def make_network(bands=BANDS, **options):
    card = Card(
        task="segmentation",
        model="test_unet",
        bands=bands,
        mean=(100.0,) * len(bands),
        std=(30.0,) * len(bands),
        codes=(7, 2, 40),
        names=("open water", "forest", "city"),
        colors=("#0000ff", "#00ff00", "#ff0000"),
        size=(32, 32),
        **options,
    )
    return Network(card)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    share=st.floats(0, 0.99),
    batch_size=st.integers(1, 5),
    blend=st.sampled_from(["linear", "gaussian", "hann", "none"]),
    chunks=st.none() | st.integers(1, 60),
)
def test_identity_model_returns_the_input(shape, size, share, batch_size, blend, chunks):
    layer = make_layer(shape)
    overlap = tuple(int(share * length) for length in size)
    options = {"size": size, "overlap": overlap, "batch_size": batch_size, "blend": blend, "chunks": chunks}
    same = predict(layer, nn.Identity(), output="values", **options)
    np.testing.assert_array_equal(same.to_numpy(), layer.to_numpy())
    assert grid_of(same) == grid_of(layer)


def test_pixel_without_all_bands_is_nodata():
    layer = make_layer(nodata=-1.0)
    holes = np.random.default_rng(1).random(layer.shape) < 0.05
    layer = layer.copy(data=np.where(holes, np.float32(-1), layer))
    same = predict(layer, nn.Identity(), size=16, overlap=4, output="values")
    gone = holes.any(axis=0)
    assert np.isnan(same.to_numpy()[:, gone]).all()
    np.testing.assert_array_equal(same.to_numpy()[:, ~gone], layer.to_numpy()[:, ~gone])
    classes = predict(layer, make_network(), size=32, overlap=8)
    assert classes.dtype == np.uint8
    assert classes.attrs["_FillValue"] == 255
    np.testing.assert_array_equal(classes.to_numpy() == 255, gone)


@pytest.mark.parametrize("chunks", [{"y": 20, "x": 53}, {"y": 70, "x": 7}, {"y": 33, "x": 31}])
def test_map_does_not_depend_on_chunks(chunks):
    network = make_network()
    options = {"size": 32, "overlap": 9, "batch_size": 3, "output": "probabilities"}
    full_map = predict(make_layer(), network, **options).to_numpy()
    chunked = predict(make_layer(chunks={"band": 1, **chunks}), network, **options)
    np.testing.assert_array_equal(chunked.to_numpy(), full_map)
    part = chunked.isel(y=slice(11, 52), x=slice(3, 40))
    np.testing.assert_array_equal(part.to_numpy(), full_map[:, 11:52, 3:40])
    np.testing.assert_array_equal(chunked.isel(y=5, band=[2, 0], x=[30, 3]).to_numpy(), full_map[[2, 0], 5][:, [30, 3]])


def test_map_does_not_depend_on_the_number_of_cores():
    before, layer = torch.get_num_threads(), make_layer()
    made = predict(layer, make_network(), size=32, overlap=8, output="probabilities")
    expected = made.to_numpy()
    try:
        torch.set_num_threads(3)
        np.testing.assert_array_equal(made.to_numpy(), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_blending_equals_the_weighted_mean_in_numpy():
    network, layer = make_network().eval(), make_layer((40, 40))
    predicted = predict(layer, network, size=24, overlap=8, output="probabilities").to_numpy()
    ramp = np.minimum(np.minimum(np.arange(1, 25), np.arange(24, 0, -1)) / 9, 1)
    total, share = np.zeros((3, 40, 40)), np.zeros((40, 40))
    for row in (0, 16):
        for col in (0, 16):
            tile = torch.from_numpy(layer.to_numpy()[None, :, row : row + 24, col : col + 24])
            with torch.inference_mode():
                output = network(tile).softmax(dim=1)[0].numpy()
            total[:, row : row + 24, col : col + 24] += output * np.outer(ramp, ramp)
            share[row : row + 24, col : col + 24] += np.outer(ramp, ramp)
    np.testing.assert_allclose(predicted, total / share, atol=1e-5)


def test_classes_are_the_argmax_with_names_and_colors():
    network, layer = make_network(nodata=0), make_layer()
    classes = predict(layer, network, size=32, overlap=8)
    chances = predict(layer, network, size=32, overlap=8, output="probabilities")
    np.testing.assert_array_equal(classes, np.array([7, 2, 40])[chances.to_numpy().argmax(axis=0)])
    np.testing.assert_allclose(chances.sum("band"), 1, rtol=1e-5)
    assert list(chances["band"].values) == ["open water", "forest", "city"]
    assert Legend.of(classes) == network.card.legend
    assert classes.attrs["_FillValue"] == 0


def test_prediction_is_lazy_and_computes_needed_tiles_only():
    reads = []

    class Counts(nn.Module):
        def forward(self, images):
            reads.append(len(images))
            return images

    def fail(*_args, **_kwargs):
        pytest.fail("predict computed its input")

    values = dask.array.from_array(make_layer((200, 200)).to_numpy(), chunks=(3, 50, 50))
    layer = make_layer((200, 200)).copy(data=values)
    with dask.config.set(scheduler=fail):
        lazy = predict(layer, Counts(), size=32, overlap=0, batch_size=1, output="values")
    assert dask.is_dask_collection(lazy.data)
    reads.clear()
    corner = lazy.isel(y=slice(0, 32), x=slice(0, 32))
    np.testing.assert_array_equal(corner.to_numpy(), layer.to_numpy()[:, :32, :32])


def test_bands_are_matched_by_name():
    network = make_network()
    layer = make_layer(bands=(*BANDS, "swir"))
    expected = predict(layer.sel(band=list(BANDS)), network, size=32, overlap=0).to_numpy()
    turned = layer.isel(band=[3, 2, 0, 1])
    np.testing.assert_array_equal(predict(turned, network, size=32, overlap=0).to_numpy(), expected)
    renamed = layer.assign_coords(band=["B03", *BANDS[1:], "swir"])
    predicted = predict(renamed, network, size=32, overlap=0, bands={"green": "B03"})
    np.testing.assert_array_equal(predicted.to_numpy(), expected)
    nameless = layer.sel(band=list(BANDS)).drop_vars("band")
    np.testing.assert_array_equal(predict(nameless, network, size=32, overlap=0).to_numpy(), expected)


def test_model_is_copied_in_its_current_state():
    network, layer = make_network(), make_layer()
    before = predict(layer, network, size=32, overlap=0, output="probabilities")
    token = tokenize(before.data)
    assert tokenize(predict(layer, network, size=32, overlap=0, output="probabilities").data) == token
    with torch.no_grad():
        network.body.head[-1].bias += 10 * torch.arange(3)
    after = predict(layer, network, size=32, overlap=0, output="probabilities")
    assert tokenize(after.data) != token
    assert not np.array_equal(before, after)
    assert network.training


def test_pickled_map_computes_equal_values():
    lazy = predict(make_layer(), make_network(), size=32, overlap=8)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy)).to_numpy(), lazy.to_numpy())


def test_small_layer_and_layer_without_bands():
    assert predict(make_layer((5, 9)), make_network(), size=32, overlap=8).shape == (5, 9)
    flat = make_layer(bands=("one",)).isel(band=0, drop=True)
    np.testing.assert_array_equal(predict(flat, nn.Identity(), size=16, overlap=2, output="values")[0], flat)


class Halves(nn.Module):
    def forward(self, images):
        return images[..., ::2, ::2]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x.isel(band=[0, 1]), {}, "no band 'nir', only green, red.*bands=, a mapping such as {'nir'"),
        (lambda x: x.drop_vars("band").isel(band=[0, 1]), {}, "2 unnamed bands"),
        (lambda x: x, {"output": "labels"}, "the output 'labels'. Pass output="),
        (lambda x: x, {"overlap": 32}, "overlap"),
        (lambda x: x, {"overlap": -1}, "overlap of -1 pixels"),
        (lambda x: x, {"size": 0}, "size=0"),
        (lambda x: x, {"batch_size": 0}, "batches of 0 tiles"),
        (lambda x: x, {"blend": "cosine"}, "Cannot blend tiles by 'cosine'"),
        (lambda x: x, {"output": "boxes"}, r"detect\(\)"),
        (lambda x: x, {"chunks": 0}, "chunks of 0 pixels"),
        (lambda x: x, {"bands": {"blue": "B02"}}, "Cannot pass the band 'blue'"),
        (lambda x: x, {"head": "mask"}, "the output 'mask' of a model with one output"),
        (lambda x: x, {"legend": Legend((1,), ("a",))}, "3 channels .* legend of 1 classes"),
    ],
)
def test_invalid_arguments_raise_before_computing(change, options, message):
    with pytest.raises(InputError, match=message):
        predict(change(make_layer()), make_network(), **{"size": 32, "overlap": 8, **options})


@pytest.mark.parametrize("steps", [1, 3])
def test_change_requires_two_dates(steps):
    layer = make_layer()
    card = replace(make_network().card, task="change", model="test_fc_siam_diff", options={})
    layer = layer if steps == 1 else layer.expand_dims(time=steps)
    with pytest.raises(InputError, match=f"change from {steps} time steps"):
        predict(layer, Network(card), size=32, overlap=8)


def test_dates_in_reverse_raise():
    card = replace(make_network().card, task="change", model="test_fc_siam_diff", options={})
    days = np.array(["2003-02-06", "2000-03-17"], "datetime64[ns]")
    layer = make_layer().expand_dims(time=2).assign_coords(time=days)
    with pytest.raises(InputError, match="2003-02-06T00:00:00 comes before 2000-03-17T00:00:00. Sort it by sortby"):
        predict(layer, Network(card), size=32, overlap=8)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("image.tif", r"Cannot predict from a str. Pass a layer= opened by open_cogs\(\)"),
        (np.zeros((3, 8, 8)), "Cannot predict from a ndarray"),
        ([make_layer()], "from a list. Pass one layer=; join dates by xr.concat"),
    ],
)
def test_data_without_coordinates_raise(layer, message):
    with pytest.raises(InputError, match=message):
        predict(layer, make_network())


def test_model_without_a_map_raises():
    with pytest.raises(InputError, match="Cannot map with this model"):
        predict(make_layer(), Halves(), size=32, overlap=8, output="values")


def test_file_that_is_no_checkpoint_raises(tmp_path):
    (tmp_path / "no.ckpt").write_text("text")
    with pytest.raises(ReadError, match=r"Cannot read the checkpoint .*no\.ckpt"):
        predict(make_layer(), tmp_path / "no.ckpt")
    with pytest.raises(ReadError, match="FileNotFoundError"):
        predict(make_layer(), tmp_path / "missing.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="no model card"):
        predict(make_layer(), tmp_path / "other.ckpt")


def test_window_reads_only_overlapping_tiles(monkeypatch):
    from geoxt.source import View

    tiles = []
    read = View.read
    monkeypatch.setattr(View, "read", lambda view, window: tiles.append(window) or read(view, window))
    predict(make_layer((100, 100)), nn.Identity(), size=20, overlap=4, output="values")[:, :16, :16].compute()
    assert tiles == [Window(0, 0, 20, 20, (0,))]


def test_no_tile_runs_twice_if_chunks_are_computed_in_order(monkeypatch):
    from geoxt.source import View

    tiles = []
    read = View.read
    monkeypatch.setattr(View, "read", lambda view, window: tiles.append(window) or read(view, window))
    layer = make_layer((90, 75))
    made = predict(layer, nn.Identity(), size=16, overlap=4, output="values", chunks=24, batch_size=2)
    assert made.data.numblocks == (1, 4, 4)
    for row in range(4):
        for col in range(4):
            np.testing.assert_array_equal(made.data.blocks[0, row, col], _block(layer, row, col))
    assert len(tiles) == len(set(tiles)) == 8 * 6


def _block(layer, row, col):
    return layer.to_numpy()[:, row * 24 : row * 24 + 24, col * 24 : col * 24 + 24]
