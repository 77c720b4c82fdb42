"""Random numbers of a transform: torch's own, or a stream that begins with a seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import get_worker_info


class Draws:
    """What a transform draws from; always on the CPU, so that a GPU gets the same numbers.

    Parameters
    ----------
    seed
        Begins a stream of its own: transforms made with one seed draw the same. Left out, torch's global generator,
        which `torch.manual_seed` seeds.

    Notes
    -----
    In a loader's workers the stream begins with the seed and the worker's own, which torch deals out anew for every
    epoch; there, seed torch as well for runs that repeat.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._stream: tuple[int, torch.Generator] | None = None

    @property
    def generator(self) -> torch.Generator | None:
        """The stream, `None` for torch's global one."""
        if self.seed is None:
            return None
        if self._stream is None or self._stream[0] != os.getpid():
            worker = get_worker_info()
            start = self.seed if worker is None else (self.seed + worker.seed) % 2**63
            self._stream = os.getpid(), torch.Generator().manual_seed(start)
        return self._stream[1]

    @property
    def state(self) -> Tensor | None:
        """Where the stream stands, to go on from; `None` where there is none of its own, or nothing was drawn."""
        return None if self.seed is None or self._stream is None else self._stream[1].get_state()

    @state.setter
    def state(self, state: Tensor | None) -> None:
        self._stream = None
        if state is not None:
            generator = torch.Generator()
            generator.set_state(state.cpu())
            self._stream = os.getpid(), generator

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers from 0 to 1, float32."""
        return torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Return numbers of mean 0 and deviation 1, float32."""
        return torch.randn(shape, generator=self.generator)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Return whole numbers from 0 to below a limit, int64."""
        return torch.randint(below, shape, generator=self.generator)

    def happens(self, p: float, count: int) -> Tensor:
        """Return truth values, each true with probability `p`."""
        return self.uniform(count) < p

    def beta(self, alpha: float, count: int) -> Tensor:
        """Return numbers of the distribution Beta(alpha, alpha), float32."""
        with self.everywhere(torch.device("cpu")):
            found: Tensor = torch.distributions.Beta(alpha, alpha).sample((count,))
        return found

    @contextmanager
    def everywhere(self, device: torch.device) -> Iterator[None]:
        """Let code that draws from torch's global generators draw from this stream."""
        if self.seed is None:
            yield
            return
        start = int(self.integers(2**62))
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(start)
            yield

    def __getstate__(self) -> dict[str, Any]:
        """Leave the stream behind: it begins anew elsewhere."""
        return {"seed": self.seed, "_stream": None}
