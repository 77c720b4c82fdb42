"""Regression on standardized targets: losses have no unit; outputs, maps and scores are in the units of the targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt.errors import InputError, LabelError
from geoxt.grid import coordinates
from geoxt.models import Network, from_checkpoint
from geoxt.models.network import CARD, save_checkpoint
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, SampleDataModule, Task, WindowDataModule, evaluate, fit

OPTIONS = {"epochs": 1, "progress": "none", "accelerator": "cpu"}
GRID = make_grid((64, 64))
KIND = "pixelwise-regression"


def make_data(labeled=lambda target: target > 8):
    """Return windows of targets of 5 to 45 that the image determines, with some of them missing."""
    image = np.random.default_rng(0).random((2, 64, 64), "float32")
    target = 40 * image[0] + 5
    ds = xr.Dataset(
        {
            "image": (("band", "y", "x"), image, {}),
            "target": (("y", "x"), np.where(labeled(target), target, -1).astype("float32"), {"_FillValue": -1.0}),
        },
        {"band": ["a", "b"], **coordinates(GRID)},
    )
    return WindowDataModule(ds, by_block(ds, size=16), size=16, length=16, batch_size=4)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def task(data):
    task = Task(data.card(model="test_unet", task=KIND))
    task.history = fit(task, data, **OPTIONS)
    return task


def test_card_has_moments_of_the_valid_targets(data):
    card = data.card(model="test_unet", task=KIND)
    target = data.data["target"].values
    values = np.concatenate([target[w.row : w.row + w.height, w.col : w.col + w.width].ravel() for w in data.windows])
    values = values[values > 8].astype("float64")
    np.testing.assert_allclose((*card.target_mean, *card.target_std), (values.mean(), values.std()), rtol=1e-6)


def test_maps_and_scores_have_the_units_of_the_targets(data, task, tmp_path):
    (epoch,) = task.history
    std = task.card.target_std[0]
    assert epoch["val/loss"] == pytest.approx((epoch["val/rmse"] / std) ** 2, rel=1e-4)
    image, target = data.data["image"], data.data["target"].values
    map_ = image.geoml.predict(task.network, size=64, overlap=0).values
    assert 20 < map_.mean() < 33
    assert (map_.dtype, map_.min() > -5, map_.max() < 60) == (np.dtype("float32"), True, True)
    scores = evaluate(task, data)
    tested = np.zeros((64, 64), bool)
    for region in data.split.test.nodes.values():
        for w in region.windows:
            tested[w.row : w.row + w.height, w.col : w.col + w.width] = True
    tiles = list(data.test_dataloader())
    with torch.no_grad():
        errors = torch.cat([(task(b["image"], b["image_valid"])[:, 0] - b["target"])[b["target_valid"]] for b in tiles])
    assert len(errors) == int((tested & (target > 8)).sum())
    assert scores["rmse"] == pytest.approx(float(errors.square().mean().sqrt()), rel=1e-5)
    restored = from_checkpoint(save_checkpoint(task.network, tmp_path / "a.ckpt"))
    assert restored.card == task.card
    np.testing.assert_array_equal(image.geoml.predict(restored, size=64, overlap=0).values, map_)


def test_targets_are_not_standardized_on_request(data):
    card = data.card(model="test_unet", task=KIND)
    task = Task(card, Recipe(standardize_targets=False))
    (epoch,) = fit(task, data, **OPTIONS)
    assert (task.card.target_mean, task.card.target_std) == ((), ())
    assert epoch["val/loss"] == pytest.approx(epoch["val/rmse"] ** 2, rel=1e-4)
    with pytest.raises(InputError, match="Pass a network of a card= without target_mean"):
        Task(Network(card), Recipe(standardize_targets=False))


def test_resuming_with_other_targets_raises(task):
    other = replace(task.card, target_mean=(), target_std=())
    with pytest.raises(InputError, match="Cannot resume .* its targets are not standardized"):
        task.on_load_checkpoint({CARD: other.to_dict()})
    with pytest.raises(InputError, match="Cannot resume .* its targets are standardized"):
        Task(other).on_load_checkpoint({CARD: task.card.to_dict()})


def test_outputs_are_those_of_the_body_in_target_units(task):
    image = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([3.0, -7.0])[:, None, None], torch.tensor([2.0, 0.5])[:, None, None]
    card = replace(task.card, codes=(0, 1), names=("a", "b"), target_mean=(3.0, -7.0), target_std=(2.0, 0.5))
    network = Network(card).eval()
    body = network.body((image - network.mean) / network.std)
    torch.testing.assert_close(network(image), body * std + mean)
    torch.testing.assert_close(network.standardized(network(image)), body, rtol=1e-4, atol=1e-5)
    assert torch.equal(Network(replace(card, target_mean=(), target_std=())).eval()(image), body)


@pytest.mark.parametrize(
    "fields", [{"target_std": (0.0,)}, {"target_std": ()}, {"target_mean": (float("nan"),)}, {"task": "segmentation"}]
)
def test_card_of_unfit_moments_raises(task, fields):
    with pytest.raises(InputError, match="Cannot standardize the 1 targets"):
        replace(task.card, **fields)


def test_sparse_and_constant_targets():
    with pytest.raises(LabelError, match="the training windows of an epoch have none that is valid"):
        make_data(lambda target: target > 99).card(model="test_unet", task=KIND)
    data = make_data()
    data.data["target"] = xr.full_like(data.data["target"], 7)
    card = data.card(model="test_unet", task=KIND)
    assert (card.target_mean, card.target_std) == ((7.0,), (1.0,))


def test_targets_of_images():
    generator = torch.Generator().manual_seed(0)
    items = [
        {"image": torch.rand(2, 8, 8, generator=generator), "label": torch.tensor([1000.0 + n, n or torch.nan])}
        for n in range(8)
    ]
    data = SampleDataModule(items, items, batch_size=4)
    card = data.card(model="test_classifier", task="regression")
    labels = np.array([item["label"].numpy() for item in items], "float64")
    np.testing.assert_allclose(card.target_mean, np.nanmean(labels, axis=0))
    np.testing.assert_allclose(card.target_std, np.nanstd(labels, axis=0))
    task = Task(card)
    (epoch,) = fit(task, data, **OPTIONS)
    assert epoch["val/rmse"] < 20  # about 709 of targets that are not standardized
    with torch.no_grad():
        assert 990 < float(task(items[0]["image"][None])[0, 0]) < 1020
    with pytest.raises(LabelError, match="no training sample that was read has a finite 'label'"):
        SampleDataModule([{**item, "label": torch.tensor(torch.nan)} for item in items]).card(
            model="test_classifier", task="regression"
        )
