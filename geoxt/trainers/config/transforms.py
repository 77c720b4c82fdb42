"""Transforms by name: what a configuration says of training batches becomes what changes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn

from geoxt import transforms
from geoxt.errors import InputError, MissingDependency
from geoxt.trainers.tasks.targets import Batch, entry
from geoxt.transforms.random_stream import RandomStream

SomeTransform = str | dict[str, Any]
"""A name, or a mapping of `class_path` and `init_args`."""

NAMES: Mapping[str, type[nn.Module]] = {
    name: found
    for name in transforms.__all__
    if inspect.isclass(found := getattr(transforms, name)) and issubclass(found, nn.Module)
}
"""The transforms of `geoxt.transforms`."""
FIXED = frozenset({"AppendIndices", "Decibel", "Lee", "Normalize"})
"""Those that a model would have to be given in validation and prediction as well."""
STREAMS = "transforms"
"""Where a checkpoint keeps the streams that transforms draw from."""
_KEYS = {"class_path", "init_args"}


def create_transform(
    described: Sequence[SomeTransform], *, image: str | None = None, classes: int | None = None
) -> nn.Module | None:
    """Return what changes training batches, one transform after the other.

    Parameters
    ----------
    described
        Names of `geoxt.transforms`, or import paths; with arguments as `{"class_path": …, "init_args": {…}}`. The
        `steps` of `Augment` are described alike, by the names of `kornia.augmentation`.
    image
        The layer that is meant where a transform is told none.
    classes
        The number of classes, for those that mix labels and are not told it.

    Returns
    -------
    torch.nn.Module or None
        Takes and returns a batch; nothing where nothing is described.

    Raises
    ------
    InputError
        Where a name is unknown, arguments are not those of the transform, or it would have to be applied in validation.

    Examples
    --------
    >>> create_transform(["RandomFlipRotate", {"class_path": "RandomCrop", "init_args": {"size": 64}}])
    Sequential(
      (0): RandomFlipRotate()
      (1): RandomCrop()
    )
    """
    if isinstance(described, str | Mapping):
        msg = f"Cannot take transforms={described!r}: pass a list, even of one."
        raise InputError(msg)
    default = {key: value for key, value in (("image", image), ("classes", classes)) if value is not None}
    made = [_made(one, default) for one in described]
    return nn.Sequential(*made) if made else None


def transformed(transform: Callable[[Batch], Batch], batch: Batch, *, image: str, target: str | None = None) -> Batch:
    """Return a batch of training samples, transformed.

    Parameters
    ----------
    transform
        Takes and returns a batch.
    batch
        Class codes in it, of any whole numbers or stored as floating point, come to the transform as int64, by which
        transforms know them: they are not interpolated.
    image
        The layer that goes into the model: it keeps its number of bands.
    target
        The layer of class codes, if there is one.

    Raises
    ------
    InputError
        Where the image comes back with other bands.
    """
    codes = {
        name: value.long()
        for name, value in batch.items()
        if isinstance(value, Tensor) and value.ndim >= 3 and (name == target or _whole(value))
    }
    found = transform({**batch, **codes})
    before, after = (entry(one, image).shape for one in (batch, found))
    if len(after) != len(before) or after[-3:-2] != before[-3:-2]:
        msg = f"Cannot train on {image!r} of the shape {tuple(after)}: it was {tuple(before)} before transforms. Leave "
        raise InputError(msg + "out those that add or take bands, or apply them to the data instead.")
    return found


def _whole(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def streams(transform: Any) -> Iterator[RandomStream]:
    """Yield what the parts of a transform draw from, in order."""
    for part in transform.modules() if isinstance(transform, nn.Module) else ():
        draws = getattr(part, "draws", None)
        if isinstance(draws, RandomStream):
            yield draws


def states(transform: Any) -> list[Tensor | None]:
    """Return where the streams of a transform stand, for a checkpoint."""
    return [draws.state for draws in streams(transform)]


def restore_rng(transform: Any, kept: Sequence[Tensor | None]) -> None:
    """Let the streams of a transform go on where `states` found them.

    Raises
    ------
    InputError
        Where the transform has other streams.
    """
    own = list(streams(transform))
    if len(own) != len(kept):
        msg = f"Cannot go on: the training was kept with {len(kept)} transforms that draw, and now has {len(own)}. "
        raise InputError(msg + "Pass transforms= as before, or another folder to start anew.")
    for draws, state in zip(own, kept, strict=True):
        draws.state = state


def _made(described: SomeTransform, default: Mapping[str, Any]) -> nn.Module:
    name, arguments = _parsed(described)
    name = name.removeprefix("geoxt.transforms.")
    if name in FIXED:
        msg = f"Cannot augment with {name!r}: what it does to training batches, validation and prediction would lack. "
        raise InputError(msg + "Apply it to the layer, or to the datasets, instead.")
    found: Any = NAMES.get(name) or _imported(name, NAMES)
    steps = [_step(one) for one in arguments.pop("steps", [])] if name == "Augment" else []
    takes = inspect.signature(found).parameters
    own = {key: value for key, value in default.items() if key in takes}
    return _called(found, name, steps, own | arguments)


def _step(described: SomeTransform) -> nn.Module:
    """Return one of kornia's augmentations."""
    name, arguments = _parsed(described)
    try:
        import kornia.augmentation
    except ImportError as error:
        msg = "Cannot augment with kornia, which is not installed: pip install 'geoxt[train]'."
        raise MissingDependency(msg) from error
    known = {
        one: kind
        for one, kind in vars(kornia.augmentation).items()
        if inspect.isclass(kind) and one.startswith("Random")
    }
    return _called(known.get(name) or _imported(name, known), name, [], arguments)


def _parsed(described: SomeTransform) -> tuple[str, dict[str, Any]]:
    plain = {"class_path": described} if isinstance(described, str) else dict(described)
    name, arguments = plain.get("class_path"), plain.get("init_args") or {}
    if not isinstance(name, str) or not isinstance(arguments, Mapping) or set(plain) - _KEYS:
        msg = f"Cannot take {described!r} as a transform: pass a name, or class_path: NAME and init_args: {{…}}."
        raise InputError(msg)
    return name, dict(arguments)


def _imported(path: str, known: Mapping[str, Any]) -> Any:
    """Return the class that an import path names."""
    try:
        found = resolve_name(path) if "." in path else None
    except (ImportError, AttributeError, ValueError) as error:
        msg = (
            f"Cannot import the transform {path!r}: {error}. Pass one of {', '.join(_named(known))}, or mend the path."
        )
        raise InputError(msg) from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        msg = f"Cannot find the transform {path!r}: pass one of {', '.join(_named(known))}, or the import "
        raise InputError(msg + "path of a torch.nn.Module that takes and returns a batch.")
    return found


def _named(known: Mapping[str, Any]) -> list[str]:
    return sorted(set(known) - FIXED)


def _called(found: Any, name: str, steps: Sequence[nn.Module], arguments: Mapping[str, Any]) -> nn.Module:
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    try:
        made: nn.Module = found(*steps, **plain)
    except InputError:
        raise
    except Exception as error:  # kornia raises errors of several types for arguments that it cannot take
        msg = f"Cannot make the transform {name!r} with {dict(arguments)}: {error}. It takes "
        raise InputError(msg + f"{', '.join(inspect.signature(found).parameters)}. Mend its init_args.") from error
    return made
