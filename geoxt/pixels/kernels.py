"""The kernel: pixels of a source raster at given coordinates, nearest or bilinear.

Bilinear goes through `torch.nn.functional.grid_sample` over all bands at once. Its coordinates are rounded to
2**-13 pixel and its input stands in a buffer whose sides are powers of two, so that every number on the way is exact
in float32: the same pixel gets the same bits from any window. Next to invalid pixels the weights of the valid ones are
renormalised, and the result is valid where these weigh 0.5 or more.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch.nn.functional import grid_sample

from geoxt.pixels.transform import ControlGrid, PixelTransform
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

TILE = 256
"""Pixels: wider windows are resampled tile by tile, so that the buffer stays in cache and its sides below 2**11."""
FINENESS = 2.0**-13
"""Source pixels: coordinates of bilinear samples are rounded to multiples of this."""
WIDEST = 250
"""Source pixels that a tile spans where the kernel is widened: a buffer of 256 stays in the second-level cache."""
WIDEN = 1.05
"""Source pixels a target pixel beyond which the bilinear kernel widens to the ratio, as GDAL's does."""
_local = threading.local()


def nearest(
    values: Array, valid: Mask | None, origin: tuple[int, int], patch: ControlGrid
) -> tuple[Array, Mask | None]:
    """Return the source pixels in which the pixels of a window of the target lie.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source.
    valid
        Which of them are valid; `None` for all.
    origin
        Row and column of the source at which the window starts.
    patch
        Where the pixels of a window of the target lie in the source.

    Returns
    -------
    values : (band, height, width)
    valid : (band, height, width), false beyond the source; `None` where all are valid
    """
    bands, rows, cols = values.shape
    found = patch.coordinates(origin=(origin[0] - 0.5, origin[1] - 0.5))
    inside = None
    if _beyond(patch, Window(*origin, rows, cols), margin=0.5):
        inside = (found[0] >= 0) & (found[1] >= 0) & (found[0] < rows) & (found[1] < cols)
        found[0].clip(0, rows - 1, out=found[0])
        found[1].clip(0, cols - 1, out=found[1])
    index = found[0].astype("intp")
    index *= cols
    index += found[1].astype("intp")
    sampled = values.reshape(bands, -1).take(index, axis=1, mode="clip")
    flags = None if valid is None else valid.reshape(bands, -1).take(index, axis=1, mode="clip")
    if inside is not None:
        flags = np.broadcast_to(inside, sampled.shape) if flags is None else flags & inside
    return sampled, flags


def bilinear(
    values: Array, valid: Mask | None, origin: tuple[int, int], patch: ControlGrid
) -> tuple[Array, Mask | None]:
    """Return the source at the pixels of a window of the target, linear between the four nearest pixels.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source; what lies beyond it counts as invalid.
    valid
        Which of them are valid; `None` for all. Invalid values are not looked at.
    origin
        Row and column of the source at which the window starts.
    patch
        Where the pixels of a window of the target lie in the source.

    Returns
    -------
    values : (band, height, width), float64 for 32-bit integers and float64, else float32
    valid : (band, height, width) or `None` where all are valid

    Notes
    -----
    Where a target pixel is over 5 % larger than a source pixel, the triangle kernel widens to the ratio (GDAL's rule).
    """
    mapping, window = patch.mapping, patch.window
    kernel = _widened if max(mapping.scale) > WIDEN else _four
    side = _tile(mapping)
    if max(window.height, window.width) <= side:
        return kernel(values, valid, origin, patch)
    out = np.empty((values.shape[0], *window.shape), _working(values.dtype))
    flags: Mask | None = None
    for tile in tiles(window, side):
        here, small = tile.within(window), patch.part(tile)
        cut = _cut(values.shape, origin, small)
        piece: Array = np.zeros((1, 1, 1), out.dtype)
        good: Mask | None = np.zeros((1, 1, 1), bool)
        if cut is not None:
            rows, cols = cut
            some = None if valid is None else valid[:, rows, cols]
            piece, good = kernel(
                values[:, rows, cols],
                None if some is None or some.all() else some,
                (origin[0] + rows.start, origin[1] + cols.start),
                small,
            )
        out[:, *here] = piece
        if good is not None:
            flags = np.ones(out.shape, bool) if flags is None else flags
            flags[:, *here] = good
    return out, flags


def tiles(window: Window, side: int) -> list[Window]:
    """Return the pieces of a window, none larger than a side in pixels."""
    bottom, right = window.stop
    return [
        Window(row, col, min(side, bottom - row), min(side, right - col))
        for row in range(window.row, bottom, side)
        for col in range(window.col, right, side)
    ]


def _tile(mapping: PixelTransform) -> int:
    """Return how wide a window of the target may be to be resampled at once."""
    ratio = max(mapping.scale)
    return TILE if ratio <= WIDEN else max(int(WIDEST / ratio), 8)


def source_window(mapping: PixelTransform, extent: tuple[Floats, Floats], *, linear: bool) -> Window:
    """Return the window of the source, perhaps beyond its edge, that a kernel needs for an extent of coordinates."""
    margin = np.ceil(np.maximum(mapping.scale, 1)) if linear else np.full(2, 0.5)
    low, high = np.floor(extent[0] - margin), np.ceil(extent[1] + margin) + 1
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))


def _cut(shape: tuple[int, ...], origin: tuple[int, int], patch: ControlGrid) -> tuple[slice, slice] | None:
    """Return the part of the source window that one tile needs."""
    outer = Window(*origin, shape[1], shape[2])
    need = None if patch.extent is None else source_window(patch.mapping, patch.extent, linear=True).intersect(outer)
    return None if need is None else need.within(outer)


def _four(values: Array, valid: Mask | None, origin: tuple[int, int], patch: ControlGrid) -> tuple[Array, Mask | None]:
    """Sample the four nearest pixels, all bands at once."""
    bands, rows, cols = values.shape
    sides = _power(rows + 2), _power(cols + 2)
    start = origin[0] - 1, origin[1] - 1
    edge = _beyond(patch, Window(*origin, rows, cols))
    masked = edge or valid is not None
    valid = _common(valid)
    weights = 0 if not masked else 1 if valid is None else len(valid)
    buffer = _buffer(bands + weights, sides, _working(values.dtype))
    _fill(buffer, values, valid, masked=masked)
    places = _places(patch, start, sides, (rows, cols), clip=edge)
    sampled = grid_sample(
        torch.from_numpy(buffer)[None],
        torch.from_numpy(places.astype(buffer.dtype, copy=False))[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0].numpy()
    if not masked:
        return sampled, None
    return _renormalise(sampled[:bands], sampled[bands:])


def _common(valid: Mask | None) -> Mask | None:
    """Return validity once for all bands, where these are valid at the same pixels."""
    return valid if valid is None or len(valid) == 1 or not (valid[1:] == valid[:1]).all() else valid[:1]


def _beyond(patch: ControlGrid, inner: Window, *, margin: float = 0) -> bool:
    """Tell whether a pixel lies beyond the centres of the outermost source pixels, by a margin or more."""
    if patch.broken is not None or patch.extent is None:
        return True
    low, high = patch.extent
    bottom, right = inner.stop
    top, left = inner.row - margin, inner.col - margin
    if low[0] < top or low[1] < left or high[0] > bottom - 1 + margin or high[1] > right - 1 + margin:
        return True
    return bool(margin and (high[0] == bottom - 1 + margin or high[1] == right - 1 + margin))


def _fill(buffer: Array, values: Array, valid: Mask | None, *, masked: bool) -> None:
    """Put the source into the buffer, one pixel from its edge; behind the values, the weight of what is invalid."""
    bands, rows, cols = values.shape
    inner = buffer[:bands, 1 : rows + 1, 1 : cols + 1]
    if not masked:
        inner[...] = values
        return
    buffer[:bands, : rows + 2, : cols + 2] = 0
    buffer[bands:, : rows + 2, : cols + 2] = 1
    if valid is None:
        inner[...] = values
        buffer[bands:, 1 : rows + 1, 1 : cols + 1] = 0
    else:
        np.copyto(inner, values, where=valid, casting="unsafe")
        np.logical_not(valid, out=buffer[bands:, 1 : rows + 1, 1 : cols + 1], casting="unsafe")


def _places(
    patch: ControlGrid,
    start: tuple[int, int],
    sides: tuple[int, int],
    inner: tuple[int, int],
    *,
    clip: bool,
) -> Floats:
    """Return what `grid_sample` takes, (height, width, 2), x before y, -1 and 1 at the outer edges of the buffer."""
    scale = 2 / sides[0], 2 / sides[1]
    bias = 1 / sides[0] - 1, 1 / sides[1] - 1
    magic = tuple(1.5 * 2**52 * FINENESS * s for s in scale)
    found = patch.coordinates(origin=start, scale=scale, bias=bias, magic=(magic[0], magic[1]))
    if clip:
        for axis in (0, 1):
            np.clip(found[axis], bias[axis], bias[axis] + (inner[axis] + 1) * scale[axis], out=found[axis])
    places = np.empty((*patch.window.shape, 2), "float32")
    places[..., 0], places[..., 1] = found[1], found[0]
    return places


def _renormalise(sums: Array, missing: Array) -> tuple[Array, Mask | None]:
    """Divide by the weight of the valid pixels, where some but not all are valid."""
    if not missing.any():
        return sums, None
    valid = missing <= 0.5
    partly = valid & (missing > 0)
    np.divide(sums, 1 - missing, out=sums, where=partly)
    return sums, np.broadcast_to(valid, sums.shape)


def _widened(
    values: Array, valid: Mask | None, origin: tuple[int, int], patch: ControlGrid
) -> tuple[Array, Mask | None]:
    """Sample with a triangle kernel as wide as the ratio of the pixels.

    Neighbouring taps are fetched in pairs, by one bilinear sample between them, all bands at once.
    """
    bands, rows, cols = values.shape
    sides = _power(rows + 2), _power(cols + 2)
    masked = valid is not None or _beyond(patch, Window(*origin, rows, cols), margin=-max(patch.mapping.scale) - 1)
    valid = _common(valid)
    weights = 0 if not masked else 1 if valid is None else len(valid)
    buffer = _buffer(bands + weights, sides, _working(values.dtype))
    _fill(buffer, values, valid, masked=masked)
    source = torch.from_numpy(buffer)[None]
    found = patch.coordinates(origin=(origin[0] - 1, origin[1] - 1))
    flat = (found[0][:, :1], found[1][:1]) if patch.mapping.separable else (found[0], found[1])
    pairs = [
        _pairs(flat[axis], patch.mapping.scale[axis], sides[axis], (rows, cols)[axis], buffer.dtype) for axis in (0, 1)
    ]
    shape = patch.window.shape
    total, full = np.zeros((len(buffer), *shape), buffer.dtype), np.zeros(shape, buffer.dtype)
    places = np.empty((1, *shape, 2), buffer.dtype)
    here = torch.from_numpy(places)
    for y, wy in pairs[0]:
        places[0, ..., 1] = y
        for x, wx in pairs[1]:
            places[0, ..., 0] = x
            weight = wy * wx
            part = grid_sample(source, here, mode="bilinear", padding_mode="border", align_corners=False)[0].numpy()
            part *= weight
            total += part
            full += weight
    if not masked:
        return total / full, None
    return _weighed(total[:bands], total[bands:], full)


def _pairs(
    found: Floats, scale: float, side: int, size: int, dtype: np.dtype[np.floating]
) -> list[tuple[Array, Array]]:
    """Return, for each pair of neighbouring taps along one axis, where to sample and the weight of both together."""
    ratio = max(scale, 1.0)
    reach = int(np.ceil(ratio))
    base = np.floor(found)
    along = (found - base).astype(dtype)
    out = []
    for tap in range(1 - reach, reach, 2):
        near, far = (np.maximum(1 - np.abs(k - along) / dtype.type(ratio), 0) for k in (tap, tap + 1))
        both = near + far
        share = np.divide(far, both, out=np.zeros_like(far), where=both > 0)
        place = np.clip(base + tap + np.rint(share.astype("float64") / FINENESS) * FINENESS, 0, size + 1)
        out.append((((place * 2 + 1) / side - 1).astype(dtype), both))
    return out


def _weighed(total: Array, missing: Array, full: Array) -> tuple[Array, Mask | None]:
    """Divide by the weight of the valid pixels; valid where it is at least half of the whole."""
    present = full - missing
    valid = np.where(missing == 0, full, present) >= full / 2
    np.divide(total, np.where(missing == 0, full, present), out=total, where=valid)
    return total, None if valid.all() else np.broadcast_to(valid, total.shape)


def _buffer(channels: int, sides: tuple[int, int], dtype: np.dtype[np.floating]) -> Array:
    """Return this thread's buffer; what stands in it is finite."""
    kept: dict[tuple[int, ...], Array] = _local.__dict__.setdefault("buffers", {})
    key = (*sides, dtype.itemsize)
    found = kept.get(key)
    if found is None or len(found) < channels:
        found = kept[key] = np.zeros((channels, *sides), dtype)
    return found[:channels]


def _working(dtype: np.dtype) -> np.dtype[np.floating]:
    wide = dtype.itemsize >= 4 and dtype != np.float32
    return np.dtype("float64" if wide else "float32")


def _power(size: int) -> int:
    return 1 << max(size - 1, 1).bit_length()
