"""Experiments in Python: settings by dotted key, the best run, and means over seeds."""

import math
import statistics

import pytest
import torch

from geoxt.errors import InputError
from geoxt.trainers import Experiment, Recipe, SampleDataModule, TrainingConfig, TrainingOptions, run_experiment
from geoxt.trainers.config.schema import with_settings
from geoxt.trainers.experiments.report import best_of, markdown, summarize


def test_settings_replace_values_by_dotted_key():
    config = TrainingConfig(model_options={"a": 1})
    changed = with_settings(config, {"recipe.lr": 0.5, "model_options.b": 2, "weights": "x", "training.epochs": 3})
    assert (changed.recipe.lr, changed.model_options, changed.weights) == (0.5, {"a": 1, "b": 2}, "x")
    assert changed.training.epochs == 3
    assert config.recipe.lr != 0.5
    with pytest.raises(InputError, match="Cannot use the configuration key 'recipe.speed'"):
        with_settings(config, {"recipe.speed": 1})


def test_summary_has_sample_standard_deviation():
    runs = [{"scores": {"test/accuracy": value}} for value in (0.9, 0.95, 0.97)]
    summary = summarize(runs)["test/accuracy"]
    assert summary == {"mean": statistics.fmean([0.9, 0.95, 0.97]), "std": statistics.stdev([0.9, 0.95, 0.97]), "n": 3}
    assert math.isclose(summary["std"], 0.03605551275463988)
    text = markdown({"grid": [], "groups": [{"settings": {}, "runs": runs, "summary": summarize(runs)}]})
    assert "0.9400 ± 0.0361" in text


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("val/accuracy", 3), ("val/iou/Floss field", 3), ("val/loss", 1), ("val/rmse", 1), ("val/mae/height", 1)],
)
def test_best_run_has_lowest_error_or_highest_score(monitor, best):
    runs = [{"monitor": monitor, "best": value} for value in (2, 1, 3, math.nan)]
    assert best_of(runs)["best"] == best


def test_another_score_than_that_of_epochs_selects_the_best_run():
    runs = [{"monitor": "val/loss", "best": loss, "scores": {"val/miou": miou}} for loss, miou in ((1, 0.2), (2, 0.7))]
    assert best_of(runs)["best"] == 1
    assert best_of(runs, "val/miou")["best"] == 2
    with pytest.raises(InputError, match="'val/map': validation logs val/miou"):
        best_of(runs, "val/map")


def test_grids_of_a_list_are_joined():
    grids = [{"model": ["a"], "recipe.lr": [0.1, 0.2]}, {}, {"model": ["b"], "weights": ["w"]}]
    expected = [{"model": "a", "recipe.lr": 0.1}, {"model": "a", "recipe.lr": 0.2}, {"model": "b", "weights": "w"}]
    assert Experiment(grid=grids).combinations() == expected
    assert Experiment(grid=grids[0]).combinations() == expected[:2]
    assert Experiment().combinations() == []


def test_losses_of_several_kinds_are_not_compared(tmp_path):
    config = TrainingConfig(recipe=Recipe(monitor="val/loss"))
    experiment = Experiment(grid={"recipe.loss": ["cross_entropy", "jaccard"]})
    with pytest.raises(InputError, match="the grid has the losses .*Pass grid_monitor"):
        run_experiment(experiment, config, lambda seed, epochs: None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_experiment_without_validation_part_saves_the_last_epoch(tmp_path):
    def data(seed, epochs):
        del epochs
        samples = [{"image": torch.full((1, 8, 8), float(at)), "label": at % 2} for at in range(8)]
        return SampleDataModule(samples, seed=seed)

    config = TrainingConfig(
        task="classification", model="test_classifier", training=TrainingOptions(epochs=2, checkpoint_every=0)
    )
    report = run_experiment(Experiment(seeds=(0,)), config, data, tmp_path)
    (run,) = report["groups"][0]["runs"]
    assert (run["monitor"], run["scores"]) == ("train/loss", {})
    (checkpoint,) = tmp_path.glob("runs/*/best.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 1
