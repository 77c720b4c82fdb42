"""File descriptors of the process: the number for open files, and whether any are left.

Without a free descriptor GDAL misses sidecar files silently: a mask or a CRS would be lost. Open files therefore take
half of the descriptors at most, and a file that was opened with the last ones is opened again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from geoxt.errors import ResourceError

try:
    import resource
except ImportError:  # Windows, whose limit is that of the memory
    resource = None  # type: ignore[assignment]

UNLIMITED = 1 << 16
"""Number of descriptors assumed on systems that do not report a limit."""
CRITICAL = 8
"""Free descriptors below which a file may have been opened without its sidecars."""
WAIT = 10.0
"""Seconds to wait for other threads to close files."""
sleep = time.sleep


def limit() -> int:
    """Return the number of descriptors that the process may have open (the soft limit of `RLIMIT_NOFILE`)."""
    if resource is None:
        return UNLIMITED
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNLIMITED if soft == resource.RLIM_INFINITY else min(soft, UNLIMITED)


def budget() -> int:
    """Return the maximum number of descriptors of idle files: half of the unused descriptors."""
    used = 0
    with suppress(OSError):
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 (Linux and macOS)
    return max((limit() - used) // 2, 1)


def exhausted() -> bool:
    """Return whether (almost) no descriptor is free, judged by the lowest free number."""
    if resource is None:
        return False
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(number)
    return number >= limit() - CRITICAL


def free(close_idle: Callable[[], object], action: str) -> None:
    """Close idle files until descriptors are free.

    Parameters
    ----------
    close_idle
        Closes all idle files of the process.
    action
        Action that needs a descriptor, for the message: "open a.tif".

    Raises
    ------
    ResourceError
        If none is free after some seconds.
    """
    end = time.monotonic() + WAIT
    close_idle()
    while exhausted():
        if time.monotonic() > end:
            problem = f"Cannot {action}: the process has too few file descriptors left of {limit()}."
            raise ResourceError(
                problem, remedy="Raise the limit (ulimit -n), or use fewer threads or worker processes."
            )
        sleep(0.05)
        close_idle()
