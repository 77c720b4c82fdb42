"""Maps by model files: equal bits for any chunks, in any process; errors of outputs that a file lacks."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import xarray as xr
from support.fake_device import FakeDevice
from torch import nn

from geoxt import cli
from geoxt import torch_devices as devices
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference import classify_images, detect, predict
from geoxt.inference.runner import Runner
from geoxt.legend import Legend
from geoxt.models import from_file
from geoxt.models.file_body import FileNetwork
from geoxt.testing import make_grid

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
BANDS = ("red", "nir")


def conv_onnx(path, weight, sizes=("n", 2, "h", "w"), *, pooled=False):
    nodes = [onnx.helper.make_node("Conv", ["image", "weight"], ["y"], pads=[weight.shape[-1] // 2] * 4)]
    shape = [sizes[0], len(weight), *sizes[2:]]
    if pooled:
        nodes += [
            onnx.helper.make_node("GlobalAveragePool", ["y"], ["mean"]),
            onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
        ]
        shape = shape[:2]
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("image", 1, list(sizes))],
        [onnx.helper.make_tensor_value_info("flat" if pooled else "y", 1, shape)],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


WEIGHT = np.random.default_rng(0).normal(size=(3, 2, 5, 5)).astype("float32")
BY_HAND = {"bands": BANDS, "mean": 100, "std": 30, "legend": Legend((7, 2, 40), ("water", "forest", "city"))}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return from_file(conv_onnx(tmp_path_factory.mktemp("models") / "a.onnx", WEIGHT), **BY_HAND)


def make_layer():
    shape = (50, 41)
    values = np.random.default_rng(1).normal(100, 30, (3, *shape)).astype("float32")
    values[0, 10:14, 5:9] = -1  # of a band that the model lacks
    coords = {"band": ["green", "nir", "red"], **coordinates(make_grid(shape))}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"_FillValue": -1.0})


def test_map_equals_that_of_torch(network):
    layer = make_layer()
    weight = torch.from_numpy(WEIGHT)

    class Same(nn.Module):
        def forward(self, image):
            return nn.functional.conv2d((image - 100) / 30, weight, padding=2)

    expected = predict(layer.isel(band=[2, 1]), Same(), size=16, overlap=6, output="probabilities")
    actual = predict(layer, network, size=16, overlap=6, output="probabilities")
    np.testing.assert_allclose(actual, expected, atol=1e-5)
    assert predict(layer, network, size=16).attrs["flag_meanings"] == "water forest city"


def test_maps_of_a_device_are_equal(network, monkeypatch):
    layer, options = make_layer(), {"size": 16, "overlap": 6, "output": "probabilities"}
    expected = predict(layer, network, **options).to_numpy()
    fake = FakeDevice()
    monkeypatch.setitem(devices.OPENED, "cuda:0", fake)
    np.testing.assert_array_equal(predict(layer, network, **options, device="cuda:0"), expected)
    assert "copy" in fake.log


@pytest.mark.parametrize("chunks", [7, 16, 33])
def test_chunks_give_equal_bits(network, chunks):
    layer, options = make_layer(), {"size": 16, "overlap": 6, "batch_size": 3, "output": "probabilities"}
    unchunked = predict(layer, network, **options).to_numpy()
    np.testing.assert_array_equal(predict(layer, network, chunks=chunks, **options).to_numpy(), unchunked)


def test_threads_and_copies_give_equal_bits(network):
    images = np.random.default_rng(2).normal(100, 30, (4, 2, 16, 16)).astype("float32")
    valid = np.ones((4, 16, 16), bool)
    runner = Runner.of(network, stage="probabilities", batch_size=4)
    copy = pickle.loads(pickle.dumps(runner))
    expected = runner(images, valid)
    assert copy.digest == runner.digest
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda k: (runner, copy)[k % 2](images, valid), range(16)):
            np.testing.assert_array_equal(result, expected)


def test_digest_differs_between_files(network, tmp_path):
    other = from_file(conv_onnx(tmp_path / "b.onnx", WEIGHT * 2), **BY_HAND)
    digests = {Runner.of(model, stage="raw", batch_size=1).digest for model in (network, other)}
    assert len(digests) == 2


def test_missing_band_is_named(network):
    with pytest.raises(InputError, match="no band 'red'"):
        predict(make_layer().sel(band=["green", "nir"]), network)


@pytest.mark.parametrize(
    ("output", "text"), [("embeddings", "exported for segmentation"), ("regression", "regression")]
)
def test_output_that_the_file_lacks(network, output, text):
    with pytest.raises(InputError, match=text):
        predict(make_layer(), network, output=output)


def test_logits_of_probabilities_raise(network):
    activated = FileNetwork(network.card, network.body, scaled=False, activated=True)
    with pytest.raises(InputError, match="after the activation"):
        predict(make_layer(), activated, output="logits")


def test_fixed_tile_size_is_named(tmp_path):
    fixed = from_file(conv_onnx(tmp_path / "a.onnx", WEIGHT, ("n", 2, 16, 16)), **BY_HAND)
    with pytest.raises(InputError, match=r"Pass size=\(16, 16\)"):
        predict(make_layer(), fixed, size=32)
    assert predict(make_layer(), fixed, size=16).shape == (50, 41)


def test_file_is_no_detector(network):
    with pytest.raises(InputError, match="not a list of dicts"):
        detect(make_layer(), network)


def test_classifier_of_chips(tmp_path):
    classifier = from_file(conv_onnx(tmp_path / "a.onnx", WEIGHT, pooled=True), **BY_HAND)
    assert classifier.card.task == "classification"
    chips = np.random.default_rng(3).normal(100, 30, (5, 2, 16, 16)).astype("float32")
    table = classify_images(chips, classifier, tta=False)
    with torch.no_grad():
        scaled = (torch.from_numpy(chips) - 100) / 30
        expected = nn.functional.conv2d(scaled, torch.from_numpy(WEIGHT), padding=2).mean((2, 3)).softmax(1)
    np.testing.assert_allclose(table["probability/forest"], expected[:, 1], atol=1e-5)


def test_cli_names_the_missing_bands(tmp_path, capsys):
    path = conv_onnx(tmp_path / "a.onnx", WEIGHT)
    assert cli.main(["predict", "image.tif", "--model", str(path), "--out", str(tmp_path / "map.tif")]) == 2
    assert "takes 2 bands, and their order is unknown. Put its MLM item beside it" in capsys.readouterr().err
