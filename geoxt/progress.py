"""Progress bars of long jobs, and the dask cluster that runs them."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import dask
from tqdm import tqdm


def shows_bars(stream: TextIO) -> bool:
    """Return whether a stream redraws lines: it is a terminal, or the output of a notebook."""
    return stream.isatty() or "ipykernel" in sys.modules


def progress_bar(total: int, label: str, *, unit: str, progress: bool | None, initial: int = 0) -> tqdm[Any]:
    """Return a progress bar on standard error, shown if `progress`; by default if that is a terminal."""
    disable = None if progress is None else not progress  # None: tqdm asks isatty()
    return tqdm(total=total, desc=label, unit=unit, initial=initial, disable=disable)


def default_client() -> Any:
    """Return the client of the dask cluster that is the default scheduler, or `None`."""
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return None
    if dask.config.get("scheduler", None) not in {None, "dask.distributed", "distributed"}:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None
