"""Interrupts (SIGINT, Ctrl-C) of a training run: each ends it by KeyboardInterrupt, none is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl


class InterruptCheck(pl.Callback):
    """Raises KeyboardInterrupt before the next batch if an interrupt was received and its exception was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.received = False

    def check(self, *_: Any, **__: Any) -> None:
        """Raise if an interrupt was received."""
        if self.received:
            raise KeyboardInterrupt

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = check


@contextmanager
def interruptible() -> Iterator[InterruptCheck]:
    """Record interrupts within the context, and leave it by KeyboardInterrupt if there was one.

    Python discards a KeyboardInterrupt that is raised in a finalizer, such as one that returns a batch's memory: the
    training would go on and end as usual. Lightning turns others into SystemExit, and then ignores SIGINT for good;
    worker processes that end at the same signal raise RuntimeError.
    """
    check = InterruptCheck()
    before = signal.getsignal(signal.SIGINT)
    handled = callable(before) and threading.current_thread() is threading.main_thread()

    def handle(number: int, frame: FrameType | None) -> None:
        check.received = True
        if callable(before):
            before(number, frame)

    if handled:
        signal.signal(signal.SIGINT, handle)
    try:
        yield check
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    except Exception as error:
        if check.received:
            raise KeyboardInterrupt from error
        raise
    finally:
        if handled:
            signal.signal(signal.SIGINT, before)
    check.check()
