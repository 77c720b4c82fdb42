"""Training in two real processes on the CPU (DDP over gloo): weights, scores, resume, and a process that is killed."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.processes import free_port, run_code

CODE = """
import json, os, sys
import numpy as np, torch, xarray as xr
from torch import nn
from geoxt.grid import coordinates
from geoxt.models.registry import ARCHITECTURES, Architecture
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, SampleDataModule, Task, WindowDataModule, evaluate, fit

torch.set_num_threads(1)


class Tiny(nn.Module):
    def __init__(self, in_chans, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(in_chans, 4, 1), nn.ReLU(), nn.Dropout(OPTIONS.get("dropout", 0.0)))
        self.head = nn.Conv2d(4, num_classes, 1)

    def forward(self, image):
        return self.head(self.body(image))


def data():
    rng = np.random.default_rng(0)
    image = xr.DataArray(rng.random((2, 48, 64), "float32"), dims=("band", "y", "x"), coords={"band": ["a", "b"]})
    labels = xr.DataArray((image[0] + rng.random((48, 64)) > 1).astype("uint8").values, dims=("y", "x"))
    ds = xr.Dataset({"image": image, "mask": labels}).assign_coords(coordinates(make_grid((48, 64))))
    split = by_block(ds, size=16, seed=1)
    return WindowDataModule(ds, split, size=8, length=24, batch_size=3, eval_size=OPTIONS.get("eval_size", 8))


OPTIONS = json.loads(sys.argv[1])
row = Architecture(name="tiny", task="segmentation", build=Tiny, input_shape="", output_shape="", reference="")
ARCHITECTURES["tiny"] = row
hardware = {"accelerator": "cpu", **OPTIONS.get("hardware", {})}
module = data()
recipe = Recipe(optimizer="SGD", lr=0.1, ema_decay=None, schedule="constant", augment=bool(OPTIONS.get("augment")))
task = Task(module.card(model="tiny"), recipe, seed=3)
"""
FIT = """
history = fit(task, module, epochs=2, progress="none", **hardware, **OPTIONS.get("fit", {}))
hardware.pop("accumulate_grad_batches", None)
result = {"weights": task.state_dict(), "history": history, "scores": evaluate(task, module, **hardware).flat()}
"""
METRICS = """
from geoxt.metrics.detection import AveragePrecision
from geoxt.metrics.multilabel import MultilabelCounts
from geoxt.metrics.regression import RegressionSums
from geoxt.trainers.tasks.losses import MeanLoss

rank = int(os.environ.get("LOCAL_RANK", 0))
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 2.0, 9.0, 9.0]])
detected = {"boxes": boxes, "labels": torch.tensor([1, 2]), "scores": torch.tensor([0.9, 0.4])}
batches = {
    AveragePrecision(2): ([detected], [{"boxes": boxes + 0.1, "labels": torch.tensor([1, 1])}]),
    MultilabelCounts(2): (torch.tensor([[0.3, -1.0], [-2.0, 0.1]]), torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])),
    RegressionSums(1): (torch.tensor([[0.2], [0.7]]), torch.ones(2, 1)),
    MeanLoss(): (torch.tensor(0.5), 3),
}
for metric, batch in batches.items():
    if rank == 0:  # the other process evaluates no batch
        metric.update(*batch)
    result[type(metric).__name__] = metric.compute()
"""
SAVE = """
torch.save(result, sys.argv[2])
"""
KILL = """
import signal
import pytorch_lightning as pl


class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 5 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


OPTIONS["fit"]["callbacks"] = [Kill()]
"""
DDP = {"devices": 2, "strategy": "ddp"}


def environment(rank, port):
    return os.environ | {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def run_ranks(code, options, folder):
    """Run code in two processes as Lightning starts them, and return their outputs."""
    port, text = free_port(), json.dumps(options)
    with ThreadPoolExecutor(2) as pool:
        return list(
            pool.map(
                lambda rank: run_code(code, text, str(folder / f"{rank}.pt"), env=environment(rank, port)), range(2)
            )
        )


def load(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)


def test_two_processes_give_the_weights_and_scores_of_one(tmp_path):
    options = {"hardware": DDP, "fit": {"checkpoint": str(tmp_path / "model.ckpt")}}
    ranks = run_ranks(CODE + FIT + METRICS + SAVE, options, tmp_path)
    assert [rank.returncode for rank in ranks] == [0, 0], ranks[0].stderr + ranks[1].stderr
    single = json.dumps({"hardware": {"accumulate_grad_batches": 2}})
    alone = run_code(CODE + FIT + METRICS + SAVE, single, str(tmp_path / "single.pt"))
    assert alone.returncode == 0, alone.stderr
    expected, *both = (load(tmp_path, name) for name in ("single", 0, 1))
    for result in both:
        torch.testing.assert_close(result["weights"], expected["weights"], rtol=1e-5, atol=1e-6)
        assert [epoch["epoch"] for epoch in result["history"]] == [1, 2]
        for before, after in zip(expected["history"], result["history"], strict=True):
            assert after == pytest.approx(before, rel=1e-5)
        assert result["scores"] == pytest.approx(expected["scores"], rel=1e-5)
        for name in ("AveragePrecision", "MultilabelCounts", "RegressionSums", "MeanLoss"):
            torch.testing.assert_close(result[name], expected[name], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(both[0]["weights"], both[1]["weights"], rtol=0, atol=0)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in {".pt", ".ckpt"}]


@pytest.mark.slow
def test_killed_process_is_an_error_and_the_run_resumes_to_the_same_weights(tmp_path):
    random = {"augment": True, "dropout": 0.3}
    options = {name: {"resume": str(tmp_path / name), "checkpoint_every": 1} for name in ("uninterrupted", "killed")}
    uninterrupted, killed = ({"hardware": DDP, "fit": fit, **random} for fit in options.values())
    ranks = run_ranks(CODE + FIT + SAVE, uninterrupted, tmp_path)
    assert [rank.returncode for rank in ranks] == [0, 0], ranks[0].stderr
    expected = [load(tmp_path, rank) for rank in range(2)]
    first, second = run_ranks(CODE + KILL + FIT + SAVE, killed, tmp_path)
    assert second.returncode == -9
    assert first.returncode == 1
    assert "ProcessError: Cannot continue the training: another process of the run has ended" in first.stderr
    ranks = run_ranks(CODE + FIT + SAVE, killed, tmp_path)
    assert [rank.returncode for rank in ranks] == [0, 0], ranks[0].stderr
    for rank, before in enumerate(expected):
        after = load(tmp_path, rank)
        torch.testing.assert_close(after["weights"], before["weights"], rtol=0, atol=0)
        assert after["history"] == before["history"]
        assert after["scores"] == before["scores"]
    ranks = run_code(CODE + FIT, json.dumps({"fit": options["killed"], **random}), env=os.environ | {"LOCAL_RANK": "0"})
    assert "it was started with devices 2, and 1 is requested" in ranks.stderr


@pytest.mark.slow
def test_forked_processes_return_weights_scores_and_history(tmp_path):
    for name, hardware in (("0", DDP | {"strategy": "ddp_fork"}), ("single", {"accumulate_grad_batches": 2})):
        run = run_code(CODE + FIT + SAVE, json.dumps({"hardware": hardware}), str(tmp_path / f"{name}.pt"))
        assert run.returncode == 0, run.stderr
    forked, expected = load(tmp_path, "0"), load(tmp_path, "single")
    torch.testing.assert_close(forked["weights"], expected["weights"], rtol=1e-5, atol=1e-6)
    for before, after in zip(expected["history"], forked["history"], strict=True):
        assert after == pytest.approx(before, rel=1e-5)
    assert forked["scores"] == pytest.approx(expected["scores"], rel=1e-5)
