"""Resuming: a run stopped at any step ends with the weights of an uninterrupted run, bit for bit."""

import ast
import errno
import io
import os
import signal
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from geoxt.errors import InputError, OutputError
from geoxt.models.registry import ARCHITECTURES, Architecture
from geoxt.trainers import Recipe, SampleDataModule, Task, fit
from geoxt.trainers.loop.resume import ResumeCheckpoint, random_states, restore_random_states


class Tiny(nn.Module):
    """Two layers with dropout and batch normalization."""

    def __init__(self, in_chans, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_chans, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4, num_classes)

    def forward(self, image):
        return self.head(self.body(image))


class Images:
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


@pytest.fixture(autouse=True, scope="module")
def tiny():
    row = Architecture(name="tiny", task="classification", build=Tiny, input_shape="", output_shape="", reference="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", row)
        yield


class Killed(BaseException):
    """Raised instead of a kill signal."""


class KilledTask(Task):
    """Raises `Killed` in a batch."""

    def training_step(self, batch, batch_idx):
        self.batches_left -= 1
        if self.batches_left == 0:
            raise Killed
        return super().training_step(batch, batch_idx)


def make_data(batch_size=4, num_workers=0):
    return SampleDataModule(Images(12), Images(6, seed=1), batch_size=batch_size, seed=3, num_workers=num_workers)


def train(*, batches=None, num_workers=0, recipe=None, epochs=3, batch_size=4, data=None, **options):
    recipe = Recipe(lr=0.05, **(recipe or {}))
    data = data or make_data(batch_size, num_workers)
    task = (Task if batches is None else KilledTask)(data.card(model="tiny"), recipe, seed=1)
    task.batches_left = batches
    with pytest.raises(Killed) if batches else nullcontext():
        history = fit(task, data, epochs=epochs, seed=2, progress="none", **options)
    if batches:
        return None
    return task.network.state_dict(), history


@cache
def uninterrupted_run(options="{}"):
    """Train without a stop, once for equal options, given as the text of a dict."""
    return train(**ast.literal_eval(options))


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stop", [1, 2, 4, 9])  # of 3 epochs of 3 batches
def test_run_stopped_at_any_step_equals_uninterrupted_run(stop, tmp_path):
    uninterrupted, scores = uninterrupted_run()
    train(batches=stop, resume=tmp_path, checkpoint_every=1)
    assert (tmp_path / "last.ckpt").exists() == (stop > 1)
    resumed, again = train(resume=tmp_path, checkpoint_every=1)
    assert equal(uninterrupted, resumed)
    assert again == scores


def test_new_run_with_the_data_of_a_resumed_run_equals_uninterrupted_run(tmp_path):
    train(batches=4, resume=tmp_path)
    data = make_data()
    train(data=data, resume=tmp_path)
    weights, history = train(data=data)
    expected = uninterrupted_run()
    assert equal(weights, expected[0])
    assert history == expected[1]


def test_run_stopped_in_every_batch_equals_uninterrupted_run(tmp_path):
    options = {"recipe": {"schedule": "plateau"}}
    uninterrupted, scores = train(**options)
    for _ in range(8):  # each run trains one batch, and is killed in the next
        train(batches=2, resume=tmp_path, checkpoint_every=1, **options)
    resumed, again = train(resume=tmp_path, checkpoint_every=1, **options)
    assert equal(uninterrupted, resumed)
    assert again == scores


def saved_states(folder, monkeypatch, **options):
    """Train, and return the contents of the folder after each checkpoint; the last is the result."""
    states, save = [], ResumeCheckpoint._save

    def save_and_read(self, trainer):
        save(self, trainer)
        states.append({file.name: file.read_bytes() for file in folder.iterdir()})

    with monkeypatch.context() as patch:
        patch.setattr(ResumeCheckpoint, "_save", save_and_read)
        return states, train(resume=folder, checkpoint_every=1, **options)


def differences(first, second, path=""):
    """Return the paths at which two checkpoints differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        # of the scores, Lightning does not restore the latest: it is for display
        names = (first.keys() | second.keys()) - {"seconds", "current_score"}
        pairs = [(first.get(name), second.get(name), f"{path}/{name}") for name in names]
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        pairs = [(a, b, f"{path}/{i}") for i, (a, b) in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    else:
        return [] if first == second else [path]
    return [difference for pair in pairs for difference in differences(*pair)]


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 2},
        {"epochs": 2, "recipe": {"schedule": "plateau", "optimizer": "SGD", "ema_decay": None}},
        {"batch_size": 2, "epochs": 2, "accumulate_grad_batches": 2, "patience": 5},
        {"batch_size": 12},
    ],
)
def test_resumed_run_saves_the_checkpoints_of_the_uninterrupted_run(options, tmp_path, monkeypatch):
    # by induction, a run stopped any number of times at any checkpoints is exact
    folder = tmp_path / "run"
    folder.mkdir()
    states, result = saved_states(folder, monkeypatch, **options)
    assert len(states) >= 2
    for index, state in enumerate(states):
        for file in folder.iterdir():
            file.unlink()
        for name, content in state.items():
            (folder / name).write_bytes(content)
        later, again = saved_states(folder, monkeypatch, **options)
        assert differences(result, again) == [], index
        assert len(later) == len(states) - index - 1, index
        for before, after in zip(states[index + 1 :], later, strict=True):
            assert before.keys() == after.keys(), index
            loaded = [torch.load(io.BytesIO(s["last.ckpt"]), weights_only=False) for s in (before, after)]
            assert differences(*loaded) == [], index


def test_resumed_run_has_the_same_class_weights(tmp_path):
    recipe = {"class_weights": "balanced"}
    uninterrupted, _ = uninterrupted_run(repr({"recipe": recipe}))
    train(batches=3, recipe=recipe, resume=tmp_path, checkpoint_every=1)
    resumed, _ = train(recipe=recipe, resume=tmp_path, checkpoint_every=1)
    assert equal(resumed, uninterrupted)


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": {"ema_decay": None, "schedule": "StepLR", "schedule_options": {"step_size": 1}}},
        {"recipe": {"optimizer": "SGD", "optimizer_options": {"momentum": 0.9}, "schedule": "plateau"}},
        {"accumulate_grad_batches": 2, "patience": 5, "max_gradient_norm": 1.0},
        {"recipe": {"class_weights": "balanced"}},
    ],
)
def test_resumed_run_is_exact_for_any_optimizer_schedule_and_accumulation(options, tmp_path):
    uninterrupted, _ = uninterrupted_run(repr(options))
    train(batches=5, resume=tmp_path, checkpoint_every=2, **options)
    resumed, _ = train(resume=tmp_path, checkpoint_every=2, **options)
    assert equal(uninterrupted, resumed)


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    uninterrupted, scores = train(resume=tmp_path)
    again, history = train(resume=tmp_path)
    assert equal(uninterrupted, again)
    assert [epoch["val/loss"] for epoch in history] == [epoch["val/loss"] for epoch in scores]


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_schedule_without_fixed_length_can_be_extended(schedule, tmp_path):
    recipe = {"schedule": schedule}
    uninterrupted, scores = train(epochs=5, recipe=recipe)
    train(epochs=3, recipe=recipe, resume=tmp_path, checkpoint_every=2)
    longer, history = train(epochs=5, recipe=recipe, resume=tmp_path, checkpoint_every=2)
    assert equal(longer, uninterrupted)
    assert [epoch["val/loss"] for epoch in history] == [epoch["val/loss"] for epoch in scores]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    train(resume=folder, checkpoint_every=2)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"epochs": 5},
            "'one-cycle' was planned for 3 epochs, and 5 are requested. Pass epochs=3 to finish it as planned.",
        ),
        ({"epochs": 2}, "it is in epoch 3 of 3, and 2 are requested. Pass epochs=3"),
        ({"accumulate_grad_batches": 2}, "for 1 batches per step, and 2 are requested. Pass accumulate_grad_batches=1"),
        (
            {"recipe": {"schedule": "constant"}},
            "started with schedule 'one-cycle', and 'constant' is requested. Pass schedule='one-cycle'",
        ),
        ({"recipe": {"optimizer": "SGD"}}, "started with optimizer 'AdamW', and 'SGD'"),
        ({"recipe": {"ema_decay": None}}, "started with ema_decay 0.98, and None is requested"),
        ({"batch_size": 6}, "an epoch of 2 batches: the checkpoint has 3 batches per epoch"),
    ],
)
def test_resuming_with_other_arguments_raises(options, message, finished):
    before = (finished / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match=message):
        train(resume=finished, **options)
    assert (finished / "last.ckpt").read_bytes() == before


class Interrupting:
    """Sends SIGINT when it is deleted: Python discards the KeyboardInterrupt of a finalizer."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        [None for _ in range(10)]  # the handler runs between these steps


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", ["training_step", "validation_step"])
def test_interrupt_within_a_finalizer_ends_the_training(step, tmp_path, monkeypatch):
    before, calls, original = signal.getsignal(signal.SIGINT), [], getattr(Task, step)

    def interrupted(self, *arguments):
        calls.append(step)
        if len(calls) == 2:
            Interrupting()
        return original(self, *arguments)

    monkeypatch.setattr(Task, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(resume=tmp_path, checkpoint_every=1)
    assert len(calls) == 2
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupt_in_the_last_batch_is_not_lost(monkeypatch):
    def interrupted(self):
        if self.current_epoch == 2:
            Interrupting()

    monkeypatch.setattr(Task, "on_train_epoch_end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train()


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_checkpoint_with_code_is_refused_and_does_not_run(tmp_path):
    torch.save({"state_dict": {}, "loops": Malicious(tmp_path / "executed")}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"last.ckpt': it holds objects other than tensors .*Remove it"):
        train(resume=tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "truncated", "weights"])
def test_damaged_checkpoint_is_refused(content, tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"weight": torch.zeros(1000)}, path)
    if content != "weights":
        path.write_bytes(path.read_bytes()[:2000] if content == "truncated" else content)
    with pytest.raises(InputError, match=r"Cannot resume from '.*last.ckpt'"):
        train(resume=tmp_path)


@pytest.mark.parametrize(
    ("name", "attempt", "code"),
    [("last.ckpt", 3, errno.ENOSPC), ("last.ckpt", 3, errno.EROFS), ("best.ckpt", 1, errno.EACCES)],
)
def test_checkpoint_that_cannot_be_written_raises_and_can_be_resumed(name, attempt, code, tmp_path, monkeypatch):
    save, saved = pl.Trainer.save_checkpoint, []

    def full(self, path, *arguments, **options):
        if path.name == f".{name}":
            saved.append(path)
            if len(saved) == attempt:
                path.write_bytes(b"half")
                raise OSError(code, os.strerror(code))
        save(self, path, *arguments, **options)

    uninterrupted, scores = uninterrupted_run()
    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", full)
        with pytest.raises(OutputError, match=rf"{name}': {os.strerror(code)}. .*MB are free.*to resume"):
            train(resume=tmp_path, checkpoint_every=1)
    assert not list(tmp_path.glob(".*.ckpt"))
    resumed, again = train(resume=tmp_path, checkpoint_every=1)
    assert equal(uninterrupted, resumed)
    assert again == scores


def test_random_states_of_gpus_are_saved_and_restored(monkeypatch):
    devices = [torch.tensor([1], dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in devices])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: devices.__setitem__(device, state))
    saved = random_states()
    expected = torch.rand(3)
    devices[:] = [torch.tensor([7], dtype=torch.uint8)] * 2
    restore_random_states(saved)
    assert torch.equal(torch.rand(3), expected)
    assert [int(state) for state in devices] == [1, 2]
    del devices[1]  # a machine with fewer GPUs
    restore_random_states(saved)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    restore_random_states(saved)  # and one without
    assert torch.equal(torch.rand(3), expected)
    assert "cuda_rng_states" not in random_states()
