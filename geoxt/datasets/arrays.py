"""Read rows of arrays in HDF5 files, with open file handles cached per thread."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geoxt.datasets.assets import FETCH_AGAIN, HDF5Array
from geoxt.datasets.codes import code_type, decode
from geoxt.errors import ReadError, optional_import
from geoxt.legend import Legend
from geoxt.types import Array

_ORDER = "tbyx"


class _Files(threading.local):
    """Open HDF5 files of a thread by path; emptied after a fork, as HDF5 handles are not fork-safe."""

    def __init__(self) -> None:
        self.pid, self.open = os.getpid(), dict[str, Any]()

    def get(self, path: str) -> Any:
        if self.pid != os.getpid():
            self.pid, self.open = os.getpid(), {}
        cached = self.open.get(path)
        version = _version(path)
        if cached is None or cached[1] != version:
            if cached is not None:
                cached[0].close()  # while a file is open, HDF5 returns its cached metadata for the same path
            cached = self.open[path] = _open(path), version
        return cached[0]


def _version(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


_files = _Files()


def _open(path: str) -> Any:
    with optional_import("h5py", "datasets", f"read {path!r}"):
        import h5py
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ReadError(f"Cannot open the HDF5 file {path!r}: {error}.", remedy=FETCH_AGAIN) from error


def _array(path: str, key: str) -> Any:
    file = _files.get(path)
    if key not in file:
        msg = f"Cannot find the array {key!r} in {path!r}: its arrays are {', '.join(file)}."
        raise ReadError(msg, remedy=FETCH_AGAIN)
    return file[key]


def rows_of(path: Path, key: str) -> int:
    """Return the number of rows of an array of an HDF5 file."""
    return int(_array(str(path), key).shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Row of an HDF5 array: one sample."""

    asset: HDF5Array
    """The asset of the spec."""
    path: str
    """Path of the HDF5 file."""
    row: int
    """Index of the row."""
    bands: tuple[int, ...]
    """Indexes of the bands to read; empty for all bands."""
    legend: Legend | None
    """Classes of a mask."""

    def header(self) -> tuple[tuple[int, int, int, int], np.dtype[Any], None]:
        """Return shape (time, band, y, x), dtype and no grid."""
        sizes = dict(zip(self.asset.axes, _array(self.path, self.asset.key).shape, strict=True))
        shape = sizes.get("t", 1), len(self.bands) or sizes.get("b", 1), sizes.get("y", 1), sizes.get("x", 1)
        dtype = _array(self.path, self.asset.key).dtype.newbyteorder("=")
        return shape, code_type(self.asset, self.legend, dtype) if self.asset.is_mask else dtype, None

    def read(self) -> tuple[Array, None]:
        """Return pixels (time, band, y, x), and no grid."""
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
        """Return the stored row in native byte order."""
        try:
            values = np.asarray(_array(self.path, self.asset.key)[self.row])
        except (OSError, IndexError, ValueError) as error:
            msg = f"Cannot read row {self.row} of {self.asset.key!r} in {self.path!r}: {error}."
            raise ReadError(msg, remedy=FETCH_AGAIN) from error
        return values.astype(values.dtype.newbyteorder("="), copy=False)
