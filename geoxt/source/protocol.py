"""Source: the interface through which windows of a layer are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window


class Source(Protocol):
    """Reads windows of one grid for selected time steps and bands.

    A source is immutable, pickles without handles, and has a deterministic dask token.
    """

    @property
    def grid(self) -> GeoBox:
        """The grid that windows refer to."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the values that `read` returns."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""

    @property
    def nodata(self) -> float | None:
        """Nodata value, or `None`."""

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and valid mask (time, band, height, width) of a window; pixels outside the grid are invalid.

        Values are computed in the source's dtype and cast to `dtype`: integers are rounded first.
        """

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> Source:
        """Return the same source on another grid; pixels are resampled once, when read."""

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the grid (x is the column, y the row)."""
