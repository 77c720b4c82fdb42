"""Windows of variables of xarray: of NetCDF, HDF5 and GRIB files, and of arrays in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, GeoxtError, ReadError
from geoxt.pixels.chunked_planes import read_planes
from geoxt.pixels.file_version import main_version
from geoxt.types import Array
from geoxt.windows import Window

_serials = itertools.count()


@dataclass(frozen=True, kw_only=True, eq=False)
class XarrayPlanes:
    """A variable, as planes of rows and columns: one for each index along its other dimensions."""

    name: str
    """Name for messages and tokens."""
    variable: xr.Variable
    """The variable, read lazily or in memory."""
    axes: tuple[int, int]
    """Positions of the y and x dimensions."""
    chunks: tuple[int, ...]
    """Sizes of the parts that are read and kept in memory together."""
    file: str | None
    """File of the variable, or `None` for an array in memory."""
    version: str
    """Version of the content, for dask tokens."""
    concurrent: bool = False
    """Whether several threads read parts: libraries of HDF5 and GRIB allow one."""
    _serial: int = field(default_factory=lambda: next(_serials))

    def __repr__(self) -> str:
        """Return the fields that determine the pixels, for dask tokens."""
        fields = self.name, self.variable.dims, self.variable.shape, self.axes, self.version
        return f"XarrayPlanes{fields!r}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without the number of the variable in this process."""
        return {key: value for key, value in self.__dict__.items() if key != "_serial"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _serial=next(_serials))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions."""
        return tuple(self.variable.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored data type."""
        return np.dtype(self.variable.dtype)

    def overviews(self) -> list[float]:
        """Return an empty list, as a variable has no overviews."""
        return []

    def overview_grid(self, level: int, crs: CRS | None) -> GeoBox:
        """Raise `NotImplementedError`, as a variable has no overviews."""
        raise NotImplementedError((level, crs))

    def get(self, bounds: tuple[slice, ...]) -> Any:
        """Return part of the variable."""
        data = self.variable[bounds]
        return data.data.compute(scheduler="synchronous") if data.chunks is not None else data.to_numpy()

    def chunk_key(self, coords: tuple[int, ...]) -> Hashable:  # noqa: ARG002 (all parts have one version)
        """Return the number of this variable in the process."""
        return "variable", self._serial

    def read(self, planes: Sequence[int], window: Window, *, level: int | None = None) -> Array:  # noqa: ARG002
        """Read planes of a window; see `ZarrArray.read`.

        Raises
        ------
        ReadError
            If the file cannot be read.
        CatalogError
            If the file was replaced since the layer was opened.
        """
        if self.file is not None and file_token(self.file) != self.version:
            problem = f"Cannot read {self.name}: {self.file} was replaced since the layer was opened."
            raise CatalogError(problem, remedy="Open the layer again.")
        try:
            return read_planes(self, planes, window)
        except GeoxtError:
            raise
        except Exception as error:  # HDF5, ecCodes and dask raise many classes
            text = str(error).strip().splitlines()
            problem = f"Cannot read {self.name}: {type(error).__name__}: {text[0].rstrip('.') if text else ''}."
            raise ReadError(problem, remedy="Check that the file is complete.") from error

    def start_read(
        self, planes: Sequence[int], window: Window, *, level: int | None = None
    ) -> Callable[[], tuple[Array, None]]:
        """Return a function that reads planes of a window; see `ZarrArray.start_read`."""
        return lambda: (self.read(planes, window, level=level), None)


def file_token(path: str) -> str:
    """Return size, times and inode of a file as text."""
    return repr(main_version(path))
