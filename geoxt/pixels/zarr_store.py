"""Zarr stores: opened from paths, URLs and store objects, and the versions of their arrays."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from geoxt.errors import InputError, ReadError, optional_import
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.remote import is_remote
from geoxt.types import SomePath

MAX_FILES = 100_000
"""Chunk files of a local array whose times are part of its version."""
METADATA = ("zarr.json", ".zarray")
"""Names of an array's metadata, of Zarr versions 3 and 2."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreAddress:
    """Address of a store, which is opened in each process."""

    store: Any
    """Path or URL, or a Store of zarr."""
    options: Mapping[str, Any] | None = None
    """Options of fsspec for a URL."""

    def __repr__(self) -> str:
        """Return the address without options, which may hold secrets."""
        return self.name

    @property
    def name(self) -> str:
        """Unsigned address, for messages and tokens."""
        return redact_url(self.store) if isinstance(self.store, str) else str(self.store)

    @property
    def folder(self) -> str | None:
        """Folder of a local store, or `None`."""
        if isinstance(self.store, str):
            local = not is_remote(self.store) and "://" not in self.store and os.path.isdir(self.store)  # noqa: PTH112
            return self.store if local else None
        root = getattr(self.store, "root", None)
        return str(root) if type(self.store).__name__ == "LocalStore" and root is not None else None

    @property
    def remote(self) -> bool:
        """Whether chunks are read over a network."""
        return is_remote(self.store) if isinstance(self.store, str) else type(self.store).__name__ in _REMOTE

    def open(self) -> Any:
        """Return the store, read-only.

        Raises
        ------
        MissingDependency
            If zarr, or fsspec for a URL, is not installed.
        """
        with optional_import("zarr", "zarr", "open a Zarr store"):
            from zarr.storage import LocalStore, ZipStore
        if not isinstance(self.store, str):
            return self.store
        if "://" in self.store:
            return _open_url(self.store, self.options)
        return ZipStore(self.store, mode="r") if self.store.endswith(".zip") else LocalStore(self.store, read_only=True)


_REMOTE = {"FsspecStore", "ObjectStore"}


def store_address(store: Any, options: Mapping[str, Any] | None = None) -> StoreAddress:
    """Return the address of a store.

    Raises
    ------
    InputError
        If it is no path, URL or Store of zarr.
    ReadError
        If a local path does not exist.
    """
    if isinstance(store, (str, os.PathLike)):
        return StoreAddress(store=_existing(store), options=options)
    with optional_import("zarr", "zarr", "open a Zarr store"):
        from zarr.abc.store import Store
    if not isinstance(store, Store):
        problem = f"Cannot open a Zarr store from a {type(store).__name__}."
        raise InputError(problem, remedy="Pass a path, a URL or a Store of zarr.", argument="store")
    return StoreAddress(store=store)


def split_address(store: Any) -> tuple[Any, str]:
    """Return the address of a store and the path of a group or an array in it.

    Of a URL, the store ends with the first part that ends with ".zarr"; of a local path, it is the topmost folder with
    metadata of Zarr. EOPF's STAC items have addresses of arrays.
    """
    if not isinstance(store, (str, os.PathLike)):
        return store, ""
    text = os.fspath(store).rstrip("/")
    if "://" in text and not text.startswith("file://"):
        bare, _, query = text.partition("?")
        root, ending, path = bare.partition(".zarr/")
        return (f"{root}.zarr{f'?{query}' if query else ''}", path) if ending else (text, "")
    text = text.removeprefix("file://")
    root, inner = text, []
    while _is_node(parent := os.path.dirname(root)):  # noqa: PTH120 (as everywhere in this module)
        inner.append(os.path.basename(root))  # noqa: PTH119
        root = parent
    return root, "/".join(reversed(inner))


def is_store(path: str) -> bool:
    """Return whether a path or URL is a Zarr store, or a group or an array in one."""
    return ".zarr" in path.partition("?")[0] or _is_node(path) or os.path.isfile(os.path.join(path, ".zarray"))  # noqa: PTH113, PTH118


def _is_node(folder: str) -> bool:
    """Return whether a folder is a group of a Zarr store."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in ("zarr.json", ".zgroup", ".zmetadata"))  # noqa: PTH113, PTH118


def _existing(store: SomePath) -> str:
    text = os.fspath(store)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text and not os.path.exists(text):  # noqa: PTH110 (a URL has no Path)
        raise ReadError(f"Cannot open {text!r}: there is no such Zarr store.", remedy="Check the path.")
    return text


def _open_url(url: str, options: Mapping[str, Any] | None) -> Any:
    """Return the store at a URL: by obstore if it is installed and no options of fsspec are given, else by fsspec."""
    if options is None and not url.startswith("memory://"):
        with suppress(ImportError):
            import obstore.store
            from zarr.storage import ObjectStore

            clients: Any = {"client_options": {"allow_http": True}} if url.startswith("http://") else {}
            return ObjectStore(obstore.store.from_url(url, **clients), read_only=True)
    with optional_import("fsspec", "zarr", "open a Zarr store at a URL"):
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(url, storage_options=dict(options or {}), read_only=True)


def metadata_hash(metadata: Any) -> str:
    """Return a hash of all metadata of an array that its pixels depend on."""
    content = {k: v for k, v in metadata.to_dict().items() if k not in {"attributes", "consolidated_metadata"}}
    return hashlib.blake2b(json.dumps(content, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()


def array_version(address: StoreAddress, path: str) -> str:
    """Return a hash of sizes and times of the files of a local array; empty for any other store."""
    if address.folder is None:
        return ""
    digest, number = hashlib.blake2b(digest_size=16), 0
    pending = [os.path.join(address.folder, path)]  # noqa: PTH118 (many times, without making paths)
    while pending and number < MAX_FILES:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir():
                    pending.append(entry.path)
                    continue
                status = entry.stat()
                digest.update(repr((entry.path, status.st_size, status.st_mtime_ns, status.st_ino)).encode())
                number += 1
    return digest.hexdigest()


def store_version(address: StoreAddress) -> str:
    """Return the identity of the metadata file of a remote store, or of a zip file; empty for any other store.

    Chunks that are replaced in a remote store, under unchanged metadata, are not recognized.
    """
    return _file_identity(address) if isinstance(address.store, str) and address.folder is None else ""


def _file_identity(address: StoreAddress) -> str:
    """Return the ETag, or time and size, of the metadata file of a remote store; of a zip file, of that file."""
    if "://" not in address.store:
        status = os.stat(address.store)  # noqa: PTH116
        return repr((status.st_size, status.st_mtime_ns, status.st_ino))
    from zarr.core.sync import sync

    store = address.open()
    for name in ("zarr.json", ".zmetadata", ".zgroup"):
        try:
            if type(store).__name__ == "ObjectStore":
                entry = store.store.head(name)
                return repr((entry.get("e_tag"), entry.get("last_modified"), entry.get("size")))
            info = sync(store.fs._info(f"{store.path}/{name}"))  # noqa: SLF001 (zarr itself calls these)
            keys = ("ETag", "etag", "mtime", "Last-Modified", "LastModified", "last_modified", "size")
            return repr([info.get(key) for key in keys])
        except Exception:  # noqa: BLE001, S112 (of many libraries: without the file, the next name is tried)
            continue
    return ""


__all__ = [
    "METADATA",
    "StoreAddress",
    "array_version",
    "is_store",
    "metadata_hash",
    "split_address",
    "store_address",
    "store_version",
]
