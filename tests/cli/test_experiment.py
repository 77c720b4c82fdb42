"""`geoxt experiment`: a grid search, repeated seeds and tables; the same configuration as `geoxt fit`."""

import json

import numpy as np
import pytest
import torch
import yaml
from support.image_folders import make_image_folder

from geoxt.cli import FAILED, main
from geoxt.models import from_checkpoint
from geoxt.trainers import score_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp("images") / "2750")


CONFIG = """
data:
  class_path: ImageFolderDataModule
  init_args: {{path: {path}, fractions: [0.6, 0.2, 0.2], sizes: [16, 32], batch_size: 12, split_seed: 3}}
task: classification
model: test_classifier
recipe: {{lr: 0.01, ema_decay: 0.5, tta: true}}
training: {{epochs: 2, checkpoint_every: 4}}
"""
GRID = """
grid: {recipe.lr: [0.01, 0.001], recipe.loss: [cross_entropy, focal]}
grid_epochs: 1
seeds: [0, 1]
compare: [{set: {model: timm/test_resnet}, seeds: [5]}]
"""


@pytest.fixture
def config(tmp_path, folder):
    path = tmp_path / "experiment.yaml"
    path.write_text(CONFIG.format(path=folder) + GRID)
    return path


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_experiment_searches_the_grid_repeats_the_best_and_tabulates(config, folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == 0
    report = json.loads((out / "results.json").read_text())
    assert [run["settings"] for run in report["grid"]] == [
        {"recipe.lr": lr, "recipe.loss": loss} for lr in (0.01, 0.001) for loss in ("cross_entropy", "focal")
    ]
    assert report["best"] == max(report["grid"], key=lambda run: run["best"])["settings"]
    best, comparison = report["groups"]
    assert [run["seed"] for run in best["runs"]] == [0, 1]
    assert [run["seed"] for run in comparison["runs"]] == [5]
    scores = [run["scores"]["test/accuracy"] for run in best["runs"]]
    assert best["summary"]["test/accuracy"]["mean"] == pytest.approx(np.mean(scores))
    assert best["summary"]["test/accuracy"]["std"] == pytest.approx(np.std(scores, ddof=1))
    assert comparison["summary"]["test/accuracy"]["std"] is None
    text = (out / "results.md").read_text()
    assert "| 0.001 | focal | 0 |" in text
    assert "sample standard deviation" in text
    assert len([*out.glob("runs/*/result.json")]) == 7
    assert not [*out.glob("runs/*/last.ckpt")]
    run = out / "runs" / "recipe.lr=0.01_recipe.loss=focal_epochs=1_seed=0"
    assert yaml.safe_load((run / "config.yaml").read_text())["recipe"]["loss"] == "focal"

    capsys.readouterr()
    removed = next(iter(out.glob("runs/*epochs=2_seed=1/result.json")))
    before = json.loads(removed.read_text())
    removed.unlink()
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == 0
    output = capsys.readouterr().out
    assert output.count("finished ") == 6
    assert output.count("run  ") == 1
    assert json.loads(removed.read_text())["scores"] == before["scores"]  # the same seed gives the same weights

    checkpoint = removed.with_name("best.ckpt")
    assert main(["score", str(checkpoint), str(folder), "--size", "32"]) == 0
    accuracy = score_images(folder, from_checkpoint(checkpoint), size=32)["accuracy"]
    assert f"{accuracy:.4f}" in capsys.readouterr().out

    config.write_text(config.read_text().replace("test_classifier", "test_vit"))
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == FAILED
    assert "another configuration" in capsys.readouterr().err
    config.write_text(
        config.read_text().replace("test_vit", "test_classifier").replace("split_seed: 3", "split_seed: 4")
    )
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == FAILED  # other data, too


@pytest.mark.slow
def test_fit_and_experiment_run_each_others_configuration_to_the_same_weights(folder, tmp_path, capsys):
    path = tmp_path / "fit.yaml"
    path.write_text(CONFIG.format(path=folder) + f"seed: 3\nout: {tmp_path / 'fit'}\n")
    assert main(["fit", "--config", str(path)]) == 0
    arguments = ["--config", str(tmp_path / "fit" / "config.yaml"), "--seeds", "[3]", "--out", str(tmp_path / "all")]
    assert main(["experiment", *arguments]) == 0
    (run,) = (tmp_path / "all" / "runs").iterdir()
    fitted, repeated = weights(tmp_path / "fit" / "best.ckpt"), weights(run / "best.ckpt")
    assert all(torch.equal(fitted[name], repeated[name]) for name in fitted)

    assert main(["fit", "--config", str(run / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    again = weights(tmp_path / "again" / "best.ckpt")
    assert all(torch.equal(fitted[name], again[name]) for name in fitted)

    path.write_text(path.read_text() + "seeds: [0, 1]\n")
    capsys.readouterr()
    assert main(["fit", "--config", str(path)]) == 0
    assert "ignored   seeds (for geoxt experiment)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("grid: {recipe.speed: [1]}", "key 'recipe.speed': the known keys are augment"),
        ("grid: {modle: [unet]}", "Did you mean model?"),
        ("compare: [{set: {model.size: 3}}]", "Cannot set 'model.size': 'model' has no keys"),
        ("compare: [{sets: {}}]", "Did you mean compare.set?"),
        ("sedes: [1]", "Did you mean seeds?"),
    ],
)
def test_unknown_settings_raise_before_the_first_run(folder, tmp_path, capsys, line, message):
    path = tmp_path / "experiment.yaml"
    path.write_text(CONFIG.format(path=folder) + line + "\n")
    assert main(["experiment", "--config", str(path), "--out", str(tmp_path / "out")]) == FAILED
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out" / "runs").exists()
