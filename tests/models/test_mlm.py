"""The STAC item of a model card says what the card says, in the terms of the Machine Learning Model extension."""

import json
import re

import pystac
import pytest

from geoxt.models import Card
from geoxt.models.mlm import TASKS, to_stac

mlm = pytest.importorskip("pystac.extensions.mlm")
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]")


def make_card(task="segmentation"):
    return Card(
        task=task, model="test_unet", bands=("green", "nir"), mean=(100.0, 90.5), std=(30.0, 20.0), codes=(7, 2),
        names=("open water", "forêt & maquis"), colors=("#0000ff", "#00ff7a"), size=(32, 48),
    )  # fmt: skip


def extension(card, **options):
    item = pystac.Item.from_dict(json.loads(json.dumps(to_stac(card, **options))))
    assert mlm.MLMExtension.has_extension(item)
    return item, mlm.MLMExtension.ext(item)


def test_the_extensions_own_classes_read_the_card_back():
    card = make_card()
    item, found = extension(card, weights=1234)
    assert (found.architecture, found.framework, found.total_parameters) == ("test_unet", "PyTorch", 1234)
    assert found.tasks == [mlm.TaskType.SEMANTIC_SEGMENTATION]
    assert NAME.fullmatch(found.mlm_name)
    (image,) = found.input
    assert image.input.shape == [-1, 2, 32, 48]
    assert image.input.dim_order == ["batch", "bands", "height", "width"]
    assert item.properties["bands"] == [{"name": "green"}, {"name": "nir"}]
    assert [band if isinstance(band, str) else band.name for band in image.bands] == ["green", "nir"]
    (output,) = found.output
    assert output.tasks == found.tasks
    assert output.result.shape == [-1, 2, 32, 48]
    classes = output.classes
    assert [(one.value, one.title, one.color_hint) for one in classes] == [
        (7, "open water", "0000FF"),
        (2, "forêt & maquis", "00FF7A"),
    ]
    assert all(re.fullmatch("[0-9A-Za-z_-]+", one.name) for one in classes)


def test_scaling_is_stated_for_each_band_as_the_extension_wants_it():
    (image,) = to_stac(make_card())["properties"]["mlm:input"]
    scaling = [mlm.ValueScaling(one) for one in image["value_scaling"]]
    for one in scaling:
        mlm.ValueScaling.validate_property_dict(one.type, one.to_dict())
    assert [(one.type, one.mean, one.stddev) for one in scaling] == [("z-score", 100.0, 30.0), ("z-score", 90.5, 20.0)]


def test_the_checkpoint_is_the_items_asset():
    item, _ = extension(make_card(), href="runs/best.ckpt")
    asset = item.assets["model"]
    assert asset.href == "runs/best.ckpt"
    assert asset.roles == ["mlm:model"]
    assert mlm.AssetGeneralMLMExtension.ext(asset).artifact_type == "torch.save"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_name_that_the_extension_knows(task):
    _, found = extension(make_card(task))
    assert [mlm.TaskType(one) for one in found.tasks] == found.tasks
    (output,), (image,) = found.output, found.input
    assert len(output.result.shape) == len(output.result.dim_order) == len(set(output.result.dim_order))
    assert ("time" in image.input.dim_order) == (task in {"change", "time-series"})
