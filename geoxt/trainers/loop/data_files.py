"""Files of a run's data: their sizes and modification times, recorded at its start and compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from geoxt.errors import InputError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.file_version import local_file
from geoxt.pixels.remote_version import known_identity
from geoxt.source import Mosaic, VectorSource
from geoxt.source.source_uses import find_uses
from geoxt.trainers.loop.results import write_text
from geoxt.trees import SomeData, nodes_of

FILES = "files.json"
"""Record of the files in the folder of a run."""
_MAX_FILES = 4096
"""Maximum number of files whose sizes and times are recorded; of more, evenly spaced ones."""
_MAX_VALUES = 2**22
"""Maximum number of values of an array in memory that are hashed; of more, evenly spaced ones."""
_ARRAY = "array "
"""Prefix of the names of arrays in memory."""
_REMOTE = "remote "
"""Prefix of the unsigned addresses of remote files."""
_T = TypeVar("_T")


def layer_files(data: SomeData) -> dict[str, str]:
    """Return the version of each local file, and of each array in memory, that layers are read from.

    Parameters
    ----------
    data
        A layer, a Dataset of layers, or a tree of either.

    Returns
    -------
    dict
        Size and modification time by path of a file, or a hash of values by name of an array in memory. Of remote files
        those whose ETag or time an earlier request stated, as `cache=` asks for: others would cost a request each.
    """
    paths: list[str] = []
    arrays = {}
    for node, layers in nodes_of(data).items():
        for name, layer in layers.data_vars.items():
            if layer.chunks is not None:
                paths += [path for use in find_uses(layer.data).uses for path in _paths(use.base.source)]
            elif getattr(layer.variable, "_in_memory", True):
                arrays[f"{_ARRAY}{node}/{name}"] = _array_hash(layer.to_numpy())
            else:  # opened by xarray without dask
                paths.append(str(layer.encoding.get("source", "")))
    return {**file_versions(paths), **_remote_versions(paths), **arrays}


def _remote_versions(paths: Iterable[str]) -> dict[str, str]:
    identities = {path: identity for path in dict.fromkeys(paths) if (identity := known_identity(path))}
    return {f"{_REMOTE}{redact_url(path).partition('?')[0]}": identity for path, identity in identities.items()}


def file_versions(paths: Iterable[str]) -> dict[str, str]:
    """Return size and modification time by path of local files, those in a folder included; others are left out."""
    versions: dict[str, str] = {}
    for path in _evenly_spaced(list(dict.fromkeys(paths))):
        if Path(path).is_dir():
            versions |= file_versions(str(file) for file in Path(path).rglob("*") if file.is_file())
            continue
        file = local_file(path)
        for name in () if file is None else (file, f"{file}.msk"):
            try:
                status = os.stat(name)  # noqa: PTH116 (called for thousands of files)
            except OSError:
                continue
            versions[name] = f"{status.st_size} bytes, {status.st_mtime_ns} ns"
    return versions


def require_same_files(folder: Path, versions: dict[str, str]) -> None:
    """Raise if files of the data have changed since the start of the run in a folder.

    Paths are compared below the folder that all files share, which may differ. A remote file is compared if its version
    was known both times. A run without a record is not compared.

    Raises
    ------
    InputError
        If a file was changed, added or removed, or the record cannot be read; names a file.
    """
    try:
        before: dict[str, str] = json.loads((folder / FILES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        msg = f"Cannot resume the run in {str(folder)!r}: {FILES} there cannot be read ({error})."
        raise InputError(msg, remedy="Pass {out}, another folder.", argument="out") from error
    now = _below_shared_folder(versions)
    names = [name for name in {**before, **now} if not name.startswith(_REMOTE) or (name in before and name in now)]
    changed = [name for name in names if before.get(name) != now.get(name)]
    if not changed:
        return
    verb = "was added" if changed[0] not in before else "is missing" if changed[0] not in now else "was changed"
    more = f", and {len(changed) - 1} more differ" if len(changed) > 1 else ""
    msg = f"Cannot resume the run in {str(folder)!r}: {changed[0]!r} of its data {verb} since it was started{more}."
    remedy = "Restore the data with its modification times. Pass another folder to start again. Or remove "
    raise InputError(msg, remedy=f"{remedy}{FILES} there to resume with the present data.", value=changed[:4])


def write_files(folder: Path, versions: dict[str, str]) -> None:
    """Write the record of a run's files.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    write_text(folder / FILES, json.dumps(_below_shared_folder(versions), indent=0) + "\n")


def _below_shared_folder(versions: dict[str, str]) -> dict[str, str]:
    """Return versions by path below the folder that all files share."""
    files = {name for name in versions if not name.startswith((_ARRAY, _REMOTE))}
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in files]) if files else ""  # noqa: PTH100, PTH120
    return {os.path.relpath(n, shared) if n in files else n: version for n, version in versions.items()}


def _paths(source: Any) -> Iterator[str]:
    """Yield paths and addresses of the files that a source reads."""
    if isinstance(source, VectorSource):
        yield source.file.path
    if isinstance(source, Mosaic):
        for scene in source.scenes:
            for asset in chain(scene.assets, (quality.asset for quality in scene.quality)):
                if asset is not None:
                    yield asset.href


def _array_hash(values: Any) -> str:
    """Return a hash of an array in memory; of a large one, of evenly spaced rows."""
    array = np.asarray(values)
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    step = -(-array.size // _MAX_VALUES) or 1
    return hashlib.blake2b(np.ascontiguousarray(rows[::step]).tobytes(), digest_size=16).hexdigest()


def _evenly_spaced(values: Sequence[_T]) -> Iterator[_T]:
    count = min(len(values), _MAX_FILES)
    return (values[index * len(values) // count] for index in range(count))
