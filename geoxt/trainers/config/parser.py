"""Configuration files and command-line options, parsed by one schema and checked for unknown keys."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

import pytorch_lightning as pl
import yaml  # type: ignore[import-untyped]

from geoxt.errors import InputError, optional_import
from geoxt.trainers.config.benchmark_datamodule import BenchmarkDataModule
from geoxt.trainers.config.datamodules import LayerDataModule, UnlabeledLayerDataModule
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.schema import Comparison, Experiment, TrainingConfig, TrainingOptions
from geoxt.trainers.config.unknown_keys import require_known_keys
from geoxt.trainers.datamodules.image_folder import ImageFolderDataModule
from geoxt.trainers.loop.fit import SET_BY_FIT, require_trainer_options

DATA_MODULES = {
    cls.__name__: cls for cls in (ImageFolderDataModule, LayerDataModule, UnlabeledLayerDataModule, BenchmarkDataModule)
}
"""Data modules that a configuration can name without their module."""
GROUPS = {"recipe": Recipe, "training": TrainingOptions}
"""Keys of a configuration that hold a mapping with a fixed set of keys."""
PER_RUN = ("seed", "epochs")
"""Arguments of data modules that each run sets, from `seed` and `training.epochs`."""
_EXPERIMENT = {f.name for f in fields(Experiment)}
_TOP = {f.name for f in fields(TrainingConfig)} | _EXPERIMENT | {"data", "dataset", "out"}
Command = Literal["fit", "experiment"]
_HELP = {
    "config": "Configuration file (YAML). Options below can stand in it; those on the command line take precedence.",
    "data": "Data module: LayerDataModule, UnlabeledLayerDataModule, ImageFolderDataModule, or an import path; "
    "in a file as class_path and init_args. --data.help NAME shows its options.",
    "dataset": "Name of a benchmark dataset (`geoxt datasets list`), in place of data; in a file also a mapping of "
    "name, root, download, splits, val_fraction, assets, where, bands, level, window, batch_size, eval_batch_size, "
    "num_workers.",
    "out": "Folder of the results.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A parsed configuration."""

    config: TrainingConfig
    experiment: Experiment
    data: Mapping[str, Any]
    """Data module, as `class_path` and `init_args`."""
    out: Path
    """Folder of the results."""
    ignored: tuple[str, ...] = ()
    """Keys of an experiment in the configuration of a single run."""

    def data_module(self, seed: int, epochs: int) -> pl.LightningDataModule:
        """Return the data module of a run; its `seed` and `epochs` are passed to classes that accept them."""
        parser = _jsonargparse().ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(pl.LightningDataModule, "data", required=True)
        accepted = inspect.signature(resolve_name(self.data["class_path"])).parameters
        per_run = {name: v for name, v in zip(PER_RUN, (seed, epochs), strict=True) if name in accepted}
        description = {**self.data, "init_args": {**self.data.get("init_args", {}), **per_run}}
        module: pl.LightningDataModule = _instantiate(parser, parser.parse_object({"data": description}))["data"]
        return module


def parse(arguments: Sequence[str], *, command: Command) -> Parsed:
    """Parse configuration files and options.

    Parameters
    ----------
    arguments
        Options, such as `["--config", "fit.yaml", "--training.epochs", "3"]`.
    command
        `"fit"` for a single run, which ignores the keys of `Experiment`, or `"experiment"`.

    Raises
    ------
    InputError
        If a file cannot be read, or a key is unknown.
    """
    parser = argument_parser(command)
    checked, ignored = _checked_arguments(arguments, drop=_EXPERIMENT if command == "fit" else set())
    parsed = parser.parse_args(checked)
    if parsed.data is None:
        msg = "Cannot train without data."
        raise InputError(msg, remedy="Name a dataset by {dataset}, or a data module by {data}.", argument="data")
    plain = parsed.as_dict()
    # not instantiated here: data has no seed yet, and configurations hold plain values
    plain_names = {name: plain[name] for name in ("trainer", "transforms")}
    values = _instantiate(parser, _without(parsed, "data", *plain_names))
    config = {f.name: values[f.name] for f in fields(TrainingConfig) if f.name not in plain_names}
    experiment = {name: values[name] for name in _EXPERIMENT if command == "experiment"}
    init_args = {k: v for k, v in (plain["data"].get("init_args") or {}).items() if k not in PER_RUN}
    return Parsed(
        config=TrainingConfig(**config, **plain_names),
        experiment=Experiment(**experiment),
        data={**plain["data"], "init_args": init_args},
        out=Path(parsed.out),
        ignored=tuple(ignored),
    )


def argument_parser(command: Command) -> Any:
    """Return the parser of the options of `geoxt fit` or `geoxt experiment`."""
    prog = f"geoxt {command}"
    parser = _jsonargparse().ArgumentParser(
        exit_on_error=False,
        prog=prog,
        usage=f"{prog} --config FILE [--out DIR] [OPTION ...]",
        description=f"Train by a configuration. `{prog} --help.trainer` shows further options of Lightning's Trainer.",
    )
    parser.add_argument("-c", "--config", action="config", help=_HELP["config"])
    parser.add_argument("--out", default=f"geoxt-{command}", help=_HELP["out"])
    parser.add_argument("--dataset", type=str | None, default=None, help=_HELP["dataset"])
    parser.add_subclass_arguments(
        pl.LightningDataModule, "data", required=False, as_group=False, help=_HELP["data"], default=None
    )
    parser.add_class_arguments(TrainingConfig, as_group=False)
    if command == "experiment":
        parser.add_class_arguments(Experiment, as_group=False)
    return parser


def trainer_help() -> str:
    """Return the help of the options of Lightning's Trainer that geoxt does not set."""
    parser = _jsonargparse().ArgumentParser(usage="geoxt fit --config FILE [--trainer.OPTION VALUE ...]")
    parser.add_class_arguments(pl.Trainer, "trainer", skip=set(SET_BY_FIT) - {"callbacks"})
    return str(parser.format_help())


def _checked_arguments(arguments: Sequence[str], *, drop: AbstractSet[str]) -> tuple[list[str], list[str]]:
    """Return options with configuration files replaced by their content, and the keys dropped from these."""
    split = [part for arg in arguments for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    checked: list[str] = []
    dropped: list[str] = []
    for index, argument in enumerate(split):
        if index and split[index - 1] in {"--config", "-c"}:
            config = _checked_file(argument)
            dropped += [name for name in config if name in drop]
            checked.append(str(yaml.safe_dump({k: v for k, v in config.items() if k not in drop}, sort_keys=False)))
        elif argument.startswith("--"):
            checked += _checked_option(argument, split[index + 1 : index + 2], known=_TOP - drop)
        elif not (index and split[index - 1] == "--dataset"):
            checked.append(argument)
    return checked, dropped


def _checked_option(option: str, value: Sequence[str], *, known: AbstractSet[str]) -> list[str]:
    """Return an option with its key checked; a dataset as options of its data module."""
    key = option.removeprefix("--").removesuffix("+")
    name, _, inner = key.partition(".")
    if name in {"help", "config", "print_config"} or key == "data.help":
        return [option]
    if name == "dataset":
        dataset = f"--data.{inner}" if inner else f"--data.name={''.join(value)}"
        return [dataset] if inner else [f"--data={BenchmarkDataModule.__name__}", dataset]
    nested: Any = {name: {inner.partition(".")[0]: None}} if inner else {name: None}
    _check_keys(nested, known=known)
    return [option]


def _checked_file(path: str) -> dict[str, Any]:
    """Return the content of a configuration file, with a `dataset` as `data`."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"Cannot read the configuration {path!r}: {' '.join(str(error).split())}."
        raise InputError(msg, remedy="Pass {config}, a YAML file.", argument="config") from error
    if not isinstance(content, Mapping):
        msg = f"Cannot read the configuration {path!r}: it holds no mapping."
        raise InputError(msg, remedy="Pass {config}, a YAML file with keys such as data, task and recipe.")
    config = dict(content)
    if "dataset" in config:
        if "data" in config:
            msg = f"Cannot train by {path!r}: it has both data and dataset."
            raise InputError(msg, remedy="Remove one of them.")
        dataset = config.pop("dataset")
        options = dataset if isinstance(dataset, Mapping) else {"name": dataset}
        config = {"data": {"class_path": BenchmarkDataModule.__name__, "init_args": options}, **config}
    _check_keys(config)
    return config


def _check_keys(config: Mapping[str, Any], *, known: AbstractSet[str] = _TOP) -> None:
    """Raise if a key of a configuration, or of one of its groups, is unknown."""
    require_known_keys(config, known)
    for name, cls in GROUPS.items():
        if isinstance(config.get(name), Mapping):
            require_known_keys(config[name], [f.name for f in fields(cls)], prefix=f"{name}.")
    if isinstance(config.get("trainer"), Mapping):
        require_trainer_options({name: v for name, v in config["trainer"].items() if name != "callbacks"})
    for comparison in config.get("compare") or ():
        if isinstance(comparison, Mapping):
            require_known_keys(comparison, [f.name for f in fields(Comparison)], prefix="compare.")
    data = config.get("data")
    if isinstance(data, Mapping) and isinstance(data.get("init_args"), Mapping) and "class_path" in data:
        _check_init_args(str(data["class_path"]), data["init_args"])


def _check_init_args(class_path: str, init_args: Mapping[str, Any]) -> None:
    cls: Any = DATA_MODULES.get(class_path)
    if cls is None:
        try:
            cls = resolve_name(class_path)
        except (ImportError, AttributeError, ValueError) as error:
            msg = f"Cannot import the data module {class_path!r}: {error}."
            remedy = f"Name one of {', '.join(DATA_MODULES)} as class_path, or the import path of another data module."
            raise InputError(msg, remedy=remedy) from error
    parameters = inspect.signature(cls).parameters
    for name in PER_RUN:
        if name in parameters and name in init_args:
            msg = f"Cannot set data.init_args.{name}: each run passes its value to the data module."
            raise InputError(msg, remedy=f"Pass {{{name}}} instead.", argument=name)
    if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        require_known_keys(init_args, set(parameters) - set(PER_RUN), prefix="data.init_args.")


def _instantiate(parser: Any, parsed: Any) -> Any:
    """Return parsed values as objects; jsonargparse 4.40 renamed the method."""
    return getattr(parser, "instantiate", parser.instantiate_classes)(parsed)


def _without(config: Any, *names: str) -> Any:
    others = config.clone()
    for name in names:
        del others[name]
    return others


def _jsonargparse() -> Any:
    with optional_import("jsonargparse", "train", "read a configuration"):
        import jsonargparse
    return jsonargparse
