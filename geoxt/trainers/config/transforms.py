"""Transforms of training batches by name: creation, application, and random states in checkpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoxt import transforms
from geoxt.errors import InputError, optional_import
from geoxt.trainers.tasks.targets import Batch, entry
from geoxt.transforms.random_stream import RandomStream

SomeTransform = str | dict[str, Any]
"""A name, or a mapping of `class_path` and `init_args`."""

NAMES: Mapping[str, type[nn.Module]] = {
    name: cls
    for name in transforms.__all__
    if inspect.isclass(cls := getattr(transforms, name)) and issubclass(cls, nn.Module)
}
"""The transforms of `geoxt.transforms`."""
PREPROCESSING = frozenset({"AppendIndices", "Decibel", "Lee", "Normalize"})
"""Transforms that validation and prediction need, too; they belong to the data, not to augmentation."""
RNG_STATES = "transforms"
"""Key of checkpoints that holds the random states of transforms."""
_KEYS = {"class_path", "init_args"}


def create_transform(
    description: Sequence[SomeTransform], *, image: str | None = None, num_classes: int | None = None
) -> nn.Module | None:
    """Return a transform of training batches that applies several in order, or `None` for an empty list.

    Parameters
    ----------
    description
        Names in `geoxt.transforms`, or import paths; with arguments as `{"class_path": …, "init_args": {…}}`. The
        `steps` of `Augment` are names in `kornia.augmentation`, with arguments likewise.
    image
        Sample key of the image, for transforms whose arguments name none.
    num_classes
        Number of classes, for transforms that mix labels and whose arguments do not state it.

    Raises
    ------
    InputError
        If a name or an argument is unknown, or validation and prediction need the transform, too.

    Examples
    --------
    >>> create_transform(["RandomFlipRotate", {"class_path": "RandomCrop", "init_args": {"size": 64}}])
    Sequential(
      (0): RandomFlipRotate()
      (1): RandomCrop()
    )
    """
    if isinstance(description, str | Mapping):
        msg = f"Cannot create transforms from {description!r}."
        raise InputError(msg, remedy="Pass {transforms}, a list, even of one transform.", argument="transforms")
    default = {key: value for key, value in (("image", image), ("num_classes", num_classes)) if value is not None}
    created = [_create(description, default) for description in description]
    return nn.Sequential(*created) if created else None


def apply_transform(
    transform: Callable[[Batch], Batch], batch: Batch, *, image: str, target: str | None = None
) -> Batch:
    """Return a transformed batch of training samples.

    Parameters
    ----------
    transform
        Takes and returns a batch. It receives class codes as int64, whatever integer or floating-point type stores
        them, because transforms do not interpolate integers.
    batch
        Training samples.
    image
        Sample key of the image.
    target
        Sample key of class codes, if there are any.

    Raises
    ------
    InputError
        If the transform changes the number of bands.
    """
    codes = {
        name: value.long()
        for name, value in batch.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and (name == target or _is_integer(value))
    }
    result = transform({**batch, **codes})
    before, after = (entry(samples, image).shape for samples in (batch, result))
    if len(after) != len(before) or after[-3:-2] != before[-3:-2]:
        msg = f"Cannot train on {image!r} of the shape {tuple(after)}: its shape before transforms is {tuple(before)}."
        remedy = "Remove {transforms} that add or remove bands. Or apply them to the data."
        raise InputError(msg, remedy=remedy, argument="transforms")
    return result


def _is_integer(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def rng_states(transform: Any) -> list[Tensor | None]:
    """Return the states of a transform's random number generators, for a checkpoint."""
    return [stream.state for stream in _random_streams(transform)]


def restore_rng(transform: Any, states: Sequence[Tensor | None]) -> None:
    """Restore the states of a transform's random number generators from a checkpoint.

    Raises
    ------
    InputError
        If the transform has another number of generators.
    """
    streams = list(_random_streams(transform))
    if len(streams) != len(states):
        msg = f"Cannot resume: the checkpoint has {len(states)} random transforms, and {len(streams)} are requested."
        raise InputError(msg, remedy="Pass the same {transforms}. Or pass another folder.", argument="transforms")
    for generator, state in zip(streams, states, strict=True):
        generator.state = state


def reseed(transform: Any, rank: int) -> None:
    """Seed a transform's seeded random number generators for the process of a rank."""
    for stream in _random_streams(transform):
        if stream.seed is not None:
            seed = int(np.random.default_rng([stream.seed, rank]).integers(2**63))
            stream.state = torch.Generator().manual_seed(seed).get_state()


def _random_streams(transform: Any) -> Iterator[RandomStream]:
    """Yield the random number generators of a transform's modules, in order."""
    for module in transform.modules() if isinstance(transform, nn.Module) else ():
        stream = getattr(module, "rng", None)
        if isinstance(stream, RandomStream):
            yield stream


def _create(description: SomeTransform, default: Mapping[str, Any]) -> nn.Module:
    name, arguments = _parse_transform(description)
    name = name.removeprefix("geoxt.transforms.")
    if name in PREPROCESSING:
        msg = f"Cannot augment with {name!r}: validation and prediction would lack it."
        raise InputError(msg, remedy="Apply it to the layer, or to the datasets, instead.", argument="transforms")
    cls: Any = NAMES.get(name) or _import_class(name, NAMES)
    steps = [_create_kornia(step) for step in arguments.pop("steps", [])] if name == "Augment" else []
    accepted = inspect.signature(cls).parameters
    return _instantiate(cls, name, steps, {k: v for k, v in default.items() if k in accepted} | arguments)


def _create_kornia(description: SomeTransform) -> nn.Module:
    name, arguments = _parse_transform(description)
    with optional_import("kornia", "train", "augment"):
        import kornia.augmentation
    classes = {
        key: cls for key, cls in vars(kornia.augmentation).items() if inspect.isclass(cls) and key.startswith("Random")
    }
    return _instantiate(classes.get(name) or _import_class(name, classes), name, [], arguments)


def _parse_transform(description: SomeTransform) -> tuple[str, dict[str, Any]]:
    description = {"class_path": description} if isinstance(description, str) else dict(description)
    name, arguments = description.get("class_path"), description.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or set(description) - _KEYS:
        msg = f"Cannot create a transform from {description!r}."
        remedy = "Pass {transforms} by name, or as class_path: NAME and init_args: {{…}}."
        raise InputError(msg, remedy=remedy, argument="transforms")
    return name, dict(arguments)


def _import_class(path: str, classes: Mapping[str, Any]) -> Any:
    names = ", ".join(sorted(set(classes) - PREPROCESSING))
    try:
        cls = resolve_name(path) if "." in path else None
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"Cannot import the transform {path!r}: {error}."
        raise InputError(msg, remedy=f"Correct the path. Or pass one of {names}.", argument="transforms") from error
    if not (inspect.isclass(cls) and issubclass(cls, nn.Module)):
        msg = f"Cannot find the transform {path!r}: the transforms are {names}."
        remedy = "Pass a name from this list, or the import path of a torch.nn.Module that takes and returns a batch."
        raise InputError(msg, remedy=remedy, argument="transforms")
    return cls


def _instantiate(cls: Any, name: str, steps: Sequence[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        transform: nn.Module = cls(*steps, **tuples)
    except InputError:
        raise
    except Exception as error:  # kornia raises errors of several types for invalid arguments
        msg = f"Cannot create the transform {name!r} with {dict(arguments)}: {error}. Its arguments are "
        msg += f"{', '.join(inspect.signature(cls).parameters)}."
        raise InputError(msg, remedy="Correct its init_args.", argument="transforms") from error
    return transform
