"""A loss that is not finite stops the run, and names the labels of the batch."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from geoxt.errors import InputError, LabelError
from geoxt.grid import coordinates
from geoxt.models import Card
from geoxt.samplers import RandomSampler
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import (
    Recipe,
    SampleDataModule,
    SelfSupervised,
    Task,
    UnlabeledDataModule,
    WindowDataModule,
    evaluate,
    fit,
)

OPTIONS = {"progress": "none", "accelerator": "cpu"}


def make_data(*, target="mask", seed=0):
    rng = np.random.default_rng(seed)
    image = xr.DataArray(rng.random((2, 48, 48), "float32"), dims=("band", "y", "x"), coords={"band": ["a", "b"]})
    values = rng.random((48, 48), "float32") if target == "target" else rng.choice([3, 11], (48, 48)).astype("uint8")
    labels = xr.DataArray(values, dims=("y", "x"))
    if target == "mask":
        labels.attrs.update(flag_values=np.array([3, 11], "uint8"), flag_meanings="open_water forest")
    ds = xr.Dataset({"image": image, target: labels}).assign_coords(coordinates(make_grid((48, 48))))
    return WindowDataModule(ds, by_block(ds, size=16), size=16, length=16, batch_size=4)


def test_run_stops_and_names_the_classes(tmp_path):
    data = make_data()
    task = Task(data.card(model="test_unet"), Recipe(lr=1e30))
    with pytest.raises(InputError, match="loss of batch 2 of epoch 1 is nan; its labels are of the classes open water"):
        fit(task, data, epochs=2, resume=tmp_path, **OPTIONS)
    assert not (tmp_path / "best.ckpt").exists()


def test_weights_do_not_follow_the_loss():
    data = make_data()
    task = Task(data.card(model="test_unet"))
    task.class_weights = torch.tensor([float("inf"), 1.0])
    before = [parameter.clone() for parameter in task.network.parameters()]
    with pytest.raises(InputError, match="the class weights are inf, 1. Lower lr"):
        fit(task, data, epochs=1, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(before, task.network.parameters(), strict=True))


@pytest.mark.parametrize("labelled", [0, 1])
def test_training_without_labels_stops_before_the_model_is_scored(labelled, tmp_path):
    class Samples:
        classes = ("dark", "bright")

        def __init__(self, count, labels):
            self.count, self.labels = count, labels

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            return {"image": torch.ones(2, 8, 8), "label": torch.tensor(index % 2 if index < self.labels else -100)}

    data = SampleDataModule(Samples(8, labelled), Samples(4, 4), batch_size=4)
    task = Task(data.card(model="test_classifier"))
    if labelled:  # one sample is enough
        assert len(fit(task, data, epochs=1, **OPTIONS)) == 1
        return
    with pytest.raises(InputError, match="no batch of epoch 1 has a labelled pixel or sample"):
        fit(task, data, epochs=1, resume=tmp_path, **OPTIONS)
    assert not (tmp_path / "best.ckpt").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_trainer_of_lightning_stops_as_well():
    data = make_data()
    task = Task(data.card(model="test_unet"), Recipe(lr=1e30))
    trainer = pl.Trainer(
        max_epochs=1, logger=False, accelerator="cpu", enable_checkpointing=False, enable_progress_bar=False
    )
    with pytest.raises(InputError, match="loss of batch 2 of epoch 1"):
        trainer.fit(task, datamodule=data)


def test_regression_names_the_range_of_values():
    data = make_data(target="target")
    task = Task(data.card(model="test_unet", task="pixelwise-regression"), Recipe(lr=1e30))
    with pytest.raises(InputError, match=r"is (nan|inf); its labels are from 0\.\d+ to 0\.9"):
        fit(task, data, epochs=1, **OPTIONS)


def test_self_supervised_run_stops():
    layer = make_data().data["image"]
    data = UnlabeledDataModule(layer, RandomSampler(layer, size=32, length=16), batch_size=4)
    task = SelfSupervised(data.card(model="test_classifier"), "simclr", recipe=Recipe(lr=1e30, ema_decay=None))
    with pytest.raises(InputError, match="the loss of batch . of epoch 1 is"):
        fit(task, data, epochs=2, **OPTIONS)


def test_validation_and_test_stop_on_nonfinite_outputs():
    data = make_data()
    task = Task(data.card(model="test_unet"), Recipe(lr=0))
    norm = next(layer for layer in task.network.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    norm.running_var.fill_(float("nan"))  # used in evaluation only
    with pytest.raises(InputError, match="test/loss is nan, so that its outputs are not finite"):
        evaluate(task, data, accelerator="cpu")
    norm.momentum = 0.0
    with pytest.raises(InputError, match="val/loss is nan, so that its outputs are not finite"):
        fit(task, data, epochs=1, **OPTIONS)


def test_one_class_raises():
    data = make_data()
    data.data["mask"][:] = 3
    with pytest.raises(LabelError, match="classes open water: training needs two or more"):
        Task(data.card(model="test_unet"))


@pytest.mark.parametrize("weights", [(1.0, float("inf")), (1.0, float("nan")), (-1.0, 1.0), (0.0, 0.0)])
def test_class_weights_are_finite_and_positive(weights):
    with pytest.raises(InputError, match="Cannot weight classes by class_weights="):
        Task(make_data().card(model="test_unet"), Recipe(class_weights=weights))


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (0.0, 0.0), (0.0, float("inf")), (0.0, -1.0)])
def test_card_needs_a_finite_scaling(mean, std):
    with pytest.raises(InputError, match="Cannot scale the band 'a' by a mean of"):
        Card(
            task="segmentation", model="test_unet", bands=("a",), mean=(mean,), std=(std,), codes=(0, 1),
            names=("x", "y"), colors=(), size=(32, 32),
        )  # fmt: skip
