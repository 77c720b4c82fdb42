"""Resuming: stopped at any step, a training ends with the weights of one that ran through, bit for bit."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from geoxt.errors import InputError
from geoxt.models.registry import ARCHITECTURES, Architecture
from geoxt.trainers import Recipe, SampleDataModule, Task, fit


class Tiny(nn.Module):
    """Two layers, with what randomness and state a network may have: dropout and batch normalisation."""

    def __init__(self, in_chans, classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_chans, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4, classes)

    def forward(self, image):
        return self.head(self.body(image))


class Chips:
    """Samples of two classes that differ in brightness."""

    classes = ("dark", "bright")

    def __init__(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.label = torch.arange(count) % 2
        self.image = torch.rand(count, 2, 8, 8, generator=generator) + 0.3 * self.label[:, None, None, None]

    def __len__(self):
        return len(self.label)

    def __getitem__(self, index):
        return {"image": self.image[index], "label": self.label[index]}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    row = Architecture(name="tiny", task="classification", build=Tiny, takes="", gives="", reference="")
    monkeypatch.setitem(ARCHITECTURES, "tiny", row)


class Killed(BaseException):
    """What ends a training that is killed."""


class Doomed(Task):
    """Is killed in a batch."""

    def training_step(self, batch, batch_idx):
        self.left -= 1
        if self.left == 0:
            raise Killed
        return super().training_step(batch, batch_idx)


def train(*, batches=None, num_workers=0, recipe=None, epochs=3, batch_size=4, **options):
    recipe = Recipe(lr=0.05, **(recipe or {}))
    data = SampleDataModule(Chips(24), Chips(10, seed=1), batch_size=batch_size, seed=3, num_workers=num_workers)
    task = (Task if batches is None else Doomed)(data.card(model="tiny"), recipe, seed=1)
    task.left = batches
    with pytest.raises(Killed) if batches else nullcontext():
        history = fit(task, data, epochs=epochs, seed=2, progress="none", **options)
    if batches:
        return None
    return task.network.state_dict(), history


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stop", [1, 2, 5, 6, 7, 8, 12, 13, 18])
def test_a_training_stopped_at_a_step_ends_like_one_that_ran_through(stop, tmp_path):
    through, scores = train()
    train(batches=stop, resume=tmp_path, every=1)
    assert (tmp_path / "last.ckpt").exists() == (stop > 1)
    resumed, again = train(resume=tmp_path, every=1)
    assert equal(through, resumed)
    assert [one["val/loss"] for one in again] == [one["val/loss"] for one in scores]


def test_classes_weigh_as_before_when_a_training_goes_on(tmp_path):
    recipe = {"class_weights": "balanced"}
    through, _ = train(recipe=recipe)
    train(batches=3, recipe=recipe, resume=tmp_path, every=1)
    resumed, _ = train(recipe=recipe, resume=tmp_path, every=1)
    assert equal(resumed, through)


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": {"ema_decay": None, "schedule": "StepLR", "schedule_options": {"step_size": 1}}},
        {"recipe": {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "schedule": "plateau"}},
        {"accumulate": 2, "patience": 5, "clip": 1.0},
        {"recipe": {"class_weights": "balanced"}},
    ],
)
def test_it_does_so_for_any_optimiser_schedule_and_accumulation(options, tmp_path):
    through, _ = train(**options)
    train(batches=10, resume=tmp_path, every=2, **options)
    resumed, _ = train(resume=tmp_path, every=2, **options)
    assert equal(through, resumed)


def test_a_finished_training_gives_the_same_again(tmp_path):
    through, scores = train(resume=tmp_path)
    again, history = train(resume=tmp_path)
    assert equal(through, again)
    assert [one["val/loss"] for one in history] == [one["val/loss"] for one in scores]


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_schedule_without_an_end_goes_on_for_longer(schedule, tmp_path):
    recipe = {"schedule": schedule}
    through, scores = train(epochs=5, recipe=recipe)
    train(epochs=3, recipe=recipe, resume=tmp_path, every=2)
    longer, history = train(epochs=5, recipe=recipe, resume=tmp_path, every=2)
    assert equal(longer, through)
    assert [one["val/loss"] for one in history] == [one["val/loss"] for one in scores]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"epochs": 5},
            r"'one-cycle' was planned for 3 epochs, and 5 are asked for. Pass epochs=3 \(--trainer.max_epochs",
        ),
        ({"epochs": 2}, "it is in epoch 3 of 3, and 2 are asked for. Pass epochs=3"),
        ({"accumulate": 2}, "planned for 1 batches a step, and 2 are asked for. Pass accumulate=1"),
        ({"recipe": {"schedule": "constant"}}, "begun with schedule='one-cycle', and 'constant' is asked for"),
        ({"recipe": {"optimizer": "SGD"}}, "begun with optimizer='AdamW', and 'SGD'"),
        ({"recipe": {"ema_decay": None}}, "begun with ema_decay=0.98, and None is asked for"),
        ({"batch_size": 6}, "an epoch of 4 batches: the training was kept in one of 6"),
    ],
)
def test_what_cannot_be_gone_on_with_is_said(options, said, tmp_path):
    train(resume=tmp_path, every=2)
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=said):
        train(resume=tmp_path, **options)
    assert (tmp_path / "last.ckpt").read_bytes() == before
