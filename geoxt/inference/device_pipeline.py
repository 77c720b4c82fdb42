"""Tiles through a model on a device: threads read tiles into host buffers while earlier ones are copied and computed.

A slot holds a batch in host and device memory. Its buffers are used in this order, where each step waits for the one
before, and steps of different slots run concurrently:

1. threads read tiles into the host buffers, once the copy of the slot's previous batch is complete (`copied`);
2. a stream of copies copies them to the device buffers, once the computations on the previous batch are (`used`);
3. the model computes on them, once the copy is complete (`copied`).

This thread waits only for tiles to be read, and for copies of batches several slots ago.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.inference import thread_pool
from geoxt.inference.device_model import DeviceModel
from geoxt.inference.tile_cache import TileOutput
from geoxt.inference.tile_reader import StepReader
from geoxt.models.scale_check import ScaleCheck
from geoxt.types import Array, Mask
from geoxt.windows import Window

BLOCKS_PER_DEVICE = 2
"""Blocks of a map in progress per device: the first tiles of one are read while the last of the other are computed."""
_MIN_SLOTS = 3
_STORED: Mapping[str, torch.dtype] = {
    "uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16, "uint16": torch.int16
}  # fmt: skip
"""Types of pixels that are copied unchanged and widened on the device; others are copied as float32. The bits of
uint16 are copied as int16, as few operations of torch support uint16."""
_BUSY: dict[str, int] = {}
_FREED = threading.Condition()
_HELD = threading.local()
"""Number of blocks in progress in this thread: one, or more if the layer of a map is a map itself."""


@contextmanager
def borrowed_device(names: Sequence[str]) -> Iterator[str]:
    """Yield the device with the fewest blocks in progress, once one has fewer than `BLOCKS_PER_DEVICE`.

    A block that the tiles of another one are read from does not wait: the other one would wait for it.
    """
    num_blocks: int = getattr(_HELD, "blocks", 0)
    with _FREED:
        while not num_blocks and min(_BUSY.get(name, 0) for name in names) >= BLOCKS_PER_DEVICE:
            _FREED.wait()
        name = min(names, key=lambda name: _BUSY.get(name, 0))
        _BUSY[name] = _BUSY.get(name, 0) + 1
    _HELD.blocks = num_blocks + 1
    try:
        yield name
    finally:
        _HELD.blocks = num_blocks
        with _FREED:
            _BUSY[name] -= 1
            _FREED.notify_all()


@dataclass(slots=True, kw_only=True, eq=False)
class _Slot:
    """Buffers of a batch."""

    host: tuple[Tensor, ...]
    """Images (N, …, C, H, W), their valid masks (N, …, H, W) and those of the output (N, h, w), in host memory."""
    device: tuple[Tensor, ...]
    """The same in the memory of the device."""
    used: Any
    """Event after the last computation on the device buffers."""
    copied: Any = None
    """Event after the last copy from the host buffers."""


class TilePipeline:
    """Outputs of the tiles of one time step, computed on a device.

    Parameters
    ----------
    tiles
        Reads the tiles.
    model
        The model on the device.
    size
        Height and width of a tile of the output.
    batch_size
        Tiles per batch; the last batch is padded.
    all_finite
        Whether all channels of a valid pixel must be finite; else any of them.
    scale_check
        Warns if the first tiles have other values than those on which the model was trained.
    """

    def __init__(
        self,
        tiles: StepReader,
        model: DeviceModel,
        *,
        size: tuple[int, int],
        batch_size: int,
        all_finite: bool,
        scale_check: ScaleCheck,
    ) -> None:
        self.tiles, self.model, self.device = tiles, model, model.device
        self.size, self.batch_size = size, batch_size
        self.all_finite, self.scale_check = all_finite, scale_check
        self.dtype = tiles.reader.view.dtype
        self._any_finite: list[Tensor] = []

    def run(self, tiles: Sequence[Window]) -> Iterator[TileOutput]:
        """Yield the outputs of tiles in order; the tensors of one are valid until the next is requested."""
        batches = deque(tiles[start : start + self.batch_size] for start in range(0, len(tiles), self.batch_size))
        count = min(max(_MIN_SLOTS, -(-thread_pool.size() // self.batch_size) + 1), len(batches))
        filling: deque[tuple[_Slot, Sequence[Window], list[Future[bool]]]] = deque()
        stops = thread_pool.stops()
        try:
            for _ in range(count):
                filling.append(self._fill(self._slot(), batches.popleft()))
            while filling:
                slot, batch, reads = filling[0]
                has_valid = [read.result() for read in reads]
                thread_pool.require_running(stops)
                filling.popleft()
                yield from self._outputs(slot, batch, has_valid)
                slot.used = self.device.record()
                if batches:
                    filling.append(self._fill(slot, batches.popleft()))
        finally:
            for _, _, reads in filling:
                for read in reads:
                    read.cancel()
        self._require_finite()

    def _slot(self) -> _Slot:
        reader = self.tiles.reader
        rows, cols = (length * step for length, step in zip(self.size, reader.factor, strict=True))
        steps = reader.shape[:-1]
        arrays: tuple[tuple[tuple[int, ...], torch.dtype], ...] = (
            ((self.batch_size, *reader.shape, rows, cols), _STORED.get(self.dtype.name, torch.float32)),
            ((self.batch_size, *steps, rows, cols), torch.bool),
            ((self.batch_size, *self.size), torch.bool),
        )
        host = tuple(self.device.empty_pinned(*array) for array in arrays)
        device = tuple(self.device.empty(*array) for array in arrays)
        # Their memory may have been used by computations that are still running.
        return _Slot(host=host, device=device, used=self.device.record())

    def _fill(self, slot: _Slot, tiles: Sequence[Window]) -> tuple[_Slot, Sequence[Window], list[Future[bool]]]:
        """Submit reads of tiles into the host buffers of a slot, once their last copy is complete."""
        self.device.wait_on_host(slot.copied)
        images, image_valid, output_valid = self._host_arrays(slot)
        image_valid[len(tiles) :] = False
        images[len(tiles) :] = 0
        buffers = zip(tiles, images, image_valid, output_valid, strict=False)
        return slot, tiles, [thread_pool.submit(self._read, *buffer) for buffer in buffers]

    def _host_arrays(self, slot: _Slot) -> tuple[Array, Mask, Mask]:
        """Return the host buffers of a slot as arrays, the images in the type of the layer."""
        images, image_valid, output_valid = (tensor.numpy() for tensor in slot.host)
        return images.view(np.uint16) if self.dtype == np.uint16 else images, image_valid, output_valid

    def _read(self, tile: Window, image: Array, image_valid: Array, output_valid: Array) -> bool:
        """Read a tile into buffers, and return whether any pixel of its output is valid."""
        arrays = self.tiles.read_tile(tile, image.dtype)
        for buffer, array in zip((image, image_valid, output_valid), arrays, strict=True):
            np.copyto(buffer, array)
        return bool(output_valid.any())

    def _outputs(self, slot: _Slot, tiles: Sequence[Window], has_valid: list[bool]) -> Iterator[TileOutput]:
        images_on_host, valid_on_host, on_host = self._host_arrays(slot)
        if not any(has_valid):
            for index, tile in enumerate(tiles):
                yield TileOutput(window=tile, values=None, valid=on_host[index])
            return
        self.scale_check(images_on_host[: len(tiles)], valid_on_host[: len(tiles)])
        with self.device.copy_stream():
            self.device.wait(slot.used)
            for source, target in zip(slot.host, slot.device, strict=True):
                self.device.copy(source, target)
            slot.copied = self.device.record()
        self.device.wait(slot.copied)
        images, image_valid, output_valid = slot.device
        values = self.model(images.view(torch.uint16) if self.dtype == np.uint16 else images, image_valid)[: len(tiles)]
        is_finite = values.isfinite()
        self._any_finite.append(is_finite.any())
        finite = is_finite.all(dim=1) if self.all_finite else is_finite.any(dim=1)
        values = values.where(finite[:, None], 0)
        valid = output_valid[: len(tiles)] & finite
        for index, tile in enumerate(tiles):
            if has_valid[index]:
                yield TileOutput(window=tile, values=values[index], valid=valid[index], finite=finite[index])
            else:
                yield TileOutput(window=tile, values=None, valid=on_host[index])

    def _require_finite(self) -> None:
        if self._any_finite and not bool(torch.stack(self._any_finite).all()):
            msg = "Cannot predict with this model: none of its outputs for a batch of tiles is finite."
            remedy = "Pass a {model} whose training did not diverge, or mark pixels of extreme values as nodata."
            raise InputError(msg, remedy=remedy, argument="model")
