"""A device for tests: computes on the CPU, delays copies until they must be complete, and runs out of memory."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import torch

from geoxt.torch_devices import Device


class FakeDevice(Device):
    """Copies to this device are made when the pipeline waits for them; it must wait, and not reuse buffers before.

    Parameters
    ----------
    name
        Name of the device.
    largest_batch
        Images of the largest batch that fits in memory.
    """

    def __init__(self, name="cuda:0", *, largest_batch=None):
        super().__init__("cpu")
        self.name, self.largest_batch = name, largest_batch
        self.log, self.pending = [], []
        self.copying = threading.local()
        self.batches = []

    def copy(self, source, target):
        if not getattr(self.copying, "on", False):
            target.copy_(source)
            return
        self.log.append("copy")
        self.pending.append((source, target))

    @contextmanager
    def copy_stream(self):
        self.copying.on = True
        try:
            yield
        finally:
            self.copying.on = False

    def record(self):
        return ("copied" if getattr(self.copying, "on", False) else "used", list(self.pending))

    def wait(self, event):
        if event is not None:
            self.log.append(f"wait {event[0]}")
            self._complete(event)

    def wait_on_host(self, event):
        if event is not None:
            self.log.append(f"host waits {event[0]}")
            self._complete(event)

    def _complete(self, event):
        for copy in event[1]:
            if any(copy is other for other in self.pending):
                self.pending = [other for other in self.pending if other is not copy]
                copy[1].copy_(copy[0])

    def release_memory(self):
        self.log.append("release")

    def require_memory(self, images):
        self.batches.append(len(images))
        if self.largest_batch is not None and len(images) > self.largest_batch:
            raise torch.OutOfMemoryError("CUDA out of memory.")
