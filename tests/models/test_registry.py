"""Registry of architectures: names, facts of each, and errors of invalid requests."""

import pytest
import torch

from geoxt import models
from geoxt.errors import InputError


def test_every_task_has_an_architecture_and_a_tiny_one():
    tasks = {task for row in models.ARCHITECTURES.values() for task in row.tasks}
    assert tasks == {
        "classification",
        "multilabel",
        "regression",
        "segmentation",
        "pixelwise-regression",
        "change",
        "detection",
        "instance-segmentation",
        "time-series",
        "embedding",
    }
    for task in tasks:
        names = models.names(task=task)
        assert any(name.startswith("test_") for name in names)
        assert any(not name.startswith("test_") for name in names)


@pytest.mark.parametrize("name", models.names())
def test_architecture_is_complete(name):
    row = models.get(name)
    assert models.describe(name).startswith(f"{name}: {row.task}")
    assert row.name == name
    assert "https://" in row.reference
    assert row.input_shape.count("C") == 1 if row.task != "time-series" else "T" in row.input_shape
    assert set(row.options).isdisjoint({"in_chans", "num_classes", "bands"})


def test_timm_model_by_name():
    assert models.get("timm/test_resnet").task == "classification"
    model = models.create("timm/test_resnet", in_chans=4, num_classes=3, drop_path_rate=0.1).eval()
    assert model(torch.zeros(1, 4, 20, 30)).shape == (1, 3)


@pytest.mark.parametrize("name", ["test_vit", "timm/swin_tiny_patch4_window7_224"])
def test_transformers_take_images_of_any_shape(name):
    small = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)} if "swin" in name else {}
    model = models.create(name, in_chans=2, num_classes=3, **small).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 2, 33, 50)).shape == (1, 3)


def test_bands_set_in_chans_and_names():
    model = models.create("test_fcn", bands=["B02", "B03"], num_classes=2)
    assert model.bands == ("B02", "B03")
    assert model(torch.zeros(1, 2, 5, 5)).shape == (1, 2, 5, 5)
    assert "bands" not in model.state_dict()


def test_fitting_shapes_are_not_padded():
    model = models.create("test_unet", in_chans=1, num_classes=2).eval()
    image = torch.randn(1, 1, 32, 32)
    features = torch.cat([model.decoder(model.encoder(image)), model.detail(image)], dim=1)
    assert torch.equal(model(image), model.head(features))


@pytest.mark.parametrize("name", ["test_fpn", "test_upernet"])
def test_padding_is_cropped(name):
    model = models.create(name, in_chans=1, num_classes=2).eval()
    image = torch.randn(1, 1, 30, 20)
    padded = torch.nn.functional.pad(image, (0, 12, 0, 2), mode="replicate")
    assert torch.equal(model(image), model.body(padded)[..., :30, :20])


def test_unet_without_detail_branch():
    model = models.create("test_unet", in_chans=1, num_classes=2, detail=0)
    assert model.detail is None
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("u-net", {}, r"named 'u-net'. Did you mean unet\?"),
        ("timm/resnet19", {}, r"named 'timm/resnet19'. Did you mean timm/resnet"),
        ("test_unet", {"width": 3}, r"option 'width'\. Pass some of encoder, weights"),
        ("test_unet", {"in_chans": 0}, "in_chans=0"),
        ("test_unet", {"in_chans": None}, r"without the number of input bands\. Pass in_chans=\. Or pass bands="),
        ("test_unet", {"bands": ["a"]}, r"in_chans=2 for 1 bands\. Pass only one of"),
        ("test_unet", {"in_chans": None, "bands": ["a", "a"]}, "Pass bands= as a list of distinct names"),
        ("test_unet", {"in_chans": None, "bands": "red"}, "Pass bands= as a list of distinct names"),
        ("test_unet", {"num_classes": None}, r"the number of output channels\. Pass num_classes="),
        ("test_unet", {"decoder": (8, 8, 8)}, "depth 2 with 3 decoder stages"),
        ("test_unet", {"encoder": "no-such-encoder"}, "encoder 'no-such-encoder'"),
        ("test_unet", {"encoder": "tu-no_such_model"}, "encoder 'tu-no_such_model'"),
        ("test_fpn", {"encoder": "tu-no_such_model"}, "FPN on 'tu-no_such_model'"),
        ("test_fpn", {"encoder": "tu-test_vit"}, "FPN on 'tu-test_vit'"),
        ("test_classifier", {"encoder": "no_such_model"}, "timm's 'no_such_model'"),
        ("test_classifier", {"no_such_option": 1}, "no_such_option"),
        ("test_fc_ef", {"fusion": "late"}, "fusion='late'"),
        ("test_fc_ef", {"widths": (8,)}, r"widths=\(8,\) and depths=\(2, 3\)"),
        ("test_utae", {"decoder": (8, 8)}, r"encoder=\(8, 16\) and decoder=\(8, 8\)"),
        ("test_utae", {"heads": 5}, "among 5 heads"),
        ("test_faster_rcnn", {"mean": [0.0]}, r"2 bands by 1 numbers\. Pass mean= with 2"),
        ("test_rcf", {"features": 3}, r"features=3: .* Pass features=, an even number"),
    ],
)
def test_invalid_request_raises(name, options, message):
    with pytest.raises(InputError, match=message):
        models.create(name, **{"in_chans": 2, "num_classes": 2, **options})


def test_module_as_name_raises():
    with pytest.raises(InputError, match="Cannot take a Linear as the name of an architecture. Pass model="):
        models.describe(torch.nn.Linear(1, 1))
