"""Windows of integers with a scale for each pixel, read as their products: quantized embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.pixels.zarr_array import ZarrArray
from geoxt.types import Array
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledArray:
    """Planes of an array, each multiplied by the plane of its scales."""

    values: ZarrArray
    """Quantized numbers."""
    scales: ZarrArray
    """Scales of pixels; a scale that is not finite marks a missing pixel."""
    planes: tuple[int, ...]
    """Number of the scales' plane for each plane of the values, the first is 1."""
    nodata: float
    """Scale of missing pixels, or NaN."""

    def overviews(self) -> list[float]:
        """Return no overviews: those of quantized numbers are averages of these, and not of the embeddings."""
        return []

    def overview_grid(self, level: int, crs: CRS | None) -> GeoBox:
        """Raise, as there are no overviews."""
        raise NotImplementedError((level, crs))

    def start_read(
        self, planes: Sequence[int], window: Window, *, level: int | None = None
    ) -> Callable[[], tuple[Array, None]]:
        """Start to read planes of a window; return a function that waits for the result of `read`."""
        of_planes = [self.planes[plane - 1] for plane in planes]
        numbers, position = np.unique(of_planes, return_inverse=True)
        values = self.values.start_read(planes, window, level=level)
        scales = self.scales.start_read(numbers.tolist(), window, level=level)

        def wait() -> tuple[Array, None]:
            factors = scales()[0].astype(np.float32, copy=False)
            factors = np.where(np.isfinite(factors) & (factors != self.nodata), factors, np.float32(np.nan))
            return values()[0] * factors[position], None

        return wait

    def read(self, planes: Sequence[int], window: Window, *, level: int | None = None) -> Array:
        """Return planes of a window, float32 (plane, height, width); NaN for missing pixels."""
        return self.start_read(planes, window, level=level)()[0]
