"""Free disk space of downloads and extractions: checked in advance where the size is known, and named in errors."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from geoxt.errors import OutputError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a full disk, and of an exhausted quota."""


def require_space(folder: Path, required: int, action: str) -> None:
    """Raise if the disk of an existing folder has fewer than `needed` free bytes.

    Raises
    ------
    OutputError
        With the needed and the free size.
    """
    if required > shutil.disk_usage(folder).free:
        raise disk_full(folder, action, required)


def disk_full(folder: Path, action: str, required: int | None) -> OutputError:
    """Return the error of a full disk.

    Parameters
    ----------
    folder
        Folder on the disk.
    action
        Action in the infinitive, such as "download a file", which follows "Cannot" in the error.
    needed
        Required free bytes; `None` if unknown.
    """
    free = shutil.disk_usage(folder).free
    size = "" if required is None else f" {size_text(required)} are needed and"
    return OutputError(
        f"Cannot {action}: the disk of {str(folder)!r} is full:{size} {size_text(free)} are free.",
        remedy="Free disk space, or pass {root} of a folder on another disk. Partial downloads are kept.",
        argument="root",
    )


def size_text(size: int) -> str:
    """Return a size in decimal units.

    Examples
    --------
    >>> size_text(52_006_404_720), size_text(17_000), size_text(300)
    ('52.01 GB', '17.00 kB', '300 bytes')
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} bytes"
