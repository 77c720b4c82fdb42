"""Networks of model files have the values of the module; unknown bands, scaling and classes raise."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from geoxt.errors import InputError, ReadError
from geoxt.legend import Legend
from geoxt.models import Card, from_file
from geoxt.models.mlm import to_stac

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
BANDS, MEAN, STD = ("red", "nir"), (100.0, 50.0), (30.0, 20.0)
CLASSES = Legend((7, 2, 40), ("open water", "forest", "city"))
BY_HAND = {"bands": BANDS, "mean": MEAN, "std": STD, "legend": CLASSES}
FORMATS = ("onnx", "pt2", "torchscript")


class Pixelwise(nn.Module):
    """Logits of each pixel of scaled bands."""

    def __init__(self):
        super().__init__()
        weight = torch.tensor([[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]])
        self.weight = nn.Parameter(weight[:, :, None, None])

    def forward(self, image):
        return nn.functional.conv2d(image, self.weight)


def conv_onnx(path, sizes=("n", 2, "h", "w"), *, outputs=1, softmax=False, metadata=None, channels=2):
    """Write the same network, without torch's exporter."""
    weight = Pixelwise().weight.detach().numpy()
    weight = np.repeat(weight, channels // 2, axis=1) if channels != 2 else weight
    nodes = [onnx.helper.make_node("Conv", ["image", "weight"], ["logits"])]
    names = ["logits"]
    if softmax:
        nodes.append(onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
        names = ["probabilities"]
    if outputs == 2:
        nodes.append(onnx.helper.make_node("Neg", ["logits"], ["negative"]))
        names.append("negative")
    declared = [onnx.helper.make_tensor_value_info(name, 1, [sizes[0], 3, *sizes[2:]]) for name in names]
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("image", 1, list(sizes))],
        declared,
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def card(**options):
    return Card(
        task="segmentation", model="unet", bands=BANDS, mean=MEAN, std=STD, codes=CLASSES.codes, names=CLASSES.names,
        colors=CLASSES.colors, size=(16, 16), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    model, dims = Pixelwise().eval(), {"image": {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}}
    torch.export.save(
        torch.export.export(model, (torch.zeros(2, 2, 16, 16),), dynamic_shapes=dims), folder / "model.pt2"
    )
    with pytest.warns((DeprecationWarning, FutureWarning)):
        torch.jit.script(model).save(folder / "model.torchscript")
    conv_onnx(folder / "model.onnx")
    return folder


def images(count=3, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, 2, size, size), generator=generator) * 30 + 90


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_gives_logits_of_the_module(files, suffix):
    network = from_file(files / f"model.{suffix}", **BY_HAND)
    batch = images()
    scaled = (batch - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    expected = Pixelwise()(scaled).detach()
    logits = network(batch)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert not logits.requires_grad
    torch.testing.assert_close(network.activate(logits), expected.softmax(dim=1), rtol=1e-5, atol=1e-6)
    assert (network.card.bands, network.card.legend.names) == (BANDS, CLASSES.names)
    valid = torch.zeros(3, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(network(batch, valid), torch.zeros(3, 3, 16, 16))  # band means


@pytest.mark.parametrize("suffix", FORMATS)
def test_pickled_network_gives_equal_bits(files, suffix):
    network = from_file(files / f"model.{suffix}", **BY_HAND)
    restored = pickle.loads(pickle.dumps(network))
    assert torch.equal(restored(images()), network(images()))


@pytest.mark.parametrize(
    ("missing", "text"),
    [("bands", "order is unknown"), ("mean", "scaling of its bands is unknown"), ("legend", "have no names")],
)
def test_unknown_input_is_named(files, missing, text):
    with pytest.raises(InputError, match=text) as error:
        from_file(files / "model.onnx", **{name: value for name, value in BY_HAND.items() if name != missing})
    assert error.value.argument == missing


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"bands": ("red", "nir", "swir16")}, "input has 2 channels, and bands= has 3 bands: red, nir, swir16"),
        ({"bands": ("red", "red")}, "bands= is"),
        ({"bands": "rn"}, "bands= is"),
        ({"mean": (1.0, 2.0, 3.0)}, "by mean of 3 numbers"),
        ({"std": 0}, "standard deviation of 0"),
        ({"legend": Legend((0, 1), ("a", "b"))}, "3 channels, and its legend 2 classes: a, b"),
        ({"task": "classification"}, r"has the shape \(3, 16, 16\), not \(channels,\)"),
        ({"task": "detection"}, "for detection"),
        ({"activation": "sigmoid"}, "Cannot apply sigmoid"),
        ({"head": "negative"}, "with the outputs"),
    ],
)
def test_contradictions_raise(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        from_file(conv_onnx(tmp_path / "model.onnx", ("n", 2, 16, 16)), **{**BY_HAND, **options})


def test_scaling_takes_one_number(files):
    raw = from_file(files / "model.onnx", bands=BANDS, mean=0, std=1, legend=CLASSES)
    torch.testing.assert_close(raw(images()), Pixelwise()(images()).detach(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["model.onnx.json", "model.json"])
def test_item_beside_the_file(files, tmp_path, name):
    conv_onnx(tmp_path / "model.onnx")
    described = card(common_names=("red", "nir"), wavelengths=(0.665, 0.842))
    (tmp_path / name).write_text(json.dumps(to_stac(described)))
    network = from_file(tmp_path / "model.onnx")
    assert torch.equal(network(images()), from_file(files / "model.onnx", **BY_HAND)(images()))
    assert network.card.legend == CLASSES
    assert network.card.task == "segmentation"


def test_item_is_read_from_the_metadata_and_from_an_argument(tmp_path):
    path = conv_onnx(tmp_path / "a.onnx", metadata={"stac_mlm": json.dumps(to_stac(card()))})
    assert from_file(path).card.bands == BANDS
    other = to_stac(replace(card(), bands=("B04", "B08")))
    assert from_file(path, item=other).card.bands == ("B04", "B08")
    (tmp_path / "item.json").write_text(json.dumps({"type": "Feature", "properties": {}}))
    with pytest.raises(InputError, match="has no mlm:input"):
        from_file(path, item=tmp_path / "item.json")
    with pytest.raises(ReadError, match=r"missing\.json"):
        from_file(path, item=tmp_path / "missing.json")


def test_json_beside_the_file_that_is_no_item_is_ignored(tmp_path):
    path = conv_onnx(tmp_path / "a.onnx")
    (tmp_path / "a.json").write_text('{"mean": [1, 2]}')
    with pytest.raises(InputError, match="order is unknown"):
        from_file(path)


def changed(**fields):
    item = to_stac(card())
    item["properties"]["mlm:input"][0] |= fields
    return item


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ([{"type": "z-score", "mean": 100, "stddev": 10}], ((100.0, 100.0), (10.0, 10.0))),
        ([{"type": "min-max", "minimum": 10, "maximum": 210}], ((10.0, 10.0), (200.0, 200.0))),
        ([{"type": "scale", "value": 10000}], ((0.0, 0.0), (10000.0, 10000.0))),
        ([{"type": "offset", "value": 5}, {"type": "scale", "value": 2}], ((5.0, 0.0), (1.0, 2.0))),
        ([None, {"type": "scale", "value": 2}], ((0.0, 0.0), (1.0, 2.0))),
        (None, ((0.0, 0.0), (1.0, 1.0))),
    ],
)
def test_scaling_of_an_item(files, scaling, expected):
    network = from_file(files / "model.onnx", item=changed(value_scaling=scaling))
    assert (network.card.mean, network.card.std) == expected


STATISTICS = [{"mean": 100, "stddev": 10, "minimum": 1, "maximum": 3}, {"mean": 90, "stddev": 5}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"norm_type": "z-score", "statistics": STATISTICS}, ((100.0, 90.0), (10.0, 5.0))),
        ({"norm_type": "z-score", "statistics": STATISTICS[:1], "norm_by_channel": False}, ((100.0,) * 2, (10.0,) * 2)),
        ({"norm_type": "min-max", "statistics": STATISTICS[:1]}, ((1.0, 1.0), (2.0, 2.0))),
        ({"norm_type": None, "statistics": STATISTICS, "pre_processing_function": []}, ((0.0, 0.0), (1.0, 1.0))),
    ],
)
def test_items_of_earlier_versions_are_read(files, fields, expected):
    item = to_stac(card())
    item["stac_extensions"] = ["https://stac-extensions.github.io/mlm/v1.2.0/schema.json"]
    image, (output,) = item["properties"]["mlm:input"][0], item["properties"]["mlm:output"]
    del image["value_scaling"]
    image |= fields
    first, *others = output["classification:classes"]
    output["classification:classes"] = [{**first, "title": "Open Water", "color_hint": [0, 0, 255]}, *others]
    network = from_file(files / "model.onnx", item=item)
    assert (network.card.mean, network.card.std) == expected
    assert network.card.names == ("Open Water", *CLASSES.names[1:])
    assert network.card.codes == CLASSES.codes


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"value_scaling": None, "norm_type": "l2", "statistics": STATISTICS}, "norm_type 'l2'"),
        ({"value_scaling": None, "norm_type": "min-max", "statistics": STATISTICS}, "norm_type 'min-max'"),
        ({"value_scaling": None, "norm_type": "z-score"}, "norm_type 'z-score'"),
        (
            {"value_scaling": None, "norm_type": "z-score", "statistics": STATISTICS, "norm_by_channel": False},
            "norm_type 'z-score'",
        ),
        ({"value_scaling": [{"type": "clip", "minimum": 0, "maximum": 1}]}, "by 'clip'"),
        ({"value_scaling": [{"type": "scale", "value": 1}] * 3}, "2 bands by the 3 scalings"),
        ({"pre_processing_function": {"format": "python", "expression": "f"}}, "pre_processing_function"),
        ({"bands": ["a", "b", "c"]}, "3 bands by the 2 scalings"),
        ({"bands": ["a", "b", "c"], "value_scaling": None}, "has 2 channels, and its MLM item states 3 bands: a, b, c"),
        ({"bands": [{"name": "ndvi", "expression": "x", "format": "y"}]}, "computed by an expression"),
        ({"bands": []}, "order is unknown"),
        (
            {"input": {"dim_order": ["batch", "height", "width", "bands"], "shape": [-1, 8, 8, 2], "data_type": "x"}},
            "dimensions batch, height, width, bands",
        ),
    ],
)
def test_item_that_cannot_be_applied(files, fields, text):
    with pytest.raises(InputError, match=text):
        from_file(files / "model.onnx", item=changed(**fields))


def test_item_of_a_detector_or_of_several_inputs(files):
    item = to_stac(card())
    item["properties"]["mlm:tasks"] = ["object-detection"]
    with pytest.raises(InputError, match="for object-detection"):
        from_file(files / "model.onnx", item=item)
    item["properties"]["mlm:input"] *= 2
    with pytest.raises(InputError, match="describes 2 inputs"):
        from_file(files / "model.onnx", item=item)


def test_probabilities_are_recognized(tmp_path):
    path = conv_onnx(tmp_path / "a.onnx", softmax=True)
    network = from_file(path, **BY_HAND)
    assert network.activated
    assert torch.equal(network.activate(network(images())), network(images()))
    with pytest.raises(InputError, match="sum to 1.*Pass activation='identity'"):
        from_file(path, **BY_HAND, activation="softmax")


class Output(nn.Module):
    """A convolution with another output or order of dimensions."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.function = nn.Conv2d(2, 3, 1), function

    def forward(self, image):
        return self.function(self.conv, image)


@pytest.mark.parametrize(
    ("function", "shape", "text"),
    [
        (lambda conv, x: conv(x).sigmoid(), (1, 2, 16, 16), "Pass activation='identity' if .* or 'softmax'"),
        (lambda conv, x: conv(x).argmax(1), (1, 2, 16, 16), "whole numbers, such as class codes"),
        (lambda conv, x: conv(x).argmax(1, keepdim=True).float(), (1, 2, 16, 16), "whole numbers"),
        (lambda conv, x: conv(x.movedim(3, 1)).movedim(1, 3), (1, 16, 16, 2), r"bands last, \(N, H, W, 2\)"),
        (lambda conv, x: conv(x.movedim(3, 1))[:, :2].movedim(1, 3), (1, 16, 16, 2), "bands last"),
    ],
)
def test_outputs_of_other_forms_raise(tmp_path, function, shape, text):
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(Output(function), (torch.zeros(shape),)), path)
    with pytest.raises(InputError, match=text):
        from_file(path, **BY_HAND)
    if "activation" in text:
        assert not from_file(path, **BY_HAND, activation="softmax").activated


def test_one_channel_of_two_classes(tmp_path):
    class FirstBand(nn.Module):
        def forward(self, image):
            return image[:, :1]

    path = tmp_path / "one.pt2"
    torch.export.save(torch.export.export(FirstBand(), (torch.zeros(2, 2, 8, 8),)), path)
    network = from_file(path, bands=BANDS, mean=0, std=1, legend=Legend((0, 1), ("other", "water")))
    batch = torch.linspace(-3, 3, 3 * 2 * 64).view(3, 2, 8, 8)  # the file fixes the batch to 2 images
    chances = network.activate(network(batch))
    torch.testing.assert_close(chances[:, 1], batch[:, 0].sigmoid())
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(3, 8, 8))


def test_outputs_by_name(tmp_path):
    path = conv_onnx(tmp_path / "a.onnx", outputs=2)
    with pytest.raises(InputError, match=r"outputs 'logits', 'negative'\. Pass head="):
        from_file(path, **BY_HAND)
    negative, logits, second = (from_file(path, **BY_HAND, head=head) for head in ("negative", "logits", 1))
    assert torch.equal(negative(images()), -logits(images()))
    assert torch.equal(negative(images()), second(images()))


def test_fixed_size_is_named(tmp_path):
    network = from_file(conv_onnx(tmp_path / "a.onnx", (1, 2, 16, 16)), **BY_HAND)
    assert network(images(3)).shape == (3, 3, 16, 16)  # one image at a time
    with pytest.raises(InputError, match=r"its input is \(2, 16, 16\)\. Pass size=\(16, 16\)"):
        network(images(1, 32))


@pytest.mark.parametrize("name", ["broken.onnx", "broken.pt2", "missing.onnx"])
def test_broken_file(files, tmp_path, name):
    path = tmp_path / name
    if name.startswith("broken"):
        content = (files / f"model{path.suffix}").read_bytes()
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ReadError, match=name):
        from_file(path, **(BY_HAND if path.suffix == ".onnx" else {}))


def test_checkpoint_takes_no_arguments(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="Cannot change bands"):
        from_file(tmp_path / "a.ckpt", bands=BANDS)


def test_weights_in_another_file(tmp_path, monkeypatch):
    path = conv_onnx(tmp_path / "a.onnx")
    expected = from_file(path, **BY_HAND)(images())
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    monkeypatch.chdir(tmp_path.parent)
    content = (tmp_path / "w.bin").read_bytes()
    (tmp_path.parent / "w.bin").write_bytes(content[::-1])  # of another model, in the working directory
    assert torch.equal(from_file(path, **BY_HAND)(images()), expected)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ReadError, match=r"a\.onnx.*weight files in the same folder"):
        from_file(path, **BY_HAND)
