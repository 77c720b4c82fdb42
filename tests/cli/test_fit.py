"""`geoxt fit` and `geoxt experiment`: configurations become runs that can be resumed, and errors of one line."""

import io
import json
import math
import re
import shutil
import statistics
import warnings

import numpy as np
import pytest
import rasterio
import torch

from geoxt.cli import FAILED, main
from geoxt.cli.fit import _retold
from geoxt.errors import InputError, ReadError
from geoxt.models import from_checkpoint
from geoxt.trainers import SampleDataModule
from geoxt.trainers.config.build import Learning
from geoxt.trainers.datamodules.image_folder import ImageFolderDataModule, read_chips, scaled, score_chips, stratified
from geoxt.trainers.experiments.report import best_of
from geoxt.trainers.experiments.run import Experiment, Training, changed, run, summary, table


def write(image, path):
    count, height, width = image.shape
    options = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as file:
            file.write(image)


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    """Three classes of a colour each, 20 chips a class; one pixel tells chips apart."""
    root = tmp_path_factory.mktemp("chips") / "2750"
    rng = np.random.default_rng(0)
    for place, name in enumerate(("Forest", "Lake", "Roof")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            image = rng.integers(0, 90, (3, 16, 16), dtype=np.uint8)
            image[place] += 120
            write(image, root / name / f"{name}_{number}.png")
    return root


CONFIG = """
data:
  class_path: ImageFolderDataModule
  init_args: {{path: {chips}, shares: [0.6, 0.2, 0.2], sizes: [16, 32], batch_size: 12, split_seed: 3}}
"""
LEARN = """
  task: classification
  model: test_classifier
  recipe: {lr: 0.01, ema_decay: 0.5, test_time_augmentation: true}
"""


@pytest.fixture
def config(tmp_path, chips):
    text = CONFIG.format(chips=chips) + f"learning:{LEARN}training: {{epochs: 2, every: 1}}\nseeds: [0, 1]\n"
    text += "grid: {recipe.lr: [0.01, 0.001], recipe.loss: [cross_entropy, focal]}\ngrid_epochs: 1\n"
    text += "compare: [{set: {model: timm/test_resnet}, seeds: [5]}]\n"
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return path


def test_chips_are_read_in_order_from_a_folder_and_a_zip(chips, tmp_path):
    images, labels, classes = read_chips(chips)
    assert (images.shape, classes) == ((60, 3, 16, 16), ("Forest", "Lake", "Roof"))
    assert torch.equal(images.float().mean(dim=(2, 3)).argmax(dim=1), labels)
    zipped = shutil.make_archive(str(tmp_path / "all"), "zip", chips.parent)
    again = read_chips(zipped)
    assert torch.equal(again[0], images)
    assert torch.equal(again[1], labels)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="no image in a folder"):
        read_chips(tmp_path / "nothing")
    (tmp_path / "odd" / "Lake").mkdir(parents=True)
    write(np.zeros((3, 8, 8), "uint8"), tmp_path / "odd" / "Lake" / "a.png")
    write(np.zeros((3, 9, 8), "uint8"), tmp_path / "odd" / "Lake" / "b.png")
    with pytest.raises(InputError, match="chips of one size"):
        read_chips(tmp_path / "odd")
    (tmp_path / "odd" / "Lake" / "b.png").write_bytes(b"no image")
    with pytest.raises(ReadError, match="Cannot decode the chip 'odd/Lake/b.png'"):
        read_chips(tmp_path / "odd")
    with pytest.raises(ReadError, match="Cannot read chips from"):
        read_chips(tmp_path / "nowhere.zip")


def test_a_split_is_stratified_and_shares_nothing():
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)
    parts = stratified(labels, seed=4)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(160))
    assert [labels[part].bincount().tolist() for part in parts] == [[80, 40, 8], [10, 5, 1], [10, 5, 1]]
    assert torch.equal(parts[2], stratified(labels, seed=4)[2])
    assert not torch.equal(parts[2], stratified(labels, seed=5)[2])


def test_chips_grow_over_the_epochs(chips):
    data = ImageFolderDataModule(str(chips), sizes=(16, 24, 32), epochs=6, batch_size=8)
    loader, sides = data.train_dataloader(), []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)
        sides.append(next(iter(loader))["image"].shape[-1])
    assert sides == [16, 16, 24, 24, 32, 32]
    assert next(iter(data.val_dataloader()))["image"].shape[-1] == 32
    flat = scaled(torch.full((1, 3, 16, 16), 7, dtype=torch.uint8), 32)
    assert (flat == 7).all()


def test_fit_trains_keeps_its_configuration_and_scores(chips, tmp_path, capsys):
    path, out = tmp_path / "fit.yaml", tmp_path / "run"
    path.write_text(CONFIG.format(chips=chips) + "model:\n  learn:" + LEARN.replace("\n  ", "\n    ") + f"out: {out}\n")
    arguments = ["fit", "--config", str(path), "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
    assert main(arguments) == 0
    assert {"best.ckpt", "last.ckpt", "config.yaml", "scores.json"} == {one.name for one in out.iterdir()}
    assert re.findall(r"^epoch (.)/2  loss", capsys.readouterr().out, re.MULTILINE) == ["1", "2"]
    assert "test_classifier" in (out / "config.yaml").read_text()
    scores = json.loads((out / "scores.json").read_text())
    assert scores["test/accuracy"] == pytest.approx(
        score_of_part(
            out / "best.ckpt", ImageFolderDataModule(str(chips), shares=(0.6, 0.2, 0.2), split_seed=3, sizes=(32,))
        )
    )
    kept = (out / "best.ckpt").read_bytes()
    (out / "scores.json").unlink()
    assert main(["fit", "--config", str(out / "config.yaml")]) == 0  # goes on from the last epoch, to the same end
    assert json.loads((out / "scores.json").read_text()) == scores
    again = torch.load(out / "best.ckpt", weights_only=True)["state_dict"]
    before = torch.load(io.BytesIO(kept), weights_only=True)["state_dict"]
    assert all(torch.equal(again[name], before[name]) for name in before)


def score_of_part(checkpoint, data):
    network = from_checkpoint(checkpoint)
    batch = data.test.__getitems__(list(range(len(data.test))))
    outputs = []
    with torch.no_grad():
        for turns in range(4):
            for flip in (False, True):
                image = batch["image"].flip(-1) if flip else batch["image"]
                outputs.append(network(torch.rot90(image, turns, (-2, -1))).softmax(dim=1))
    return (torch.stack(outputs).mean(dim=0).argmax(dim=1) == batch["label"]).float().mean().item()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("task: poetry", "task: 'poetry': pass one of segmentation"),
        ("model: resnot", "named 'resnot'"),
        ("speed: 3", "speed"),
        ("recipe: {lr: fast}", "fast"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_said_in_one_line(chips, tmp_path, capsys, change, said):
    path = tmp_path / "fit.yaml"
    lines = [line for line in LEARN.splitlines() if line.split(":")[0].strip() != change.split(":")[0]]
    learn = "\n".join(["", *(f"  {line}" for line in lines if line), f"    {change}", ""])
    path.write_text(CONFIG.format(chips=chips) + "model:\n  learn:" + learn + f"out: {tmp_path / 'run'}\n")
    assert main(["fit", "--config", str(path)]) == FAILED
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_wrong_argument_of_the_data_is_named(chips, tmp_path, capsys):
    path = tmp_path / "fit.yaml"
    path.write_text(
        CONFIG.format(chips=chips).replace("sizes", "sides") + f"model:\n  learn: {{}}\nout: {tmp_path / 'run'}\n"
    )
    assert main(["fit", "--config", str(path)]) == FAILED
    error = capsys.readouterr().err
    assert "ImageFolderDataModule': Option 'sides' is not accepted" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("no CRS. Pass source_crs='EPSG:…' if you know it.", "no CRS. Pass source_crs: 'EPSG:…' if you know it."),
        ("bands. Pass alias=, a mapping of names.", "bands. Pass bands:, a mapping of names."),
        ("Pass bands= from ['red'].", "Pass bands: from ['red']."),
        ("e.g. data.isel(time=0), --every=2, 'year=2020/a.tif', a?b=c", None),
    ],
)
def test_errors_name_arguments_as_a_configuration_has_them(said, wanted):
    error = ReadError(said)
    error.add_note("kept")
    found = _retold(error)
    assert (type(found), str(found), found.__notes__) == (ReadError, wanted or said, ["kept"])


def test_an_experiment_tries_the_grid_repeats_the_best_and_tabulates(config, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == 0
    report = json.loads((out / "results.json").read_text())
    assert [one["settings"] for one in report["grid"]] == [
        {"recipe.lr": lr, "recipe.loss": loss} for lr in (0.01, 0.001) for loss in ("cross_entropy", "focal")
    ]
    assert report["best"] == max(report["grid"], key=lambda one: one["best"])["settings"]
    first, other = report["groups"]
    assert [one["seed"] for one in first["runs"]] == [0, 1]
    assert [one["seed"] for one in other["runs"]] == [5]
    found = [one["scores"]["test/accuracy"] for one in first["runs"]]
    assert first["summary"]["test/accuracy"]["mean"] == pytest.approx(np.mean(found))
    assert first["summary"]["test/accuracy"]["std"] == pytest.approx(np.std(found, ddof=1))
    assert other["summary"]["test/accuracy"]["std"] is None
    text = (out / "results.md").read_text()
    assert "| 0.001 | focal | 0 |" in text
    assert "sample standard deviation" in text
    assert len([*out.glob("runs/*/result.json")]) == 7
    assert not [*out.glob("runs/*/training")]
    assert json.loads((out / "runs" / "recipe.lr=0.01_recipe.loss=focal_epochs=1_seed=0" / "config.json").read_text())

    capsys.readouterr()
    gone = next(iter(out.glob("runs/*epochs=2_seed=1/result.json")))
    kept = json.loads(gone.read_text())
    gone.unlink()
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("kept ") == 6
    assert said.count("run  ") == 1
    again = json.loads(gone.read_text())
    assert again["scores"] == kept["scores"]  # the same seed, the same weights

    checkpoint = gone.with_name("model.ckpt")
    (chips,) = {line.split("path: ")[1].split(",")[0] for line in config.read_text().splitlines() if "path: /" in line}
    assert main(["experiment", "--score", chips, "--model", str(checkpoint), "--size", "32"]) == 0
    shown = capsys.readouterr().out
    assert f"{score_chips(from_checkpoint(checkpoint), chips, side=32)['accuracy']:.4f}" in shown

    config.write_text(config.read_text().replace("test_classifier", "test_vit"))
    assert main(["experiment", "--config", str(config), "--out", str(out)]) == FAILED
    assert "another configuration" in capsys.readouterr().err


def test_settings_are_changed_by_dotted_name():
    learning = Learning(options={"a": 1})
    found = changed(learning, {"recipe.lr": 0.5, "options.b": 2, "weights": "x"})
    assert (found.recipe.lr, found.options, found.weights) == (0.5, {"a": 1, "b": 2}, "x")
    assert learning.recipe.lr != 0.5
    with pytest.raises(InputError, match="Cannot set 'recipe.speed'"):
        changed(learning, {"recipe.speed": 1})


def test_a_summary_has_the_sample_deviation():
    runs = [{"scores": {"test/accuracy": value}} for value in (0.9, 0.95, 0.97)]
    found = summary(runs)["test/accuracy"]
    assert found == {"mean": statistics.fmean([0.9, 0.95, 0.97]), "std": statistics.stdev([0.9, 0.95, 0.97]), "n": 3}
    assert math.isclose(found["std"], 0.03605551275463988)
    text = table({"grid": [], "groups": [{"settings": {}, "runs": runs, "summary": summary(runs)}]})
    assert "0.9400 ± 0.0361" in text


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("val/accuracy", 3), ("val/iou/Floss field", 3), ("val/loss", 1), ("val/rmse", 1), ("val/mae/height", 1)],
)
def test_the_best_run_has_the_least_error_or_the_highest_score(monitor, best):
    runs = [{"monitor": monitor, "best": value} for value in (2, 1, 3, math.nan)]
    assert best_of(runs)["best"] == best


def test_an_experiment_without_a_validation_part_keeps_the_last_epoch(tmp_path):
    def data(seed, epochs):
        del epochs
        return SampleDataModule(
            [{"image": torch.full((1, 8, 8), float(at)), "label": at % 2} for at in range(8)], seed=seed
        )

    learning = Learning(task="classification", model="test_classifier")
    found = run(Experiment(learning=learning, training=Training(epochs=2), seeds=(0,)), data, tmp_path)
    (one,) = found["groups"][0]["runs"]
    assert (one["monitor"], one["scores"]) == ("train/loss", {})
    (kept,) = tmp_path.glob("runs/*/model.ckpt")
    assert torch.load(kept, weights_only=True)["epoch"] == 1
