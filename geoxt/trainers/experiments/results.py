"""What is kept of runs: results and configurations as JSON, each file written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from geoxt.errors import InputError, OutputError


def kept(path: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a run's result, if it is done."""
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = result["config"] == json.loads(json.dumps(config))
    except (OSError, ValueError, KeyError) as error:
        msg = f"Cannot read the result {str(path)!r}: {error}. Remove its folder, to do the run again."
        raise InputError(msg) from error
    if not same:
        msg = f"Cannot go on with {str(path.parent)!r}: it holds a run of another configuration. Pass another out=."
        raise InputError(msg)
    return result


def to_json(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one) for one in value]
    return value


def make(folder: Path) -> None:
    """Make a folder, unless it is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"Cannot make {str(folder)!r}: {error}. Pass another out=."
        raise OutputError(msg) from error


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    half = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another out=."
        raise OutputError(msg) from error
