"""States of map tiles, one small file each, and locks of the jobs that write them."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from geoxt.errors import InputError, OutputError
from geoxt.storage import atomic_write

STATES = "states"
"""Folder of the state files."""
FIELDS = {"state", "started", "finished", "bytes", "attempts", "error"}
"""Fields of a state, which are columns of the manifest."""
_LOCK = re.compile(r"\.part-(\d+)-of-(\d+)\.lock")


def now() -> str:
    """Return the time in UTC, as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_state(folder: Path, name: str, state: Mapping[str, Any]) -> None:
    """Write the state of a map tile; the file is complete or absent."""
    with atomic_write(folder / STATES / f"{name}.json", fsync=False) as path:
        path.write_text(json.dumps(state), encoding="utf-8")


def read_states(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the states of map tiles by name; files that a power failure left incomplete count as absent."""
    states: dict[str, dict[str, Any]] = {}
    for entry in os.scandir(folder / STATES):
        if entry.name.endswith(".json") and not entry.name.startswith("."):
            with suppress(ValueError):
                state = json.loads(Path(entry.path).read_bytes())
                if isinstance(state, dict) and state.keys() >= FIELDS:
                    states[entry.name.removesuffix(".json")] = state
    return states


def parse_part(part: str | tuple[int, int] | None) -> tuple[int, int]:
    """Return number and count of a part from "i/n" or a pair; (1, 1) for `None`.

    Examples
    --------
    >>> parse_part("2/8"), parse_part(None)
    ((2, 8), (1, 1))
    """
    if part is None:
        return 1, 1
    try:
        number, count = (int(text) for text in (part.split("/") if isinstance(part, str) else part))
    except (TypeError, ValueError):
        number = count = 0
    if not 1 <= number <= count:
        raise InputError(
            f"Cannot take part {part!r} of the map tiles.",
            remedy="Pass {part:'1/4'}, a number from 1 to the count.",
            value=part,
            argument="part",
        )
    return number, count


@contextmanager
def locked_part(folder: Path, part: tuple[int, int]) -> Iterator[None]:
    """Hold the lock of a part of the map tiles, which the system releases if the process is killed.

    Raises
    ------
    OutputError
        If another job holds this part, or divides the map tiles into another number of parts.
    """
    path = folder / f".part-{part[0]}-of-{part[1]}.lock"
    lock = FileLock(path, timeout=0)
    try:
        with manifest_lock(folder):  # no other job can take a lock between these tests
            for other in sorted(folder.glob(".part-*-of-*.lock")):
                match = _LOCK.fullmatch(other.name)
                if match is not None and int(match[2]) != part[1]:
                    _require_free(other, folder, f"{match[1]}/{match[2]}")
            try:
                lock.acquire()
            except Timeout as error:
                raise _in_progress(folder, f"{part[0]}/{part[1]}") from error
            holder = path.with_suffix(".json")
            holder.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": now()}))
    except NotImplementedError:  # the file system has no locks
        yield
        return
    try:
        yield
    finally:
        path.with_suffix(".json").unlink(missing_ok=True)
        lock.release()


@contextmanager
def manifest_lock(folder: Path) -> Iterator[None]:
    """Wait for the lock of a folder's manifest, and hold it; without effect on a file system without locks."""
    lock = FileLock(folder / ".manifest.lock")
    try:
        lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _require_free(path: Path, folder: Path, part: str) -> None:
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise _in_progress(folder, part) from error
    lock.release()


def _in_progress(folder: Path, part: str) -> OutputError:
    """Return the error of a part that another job writes, with its host and process."""
    number, _, count = part.partition("/")
    try:
        holder = json.loads((folder / f".part-{number}-of-{count}.json").read_bytes())
        location = f" (process {holder['pid']} of {holder['host']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        location = ""
    return OutputError(
        f"Cannot write the map tiles of {str(folder)!r}: another job{location} writes part {part}.",
        remedy="Wait for its end. Or divide the map tiles among all jobs by {part}, such as '1/4' to '4/4'.",
        argument="part",
    )
