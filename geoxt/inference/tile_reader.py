"""Read the tiles of a layer as model inputs: all bands of one time step, or of all time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.base import normalize_token

from geoxt.source import View
from geoxt.types import Array, Mask
from geoxt.windows import Window

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileReader:
    """Reads the tiles of one scene."""

    view: View
    """Reads windows of the scene."""
    series: bool
    """Whether the model takes all time steps of a tile at once."""
    all_steps_valid: bool = False
    """Whether an output pixel is valid only if all time steps of a series are (change); else if any is."""
    factor: tuple[int, int]
    """Rows and columns of the scene per row and column of the model's output."""

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the tiles; dask cannot tokenize views."""
        view = (self.view.source, self.view.window, self.view.times, self.view.bands)
        return normalize_token(("TileReader", view, self.series, self.all_steps_valid, self.factor))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions of a tile before height and width: bands, or time steps and bands."""
        return self.view.shape[:2] if self.series else self.view.shape[1:2]

    @property
    def nbytes(self) -> int:
        """Bytes of a pixel and its valid mask in the dtype of the layer, over all bands and time steps read at once."""
        return int(np.prod(self.shape)) * (self.view.dtype.itemsize + 1)

    def step_reader(self, tiles: list[Window], step: int) -> StepReader:
        """Return the reader of tiles of one time step.

        A layer that dask computes is computed once, over the extent of all tiles: overlapping tiles would compute their
        chunks several times. Windows of files are read tile by tile, which costs the same and holds no memory.
        """
        if self.view.direct or not tiles:
            return StepReader(reader=self, step=step)
        windows = [self.scene_window(tile) for tile in tiles]
        top, left = min(w.row for w in windows), min(w.col for w in windows)
        bottom, right = max(w.stop[0] for w in windows), max(w.stop[1] for w in windows)
        extent = Window(top, left, bottom - top, right - left)
        return StepReader(reader=self, step=step, window=extent, pixels=self.read(extent, step))

    def scene_window(self, window: Window) -> Window:
        """Return the window of the scene for a window of the output's grid."""
        (rows, cols), (height, width) = self.factor, window.shape
        return Window(window.row * rows, window.col * cols, height * rows, width * cols)

    def read(self, window: Window, step: int) -> tuple[Array, Mask]:
        """Return values and valid mask (time, band, height, width) of a window: of one time step, or of a series."""
        time = None if self.series else (step,)
        return self.view.read(Window(window.row, window.col, window.height, window.width, time))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepReader:
    """Reads the tiles of one time step, one by one or from pixels that were read for all of them."""

    reader: TileReader
    """Reads windows of the scene."""
    step: int
    """The time step."""
    window: Window | None = None
    """Window of the scene that `pixels` covers."""
    pixels: tuple[Array, Mask] | None = None
    """Values and valid mask (time, band, height, width); `None` to read tile by tile."""

    def read_tile(self, tile: Window, dtype: np.dtype[Any] = _FLOAT32) -> tuple[Array, Mask, Mask]:
        """Return the image of a tile, its valid mask, and the valid mask of the model's output.

        Parameters
        ----------
        tile
            Window on the grid of the output.
        dtype
            Type of the image.

        Returns
        -------
        image
            ([time,] band, height, width), 0 where not valid.
        image_valid
            ([time,] height, width), true where all bands are valid.
        output_valid
            On the grid of the output: true where any pixel of the scene below is valid; of a series, in any time step,
            or in all of them.
        """
        values, valid = self._pixels(self.reader.scene_window(tile))
        image_valid: Mask = valid[:, 0] if valid.strides[1] == 0 else np.asarray(valid.all(axis=1))
        image = values.astype(dtype)
        if not image_valid.all():
            np.copyto(image, 0, where=~image_valid[:, None])
        over_steps = image_valid.all(axis=0) if self.reader.all_steps_valid else image_valid.any(axis=0)
        output_valid: Mask = np.asarray(over_steps)
        if self.reader.factor != (1, 1):
            rows, cols = self.reader.factor
            output_valid = np.asarray(output_valid.reshape(tile.height, rows, tile.width, cols).any(axis=(1, 3)))
        if self.reader.series:
            return image, image_valid, output_valid
        return image[0], image_valid[0], output_valid

    def _pixels(self, window: Window) -> tuple[Array, Mask]:
        if self.pixels is None or self.window is None:
            return self.reader.read(window, self.step)
        values, valid = self.pixels
        return values[..., *window.within(self.window)], valid[..., *window.within(self.window)]
