"""Versions of the objects of a remote Zarr store: those of all responses, and by conditional requests.

An object has one version per process from its first response on. A response of another version raises, so that no
chunk is decoded from parts of two versions of a shard.
"""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any

from geoxt.errors import GeoxtWarning
from geoxt.pixels.remote_version import MARGIN
from geoxt.pixels.zarr_store import StoreAddress

ABSENT = "absent"
"""Version of an object that does not exist: its chunks have the fill value."""
_MISSING = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_warned: set[str] = set()


class ObjectChanged(Exception):  # noqa: N818 (caught where the object is read again)
    """An object was replaced between two requests."""


class ObjectVersions:
    """Versions of the objects of a store, recorded as zarr reads them.

    Parameters
    ----------
    store
        ObjectStore of zarr. Its `get` is replaced.
    name
        Unsigned address, for a warning.
    query
        Whether the address has a query, which may lead to another store: versions are then ETags only.
    """

    def __init__(self, store: Any, name: str, *, query: bool) -> None:
        self._objects, self._name, self._query = store.store, name, query
        self._versions: dict[str, str] = {}
        self._recent: set[str] = set()  # objects that may be replaced without a new version
        self._bodies: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        store.get = self._get

    def version(self, key: str) -> str | None:
        """Return the version of an object in this process; `None` before its first response.

        It is a strong ETag, else modification time and size; empty if the server states neither.
        """
        return self._versions.get(key)

    def lasting(self, key: str) -> bool:
        """Return whether the version of an object identifies its bytes; warn, once per store, if it has none."""
        version = self._versions.get(key)
        if version == "":
            _warn_uncached(
                self._name, f"the server sent neither an ETag, nor a modification time and size, for {key!r}"
            )
        return bool(version) and key not in self._recent

    def forget(self, key: str) -> None:
        """Drop the version of an object that was replaced."""
        self._versions.pop(key, None)
        self._bodies.pop(key, None)

    def check(self, key: str, version: str, *, keep_bytes: bool) -> str:
        """Return the present version of an object, by one conditional request per process.

        Parameters
        ----------
        key
            Path in the store.
        version
            Version of a cached copy.
        keep_bytes
            Whether to keep the bytes of a changed object for the next read.
        """
        import obstore as obs

        with self._locks.setdefault(key, threading.Lock()):
            if (known := self._versions.get(key)) is not None:
                return known
            try:
                if version != ABSENT and not version.startswith('"'):
                    return self._record(key, obs.head(self._objects, key))
                condition: Any = {} if version == ABSENT else {"if_none_match": version}
                options: Any = condition if keep_bytes else {**condition, "range": (0, 1)}
                result = obs.get(self._objects, key, options=options)
                if keep_bytes and self._version_of(result.meta) != version:
                    self._bodies[key] = result.bytes()
                return self._record(key, result.meta)
            except obs.exceptions.NotModifiedError:
                return self._versions.setdefault(key, version)
            except _MISSING:
                return self._versions.setdefault(key, ABSENT)

    async def _get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return the bytes of an object, or `None`, as `zarr.storage.ObjectStore.get`."""
        import obstore as obs

        if self._versions.get(key) == ABSENT:
            return None
        if byte_range is None and (body := self._bodies.pop(key, None)) is not None:
            return prototype.buffer.from_bytes(body)
        try:
            try:
                result = await obs.get_async(self._objects, key, options=_options(byte_range))
            except obs.exceptions.NotSupportedError:  # Azure has no ranges from the end
                size = (await obs.head_async(self._objects, key))["size"]
                end: Any = {"range": (size - byte_range.suffix, size)}
                result = await obs.get_async(self._objects, key, options=end)
        except _MISSING:
            if self._versions.setdefault(key, ABSENT) != ABSENT:
                raise ObjectChanged(key) from None
            return None
        self._record(key, result.meta)
        return prototype.buffer.from_bytes(await result.bytes_async())

    def _record(self, key: str, meta: Any) -> str:
        """Return the version in a response; raise if it is not that of the former ones."""
        version = self._version_of(meta)
        if version and not self._objects_are_hashed() and meta["last_modified"].timestamp() > time.time() - MARGIN:
            self._recent.add(key)
        if self._versions.setdefault(key, version) != version:
            raise ObjectChanged(key)
        return version

    def _version_of(self, meta: Any) -> str:
        etag, modified = meta["e_tag"] or "", meta["last_modified"].timestamp()
        if etag.startswith('"'):
            return str(etag)
        return f"{etag} {modified} {meta['size']}" if modified > 0 and not self._query else ""

    def _objects_are_hashed(self) -> bool:
        """Return whether ETags change with each write: those of file servers are times, mostly in whole seconds."""
        return type(self._objects).__name__ != "HTTPStore"


def object_versions(store: Any, address: StoreAddress) -> ObjectVersions | None:
    """Return the versions of the objects of an open store with a block cache; `None`, with a note, if it has none."""
    if address.block_cache is None:
        return None
    if type(store).__name__ != "ObjectStore":
        _warn_uncached(address.name, "only stores that obstore opens, without storage_options=, state versions")
        return None
    return ObjectVersions(store, address.name, query="?" in address.store)


def _warn_uncached(store: str, reason: str) -> None:
    """Warn, once per process and store, that its chunks are not cached."""
    if store not in _warned:
        _warned.add(store)
        msg = f"Chunks of {store} are read without the block cache: {reason}. Copy the store to a local disk instead."
        warnings.warn(msg, GeoxtWarning, stacklevel=2)


def _options(byte_range: Any) -> Any:
    """Return obstore's options for a byte range of zarr."""
    if byte_range is None:
        return {}
    if hasattr(byte_range, "start"):
        return {"range": (byte_range.start, byte_range.end)}
    name = "offset" if hasattr(byte_range, "offset") else "suffix"
    return {"range": {name: getattr(byte_range, name)}}
