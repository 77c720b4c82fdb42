"""The configuration of training runs and experiments: one schema for `geoxt fit`, `geoxt experiment` and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import product
from typing import Any, Literal, TypeVar

from geoxt.errors import InputError
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import SomeTransform
from geoxt.trainers.config.unknown_keys import require_known_keys
from geoxt.types import Precision

Settings = Mapping[str, Any]
"""Values by dotted key of a configuration, such as `{"recipe.lr": 0.01}`."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class TrainingOptions:
    """Length and mechanics of a training run: the arguments of `fit`.

    Parameters
    ----------
    epochs
        Passes over the training part.
    accelerator
        Hardware by Lightning's name: `"auto"`, `"cpu"`, `"gpu"`, `"mps"`.
    devices
        Number of devices on a node, their indices, or `"auto"` for all of them.
    strategy
        Strategy of training on several devices, by Lightning's name: `"auto"`, `"ddp"`, `"ddp_fork"`, `"ddp_spawn"`.
    num_nodes
        Number of machines.
    precision
        `"32"`, or mixed precision with `"bf16"` or `"16"`.
    accumulate_grad_batches
        Batches whose gradients are averaged for one optimizer step.
    max_gradient_norm
        Maximum gradient norm (gradient clipping); None for no clipping.
    patience
        Epochs without a better validation score after which training stops early; None to train all epochs.
    compile
        Whether to compile the network by `torch.compile`, which needs a C++ compiler.
    checkpoint_every
        Optimizer steps between checkpoints for resuming; 0 for one checkpoint per epoch.
    """

    epochs: int = 10
    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Precision = "32"
    accumulate_grad_batches: int = 1
    max_gradient_norm: float | None = None
    patience: int | None = None
    compile: bool = False
    checkpoint_every: int = 200


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class TrainingConfig:
    """Task, model, hyperparameters and seed of a training run: everything but the data.

    Parameters
    ----------
    task
        Kind of task (`segmentation`, `detection`, …), or method of self-supervised learning (`byol`, `simclr`, …); by
        default the task of the dataset, else `segmentation`.
    model
        Architecture in `geoxt.models`; by default that of the task.
    model_options
        Further arguments of the architecture.
    weights
        Initial weights: a name in `geoxt.models.weights.names()`, or a geoxt checkpoint; None for random weights.
    missing
        How to initialize the filters of bands that the weights lack: `"mean"`, `"random"` or `"zero"`.
    alias
        Names of the bands in the weights, by name of the band in the data.
    sample_keys
        Keys of samples that differ from the task's: `{"image": …, "target": …}`.
    method_options
        Further arguments of the method of self-supervised learning, and `positives`.
    transforms
        Transforms of training batches, which replace the recipe's flips and rotations: names in `geoxt.transforms` or
        import paths; with arguments as `class_path` and `init_args`.
    recipe
        Loss, optimizer and learning rate schedule.
    training
        Length and mechanics of the run.
    trainer
        Further arguments of `pytorch_lightning.Trainer`.
    seed
        Seed of initial weights, sample order, augmentation and dropout.
    """

    task: str | None = None
    model: str | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    missing: Literal["mean", "random", "zero"] = "mean"
    alias: Mapping[str, str] = field(default_factory=dict)
    sample_keys: Mapping[str, str] = field(default_factory=dict)
    method_options: Mapping[str, Any] = field(default_factory=dict)
    transforms: Sequence[SomeTransform] = ()
    recipe: Recipe = field(default_factory=Recipe)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Comparison:
    """Settings that an experiment compares with the best settings of its grid.

    Parameters
    ----------
    set
        Values that differ from the best settings, by dotted key.
    seeds
        Seeds of the runs.
    """

    set: Settings
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads defaults from __dict__
class Experiment:
    """A grid search on one seed, whose best settings are repeated on several seeds.

    Parameters
    ----------
    grid
        Values to try, by dotted key of the configuration (`recipe.lr`, `model`); every combination is run. A list of
        grids joins their combinations, as scikit-learn's `ParameterGrid` does. Without a grid the configuration is run
        unchanged.
    grid_epochs
        Epochs of the grid's runs; by default `training.epochs`.
    grid_seed
        Seed of the grid's runs.
    grid_monitor
        Validation score that selects the best settings, such as `val/miou`; by default that of the recipe.
    seeds
        Seeds on which the best settings are repeated.
    compare
        Further settings to run: `set` (values by dotted key) and `seeds`.
    """

    grid: Mapping[str, list[Any]] | Sequence[Mapping[str, list[Any]]] = field(default_factory=dict)
    grid_epochs: int | None = None
    grid_seed: int = 0
    grid_monitor: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    compare: tuple[Comparison, ...] = ()

    def combinations(self) -> list[dict[str, Any]]:
        """Return the settings of the grid's runs."""
        grids = [self.grid] if isinstance(self.grid, Mapping) else self.grid
        return [dict(zip(grid, values, strict=True)) for grid in grids if grid for values in product(*grid.values())]


def with_settings(config: TrainingConfig, settings: Settings) -> TrainingConfig:
    """Return a configuration with some values replaced, by dotted key.

    Raises
    ------
    InputError
        If a key is unknown.

    Examples
    --------
    >>> with_settings(TrainingConfig(), {"recipe.lr": 0.1, "model": "fcn"}).recipe.lr
    0.1
    """
    for key, value in settings.items():
        config = _replace_value(config, key.split("."), value, key)
    return config


def _replace_value(parent: T, path: Sequence[str], value: Any, key: str) -> T:
    name, *inner = path
    if is_dataclass(parent) and not isinstance(parent, type):
        require_known_keys([name], [f.name for f in fields(parent)], prefix=key.removesuffix(".".join(path)))
        new = _replace_value(getattr(parent, name), inner, value, key) if inner else value
        changed: Any = replace(parent, **{name: new})
        return changed
    if isinstance(parent, Mapping):
        options: Any = {**parent, name: _replace_value(parent.get(name), inner, value, key) if inner else value}
        return options
    msg = f"Cannot set {key!r}: {key.removesuffix('.' + '.'.join(path))!r} has no keys."
    raise InputError(msg, remedy="Name a value of the configuration, such as recipe.lr, model or weights.")
