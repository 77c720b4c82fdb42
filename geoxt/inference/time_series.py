"""Images of several dates as one layer with a time dimension, with a valid mask per date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
import xarray as xr
from dask.base import normalize_token
from odc.geo.geobox import GeoBox

from geoxt import tasks
from geoxt.alignment import align
from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.layers import open_cogs
from geoxt.source import View, to_layer, view_of
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatesSource:
    """A source of several layers on one grid, one per time step."""

    views: tuple[View, ...]
    """View of each date; all have the same grid and number of bands."""

    @property
    def grid(self) -> GeoBox:
        """Grid of the windows."""
        return self.views[0].grid

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that holds the values of all dates."""
        return np.result_type(*(view.dtype for view in self.views))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return len(self.views), *self.views[0].shape[1:]

    @property
    def remote(self) -> bool:
        """Whether files of a date are remote."""
        return any(view.remote for view in self.views)

    @property
    def nodata(self) -> None:
        """`None`: dates may have different nodata values, or masks."""
        return

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        return np.nan if self.dtype.kind == "f" else 0

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the pixels."""
        parts = [(view.source, view.grid, view.window, view.times, view.bands) for view in self.views]
        return normalize_token(("DatesSource", parts))

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and valid mask (time, band, height, width) of a window."""
        steps = range(len(self.views)) if times is None else times
        selected = slice(None) if bands is None else list(bands)
        reads = [self.views[step].read(Window(window.row, window.col, *window.shape)) for step in steps]
        valid = np.concatenate([valid[:, selected] for _, valid in reads])
        values = np.concatenate([values[:, selected] for values, _ in reads]).astype(dtype or self.dtype)
        np.copyto(values, np.asarray(self.fill).astype(values.dtype), where=~valid)
        return values, valid

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> DatesSource:
        """Return the same dates on another grid, each resampled once."""
        moved = [view.source.onto(grid, resampling=resampling) for view in self.views]
        window = full_window(grid)
        views = [
            replace(view, source=source, grid=grid, window=window)
            for view, source in zip(self.views, moved, strict=True)
        ]
        return replace(self, views=tuple(views))

    def footprint(self) -> shapely.Geometry:
        """Return the union of the footprints of all dates, in pixels of the grid."""
        return shapely.union_all([view.footprint() for view in self.views])


def open_dates(
    images: Sequence[str],
    select: Callable[[xr.DataArray, str], xr.DataArray],
    *,
    product: str | None = None,
    crs: str | None = None,
) -> xr.DataArray:
    """Open images of several dates as one lazy layer (time, band, y, x), on the grid of the first.

    Parameters
    ----------
    images
        For each time step, in order: a raster file, or a pattern that matches the files of its bands.
    select
        Returns the bands to use of a layer, given the name of the layer in errors.
    product, crs
        Known product of the images, and CRS of the layer; as for `open_cogs`.

    Raises
    ------
    InputError
        If an image lacks a band.
    OverlapError
        If an image does not overlap the first one.
    """
    layers = [
        select(open_cogs(image, product=product, crs=crs).rename(image), f"the image {image!r}") for image in images
    ]
    layers = [layers[0], *(align(layer, layers[0]) for layer in layers[1:])]
    source = DatesSource(views=tuple(view_of(layer) for layer in layers))
    coords = {"band": layers[0]["band"].to_numpy()} if "band" in layers[0].coords else {}
    return to_layer(source, dims=["time", "band", "y", "x"], coords=coords, attrs={}, name="image")


def require_dates(task: str, images: Sequence[str]) -> None:
    """Raise if the number of images does not fit the number of dates of a task.

    Raises
    ------
    InputError
        If a model of change has not two images, or a model of time series has fewer than two.
    """
    dates, count = tasks.get(task).dates, len(images)
    any_number = dates == tasks.ANY_NUMBER
    if count == dates or (any_number and count > 1):
        return
    series = "a series of two dates or more, in order" if any_number else "two dates, the earlier one first"
    msg = f"Cannot predict {task} from {count} {'image' if count == 1 else 'images'}: the model takes {series}."
    remedy = "Pass {images}, one for each date; if a date has a file per band, a pattern that matches them."
    raise InputError(msg, remedy=remedy)
