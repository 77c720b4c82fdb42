"""Source: where a layer's pixels come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window


class Source(Protocol):
    """Reads any window of one grid, for some time steps and bands.

    A source is immutable, pickles without handles, and has a deterministic dask token.
    """

    @property
    def grid(self) -> GeoBox:
        """The grid that windows refer to."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of what `read` returns."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""

    @property
    def nodata(self) -> float | None:
        """Value that marks missing pixels, `None` where there is none."""

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
        """Return values and validity (time, band, height, width) of a window; outside the grid nothing is valid.

        Values are those of the layer's type, given as `dtype`: integers stay whole numbers.
        """

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> Source:
        """Return the same pixels on another grid, resampled once."""

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels, in pixels of the grid (x is the column, y the row)."""
