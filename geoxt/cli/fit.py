"""The commands `geoxt fit` and `geoxt experiment`: a configuration file becomes a training, or many."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml  # type: ignore[import-untyped]

from geoxt.errors import GeoxtError, InputError, MissingDependency
from geoxt.models import from_checkpoint
from geoxt.trainers.config.build import Learning, build
from geoxt.trainers.config.datamodules import BenchmarkDataModule, LayerDataModule, UnlabeledLayerDataModule
from geoxt.trainers.datamodules.image_folder import ImageFolderDataModule, score_chips
from geoxt.trainers.experiments.run import Experiment, run
from geoxt.trainers.loop.callbacks import BEST
from geoxt.trainers.loop.determinism import NOISE, quiet
from geoxt.trainers.loop.fit import Progress, evaluate, restore, resumable

MODULES = (ImageFolderDataModule, LayerDataModule, UnlabeledLayerDataModule, BenchmarkDataModule)
"""Data modules that a configuration can name without their module."""
SCORES = "scores.json"
_DATASET = "dataset"
"""In a configuration: a dataset of `geoxt.datasets` by name, in place of `data`."""
_DESCRIPTION = (
    "Train as a configuration says: --config FILE (YAML: data or dataset, model.learn, trainer, out). Any option below "
    "can stand in it, or come after it. --out DIR gets the model; the same command goes on where it was cut off."
)
_ARGUMENT = re.compile(r"(?<![\w.(?&/{'\"-])([a-z_]+)= ?(?![=>])")
"""An argument in Python that an error names, but for those of a call that it shows."""
_SETTINGS = {"alias": "bands"}
"""Settings that have another name than the argument in Python."""
Say = Callable[[str], None]


def learner(data: pl.LightningDataModule, learn: Learning, seed: int = 0) -> pl.LightningModule:
    """Return the module that learns from data.

    Parameters
    ----------
    data
        Set by the configuration's own `data`.
    learn
        What to learn, and how.
    seed
        Of the initial weights.
    """
    return build(learn, data, seed=seed)


def fit_command(arguments: Sequence[str], *, say: Say = print) -> dict[str, float]:
    """Train as the arguments say, with Lightning's command line; go on where the same run was cut off.

    The folder given by `--out` gets `config.yaml`, `best.ckpt`, `last.ckpt` and, where there is a test part,
    `scores.json`.

    Parameters
    ----------
    arguments
        Such as `["--config", "x.yaml", "--trainer.max_epochs", "3"]`.
    say
        Shows a line.

    Returns
    -------
    dict
        Scores on the test part.
    """
    with _plainly("fit"), quiet():
        cli = _cli(_with_datasets(arguments))
        out = Path(cli.config["out"])
        last = resumable(cli.trainer, cli.model, out, patience=cli.config["patience"], every=cli.config["every"])
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=last)
        restore(cli.model, out / BEST)
        scores = evaluate(cli.model, cli.datamodule)
    if scores:
        (out / SCORES).write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    say(f"model     {out / BEST}")
    for name, value in scores.items():
        say(f"{name:<40}{value:8.4f}")
    return scores


def experiment_command(config: str, out: str, *, say: Say = print, progress: Progress = "none") -> dict[str, Any]:
    """Run the experiment that a configuration describes, or what is left of it.

    Parameters
    ----------
    config
        A YAML file: `data` (class_path and init_args) or `dataset`, and the fields of `Experiment`.
    out
        Folder of the results.
    say
        Shows a line.
    progress
        What to show of each training.
    """
    with _plainly("experiment"):
        parser = _jsonargparse().ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(Experiment, as_group=False)
        parser.add_subclass_arguments(pl.LightningDataModule, "data", required=True)
        parsed = parser.parse_string(_expanded(_read(config), config))
        chosen = _instantiate(parser, _without(parsed, "data"))
        experiment = Experiment(**{name: chosen[name] for name in inspect.signature(Experiment).parameters})
        described = parsed["data"]

        def data(seed: int, epochs: int) -> pl.LightningDataModule:
            return _data_module(described, seed=seed, epochs=epochs)

        report = run(experiment, data, out, say=say, progress=progress)
    say(f"\n{(Path(out) / 'results.md').read_text(encoding='utf-8')}")
    return report


def score_command(model: str, chips: str, *, side: int | None = None, turns: bool = True, say: Say = print) -> None:
    """Score a checkpoint on the chips of a folder or zip, and show the shares that are right.

    Parameters
    ----------
    model
        A checkpoint of a classification.
    chips
        As `read_chips` takes it.
    side
        Pixels: side to which chips are scaled.
    turns
        Whether to average over all flips and turns.
    say
        Shows a line.
    """
    scores = score_chips(from_checkpoint(model), chips, side=side, turns=turns)
    for name, value in scores.items():
        say(f"{name:<40}{value:8.4f}" if name != "chips" else f"{name:<40}{value:8.0f}")


def _cli(arguments: list[str]) -> Any:
    _jsonargparse()
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

    class Command(LightningCLI):
        """Lightning's, with a folder for the run, and data that the model is described by."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument("--out", type=str, default="geoxt-fit", help="folder of the run")
            parser.add_argument("--patience", type=int | None, default=None, help="epochs before it stops early")
            parser.add_argument("--every", type=int, default=0, help="steps after which it is kept to go on from")
            parser.link_arguments("data", "model.data", apply_on="instantiate")
            parser.link_arguments("out", "trainer.default_root_dir")

    return Command(
        learner,
        pl.LightningDataModule,
        subclass_mode_data=True,
        run=False,
        seed_everything_default=0,
        trainer_defaults={"logger": False, "max_epochs": 10, "enable_model_summary": False, "num_sanity_val_steps": 0},
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"exit_on_error": False, "prog": "geoxt fit", "description": _DESCRIPTION},
        args=arguments,
    )


def _data_module(described: Any, *, seed: int, epochs: int) -> pl.LightningDataModule:
    """Return the data module that a configuration describes, with a run's seed and epochs where it takes them."""
    parser = _jsonargparse().ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(pl.LightningDataModule, "data", required=True)
    plain = described.clone()
    for name, value in {"seed": seed, "epochs": epochs}.items():
        if name in plain["init_args"]:
            plain["init_args"][name] = value
    module: pl.LightningDataModule = _instantiate(parser, parser.parse_object({"data": plain.as_dict()}))["data"]
    return module


def _instantiate(parser: Any, parsed: Any) -> Any:
    """Make what a configuration describes; jsonargparse has renamed what does it."""
    return getattr(parser, "instantiate", parser.instantiate_classes)(parsed)


@contextmanager
def _plainly(command: str) -> Iterator[None]:
    """Give what is wrong with a configuration in one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within Python.*")
            warnings.filterwarnings(
                "ignore", message=r"(?s).*(JSONARGPARSE_DEPRECATION_WARNINGS|deprecated.*jsonargparse)"
            )
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="jsonargparse|pytorch_lightning")
            for noise in NOISE:
                warnings.filterwarnings("ignore", message=noise)
            yield
    except GeoxtError as error:
        raise _retold(error) from error
    except SystemExit as stop:
        if stop.code in {0, None}:  # help was asked for
            raise
        raise KeyboardInterrupt from stop  # what Lightning makes of Ctrl-C
    except Exception as error:
        if (cause := _cause(error)) is not None:
            raise _retold(cause) from error
        if type(error).__name__ not in {"ArgumentError", "NSKeyError", "MisconfigurationException"}:
            raise
        said = _said(f"{error}\n{error.__cause__ or ''}")
        msg = f"Cannot {command} by this configuration: {said}. Mend that in --config, or see geoxt {command} --help."
        raise InputError(msg) from error


def _said(text: str) -> str:
    """Return what jsonargparse says is wrong: of a class's arguments, what stands below all the types that it tried."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    for place, line in enumerate(lines[:-1]):
        if line.startswith("Problem with given class_path"):
            return f"{line.removeprefix('Problem with given ').rstrip(':')}: {lines[place + 1]}".rstrip(".:")
    return ". ".join(lines[:3]).rstrip(".:")


def _retold(error: GeoxtError) -> GeoxtError:
    """Return an error that names arguments as a configuration has them, `name: value`, rather than as Python."""
    again = type(error)(_ARGUMENT.sub(_setting, str(error)))
    for note in getattr(error, "__notes__", ()):
        again.add_note(note)
    return again


def _setting(argument: re.Match[str]) -> str:
    """Return an argument as a setting: one without a value stands in a sentence, before a comma or a stop."""
    name, after = _SETTINGS.get(argument[1], argument[1]), argument.string[argument.end() : argument.end() + 1]
    return f"{name}:" if after in {",", "."} else f"{name}: "


def _cause(error: BaseException) -> GeoxtError | None:
    """Return what a data module or a model said, which jsonargparse wraps into what no reader needs."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, GeoxtError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _read(config: str) -> str:
    try:
        return Path(config).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Cannot read the configuration {config!r}: {error}. Pass --config a YAML file."
        raise InputError(msg) from error


def _with_datasets(arguments: Sequence[str]) -> list[str]:
    """Return arguments whose configurations name a data module where they named a dataset."""
    plain = [part for one in arguments for part in (one.split("=", 1) if one.startswith("--config=") else [one])]
    found = list(plain)
    for place, one in enumerate(plain[:-1]):
        if one in {"--config", "-c"}:
            text = _read(plain[place + 1])
            found[place + 1] = _expanded(text, plain[place + 1]) if _DATASET in text else plain[place + 1]
    return found


def _expanded(text: str, config: str) -> str:
    """Return a configuration in which `dataset: NAME`, or a mapping with its name, is the data module of that name."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        msg = f"Cannot read the configuration {config!r}: {said}. Mend the YAML there."
        raise InputError(msg) from error
    if not isinstance(plain, dict) or _DATASET not in plain:
        return text
    if "data" in plain:
        msg = f"Cannot train by {config!r}: it names both {_DATASET} and data. Leave one of them out."
        raise InputError(msg)
    named = plain.pop(_DATASET)
    options = named if isinstance(named, dict) else {"name": named}
    named = {"data": {"class_path": BenchmarkDataModule.__name__, "init_args": options}, **plain}
    return str(yaml.safe_dump(named, sort_keys=False))


def _without(config: Any, name: str) -> Any:
    rest = config.clone()
    del rest[name]
    return rest


def _jsonargparse() -> Any:
    try:
        import jsonargparse
    except ImportError as error:
        msg = "Cannot read a configuration without jsonargparse: pip install 'geoxt[train]'."
        raise MissingDependency(msg) from error
    return jsonargparse
