"""Exported files give the checkpoint's probabilities on noise and pixels, and hold its card and MLM item."""

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pystac
import pytest
import torch
from torch import nn

from geoxt import cli
from geoxt.errors import InputError, OutputError
from geoxt.models import Card, Network, export, from_file
from geoxt.models.model_export import _OPERATOR
from geoxt.models.network import CARD, PREFIX

BANDS = ("red", "nir")


def make_network(**fields):
    values = {
        "task": "segmentation", "model": "fcn", "options": {"width": 4, "layers": 2}, "bands": BANDS,
        "mean": (100.0, 50.0), "std": (30.0, 20.0), "codes": (7, 2, 40), "names": ("open water", "forest", "city"),
        "colors": ("#0000ff", "#00ff00", "#ff0000"), "size": (16, 24),
    }  # fmt: skip
    return Network(Card(**{**values, **fields})).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = make_network()
    path = tmp_path_factory.mktemp("run") / "model.ckpt"
    state = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    torch.save({CARD: network.card.to_dict(), "state_dict": state}, path)
    return path


@pytest.fixture(scope="module", params=["pt2", "onnx"])
def file(request, checkpoint):
    if request.param == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    path = checkpoint.with_name(f"model.{request.param}")
    assert cli.main(["export", str(checkpoint), "--to", str(path)]) == 0
    return path


def test_exported_file_equals_the_checkpoint(checkpoint, file):
    network, exported = from_file(checkpoint), from_file(file)
    generator = torch.Generator().manual_seed(1)
    for shape in ((1, 2, 16, 24), (5, 2, 33, 19)):  # any batch, height and width
        image = torch.randn(shape, generator=generator) * 30 + 90
        valid = torch.rand(shape[0], *shape[2:], generator=generator) > 0.2
        with torch.no_grad():
            expected = network.activate(network(image, valid))
        torch.testing.assert_close(exported.activate(exported(image, valid)), expected, rtol=0, atol=1e-5)
    assert exported.card == network.card


def test_item_is_in_and_beside_the_file(checkpoint, file):
    item = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert item["assets"]["model"]["href"] == file.name
    pystac.Item.from_dict(item)
    image, output = item["properties"]["mlm:input"][0], item["properties"]["mlm:output"][0]
    assert image["value_scaling"] is None
    assert (image["bands"], output["name"]) == (list(BANDS), "probabilities")
    by_item = from_file(file, item=item)  # as another program would use the file
    pixels = torch.randn(2, 2, 16, 24) * 30 + 90
    torch.testing.assert_close(by_item.activate(by_item(pixels)), from_file(file)(pixels))
    assert by_item.card.legend == from_file(checkpoint).card.legend
    assert sorted(path.name for path in file.parent.iterdir() if path.name.startswith(".")) == []
    assert str(file.parents[1]).encode() not in file.read_bytes()
    assert b"geoxt/models" not in (file.read_bytes() if file.suffix == ".onnx" else graph_of(file))


def graph_of(path):
    with zipfile.ZipFile(path) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("models/model.json"))


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        (
            {
                "task": "pixelwise-regression",
                "codes": (0,),
                "names": ("height",),
                "colors": ("#000000",),
                "target_mean": (20.0,),
                "target_std": (8.0,),
            },
            (2, 2, 16, 24),
        ),
        pytest.param(
            {"task": "change", "model": "test_fc_siam_diff", "options": {}}, (2, 2, 2, 16, 24), marks=pytest.mark.slow
        ),
        pytest.param(
            {"task": "multilabel", "model": "test_classifier", "options": {}, "size": (32, 32)},
            (2, 2, 32, 32),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_other_tasks(tmp_path, fields, shape):
    network = make_network(**fields)
    exported = from_file(export(network, tmp_path / "a.pt2"))
    image = torch.randn(shape) * 30 + 90
    with torch.no_grad():
        expected = network.activate(network(image))
    torch.testing.assert_close(exported.activate(exported(image)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["model.pt", "model", "model.h5"])
def test_unknown_extension(tmp_path, name):
    with pytest.raises(InputError, match=r"none of \.pt2, \.onnx"):
        export(make_network(), tmp_path / name)


def test_detector_names_its_operator(tmp_path):
    network = make_network()
    network.card = replace(network.card, task="detection")
    with pytest.raises(InputError, match="torchvision::nms"):
        export(network, tmp_path / "a.pt2")


@pytest.mark.parametrize("model", [nn.Conv2d(2, 3, 1), "file"])
def test_only_trained_networks_are_exported(tmp_path, checkpoint, file, model):
    with pytest.raises(InputError, match="not a network trained by geoxt"):
        export(file if model == "file" else model, tmp_path / "a.pt2")


class DataDependent(nn.Module):
    def forward(self, image):
        return image[:, :1] if float(image.mean()) > 0 else image[:, 1:]


def test_model_that_cannot_be_exported_leaves_no_file(tmp_path):
    network = make_network()
    network.body = DataDependent()
    with pytest.raises(InputError, match="Cannot export the architecture 'fcn': the format does not support"):
        export(network, tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


class Bessel(nn.Module):
    def forward(self, image):
        return torch.special.bessel_j0(image)


def test_operator_without_onnx_is_named(tmp_path):
    pytest.importorskip("onnxscript")
    network = make_network()
    network.body = Bessel()
    with pytest.raises(InputError, match=r"does not support the operator (aten|prims)\.\w*bessel_j0"):
        export(network, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_other_outputs_raise(tmp_path, monkeypatch):
    monkeypatch.setattr("geoxt.models.model_export._TOLERANCE", -1.0)
    with pytest.raises(OutputError, match="differ by"):
        export(make_network(), tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("message", "operator"),
    [
        ("No ONNX function found for <OpOverload(op='aten.cdist', overload='default')>.", "aten.cdist"),
        ("Could not run 'aten::nonzero' with arguments", "aten::nonzero"),
        ("torch.ops.torchvision.nms.default is not supported", "torch.ops.torchvision.nms"),
    ],
)
def test_operators_are_found_in_errors(message, operator):
    assert _OPERATOR.search(message)[0].startswith(operator)


def test_cli_names_its_flags(tmp_path, checkpoint, capsys):
    assert cli.main(["export", str(checkpoint), "--to", str(tmp_path / "a.bin")]) == 2
    assert "Pass --to with the extension .pt2 or .onnx." in capsys.readouterr().err
    np.testing.assert_equal(list(tmp_path.iterdir()), [])


def test_compiling_needs_a_compiler_and_pt2(checkpoint, tmp_path, monkeypatch):
    def compile_and_package(*_args, **_options):
        raise torch._inductor.exc.InvalidCxxCompiler

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_and_package)
    with pytest.raises(InputError, match=r"no C\+\+ compiler was found.*compile=False"):
        export(checkpoint, tmp_path / "model.pt2", compile=True)
    with pytest.raises(InputError, match=r"AOTInductor writes \.pt2 files"):
        export(checkpoint, tmp_path / "model.onnx", compile=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_compiled_file_equals_the_checkpoint(checkpoint, tmp_path):
    path = tmp_path / "model.pt2"
    assert cli.main(["export", str(checkpoint), "--to", str(path), "--compile"]) == 0
    with pytest.raises(InputError, match=r"compiled code.*trust=True"):
        from_file(path)
    network, compiled = from_file(checkpoint), from_file(path, trust=True)
    assert compiled.card == network.card
    image = torch.randn((5, 2, 33, 19), generator=torch.Generator().manual_seed(1)) * 30 + 90
    with torch.no_grad():
        expected = network.activate(network(image))
        torch.testing.assert_close(compiled.activate(compiled(image)), expected, rtol=0, atol=1e-5)
