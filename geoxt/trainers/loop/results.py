"""Results and configurations of runs as files, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from filelock import FileLock, Timeout

from geoxt.errors import InputError, OutputError
from geoxt.storage import atomic_write
from geoxt.trainers.loop.callbacks import BEST

CONFIG, RESULT, LAST = "config.yaml", "result.json", "last.ckpt"
"""Files in the folder of a run: its configuration, its scores, and the checkpoint to resume from."""
_NOT_COMPARED = frozenset(
    {
        "out",
        "training.epochs",  # the checkpoint decides whether its schedule can be extended
        "training.accelerator",
        "training.num_nodes",  # the checkpoint decides whether the number of processes is the same
        "training.strategy",
        "training.checkpoint_every",
        "data.init_args.num_workers",
    }
)
"""Keys of a configuration that may change when a run is resumed: they do not change its weights or scores."""
_MAX_LISTED = 4
"""Differing keys listed in an error, at most."""


def load_result(path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the result of a finished run, or None if the run has not finished.

    Parameters
    ----------
    path
        Path of `result.json`.
    config
        Configuration of the run, as `to_json` returns it.

    Raises
    ------
    InputError
        If the file cannot be read, or is the result of another configuration.
    """
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = result["config"] == json.loads(json.dumps(config))
    except (OSError, ValueError, KeyError) as error:
        msg = f"Cannot read the result {str(path)!r}: {error}."
        raise InputError(msg, remedy="Remove its folder to repeat the run.") from error
    if not same:
        msg = f"Cannot resume the experiment in {str(path.parent)!r}: it holds a run of another configuration."
        raise InputError(msg, remedy="Pass {out}, another folder.", argument="out")
    return result


def require_same_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise if a folder holds a run of another configuration, or a checkpoint of an unknown one.

    Epochs, hardware, worker processes, the interval of checkpoints and the name of the folder may differ.

    Parameters
    ----------
    folder
        Folder of the run.
    config
        Configuration of the requested run, as `to_json` returns it.

    Raises
    ------
    InputError
        If values differ, or `config.yaml` cannot be read; names the keys and both values.
    """
    trained = [name for name in (BEST, LAST, RESULT) if (folder / name).exists()]
    if not trained:
        return
    path = folder / CONFIG
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"Cannot resume the run in {str(folder)!r}: it holds {trained[0]}, and {CONFIG} cannot be read ({error})."
        raise InputError(msg, remedy="Pass {out}, another folder.", argument="out") from error
    before, now = (dict(_flat(yaml.safe_load(yaml.safe_dump(values)))) for values in (stored, config))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in _NOT_COMPARED]
    if keys:
        changes = [f"{key} is {before.get(key)!r} there and {now.get(key)!r} here" for key in keys[:_MAX_LISTED]]
        more = f", and {len(keys) - _MAX_LISTED} more keys differ" if len(keys) > _MAX_LISTED else ""
        msg = f"Cannot resume the run in {str(folder)!r}: {', '.join(changes)}{more}."
        raise InputError(msg, remedy="Pass {out}, another folder.", value=keys, argument="out")


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of nested mappings; an empty mapping is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create a folder and hold its lock, so that one run at a time writes there; reentrant within a thread.

    Raises
    ------
    OutputError
        If another run holds the lock, or the folder cannot be written.
    """
    create_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        msg = f"Cannot write to the folder {str(folder)!r}: another run is writing there."
        raise OutputError(msg, remedy="Wait for its end, or pass another folder.", value=folder) from error
    except OSError as error:
        msg = f"Cannot write to the folder {str(folder)!r}: {error}."
        raise OutputError(msg, remedy="Pass another folder.", value=folder) from error
    try:
        yield
    finally:
        lock.release()


def to_json(value: Any) -> Any:
    """Return a value as nested dicts, lists and plain values.

    Examples
    --------
    >>> to_json({"seeds": (0, 1)})
    {'seeds': [0, 1]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def create_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises
    ------
    OutputError
        If it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"Cannot create the folder {str(folder)!r}: {error}."
        raise OutputError(msg, remedy="Pass {out}, another folder.", argument="out") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}."
        raise OutputError(msg, remedy="Free space there, or pass {out}, another folder.", argument="out") from error
