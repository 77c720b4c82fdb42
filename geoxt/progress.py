"""Progress bars of long jobs, and the dask cluster that runs them."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, TextIO

import dask
from tqdm.std import tqdm


def shows_bars(stream: TextIO) -> bool:
    """Return whether a stream redraws lines: it is a terminal, or the output of a notebook."""
    return stream.isatty() or "ipykernel" in sys.modules


def progress_bar(total: int, label: str, *, unit: str, progress: bool | None, initial: int = 0) -> tqdm[Any]:
    """Return a progress bar, shown if `progress`; by default in notebooks, and if standard error is a terminal."""
    shown = shows_bars(sys.stderr) if progress is None else progress
    return bar_class()(total=total, desc=label, unit=unit, initial=initial, disable=not shown)


def bar_class() -> type[tqdm[Any]]:
    """Return the class of progress bars: a widget in notebooks with ipywidgets, else text.

    `tqdm.auto` warns in notebooks without ipywidgets.
    """
    if "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None:
        notebook: type[tqdm[Any]] = importlib.import_module("tqdm.notebook").tqdm
        return notebook
    return tqdm


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
