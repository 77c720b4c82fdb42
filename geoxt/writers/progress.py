"""A progress bar on standard error: one line, rewritten."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

_WIDTH = 30


class Bar:
    """Counts what is done of a known number of steps.

    Parameters
    ----------
    total
        Number of steps.
    label
        What is done.
    show
        Whether to show it; `None`: where standard error is a terminal.
    done
        Steps that were done before; the time that is left is reckoned without them.
    """

    def __init__(self, total: int, label: str, *, show: bool | None = None, done: int = 0) -> None:
        self.total = total
        self.label = label
        self.done = done
        self._before = done
        self._start = time.perf_counter()
        self._out: TextIO | None = sys.stderr if (sys.stderr.isatty() if show is None else show) else None

    def __enter__(self) -> Self:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._out is not None:
            self._out.write("\n")
            self._out.flush()

    def step(self) -> None:
        """Count one more."""
        self.done += 1
        self._draw()

    def _draw(self) -> None:
        if self._out is None:
            return
        filled = _WIDTH * self.done // max(self.total, 1)
        bar = "#" * filled + "." * (_WIDTH - filled)
        self._out.write(f"\r{self.label} [{bar}] {self.done}/{self.total}{self._left()}")
        self._out.flush()

    def _left(self) -> str:
        new = self.done - self._before
        if not new:
            return "            "
        seconds = (time.perf_counter() - self._start) / new * (self.total - self.done)
        return f"  {int(seconds) // 60:3d}:{int(seconds) % 60:02d} left"
