"""Checkpoint files of a run: written atomically, and read without running code."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from geoxt.errors import InputError, OutputError


def save_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Save Lightning's checkpoint under a temporary name, and move it to its path.

    Not by `atomic_write`: with several devices every process takes part in saving, and the first one moves.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            temporary.replace(path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's file writer
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
            raise
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error


def write_error(path: Path, error: BaseException) -> OutputError:
    """Return the error of a checkpoint that cannot be written, with the free disk space."""
    text = getattr(error, "strerror", None) or str(error)
    free = shutil.disk_usage(path.parent).free / 1e6
    remedy = f"Make space there ({free:,.0f} MB are free), and call again to resume. Or pass another folder."
    return OutputError(f"Cannot write the checkpoint {str(path)!r}: {text}.", remedy=remedy)


def require_plain(path: Path) -> None:
    """Raise if a checkpoint is not readable as tensors and plain values; code in it is not run.

    Raises
    ------
    InputError
        If the file is damaged, or holds other objects.
    """
    try:
        state: Any = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        msg = f"Cannot resume from {str(path)!r}: it holds objects other than tensors and plain values, or is damaged."
        remedy = "Remove it, or pass another folder, to start again. Custom callbacks must save plain values."
        raise InputError(msg, remedy=remedy) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        msg = f"Cannot resume from {str(path)!r}: it cannot be read ({error})."
        raise InputError(msg, remedy="Remove it, or pass another folder, to start again.") from error
    if not isinstance(state, dict) or "loops" not in state:
        msg = f"Cannot resume from {str(path)!r}: it is not a checkpoint of a training run."
        raise InputError(msg, remedy="Pass another folder.")
