"""A folder beside an output where its parts are put until it is whole; an interrupted write finds them again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr
from dask.base import tokenize

from geoxt.errors import OutputError
from geoxt.types import SomePath

PARTS = ".parts"
"""How the name of such a folder ends."""


def require_writable(path: SomePath) -> None:
    """Make the folder of an output and try to write there.

    Raises
    ------
    OutputError
        Where the folder cannot be made or written to, or the path is a folder itself.
    """
    path = Path(path)
    require_folder(path)
    if path.is_dir():
        msg = f"Cannot write {str(path)!r}: it is a folder. Pass the path of a file."
        raise OutputError(msg)


def require_folder(path: Path) -> None:
    """Make the folder of an output and try to write there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        msg = f"Cannot write {str(path)!r}: {error.strerror or error}. Pass a path in a folder that can be written to."
        raise OutputError(msg) from error


@contextmanager
def staging(layer: xr.DataArray, path: Path, kind: str, *, resume: bool) -> Iterator[Path]:
    """Give a folder for the parts of an output.

    Its name follows from the layer, so that only parts of the same one are found again. It goes once the output is
    whole, and those of other layers that were to become the same output go with it. After an error or an interrupt it
    stays where `resume` is set and a part is done; the error then says so.
    """
    folder = path.with_name(f".{path.name}-{tokenize(kind, layer)[:16]}{PARTS}")
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    except BaseException as error:
        count = len(done(folder))
        if resume and count:
            error.add_note(f"{count} finished regions are kept in {str(folder)!r}: the same call goes on from there.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    for one in path.parent.glob(f".{_literal(path.name)}-{'?' * 16}{PARTS}"):
        shutil.rmtree(one, ignore_errors=True)


def part(folder: Path, index: int) -> Path:
    """Return the file that says that a region is done; it may also hold it."""
    return folder / f"{index:06d}.part"


def done(folder: Path) -> set[int]:
    """Return the regions that are done."""
    return {int(one.stem) for one in folder.glob("??????.part")}


def _literal(name: str) -> str:
    """Return a name in which no character stands for others when it is looked for."""
    return "".join(f"[{one}]" if one in "*?[" else one for one in name)
