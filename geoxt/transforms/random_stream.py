"""Random numbers for transforms: torch's global generator, or a seeded stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


class RandomStream:
    """Random number source of one transform. Numbers are drawn on the CPU, so they do not depend on the device.

    Parameters
    ----------
    seed
        Seed of the generator of this transform: transforms with equal seeds draw equal numbers. By default torch's
        global generator, which `torch.manual_seed` seeds.

    Notes
    -----
    In loader workers the seed is added to the worker's seed, which torch draws for each epoch. Call
    `torch.manual_seed` as well for repeatable runs with workers.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._stream: tuple[int, torch.Generator] | None = None

    @property
    def generator(self) -> torch.Generator | None:
        """The generator, or `None` for torch's global one."""
        if self.seed is None:
            return None
        if self._stream is None or self._stream[0] != os.getpid():
            worker = get_worker_info()
            start = self.seed if worker is None else (self.seed + worker.seed) % 2**63
            self._stream = os.getpid(), torch.Generator().manual_seed(start)
        return self._stream[1]

    @property
    def state(self) -> Tensor | None:
        """State of the generator, to resume from; `None` without a seed or before the first draw."""
        return None if self.seed is None or self._stream is None else self._stream[1].get_state()

    @state.setter
    def state(self, state: Tensor | None) -> None:
        self._stream = None
        if state is not None:
            generator = torch.Generator()
            generator.set_state(state.cpu())
            self._stream = os.getpid(), generator

    def uniform(self, *shape: int) -> Tensor:
        """Return uniform numbers in [0, 1), float32."""
        return torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, float32."""
        return torch.randn(shape, generator=self.generator)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return uniform integers in [0, below), int64."""
        return torch.randint(below, shape, generator=self.generator)

    def bernoulli(self, p: float, count: int) -> Tensor:
        """Return booleans (count,), each true with probability `p`."""
        return self.uniform(count) < p

    def beta(self, alpha: float, count: int) -> Tensor:
        """Return numbers (count,) drawn from Beta(alpha, alpha), float32."""
        with self.seed_global(torch.device("cpu")):
            numbers: Tensor = torch.distributions.Beta(alpha, alpha).sample((count,))
        return numbers

    @contextmanager
    def seed_global(self, device: torch.device) -> Iterator[None]:
        """Seed torch's global generators from this stream within the context, and restore them afterwards."""
        if self.seed is None:
            yield
            return
        start = int(self.integers(2**62))
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(start)  # torch.manual_seed would also seed GPUs, which are not restored
            if devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(start)
            yield

    def __getstate__(self) -> dict[str, Any]:
        """Return the seed alone: generators do not pickle, and a worker's stream starts from the worker's seed."""
        return {"seed": self.seed, "_stream": None}
