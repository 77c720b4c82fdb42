"""Rows of arrays in HDF5 files, through handles that a process keeps open."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoxt.datasets.assets import Array as ArrayAsset
from geoxt.datasets.codes import code_type, decode
from geoxt.errors import MissingDependency, ReadError
from geoxt.legend import Legend
from geoxt.types import Array

_ORDER = "tbyx"


class _Files(threading.local):
    """Open files of one thread of this process by path; empty again after a fork."""

    def __init__(self) -> None:
        self.pid, self.open = os.getpid(), dict[str, Any]()

    def get(self, path: str) -> Any:
        if self.pid != os.getpid():
            self.pid, self.open = os.getpid(), {}
        kept = self.open.get(path)
        stamp = _stamp(path)
        if kept is None or kept[1] != stamp:
            if kept is not None:
                kept[0].close()  # else HDF5 would go on with what it knows of the file
            kept = self.open[path] = _open(path), stamp
        return kept[0]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


_files = _Files()


def _open(path: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        msg = f"Cannot read {path!r} without h5py: pip install 'geoxt[datasets]'."
        raise MissingDependency(msg) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        msg = f"Cannot open the HDF5 file {path!r}: {error}. Fetch the dataset again."
        raise ReadError(msg) from error


def _array(path: str, key: str) -> Any:
    file = _files.get(path)
    if key not in file:
        msg = f"Cannot find the array {key!r} in {path!r}: it has {', '.join(file)}. Fetch the dataset again."
        raise ReadError(msg)
    return file[key]


def rows_of(path: Path, key: str) -> int:
    """Return the number of samples in a file."""
    return int(_array(str(path), key).shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sample in an array."""

    asset: ArrayAsset
    """What the array is."""
    path: str
    """The file."""
    row: int
    """The sample's place."""
    bands: tuple[int, ...]
    """Positions of the bands to read; all where empty."""
    legend: Legend | None
    """The classes, for masks."""

    def header(self) -> tuple[tuple[int, int, int, int], np.dtype[Any], None]:
        """Return shape (time, band, y, x) and dtype."""
        sizes = dict(zip(self.asset.axes, _array(self.path, self.asset.key).shape, strict=True))
        shape = sizes.get("t", 1), len(self.bands) or sizes.get("b", 1), sizes.get("y", 1), sizes.get("x", 1)
        kind = _array(self.path, self.asset.key).dtype.newbyteorder("=")
        return shape, code_type(self.asset, self.legend, kind) if self.asset.is_mask else kind, None

    def read(self) -> tuple[Array, None]:
        """Return pixels (time, band, y, x)."""
        values = self.raw()
        axes = self.asset.axes.replace("n", "")
        values = values.transpose([axes.index(a) for a in _ORDER if a in axes])
        values = values.reshape([dict(zip([a for a in _ORDER if a in axes], values.shape, strict=True)).get(a, 1)
                                 for a in _ORDER])  # fmt: skip
        values = values[:, list(self.bands)] if self.bands else values
        if self.asset.is_mask:
            values = decode(values, self.asset, self.legend, f"{self.path}[{self.row}]")
        return values, None

    def raw(self) -> Array:
        """Return the row as it is stored."""
        try:
            found = np.asarray(_array(self.path, self.asset.key)[self.row])
        except (OSError, IndexError, ValueError) as error:
            msg = f"Cannot read row {self.row} of {self.asset.key!r} in {self.path!r}: {error}. Fetch it again."
            raise ReadError(msg) from error
        return found.astype(found.dtype.newbyteorder("="), copy=False)
