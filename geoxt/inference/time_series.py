"""Images of several dates as one layer with a time dimension; each keeps what its own files say is valid."""

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
from geoxt.layers import open_cogs
from geoxt.source import View, to_layer, view_of
from geoxt.types import Array, Mask, Resampling
from geoxt.windows import Window

PAIR = 2
"""Dates that a model of change compares."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dates:
    """One source of several, a time step each, on one grid."""

    views: tuple[View, ...]
    """The layer of each date; all have the same grid and as many bands."""

    @property
    def grid(self) -> GeoBox:
        """The grid that windows refer to."""
        return self.views[0].grid

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type that holds the values of all dates."""
        return np.result_type(*(view.dtype for view in self.views))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Time steps, bands, rows, columns."""
        return len(self.views), *self.views[0].shape[1:]

    @property
    def remote(self) -> bool:
        """Whether a date's files are behind a network."""
        return any(view.remote for view in self.views)

    @property
    def nodata(self) -> None:
        """No one value: files of different dates may mark missing pixels by different ones, or by masks."""
        return

    @property
    def fill(self) -> float:
        """Value of invalid pixels."""
        return np.nan if self.dtype.kind == "f" else 0

    def __dask_tokenize__(self) -> Any:
        """Return all that decides the pixels."""
        parts = [(view.source, view.grid, view.window, view.times, view.bands) for view in self.views]
        return normalize_token(("Dates", parts))

    def read(
        self,
        window: Window,
        *,
        times: Sequence[int] | None = None,
        bands: Sequence[int] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> tuple[Array, Mask]:
        """Return values and validity (time, band, height, width) of a window."""
        steps = range(len(self.views)) if times is None else times
        chosen = slice(None) if bands is None else list(bands)
        found = [self.views[step].read(Window(window.row, window.col, *window.shape)) for step in steps]
        valid = np.concatenate([valid[:, chosen] for _, valid in found])
        values = np.concatenate([values[:, chosen] for values, _ in found]).astype(dtype or self.dtype)
        np.copyto(values, np.asarray(self.fill).astype(values.dtype), where=~valid)
        return values, valid

    def onto(self, grid: GeoBox, *, resampling: Resampling | None = None) -> Dates:
        """Return the same dates on another grid, each resampled once."""
        moved = [view.source.onto(grid, resampling=resampling) for view in self.views]
        whole = Window(0, 0, *grid.shape)
        views = [
            replace(view, source=one, grid=grid, window=whole) for view, one in zip(self.views, moved, strict=True)
        ]
        return replace(self, views=tuple(views))

    def footprint(self) -> shapely.Geometry:
        """Return the area that can hold valid pixels in some date, in pixels of the grid."""
        return shapely.union_all([view.footprint() for view in self.views])


def open_dates(images: Sequence[str], choose: Callable[[xr.DataArray, str], xr.DataArray]) -> xr.DataArray:
    """Open images of several dates as one lazy layer (time, band, y, x), on the grid of the first.

    Parameters
    ----------
    images
        For each date a raster file, or a pattern for the files of its bands; time steps have this order.
    choose
        Takes the bands that are wanted out of a layer, given what to call it in an error.

    Raises
    ------
    InputError
        Where an image lacks a band.
    OverlapError
        Where an image has no place in common with the first.
    """
    layers = [choose(open_cogs(image).rename(image), f"the image {image!r}") for image in images]
    layers = [layers[0], *(align(layer, layers[0]) for layer in layers[1:])]
    source = Dates(views=tuple(view_of(layer) for layer in layers))
    coords = {"band": layers[0]["band"].to_numpy()} if "band" in layers[0].coords else {}
    return to_layer(source, dims=["time", "band", "y", "x"], coords=coords, attrs={}, name="image")


def require_dates(task: str, images: Sequence[str]) -> None:
    """Refuse a number of images that are not the dates which a kind of model takes.

    Raises
    ------
    InputError
        Where a model of change has other than two, or a model of time series fewer.
    """
    dates = tasks.get(task).dates
    right = len(images) == dates if dates > 1 else len(images) >= PAIR
    if right:
        return
    wanted = "two dates, the earlier one first" if dates > 1 else "a series of two dates or more, in order"
    msg = f"Cannot predict {task} from {len(images)} {'image' if len(images) == 1 else 'images'}: the model takes "
    raise InputError(
        msg + f"{wanted}. Pass one IMAGE for each; where a date has a file for each band, a pattern in quotes."
    )
