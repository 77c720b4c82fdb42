"""What goes into the model: tiles of a layer, all bands of a step, or of all steps of a series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import normalize_token

from geoxt.source import View
from geoxt.types import Array, Mask
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feed:
    """Reads the tiles of one scene."""

    view: View
    """Reads windows of the scene."""
    series: bool
    """Whether the model takes all time steps of a tile at once."""
    every: bool = False
    """Whether a pixel of a series has to be valid in every time step, as change wants it; else one step suffices."""
    factor: tuple[int, int]
    """Rows and columns of the scene for one row and one column of the model's output."""

    def __dask_tokenize__(self) -> Any:
        """Return what decides the tiles; dask itself does not look into views."""
        view = (self.view.source, self.view.window, self.view.times, self.view.bands)
        return normalize_token(("Feed", view, self.series, self.every, self.factor))

    @property
    def shape(self) -> tuple[int, ...]:
        """Dimensions of a tile before its height and width: bands, or steps and bands."""
        return self.view.shape[:2] if self.series else self.view.shape[1:2]

    @property
    def nbytes(self) -> int:
        """Bytes that a pixel takes in the layer's own type, all steps that are read at once together."""
        return int(np.prod(self.shape)) * (self.view.dtype.itemsize + 1)

    def held(self, tiles: list[Window], step: int) -> Held:
        """Return the feed of some tiles; where dask works the layer out, this is done once for all of them.

        Windows straight from files cost the same one by one, and nothing need be held for them.
        """
        if self.view.direct or not tiles:
            return Held(feed=self, step=step)
        fine = [self.fine(tile) for tile in tiles]
        top, left = min(one.row for one in fine), min(one.col for one in fine)
        bottom, right = max(one.stop[0] for one in fine), max(one.stop[1] for one in fine)
        window = Window(top, left, bottom - top, right - left)
        return Held(feed=self, step=step, window=window, pixels=self.read(window, step))

    def fine(self, window: Window) -> Window:
        """Return the window of the scene below a window of the output's grid."""
        (rows, cols), (height, width) = self.factor, window.shape
        return Window(window.row * rows, window.col * cols, height * rows, width * cols)

    def read(self, window: Window, step: int) -> tuple[Array, Mask]:
        """Return values and validity (time, band, height, width) of a window: one step of it, or all."""
        time = None if self.series else (step,)
        return self.view.read(Window(window.row, window.col, window.height, window.width, time))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """The tiles of one step of a feed, read one by one or cut out of what was read for all of them."""

    feed: Feed
    """Where they come from."""
    step: int
    """The time step."""
    window: Window | None = None
    """The window of the scene that is held."""
    pixels: tuple[Array, Mask] | None = None
    """Its values and validity (time, band, height, width)."""

    def tile(self, tile: Window) -> tuple[Array, Mask, Mask]:
        """Return what the model takes of a tile of the output's grid, and where its output is valid.

        The image is float32 (..., band, height, width), zero where not valid; validity is that of all bands of a step
        together. The output is valid where a pixel below it is valid: of a series in any step, or in every one.
        """
        values, valid = self._read(self.feed.fine(tile))
        known: Mask = np.asarray(valid.all(axis=1))
        image = values.astype(np.float32)
        if not known.all():
            np.copyto(image, 0, where=~known[:, None])
        good: Mask = np.asarray(known.all(axis=0) if self.feed.every else known.any(axis=0))
        if self.feed.factor != (1, 1):
            rows, cols = self.feed.factor
            good = np.asarray(good.reshape(tile.height, rows, tile.width, cols).any(axis=(1, 3)))
        return (image, known, good) if self.feed.series else (image[0], known[0], good)

    def _read(self, window: Window) -> tuple[Array, Mask]:
        if self.pixels is None or self.window is None:
            return self.feed.read(window, self.step)
        values, valid = self.pixels
        return values[..., *window.within(self.window)], valid[..., *window.within(self.window)]
