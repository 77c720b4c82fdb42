"""`geoxt fit`: a configuration becomes a run that can be resumed; help and errors are complete."""

import inspect
import json
import logging
import re

import pytest
import pytorch_lightning as pl
import torch
from support.image_folders import make_image_folder

from geoxt.cli import FAILED, main
from geoxt.cli.configuration import key
from geoxt.errors import InputError
from geoxt.models import from_checkpoint
from geoxt.trainers import Recipe, TrainingConfig, TrainingOptions, fit
from geoxt.trainers.config.parser import argument_parser, parse
from geoxt.trainers.datamodules.image_folder import ImageFolderDataModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp("images") / "2750")


DATA = """
data:
  class_path: ImageFolderDataModule
  init_args: {{path: {path}, fractions: [0.6, 0.2, 0.2], sizes: [16, 32], batch_size: 12, split_seed: 3}}
"""
MODEL = """
task: classification
model: test_classifier
recipe: {lr: 0.01, ema_decay: 0.5, tta: true}
"""


@pytest.fixture
def config(folder, tmp_path):
    """Return a function that writes a configuration with further lines, which replace those of the same key."""

    default = DATA.format(path=folder)

    def write(*lines, data=default):
        keys = {line.split(":")[0] for line in lines}
        remaining = [line for line in MODEL.splitlines() if line.split(":")[0] not in keys]
        path = tmp_path / "fit.yaml"
        path.write_text("\n".join([data, *remaining, *lines, f"out: {tmp_path / 'run'}", ""]))
        return path

    return write


def test_fit_trains_and_writes_checkpoints_configuration_and_scores(folder, config, tmp_path, capsys):
    path, out, messages = config(), tmp_path / "run", []
    handler = logging.Handler()
    handler.emit = messages.append
    logging.getLogger("pytorch_lightning").addHandler(handler)
    try:
        assert main(["fit", "--config", str(path), "--training.epochs", "2"]) == 0
    finally:
        logging.getLogger("pytorch_lightning").removeHandler(handler)
    assert not messages
    assert {file.name for file in out.glob("[!.]*")} == {
        "best.ckpt",
        "last.ckpt",
        "config.yaml",
        "files.json",
        "result.json",
    }
    assert re.findall(r"^epoch (.)/2  loss", capsys.readouterr().out, re.MULTILINE) == ["1", "2"]
    result = json.loads((out / "result.json").read_text())
    assert (result["monitor"], len(result["history"])) == ("val/accuracy", 2)
    part = ImageFolderDataModule(str(folder), fractions=(0.6, 0.2, 0.2), split_seed=3, sizes=(32,)).test
    assert result["scores"]["test/accuracy"] == pytest.approx(accuracy(out / "best.ckpt", part))


def test_saved_configuration_resumes_the_run_to_the_same_weights(config, tmp_path):
    out = tmp_path / "run"
    assert main(["fit", "--config", str(config()), "--training.epochs=2"]) == 0
    result = json.loads((out / "result.json").read_text())
    before = torch.load(out / "best.ckpt", weights_only=True)["state_dict"]
    (out / "result.json").unlink()
    assert main(["fit", "--config", str(out / "config.yaml")]) == 0
    again = json.loads((out / "result.json").read_text())
    assert (again["scores"], again["config"]) == (result["scores"], result["config"])
    after = torch.load(out / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.slow
def test_run_is_not_resumed_with_other_images_or_without_its_best_epoch(config, tmp_path, capsys):
    images = make_image_folder(tmp_path / "2750")
    path, out = config(data=DATA.format(path=images)), tmp_path / "run"
    assert main(["fit", "--config", str(path)]) == 0
    result = json.loads((out / "result.json").read_text())
    out.rename(moved := tmp_path / "moved")
    assert main(["fit", "--config", str(path), "--out", str(moved)]) == 0
    again = json.loads((moved / "result.json").read_text())
    assert [again[key] for key in ("best", "scores", "history")] == [result[k] for k in ("best", "scores", "history")]

    (moved / "best.ckpt").rename(tmp_path / "best.ckpt")
    capsys.readouterr()
    assert main(["fit", "--config", str(path), "--out", str(moved)]) == FAILED
    assert "'best.ckpt', its best epoch, is missing" in capsys.readouterr().err
    (tmp_path / "best.ckpt").rename(moved / "best.ckpt")

    first, second = images / "Lake" / "Lake_0.png", images / "Roof" / "Roof_0.png"
    first.write_bytes(second.read_bytes())  # the same number of images, and of batches
    assert main(["fit", "--config", str(path), "--out", str(moved)]) == FAILED
    assert "'Lake/Lake_0.png' of its data was changed since it was started" in capsys.readouterr().err
    (moved / "files.json").unlink()
    assert main(["fit", "--config", str(path), "--out", str(moved)]) == FAILED
    assert "written with other samples or windows, as of changed files" in capsys.readouterr().err


def accuracy(checkpoint, part):
    """Return the accuracy of outputs averaged over the eight flips and rotations."""
    network = from_checkpoint(checkpoint)
    batch = part.__getitems__(list(range(len(part))))
    outputs = []
    with torch.no_grad():
        for turns in range(4):
            for flip in (False, True):
                image = batch["image"].flip(-1) if flip else batch["image"]
                outputs.append(network(torch.rot90(image, turns, (-2, -1))).softmax(dim=1))
    return (torch.stack(outputs).mean(dim=0).argmax(dim=1) == batch["label"]).float().mean().item()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("task: poetry", "the task 'poetry': the tasks are segmentation"),
        ("model: resnot", "named 'resnot'"),
        ("modle: unet", "key 'modle': the known keys are alias, "),
        ("modle: unet", "Did you mean model?"),
        ("recipe: {learning_rate: 0.1}", "key 'recipe.learning_rate': the known keys are augment, "),
        ("recipe: {lr: fast}", "fast"),
        ("training: {epoch: 3}", "Did you mean training.epochs?"),
        ("training: {epochs: 0}", "epochs=0. Pass training.epochs: 1 or more."),
        (
            "trainer: {max_epochs: 3}",
            "'max_epochs' to Lightning's Trainer: geoxt sets it. Pass training.epochs: instead",
        ),
        ("trainer: {limit_train_batchs: 3}", "Did you mean trainer.limit_train_batches?"),
        ("recipe: {optimizer: Adamm}", "Pass recipe.optimizer: AdamW"),
    ],
)
def test_errors_of_configurations_are_one_line_and_name_the_key(config, capsys, line, message):
    assert main(["fit", "--config", str(config(line))]) == FAILED
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sizes", "size"), "key 'data.init_args.size': the known keys are "),
        (("split_seed", "seed"), "Cannot set data.init_args.seed: each run passes its value to the data module."),
        (("ImageFolderDataModule", "ImageFolderModule"), "Cannot import the data module 'ImageFolderModule'"),
        (("fractions: [0.6", "fractions: [0.5"), "three fractions that add up"),
    ],
)
def test_errors_of_data_modules_name_the_argument(folder, config, capsys, change, message):
    assert main(["fit", "--config", str(config(data=DATA.format(path=folder).replace(*change)))]) == FAILED
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--recipe.learning_rate=1", "key 'recipe.learning_rate'"),
        ("--modle=unet", "Did you mean model?"),
        ("--trainer.precision=16", "Pass training.precision: instead"),
        ("--grid={}", "key 'grid'"),
    ],
)
def test_unknown_options_raise_with_the_nearest_name(config, capsys, option, message):
    assert main(["fit", "--config", str(config()), option]) == FAILED
    assert message in capsys.readouterr().err


def test_options_of_lightnings_trainer_are_passed_on(config, tmp_path):
    path = config("trainer: {limit_train_batches: 1, callbacks: [{class_path: " + f"{__name__}.Counter" + "}]}")
    Counter.batches = 0
    assert main(["fit", "--config", str(path), "--training.epochs=2", "--trainer.limit_val_batches=1"]) == 0
    assert Counter.batches == 2
    saved = parse(["--config", str(tmp_path / "run" / "config.yaml")], command="fit").config
    assert (saved.trainer["limit_train_batches"], saved.trainer["limit_val_batches"]) == (1, 1)


class Counter(pl.Callback):
    """Counts training batches."""

    batches = 0

    def on_train_batch_end(self, *_):
        Counter.batches += 1


def test_errors_name_arguments_as_configurations_do():
    error = InputError("no CRS.", remedy="Pass {source_crs:'EPSG:4326'}. Or pass {epochs}.")
    assert error.render(key) == "no CRS. Pass source_crs: EPSG:4326. Or pass training.epochs:."


@pytest.mark.parametrize("command", ["fit", "experiment"])
def test_every_option_has_a_help_text_and_trainer_options_are_apart(command, capsys):
    for action in argument_parser(command)._actions:
        assert len((action.help or "").partition("(type:")[0].split()) > 1, action.option_strings
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "--recipe.lr" in text
    assert "limit_train_batches" not in text
    assert ("--grid" in text) == (command == "experiment")
    assert main([command, "--help.trainer"]) == 0
    text = capsys.readouterr().out
    assert "--trainer.limit_train_batches" in text
    assert "--trainer.max_epochs" not in text


def test_options_are_documented_once():
    parser_help = " ".join(argument_parser("fit").format_help().split())
    for cls in (Recipe, TrainingOptions, TrainingConfig):
        documented = re.findall(
            r"^    (\w+)\n        (\S.*)$", inspect.getdoc(cls).replace("\n", "\n    "), re.MULTILINE
        )
        assert [name for name, _ in documented] == list(inspect.signature(cls).parameters)
        for name, first_line in documented:
            if not isinstance(getattr(cls(), name), Recipe | TrainingOptions):
                assert " ".join(first_line.split()) in parser_help


def test_training_options_are_the_arguments_of_fit():
    accepted = inspect.signature(fit).parameters
    for name, parameter in inspect.signature(TrainingOptions).parameters.items():
        of_function = str(accepted[name].annotation).replace("str | Strategy", "str")  # a configuration names it
        assert of_function == str(parameter.annotation)
