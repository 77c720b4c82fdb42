"""Configurations of the paper's tables: valid values, two training steps of each, and the tables."""

import runpy
import shutil
from pathlib import Path

import pytest
import yaml
from support.dataset_trees import make_tree

from geoxt import datasets
from geoxt.cli import main
from geoxt.models import names, weights
from geoxt.tasks import TASKS
from geoxt.trainers.config.parser import parse

FOLDER = Path(__file__).parents[3] / "experiments" / "paper"
PUBLISHED = yaml.safe_load((FOLDER / "tables.yaml").read_text())
CONFIGS = sorted({row["config"] for table in PUBLISHED.values() for row in table} - {None})
SEGMENTATION = ("landcoverai", "chesapeake", "etci2021")


def test_each_row_of_the_paper_has_a_configuration():
    assert [f"{name}.yaml" for name in CONFIGS] == sorted(p.name for p in FOLDER.glob("*.yaml") if p.stem != "tables")
    assert len(PUBLISHED["table4"]) == 12


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_are_those_of_the_protocol(name):
    parsed = parse(["--config", str(FOLDER / f"{name}.yaml")], command="experiment")
    settings = parsed.experiment.combinations()
    kind = TASKS["segmentation" if name.startswith(SEGMENTATION) else "classification"]
    assert {s["recipe.lr"] for s in settings} == {0.01, 0.001, 0.0001}
    assert {s.get("recipe.loss", kind.losses[0]) for s in settings} <= set(kind.losses)
    assert parsed.experiment.seeds == tuple(range(10))
    assert (parsed.config.recipe.monitor, parsed.config.training.patience) == ("val/loss", 18)
    for chosen in settings:
        encoder = chosen.get("model", chosen.get("model_options.encoder", "").removeprefix("tu-"))
        assert encoder in names()
        if chosen["weights"]:
            facts = weights.get(chosen["weights"])
            assert facts.architecture.split(".")[0] == encoder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            folder = made[name] = make_tree(datasets.get(name), tmp_path_factory.mktemp(name)).root
            if name == "etci2021":  # two locations, for training and validation
                for path in list(folder.glob("train/**/*.png")):
                    copy = Path(str(path).replace("x-", "x-9"))
                    shutil.copy(path, copy)
        return made[name]

    return get


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::geoxt.errors.DatasetWarning")  # the trees are miniatures
@pytest.mark.parametrize("name", CONFIGS)
def test_two_steps_run_end_to_end(name, root, tmp_path, capsys):
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    options = config["data"]["init_args"]
    options |= {"root": str(root(options["name"])), "batch_size": 1 if name.startswith(SEGMENTATION) else 2}
    options |= {key: {"window": 8, "val_fraction": 0.5}[key] for key in ("window", "val_fraction") if key in options}
    config |= {"model": "test_unet" if "model" in config else "test_classifier", "model_options": {}}
    limits = {"limit_train_batches": 2, "limit_val_batches": 2, "min_epochs": 1}
    config |= {"trainer": limits, "seeds": [0, 1], "training": {"epochs": 1, "patience": 18, "accelerator": "cpu"}}
    config["grid"] = [
        {key: [None] if key == "weights" else values[-1:] for key, values in grid.items() if key.startswith(("r", "w"))}
        for grid in config["grid"][:1]
    ]
    path, results = tmp_path / "config.yaml", tmp_path / "results"
    path.write_text(yaml.safe_dump(config))
    assert main(["experiment", "--config", str(path), "--out", str(results / name)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    chesapeake = ["--chesapeake", options["root"]] if name.startswith("chesapeake") else []
    runpy.run_path(str(FOLDER / "table.py"))["main"]([str(results), *chesapeake])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    filled = [line for line in lines if "±" in line[-2]]
    assert len(filled) == (7 if chesapeake else 1)
