"""Batches on a device: the next batch is copied on a stream of copies while the current one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxt.bridge.buffer_pool import BufferPool
from geoxt.torch_devices import Device

STORED = frozenset({"uint8", "int8", "int16", "uint16"})
"""Dtypes of pixels that are copied unchanged, which are fewer bytes, and widened to float32 or int64 on the device."""
_LOW_BITS = 0xFFFF


@dataclass(slots=True, kw_only=True, eq=False)
class _Copy:
    """A batch that is being copied."""

    host: Mapping[str, Any]
    """Entries in host memory, which must not be reused before the copy is complete."""
    batch: dict[str, Any]
    """Entries on the device."""
    unsigned: frozenset[str]
    """Keys of uint16 tensors, whose bits are copied as int16: few operations of torch support uint16."""
    done: Any
    """Event after the copy."""


@dataclass(slots=True, kw_only=True, eq=False)
class DeviceBatches:
    """Copies batches to a device.

    Parameters
    ----------
    device
        The device.
    finish
        Applied to each batch on the device: transform and collation.
    staged
        Whether batches are copied to page-locked memory first, as those in the shared memory of worker processes.
    """

    device: Device
    finish: Callable[[Any], Any]
    staged: bool
    widened: Mapping[str, torch.dtype] = field(default_factory=dict)
    """Dtype on the device of tensors that are copied in their stored dtype, by key."""
    pool: BufferPool = field(init=False)
    """Page-locked host memory."""

    def __post_init__(self) -> None:
        self.pool = BufferPool(self._empty_pinned)

    def __call__(self, batches: Iterator[Mapping[str, Any]]) -> Iterator[Any]:
        """Yield batches on the device, with one more in flight."""
        pending: _Copy | None = None
        try:
            for batch in batches:
                current, pending = pending, self._start(batch)
                del batch
                if current is not None:
                    yield self._complete(current)
            if pending is not None:
                yield self._complete(pending)
        finally:
            if pending is not None:  # the loop may end early: the memory of both ends is reused then
                self.device.wait(pending.done)
                self.device.wait_on_host(pending.done)

    def _start(self, batch: Mapping[str, Any]) -> _Copy:
        """Start copying a batch."""
        host = {key: self._source(value) for key, value in batch.items()}
        with self.device.current():
            # Allocated on the current stream, whose earlier computations may still use this memory.
            targets = {
                key: self.device.empty(value.shape, value.dtype)
                for key, value in host.items()
                if isinstance(value, Tensor)
            }
            used = self.device.record()
            with self.device.copy_stream():
                self.device.wait(used)
                for key, target in targets.items():
                    self.device.copy(host[key], target)
                done = self.device.record()
        unsigned = frozenset(key for key, value in batch.items() if getattr(value, "dtype", None) == torch.uint16)
        return _Copy(host=host, batch={**host, **targets}, unsigned=unsigned, done=done)

    def _complete(self, copy: _Copy) -> Any:
        """Return a batch once it is copied, widened and transformed on the device."""
        with self.device.current():
            self.device.wait(copy.done)
            batch = copy.batch
            for key, dtype in self.widened.items():
                if key in copy.unsigned:
                    batch[key] = batch[key].to(torch.int32).bitwise_and_(_LOW_BITS)
                batch[key] = batch[key].to(dtype)
            finished = self.finish(batch)
        self.device.wait_on_host(copy.done)
        copy.host = copy.batch = {}
        return finished

    def _source(self, value: Any) -> Any:
        """Return an entry in the memory from which it is copied; float64 that the device lacks stays on the host."""
        if not isinstance(value, Tensor) or (value.dtype == torch.float64 and self.device.sum_dtype != torch.float64):
            return value
        if self.staged:
            array = self.pool.array(tuple(value.shape), value.numpy().dtype)
            value = torch.from_numpy(array).copy_(value)
        return value.view(torch.int16) if value.dtype == torch.uint16 else value

    def _empty_pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self.device.empty_pinned(shape, torch.from_numpy(np.empty(0, dtype)).dtype).numpy()
