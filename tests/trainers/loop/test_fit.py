"""Fitting: accuracy, reproducibility, best epoch, valid pixels, and an unchanged torch state afterwards."""

import math
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.legend import Legend
from geoxt.metrics.label_codes import IGNORE
from geoxt.metrics.maps import score
from geoxt.models import Network, from_checkpoint
from geoxt.samplers import GridRegion, Region
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, Task, WindowDataModule, evaluate, fit
from geoxt.trainers.datamodules.layer_windows import tiles
from geoxt.trainers.loop.callbacks import ema_average
from geoxt.trainers.loop.optimizers import configure
from geoxt.windows import Window


@pytest.fixture(scope="module")
def data():
    """Two bands, the first of which determines the class (3 or 11); a strip without labels and one without image."""
    rng = np.random.default_rng(0)
    field = np.kron(rng.random((12, 12)) < 0.5, np.ones((8, 8), bool))
    image = np.stack([np.where(field, 900, 100), np.full(field.shape, 50)]) + rng.normal(0, 20, (2, *field.shape))
    mask = np.where(field, 11, 3).astype("uint8")
    image[:, :, :4], mask[:4] = -1, 0
    coords = coordinates(make_grid(field.shape))
    legend = Legend((3, 11), ("low", "high"))
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), image.astype("float32"), {"_FillValue": -1.0}),
            "mask": (("y", "x"), mask, {"_FillValue": 0, **legend.attrs()}),
        },
        coords={"band": ["nir", "red"], **coords},
    )


@pytest.fixture
def module(data):
    return WindowDataModule(data, by_block(data, size=24), size=16, length=32, batch_size=8)


def weights(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def test_fit_learns_and_its_checkpoint_predicts_the_same(module, data, tmp_path, capsys):
    task = Task(module.card(model="test_unet"))
    history = fit(task, module, epochs=4, checkpoint=tmp_path / "model.ckpt", progress="lines")
    assert history[-1]["val/accuracy"] > 0.9
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3, 4]
    assert {"train/loss", "val/loss", "val/miou", "val/iou/low", "val/iou/high"} <= set(history[0])
    assert capsys.readouterr().out.splitlines()[0].startswith("epoch 1/4  loss ")
    assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]

    network = from_checkpoint(tmp_path / "model.ckpt")
    assert network.card == task.card
    assert network.card.bands == ("nir", "red")
    assert (network.card.codes, network.card.names, network.card.nodata) == ((3, 11), ("low", "high"), 0)
    assert torch.equal(weights(network), weights(task.network))
    predicted = predict(data["image"], tmp_path / "model.ckpt", size=32, overlap=8)
    np.testing.assert_array_equal(predicted, predict(data["image"], task, size=32, overlap=8))
    assert (predicted.to_numpy()[:, :4] == 0).all()
    scores = evaluate(task, module)
    assert scores["pixels"] > 0
    assert dict(evaluate(tmp_path / "model.ckpt", module)) == dict(evaluate(network, module)) == dict(scores)
    assert not network.training
    assert score(predicted, data["mask"], region=module.split.test)["accuracy"] > 0.9


def test_a_module_is_trained_and_restored_by_its_card(module, data, tmp_path):
    body = torch.nn.Conv2d(2, 2, 1)
    task = Task(Network(module.card(model="linear"), body=body))
    before = weights(task.network)
    fit(task, module, epochs=1, checkpoint=tmp_path / "own.ckpt")
    restored = from_checkpoint(tmp_path / "own.ckpt", body=torch.nn.Conv2d(2, 2, 1))
    assert torch.equal(weights(restored), weights(task.network))
    assert not torch.equal(weights(restored), before)
    with pytest.raises(InputError, match="'linear'"):
        from_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(InputError, match=r"weights do not fit 'linear': size mismatch .* Pass body="):
        from_checkpoint(tmp_path / "own.ckpt", body=torch.nn.Conv2d(2, 3, 1))


@pytest.mark.parametrize("terminal", [True, False])
def test_bar_is_shown_in_a_terminal_only(module, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    fit(Task(module.card(model="test_unet"), seed=0), module, epochs=1, progress="bar")
    output = capsys.readouterr()
    assert ("it/s" in output.out + output.err) == terminal


def test_same_seed_gives_same_weights(data):
    runs = []
    for seed in (1, 1, 2):
        module = WindowDataModule(data, by_block(data, size=24, seed=seed), size=16, length=16, batch_size=8, seed=seed)
        task = Task(module.card(model="test_unet", dropout=0.1), seed=seed)
        runs.append((fit(task, module, epochs=2, seed=seed, progress="none"), weights(task.network)))
        torch.rand(3)
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][1], runs[2][1])


def test_fit_restores_global_generator_and_deterministic_mode(module):
    before = torch.get_rng_state()
    fit(Task(module.card(model="test_unet")), module, epochs=1, progress="none")
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("schedule", ["one-cycle", "plateau", "constant"])
def test_every_schedule_runs_without_ema(module, schedule):
    recipe = Recipe(schedule=schedule, loss="cross_entropy+dice", ema_decay=None, monitor="val/loss", augment=False)
    history = fit(Task(module.card(model="test_unet"), recipe), module, epochs=2, progress="none")
    assert history[1]["train/loss"] < history[0]["train/loss"]


@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_one_cycle_of_few_steps(steps):
    """A cycle whose rising phase has no step: torch divides by its length."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    schedule = configure(Recipe(lr=0.1), [parameter], steps=steps, monitor="val/loss")["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert 0 < max(rates) <= 0.1
    assert np.isfinite(rates).all()


def test_best_epoch_is_loaded_instead_of_the_last(module):
    task = Task(module.card(model="test_unet"), Recipe(lr=0.5, schedule="constant", ema_decay=None))
    history = fit(task, module, epochs=4, progress="none")
    best = max(epoch["val/accuracy"] for epoch in history)
    counts = task.val
    counts.reset()
    with torch.no_grad():
        for batch in module.val_dataloader():
            counts.update(task(batch["image"], batch["image_valid"]).argmax(dim=1), task.target(batch))
    assert (counts.compute().diagonal().sum() / counts.compute().sum()).item() == pytest.approx(best)


def test_second_fit_is_in_training_mode(module):
    task, modes = Task(module.card(model="test_unet")), []

    class RecordMode(pl.Callback):
        def on_train_batch_start(self, *_):
            modes.append(all(part.training for part in task.network.modules()))

    for _ in range(2):
        fit(task, module, epochs=1, progress="none", callbacks=[RecordMode()])
        assert not task.training
    assert modes == [True] * 8


def test_last_epoch_is_saved_without_validation_part(data, tmp_path):
    split = by_block(data, size=24)
    module = WindowDataModule(
        data, replace(split, val=Region({"": GridRegion(split.grid, ())})), size=16, length=32, batch_size=8
    )
    task = Task(module.card(model="test_unet"))
    best, folder = tmp_path / "model.ckpt", tmp_path / "run"
    history = fit(task, module, epochs=2, progress="none", checkpoint=best, resume=folder)
    checkpoint = torch.load(best, weights_only=True)
    assert (checkpoint["epoch"], len(history)) == (1, 2)
    assert torch.equal(weights(from_checkpoint(best)), weights(task.network))
    again = Task(task.card, seed=1)
    assert fit(again, module, epochs=2, progress="none", checkpoint=best, resume=folder) == history
    assert torch.equal(weights(again.network), weights(task.network))


def test_pixels_without_image_or_label_are_ignored(module):
    task = Task(module.card(model="test_unet"))
    batch = next(iter(module.train_dataloader()))
    target = task.target(batch)
    known = batch["image_valid"] & batch["mask_valid"]
    assert 0 < known.sum() < known.numel()
    assert torch.equal(target != IGNORE, known)
    assert torch.equal(torch.tensor([3, 11])[target[known]], batch["mask"][known])


def test_model_output_is_independent_of_invalid_pixels(module):
    task = Task(module.card(model="test_unet")).eval()
    image, valid = torch.full((1, 2, 16, 16), 300.0), torch.ones(1, 16, 16, dtype=torch.bool)
    valid[:, :8] = False
    other = image.where(valid[:, None], math.nan)
    assert torch.equal(task(image, valid), task(other, valid))


def test_validation_tiles_cover_every_pixel_once(module):
    counts = np.zeros(module.split.grid.shape, int)
    for outer in module.split.val:
        for tile in tiles(outer, (10, 7)):
            assert outer.contains(tile)
            counts[tile.row : tile.stop[0], tile.col : tile.stop[1]] += 1
    expected = np.zeros_like(counts)
    for outer in module.split.val:
        expected[outer.row : outer.stop[0], outer.col : outer.stop[1]] = 1
    np.testing.assert_array_equal(counts, expected)
    assert max(tile.height for tile in tiles(Window(0, 0, 23, 5), (10, 7))) == 8


def test_invalid_arguments_raise(module, data):
    card = module.card(model="test_unet")
    with pytest.raises(InputError, match="loss='hinge'. Pass loss=, one of cross_entropy"):
        Task(card, Recipe(loss="hinge"))
    with pytest.raises(InputError, match=r"Cannot train with epochs=0\. Pass epochs=1 or more"):
        fit(Task(card), module, epochs=0)
    with pytest.raises(InputError, match="by 'val/f1': validation logs val/accuracy, val/iou/high"):
        fit(Task(card, Recipe(monitor="val/f1")), module, epochs=1, progress="none")
    with pytest.raises(InputError, match="schedule 'cosine': torch.optim.lr_scheduler has no such class"):
        fit(Task(card, Recipe(schedule="cosine")), module, epochs=1, progress="none")
    with pytest.raises(InputError, match="task named 'poetry'"):
        module.card(task="poetry")
    with pytest.raises(InputError, match=r"the option 'classes'\. Pass legend=, a Legend"):
        module.card(model="test_unet", classes=["a", "b"])
    with pytest.raises(
        InputError, match=r"Cannot fit a Conv2d: it is not a geoxt task.*Pass Task\(Network\(card, body="
    ):
        fit(torch.nn.Conv2d(1, 1, 1), module, epochs=1)
    with pytest.raises(InputError, match=r"Cannot fit a LightningModule.*Trainer\(\)\.fit\(module, datamodule=data\)"):
        fit(pl.LightningModule(), module, epochs=1)
    with pytest.raises(
        InputError, match="'resnet18' for segmentation: its outputs are one vector per image. Pass model='unet'"
    ):
        Task(module.card(model="resnet18"))
    with pytest.raises(InputError, match="Cannot fit a Conv2d"):
        evaluate(torch.nn.Conv2d(1, 1, 1), module)
    with pytest.raises(InputError, match=r"Cannot make a task of a Conv2d\. Pass card="):
        Task(torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(InputError, match="the 2 time steps as on one image"):
        WindowDataModule(data.expand_dims(time=2), module.split, size=16)


def test_validation_part_without_labels_raises(data):
    split = by_block(data, size=24)
    bare = data.copy(deep=True)
    for window in split.val:
        bare["mask"][window.row : window.stop[0], window.col : window.stop[1]] = 0
    module = WindowDataModule(bare, split, size=16, length=8, batch_size=8)
    with pytest.raises(InputError, match="the validation part has no labelled pixel"):
        fit(Task(module.card(model="test_unet")), module, epochs=1, progress="none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": 3}, "'max_epochs' to Lightning's Trainer: geoxt sets it. Pass epochs= instead"),
        ({"limit_train_batch": 3}, "Did you mean trainer.limit_train_batches?"),
    ],
)
def test_trainer_options_that_fit_sets_or_that_are_unknown_raise(module, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        fit(Task(module.card(model="test_unet")), module, epochs=1, trainer=options)


def test_ema_decay_rises_to_its_final_value():
    average = ema_average(0.5)
    steps = [average(torch.tensor(0.0), torch.tensor(1.0), count).item() for count in (0, 1, 100)]
    assert steps == pytest.approx([1 - 1 / 10, 1 - 2 / 11, 0.5])
    assert average(torch.tensor(3), torch.tensor(7), 100) == 7  # counters are copied
