"""The hidden folder beside an output that holds its finished blocks, so that an interrupted write can be resumed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xarray as xr
from dask.base import tokenize
from filelock import FileLock, Timeout

from geoxt.errors import OutputError
from geoxt.types import SomePath

SUFFIX = ".parts"
"""Suffix of the name of the folder of an output's blocks."""


def require_writable(path: SomePath) -> None:
    """Create the folder of an output file and test that it is writable.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to, or the path is a folder itself.
    """
    path = Path(path)
    require_folder(path)
    if path.is_dir():
        raise OutputError(f"Cannot write {str(path)!r}: it is a folder.", remedy="Pass the path of a file.")


def require_folder(path: Path) -> None:
    """Create the folder of an output and test that it is writable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write {str(path)!r}: {error.strerror or error}.", remedy="Pass a path in a writable folder."
        ) from error


def write_error(path: Path, error: BaseException, *, size: int) -> OutputError:
    """Return the error of an output that cannot be written, with the space that it needs.

    Parameters
    ----------
    path
        Path of the output.
    error
        Error of the operating system or of GDAL.
    size
        Bytes of the layer. Finished blocks and the output are stored side by side, compressed, the latter with
        overviews: 1 + 4/3 times as large if the compression saves nothing.
    """
    problem = error
    while isinstance(problem.__cause__ or problem.__context__, Exception):  # rasterio: "See previous exception"
        problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]
    text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem).rstrip(".")
    free = shutil.disk_usage(path.parent).free
    needed = f"up to {_megabytes(size * 7 / 3)}, {_megabytes(free)} are free"
    return OutputError(
        f"Cannot write {str(path)!r}: {text}.", remedy=f"Make space there ({needed}). Or pass another path."
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


@contextmanager
def staging(layer: xr.DataArray, path: Path, kind: str, *, resume: bool) -> Iterator[Path]:
    """Create a folder for the blocks of an output.

    Its name is the dask token of the layer, so that only blocks of the same layer are used again. It is removed once
    the output is complete, together with those of other layers for the same output. After an error or an
    interrupt it is kept if `resume` is set and a block is finished; a note on the error says so.

    Raises
    ------
    OutputError
        If another process or thread writes the output.
    """
    with _lock(path), _staging_folder(layer, path, kind, resume=resume) as folder:
        yield folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the lock of an output, a hidden file beside it that the system unlocks if the process is killed.

    Raises
    ------
    OutputError
        If another process or thread writes the output.
    """
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
        while not file.exists():  # its former holder removed it between the opening and the locking
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"Cannot write {str(path)!r}: another process or thread is writing it.",
            remedy="Wait for its end. Or pass another path.",
        ) from error
    except NotImplementedError:  # the file system has no locks
        yield
        return
    try:
        yield
    finally:
        if os.name != "nt":  # Windows removes no open file
            file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _staging_folder(layer: xr.DataArray, path: Path, kind: str, *, resume: bool) -> Iterator[Path]:
    """Create the folder of `staging`, and remove it at the end."""
    # In a separate folder: listing the folder of the output is slow if it has many files.
    parent = path.with_name(f".{path.name}{SUFFIX}")
    folder = parent / tokenize(kind, layer)[:16]
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except BaseException as error:
        count = len(finished_blocks(folder))
        if resume and count:
            error.add_note(f"{count} finished blocks are kept in {str(folder)!r}: the same call resumes the write.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):  # blocks of other layers
                parent.rmdir()
        raise
    shutil.rmtree(parent, ignore_errors=True)


def block_file(folder: Path, index: int) -> Path:
    """Return the file whose existence marks a block as finished; it may also hold the block."""
    return folder / f"{index:06d}.part"


def finished_blocks(folder: Path) -> set[int]:
    """Return the numbers of the finished blocks."""
    return {int(file.stem) for file in folder.glob("*.part") if file.stem.isdecimal()}  # more digits from 1,000,000 on
