"""Results and configurations of runs as files; each is complete or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from geoxt.errors import InputError, OutputError
from geoxt.storage import atomic_write


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
