"""Nearest and bilinear kernels: values of a source raster at given source coordinates.

Every window must return the bits of the whole (docs/architecture.md, invariant 1). For bilinear values,
computed by `torch.nn.functional.grid_sample` over all bands at once, this rests on exact float32 arithmetic:

* coordinates are multiples of `FINENESS` = 2**-13 source pixel (`_sample_coordinates`);
* sides of the sampled buffer are powers of two, at most 2**11, so that normalizing a coordinate to [-1, 1] and
  grid_sample's way back, `((x + 1) * side - 1) / 2`, change exponents only;
* 11 bits before the binary point and 13 behind it fit the 24 bits of a float32.

So the four weights depend on the coordinate alone, not on the buffer in which the source happens to lie.

Beside invalid pixels the weights of the valid ones are renormalized; a result is valid if they sum to at least 0.5.
"""

from __future__ import annotations

import threading

import numpy as np

from geoxt.pixels.torch_operations import grid_sample
from geoxt.pixels.transform import ControlGrid, PixelTransform
from geoxt.types import Array, Floats, Mask
from geoxt.windows import Window

TILE = 256
"""Target pixels: wider windows are resampled in tiles, so that the buffer stays in cache and its sides below 2**11."""
FINENESS = 2.0**-13
"""Source pixels: coordinates of bilinear samples are rounded to multiples of this."""
WIDEST = 250
"""Source pixels that a tile spans if the kernel is widened: a buffer of 256 stays in the second-level cache."""
WIDEN = 1.05
"""Source pixels per target pixel above which the bilinear kernel widens.

GDAL likewise takes four samples as long as `dfXScale >= 0.95` (`bUse4SamplesFormula` in gdalwarpkernel.cpp)."""
_local = threading.local()


def nearest(
    values: Array, valid: Mask | None, origin: tuple[int, int], control: ControlGrid
) -> tuple[Array, Mask | None]:
    """Return the source pixels that contain the centres of a window's target pixels.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source.
    valid
        Valid mask of `values`; `None` if all are valid.
    origin
        Source row and column of the first value.
    control
        Source coordinates of the target window.

    Returns
    -------
    values : (band, height, width)
    valid : (band, height, width), False outside the source; `None` if all are valid
    """
    bands, rows, cols = values.shape
    # Source pixel i covers [i - 0.5, i + 0.5): shifted by half a pixel, truncation gives its index.
    coordinates = control.coordinates(origin=(origin[0] - 0.5, origin[1] - 0.5))
    inside = None
    if _reaches_beyond(control, Window(*origin, rows, cols), margin=0.5):
        inside = (coordinates[0] >= 0) & (coordinates[1] >= 0) & (coordinates[0] < rows) & (coordinates[1] < cols)
        coordinates[0].clip(0, rows - 1, out=coordinates[0])
        coordinates[1].clip(0, cols - 1, out=coordinates[1])
    index = coordinates[0].astype("intp")  # truncates toward zero: floor, as coordinates are not negative here
    index *= cols
    index += coordinates[1].astype("intp")
    sampled = values.reshape(bands, -1).take(index, axis=1, mode="clip")
    sampled_valid = None if valid is None else valid.reshape(bands, -1).take(index, axis=1, mode="clip")
    if inside is not None:
        sampled_valid = np.broadcast_to(inside, sampled.shape) if sampled_valid is None else sampled_valid & inside
    return sampled, sampled_valid


def bilinear(
    values: Array, valid: Mask | None, origin: tuple[int, int], control: ControlGrid
) -> tuple[Array, Mask | None]:
    """Return the source at the pixels of a target window, interpolated between the four nearest pixels.

    Parameters
    ----------
    values
        (band, rows, cols) of a window of the source; pixels outside it count as invalid.
    valid
        Valid mask of `values`; `None` if all are valid. Invalid values are ignored.
    origin
        Source row and column of the first value.
    control
        Source coordinates of the target window.

    Returns
    -------
    values : (band, height, width), float64 for 32-bit integers and float64, else float32
    valid : (band, height, width) or `None` if all are valid

    Notes
    -----
    If a target pixel is over 5 % larger than a source pixel, the triangle kernel widens to their ratio, as GDAL's does.
    """
    transform, window = control.transform, control.window
    kernel = _widened if max(transform.scale) > WIDEN else _four_neighbors
    side = _tile_side(transform)
    if max(window.height, window.width) <= side:
        return kernel(values, valid, origin, control)
    out = np.empty((values.shape[0], *window.shape), _working_dtype(values.dtype))
    out_valid: Mask | None = None
    valid = _shared_mask(valid)
    masks = 1 if valid is None else len(valid)
    for tile in tiles(window, side):
        target, tile_control = tile.within(window), control.crop(tile)
        crop = _crop(values.shape, origin, tile_control)
        tile_values: Array = np.zeros((1, 1, 1), out.dtype)
        tile_valid: Mask | None = np.zeros((1, 1, 1), bool)
        if crop is not None:
            rows, cols = crop
            source_valid = None if valid is None else valid[:, rows, cols]
            tile_values, tile_valid = kernel(
                values[:, rows, cols],
                None if source_valid is None or source_valid.all() else source_valid,
                (origin[0] + rows.start, origin[1] + cols.start),
                tile_control,
            )
        out[:, *target] = tile_values
        if tile_valid is not None:
            out_valid = np.ones((masks, *window.shape), bool) if out_valid is None else out_valid
            out_valid[:, *target] = tile_valid[:masks]
    return out, None if out_valid is None else np.broadcast_to(out_valid, out.shape)


def tiles(window: Window, side: int) -> list[Window]:
    """Return the tiles of a window, at most `side` pixels high and wide."""
    bottom, right = window.stop
    return [
        Window(row, col, min(side, bottom - row), min(side, right - col))
        for row in range(window.row, bottom, side)
        for col in range(window.col, right, side)
    ]


def _tile_side(transform: PixelTransform) -> int:
    ratio = max(transform.scale)
    return TILE if ratio <= WIDEN else max(int(WIDEST / ratio), 8)


def source_window(transform: PixelTransform, extent: tuple[Floats, Floats], *, linear: bool) -> Window:
    """Return the source window that a kernel needs for an extent of coordinates; it may reach over the edge."""
    margin = np.ceil(np.maximum(transform.scale, 1)) if linear else np.full(2, 0.5)
    low, high = np.floor(extent[0] - margin), np.ceil(extent[1] + margin) + 1
    return Window(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))


def _crop(shape: tuple[int, ...], origin: tuple[int, int], control: ControlGrid) -> tuple[slice, slice] | None:
    """Return the slices of the source window that one tile needs."""
    outer = Window(*origin, shape[1], shape[2])
    if control.extent is None:
        return None
    needed = source_window(control.transform, control.extent, linear=True).intersect(outer)
    return None if needed is None else needed.within(outer)


def _four_neighbors(
    values: Array, valid: Mask | None, origin: tuple[int, int], control: ControlGrid
) -> tuple[Array, Mask | None]:
    """Interpolate between the four nearest pixels."""
    bands, rows, cols = values.shape
    # One pixel more on each side: a weight of 1 for missing pixels there makes values fade out at the source's edge.
    sides = _next_power(rows + 2), _next_power(cols + 2)
    start = origin[0] - 1, origin[1] - 1
    at_edge = _reaches_beyond(control, Window(*origin, rows, cols))
    masked = at_edge or valid is not None
    valid = _shared_mask(valid)
    weight_channels = 0 if not masked else 1 if valid is None else len(valid)
    buffer = _buffer(bands + weight_channels, sides, _working_dtype(values.dtype))
    _fill_buffer(buffer, values, valid, masked=masked)
    coordinates = _sample_coordinates(control, start, sides, (rows, cols), clip=at_edge)
    sampled = grid_sample(buffer, coordinates.astype(buffer.dtype, copy=False))
    if not masked:
        return sampled, None
    return _renormalize(sampled[:bands], sampled[bands:])


def _shared_mask(valid: Mask | None) -> Mask | None:
    """Return one mask for all bands if their masks are equal: one channel of weights then serves them all."""
    return valid if valid is None or len(valid) == 1 or not (valid[1:] == valid[:1]).all() else valid[:1]


def _reaches_beyond(control: ControlGrid, source: Window, *, margin: float = 0) -> bool:
    """Return whether a coordinate lies outside the centres of the outermost source pixels, by a margin or more."""
    if control.discontinuous is not None or control.extent is None:
        return True
    low, high = control.extent
    bottom, right = source.stop
    top, left = source.row - margin, source.col - margin
    if low[0] < top or low[1] < left or high[0] > bottom - 1 + margin or high[1] > right - 1 + margin:
        return True
    # The right and lower edge of a pixel belong to its neighbour: with a margin, equality is outside too.
    return bool(margin and (high[0] == bottom - 1 + margin or high[1] == right - 1 + margin))


def _fill_buffer(buffer: Array, values: Array, valid: Mask | None, *, masked: bool) -> None:
    """Copy the source into the buffer, one pixel from its edge, and behind the values the weight of missing pixels.

    Invalid values are set to 0. Then bilinear sampling yields sum(w * v) over valid pixels, and of the weight channel
    sum(w) over missing ones; `_renormalize` divides the first by 1 minus the second. Weights of missing instead of
    valid pixels make a result without missing neighbours exact: its weight is exactly 0.
    """
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
        if values.dtype.kind in "iub":
            np.multiply(values, valid, out=inner, casting="unsafe")  # in half the time of a masked copy
        else:
            np.copyto(inner, values, where=valid, casting="unsafe")
        np.logical_not(valid, out=buffer[bands:, 1 : rows + 1, 1 : cols + 1], casting="unsafe")


def _sample_coordinates(
    control: ControlGrid,
    start: tuple[int, int],
    sides: tuple[int, int],
    inner: tuple[int, int],
    *,
    clip: bool,
) -> Floats:
    """Return coordinates for `grid_sample`: (height, width, 2), x before y, -1 and 1 at the buffer's outer edges.

    With `align_corners=False`, pixel i of n has its centre at (2 i + 1) / n - 1.
    """
    scale = 2 / sides[0], 2 / sides[1]
    bias = 1 / sides[0] - 1, 1 / sides[1] - 1
    # A float64 of magnitude 1.5 * 2**52 * q is a multiple of q: adding and subtracting it rounds to multiples of q.
    # q = FINENESS * scale is a power of two, so this is FINENESS in source pixels.
    rounding = 1.5 * 2**52 * FINENESS * scale[0], 1.5 * 2**52 * FINENESS * scale[1]
    coordinates = control.coordinates(origin=start, scale=scale, bias=bias, rounding=rounding)
    if clip:
        for axis in (0, 1):
            low, high = bias[axis], bias[axis] + (inner[axis] + 1) * scale[axis]
            np.clip(coordinates[axis], low, high, out=coordinates[axis])
    xy = np.empty((*control.window.shape, 2), "float32")
    xy[..., 0], xy[..., 1] = coordinates[1], coordinates[0]
    return xy


def _renormalize(sums: Array, missing: Array) -> tuple[Array, Mask | None]:
    """Divide by the weight of the valid pixels, if some but not all of it is missing; valid if it is at least 0.5."""
    if not missing.any():
        return sums, None
    valid = missing <= 0.5
    partly = valid & (missing > 0)  # results without missing neighbours are not divided: they keep their bits
    np.divide(sums, 1 - missing, out=sums, where=partly)
    return sums, np.broadcast_to(valid, sums.shape)


def _widened(
    values: Array, valid: Mask | None, origin: tuple[int, int], control: ControlGrid
) -> tuple[Array, Mask | None]:
    """Sample with a triangle kernel as wide as the ratio of the pixel sizes.

    The weight of a tap at distance d is max(0, 1 - |d| / ratio). Neighbouring taps are fetched in pairs, by one
    bilinear sample between them: near * v0 + far * v1 = (near + far) * bilinear(v0, v1, far / (near + far)).
    """
    bands, rows, cols = values.shape
    sides = _next_power(rows + 2), _next_power(cols + 2)
    margin = -max(control.transform.scale) - 1
    masked = valid is not None or _reaches_beyond(control, Window(*origin, rows, cols), margin=margin)
    valid = _shared_mask(valid)
    weight_channels = 0 if not masked else 1 if valid is None else len(valid)
    buffer = _buffer(bands + weight_channels, sides, _working_dtype(values.dtype))
    _fill_buffer(buffer, values, valid, masked=masked)
    coordinates = control.coordinates(origin=(origin[0] - 1, origin[1] - 1))
    separable = control.transform.separable  # then one row and one column of coordinates determine all weights
    axes = (coordinates[0][:, :1], coordinates[1][:1]) if separable else (coordinates[0], coordinates[1])
    tap_pairs = [
        _tap_pairs(axes[axis], control.transform.scale[axis], sides[axis], (rows, cols)[axis], buffer.dtype)
        for axis in (0, 1)
    ]
    shape = control.window.shape
    total, weight_sum = np.zeros((len(buffer), *shape), buffer.dtype), np.zeros(shape, buffer.dtype)
    xy = np.empty((*shape, 2), buffer.dtype)
    # Sums are not exact here; they run over the taps in one order, so that a pixel has the same bits in every window.
    for y, y_weight in tap_pairs[0]:
        xy[..., 1] = y
        for x, x_weight in tap_pairs[1]:
            xy[..., 0] = x
            weight = y_weight * x_weight
            weighted = grid_sample(buffer, xy)
            weighted *= weight
            total += weighted
            weight_sum += weight
    if not masked:
        return total / weight_sum, None
    return _divide_by_weight(total[:bands], total[bands:], weight_sum)


def _tap_pairs(
    coordinates: Floats, scale: float, side: int, size: int, dtype: np.dtype[np.floating]
) -> list[tuple[Array, Array]]:
    """Return, for each pair of neighbouring taps along one axis, the sample coordinate and the sum of their weights."""
    ratio = max(scale, 1.0)
    reach = int(np.ceil(ratio))
    base = np.floor(coordinates)
    # Weights derive from the fraction alone, which is the same wherever the window begins; `base` holds whole pixels.
    fraction = (coordinates - base).astype(dtype)
    pairs = []
    for tap in range(1 - reach, reach, 2):
        near, far = (np.maximum(1 - np.abs(k - fraction) / dtype.type(ratio), 0) for k in (tap, tap + 1))
        both = near + far
        far_fraction = np.divide(far, both, out=np.zeros_like(far), where=both > 0)
        rounded = np.rint(far_fraction.astype("float64") / FINENESS) * FINENESS
        position = np.clip(base + tap + rounded, 0, size + 1)
        pairs.append((((position * 2 + 1) / side - 1).astype(dtype), both))
    return pairs


def _divide_by_weight(total: Array, missing: Array, weight_sum: Array) -> tuple[Array, Mask | None]:
    """Divide by the weight of the valid pixels; valid if it is at least half of the kernel's weight."""
    present = weight_sum - missing
    valid = present >= weight_sum / 2
    np.divide(total, present, out=total, where=valid)
    return total, None if valid.all() else np.broadcast_to(valid, total.shape)


def _buffer(channels: int, sides: tuple[int, int], dtype: np.dtype[np.floating]) -> Array:
    """Return this thread's buffer. Values outside the filled part are stale but finite, as 0 * NaN would be NaN."""
    buffers: dict[tuple[int, ...], Array] = _local.__dict__.setdefault("buffers", {})
    key = (*sides, dtype.itemsize)
    buffer = buffers.get(key)
    if buffer is None or len(buffer) < channels:
        buffer = buffers[key] = np.zeros((channels, *sides), dtype)
    return buffer[:channels]


def _working_dtype(dtype: np.dtype) -> np.dtype[np.floating]:
    """Return float64 for types whose values a float32 cannot hold (32-bit integers, float64), else float32."""
    wide = dtype.itemsize >= 4 and dtype != np.float32
    return np.dtype("float64" if wide else "float32")


def _next_power(size: int) -> int:
    """Return the smallest power of two that is at least `size`."""
    return 1 << max(size - 1, 1).bit_length()
