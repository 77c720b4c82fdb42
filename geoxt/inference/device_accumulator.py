"""Blend overlapping tiles on a device: the sums of `RowAccumulator` as tensors, and class indices instead of codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geoxt.inference.accumulator import MapEncoding, RowAccumulator
from geoxt.torch_devices import Device
from geoxt.types import Array
from geoxt.windows import Window


class DeviceAccumulator(RowAccumulator):
    """Blends the tiles of a window on a device; only the finished map is copied to the host.

    The map of classes holds the index of the largest channel on the device, as uint8 for up to 255 channels, so that a
    pixel is one byte to copy for codes of any type. Measures of uncertainty are computed on the host, from the means.

    Parameters
    ----------
    window, height, encoding
        As for `RowAccumulator`.
    device
        The device of the tiles.
    """

    def __init__(self, *, window: Window, height: int, encoding: MapEncoding, device: Device) -> None:
        self.window, self.encoding, self.device = window, encoding, device
        self._top: int | None = None
        options: dict[str, Any] = {"device": device.torch_device}
        self._sums = torch.zeros(encoding.channels, height, window.width, dtype=device.sum_dtype, **options)
        self._weights = torch.zeros(height, window.width, dtype=device.sum_dtype, **options)
        self._valid = torch.zeros(height, window.width, dtype=torch.bool, **options)
        shape = (*encoding.leading_shape, *window.shape)
        self._has_indices = encoding.codes is not None and encoding.measures is None
        if encoding.measures is not None:
            self._map = np.full(shape, encoding.nodata, encoding.dtype)
        elif self._has_indices:
            dtype = torch.uint8 if encoding.channels < 256 else torch.int32
            self._map = torch.full(shape, encoding.channels, dtype=dtype, **options)
        else:
            self._map = torch.full(shape, encoding.nodata, dtype=torch.float32, **options)

    def result(self) -> Array:
        """Finish the last row of tiles, and return the map on the host, ([channel,] height, width)."""
        self._finish()
        if self.encoding.measures is not None:
            return np.asarray(self._map)
        on_host = self.device.empty_pinned(tuple(self._map.shape), self._map.dtype)
        self.device.copy(self._map, on_host)
        self.device.wait_on_host(self.device.record())
        pixels = on_host.numpy()
        if self.encoding.codes is None or not self._has_indices:
            return np.array(pixels, self.encoding.dtype)  # a copy: pinned memory is used again
        codes = np.append(self.encoding.codes, self.encoding.dtype.type(self.encoding.nodata))
        return np.asarray(codes.astype(self.encoding.dtype)[pixels])

    def _shift(self, rows: int) -> None:
        for sums in (self._sums, self._weights, self._valid):
            sums[..., :-rows, :] = sums[..., rows:, :].clone()  # torch copies overlapping memory in any order
            sums[..., -rows:, :] = 0

    def _write(self, source: slice, target: slice) -> None:
        weights, sums = self._weights[source], self._sums[:, source]
        means = torch.where(weights > 0, sums / weights, sums)
        if self.encoding.measures is not None:  # numpy computes these
            encoded, valid = self.encoding.encode(means.cpu().double().numpy()), self._valid[source].cpu().numpy()
            np.copyto(self._map[..., target, :], encoded, where=valid, casting="same_kind")
            return
        values = means.argmax(dim=0) if self._has_indices else means
        finished = self._map[..., target, :]
        finished.copy_(torch.where(self._valid[source], values.to(finished.dtype), finished))
