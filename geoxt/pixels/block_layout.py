"""Arrangement of a raster's decoded blocks in an entry of a block cache; `cached_blocks` describes the entries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags

from geoxt.pixels.block_cache import HEADER

PAGE = HEADER
"""Alignment of blocks in an entry, in bytes: holes of sparse files are whole pages."""
SIDE = 512
"""Rows and columns of a block, if those of the file are too large, or strips."""
MIN_SIDE = 64
"""Minimum side of a file's block that is used as the block of the cache."""
MAX_SIDE = 4096
"""Maximum width of a file's block that is used as the block of the cache."""
MAX_PIXELS = 1024 * 1024
"""Maximum number of pixels of a file's block that is used as the block of the cache."""
VERSION = 256
"""Bytes of the version of an object."""
MAX_FILL = 64 * 2**20
"""Maximum decoded size, in bytes, of a file's block that is decoded at once to fill several blocks of the cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Arrangement of the blocks of a raster in an entry."""

    shape: tuple[int, int]
    """Rows and columns of the raster."""
    block: tuple[int, int]
    """Rows and columns of a block."""
    unit: tuple[int, int]
    """Rows and columns decoded at once: a multiple of the block, or of the file's block."""
    dtype: str
    """Data type of the bands."""
    count: int
    """Number of bands."""
    mask: bool
    """Whether the file has an internal mask or alpha band."""
    objects: int = 0
    """Number of objects of a Zarr array, each with a version; 0 for a file."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Number of blocks by rows and columns, and of planes."""
        down, across = (-(-n // size) for n, size in zip(self.shape, self.block, strict=True))
        return down, across, self.count + self.mask

    @property
    def plane(self) -> int:
        """Bytes of one band of a block."""
        return self.block[0] * self.block[1] * np.dtype(self.dtype).itemsize

    @property
    def step(self) -> int:
        """Bytes from one block to the next."""
        size = self.count * self.plane + self.mask * self.block[0] * self.block[1]
        return -(-size // PAGE) * PAGE

    @property
    def start(self) -> int:
        """Bytes before the first block."""
        down, across, planes = self.grid
        return PAGE + -(-4 * down * across * planes // PAGE) * PAGE

    def offset(self, down: int, across: int, plane: int) -> int:
        """Return the position of a plane of a block, in bytes."""
        return self.start + (down * self.grid[1] + across) * self.step + plane * self.plane

    def state_offset(self, down: int, across: int, plane: int = 0) -> int:
        """Return the position of the state of a plane of a block, in bytes."""
        _, columns, planes = self.grid
        return PAGE + 4 * ((down * columns + across) * planes + plane)

    @property
    def size(self) -> int:
        """Bytes of the entry, holes included."""
        return self.version_offset(self.objects)

    def version_offset(self, number: int) -> int:
        """Return the position of the version of an object, after all blocks, in bytes."""
        down, across, _ = self.grid
        return self.start + down * across * self.step + number * VERSION


def layout_of(file: rasterio.DatasetReader) -> Layout | None:
    """Return the layout for a raster, or `None` if its pixels cannot be cached.

    Not cached: bands of several data types, valid masks that differ by band, and virtual rasters, whose sources may
    change without a trace in the file itself.
    """
    if len(set(file.dtypes)) != 1 or file.driver in {"VRT", "MEM", "WMS"}:
        return None
    try:
        itemsize = np.dtype(file.dtypes[0]).itemsize
    except TypeError:  # complex_int16 has no NumPy type
        return None
    flags = file.mask_flag_enums
    alpha = ColorInterp.alpha in file.colorinterp
    masked = [MaskFlags.per_dataset in f for f in flags]
    if any(masked) and not all(masked) and not alpha:
        return None
    shape, stored = (file.height, file.width), file.block_shapes[0]
    sensible = stored[0] * stored[1] <= MAX_PIXELS and stored[1] <= MAX_SIDE
    if sensible and all(min(size, n) >= min(MIN_SIDE, n) for size, n in zip(stored, shape, strict=True)):
        block = unit = stored
    else:
        block = min(SIDE, shape[0]), min(SIDE, shape[1])
        unit = tuple(
            min(-(-max(size, n) // n) * n, -(-end // n) * n) for size, n, end in zip(stored, block, shape, strict=True)
        )
        if unit[0] * unit[1] * itemsize * file.count > MAX_FILL:
            unit = block
    return Layout(
        shape=shape, block=block, unit=unit, dtype=str(np.dtype(file.dtypes[0])), count=file.count,
        mask=alpha or any(masked),
    )  # fmt: skip
