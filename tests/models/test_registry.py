"""The registry: names, facts of each architecture, and requests that cannot be met, which say what to pass."""

import pytest
import torch

from geoxt import models
from geoxt.errors import InputError


def test_every_task_has_architectures_and_a_tiny_one():
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
        found = models.names(task=task)
        assert any(name.startswith("test_") for name in found)
        assert any(not name.startswith("test_") for name in found)


@pytest.mark.parametrize("name", models.names())
def test_the_card_of_an_architecture_says_what_it_is(name):
    row = models.info(name)
    assert row.name == name
    assert "https://" in row.reference
    assert row.takes.count("C") == 1 if row.task != "time-series" else "T" in row.takes
    assert set(row.options).isdisjoint({"in_chans", "classes", "bands"})


def test_a_model_of_timm_can_be_had_by_its_own_name():
    assert models.info("timm/test_resnet").task == "classification"
    model = models.create("timm/test_resnet", in_chans=4, classes=3, drop_path_rate=0.1).eval()
    assert model(torch.zeros(1, 4, 20, 30)).shape == (1, 3)


@pytest.mark.parametrize("name", ["test_vit", "timm/swin_tiny_patch4_window7_224"])
def test_transformers_take_images_of_any_shape(name):
    small = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)} if "swin" in name else {}
    model = models.create(name, in_chans=2, classes=3, **small).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 2, 33, 50)).shape == (1, 3)


def test_bands_give_their_number_and_their_names():
    model = models.create("test_fcn", bands=["B02", "B03"], classes=2)
    assert model.bands == ("B02", "B03")
    assert model(torch.zeros(1, 2, 5, 5)).shape == (1, 2, 5, 5)
    assert "bands" not in model.state_dict()


def test_padding_to_the_encoders_multiple_leaves_fitting_shapes_alone():
    model = models.create("test_unet", in_chans=1, classes=2).eval()
    image = torch.randn(1, 1, 32, 32)
    features = torch.cat([model.decoder(model.encoder(image)), model.detail(image)], dim=1)
    assert torch.equal(model(image), model.head(features))


@pytest.mark.parametrize("name", ["test_fpn", "test_upernet"])
def test_padding_is_cropped_again(name):
    model = models.create(name, in_chans=1, classes=2).eval()
    image = torch.randn(1, 1, 30, 20)
    padded = torch.nn.functional.pad(image, (0, 12, 0, 2), mode="replicate")
    assert torch.equal(model(image), model.body(padded)[..., :30, :20])


def test_detail_can_be_left_out():
    model = models.create("test_unet", in_chans=1, classes=2, detail=0)
    assert model.detail is None
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("u-net", {}, r"named 'u-net'. Did you mean 'unet'\?"),
        ("timm/resnet19", {}, r"named 'timm/resnet19'. Did you mean 'timm/resnet"),
        ("test_unet", {"width": 3}, "option 'width': pass some of encoder, weights"),
        ("test_unet", {"in_chans": 0}, "in_chans=0"),
        ("test_unet", {"in_chans": None}, "without knowing its bands: pass in_chans= or bands="),
        ("test_unet", {"bands": ["a"]}, "in_chans=2 for 1 bands: pass only one of the two"),
        ("test_unet", {"in_chans": None, "bands": ["a", "a"]}, "a list of names, each once"),
        ("test_unet", {"in_chans": None, "bands": "red"}, "a list of names, each once"),
        ("test_unet", {"classes": None}, "length of its output: pass classes="),
        ("test_unet", {"decoder": (8, 8, 8)}, "depth 2 with 3 decoder steps"),
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
        ("test_faster_rcnn", {"mean": [0.0]}, "2 bands by 1 numbers: pass 2 in mean="),
        ("test_rcf", {"features": 3}, "features=3: pass an even number"),
    ],
)
def test_a_request_that_cannot_be_met_says_what_to_pass(name, options, message):
    with pytest.raises(InputError, match=message):
        models.create(name, **{"in_chans": 2, "classes": 2, **options})
