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
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.credentials import SECRET, Credentials, redact_url
from geoxt.pixels.object_requests import TRUE
from geoxt.pixels.remote import is_remote
from geoxt.types import SomePath

MAX_FILES = 100_000
"""Maximum number of chunk files of a local array whose times are part of its version."""
METADATA = ("zarr.json", ".zarray")
"""Names of an array's metadata, of Zarr versions 3 and 2."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreAddress:
    """Address of a store, which is opened in each process."""

    store: Any
    """Path or URL, or a Store of zarr."""
    options: Mapping[str, Any] | None = None
    """Options of fsspec for a URL."""
    credentials: Credentials | None = None
    """URL signer, and GDAL options that obstore uses."""

    def __repr__(self) -> str:
        """Return the identity of the store, without options and signatures, which may hold secrets."""
        return self.identity

    @property
    def identity(self) -> str:
        """Unsigned address, with a hash of the query and of options: an endpoint among them leads to another store."""
        query = self.store.partition("?")[2] if isinstance(self.store, str) else ""
        env = [] if self.credentials is None else [(k, v) for k, v in self.credentials.env if not SECRET.search(k)]
        if not (query or self.options or env):
            return self.name
        content = json.dumps([query, self.options, env], sort_keys=True, default=lambda value: type(value).__name__)
        return f"{self.name}#{hashlib.blake2b(content.encode(), digest_size=8).hexdigest()}"

    @property
    def signed(self) -> bool:
        """Whether its URL is signed when it is opened."""
        return isinstance(self.store, str) and self.credentials is not None and self.credentials.sign is not None

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

    @property
    def block_cache(self) -> BlockCache | None:
        """Cache of decoded chunks of a remote store, or `None`."""
        remote = isinstance(self.store, str) and is_remote(self.store)
        return self.credentials.cache if remote and self.credentials is not None else None

    def cache_key(self) -> list[str | None]:
        """Return the address without its query, which may be a signature, and the options that name another server."""
        credentials = self.credentials or Credentials()
        servers = ("AWS_S3_ENDPOINT", "AZURE_STORAGE_ACCOUNT")
        return [redact_url(str(self.store).partition("?")[0]), *(credentials.setting(name) for name in servers)]

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
        address = self.store if self.credentials is None else self.credentials.address(self.store)
        if "://" in address:
            return _open_url(address, self.options, self.credentials or Credentials())
        return ZipStore(address, mode="r") if address.endswith(".zip") else LocalStore(address, read_only=True)


_REMOTE = {"FsspecStore", "ObjectStore"}


def store_address(
    store: Any, options: Mapping[str, Any] | None = None, credentials: Credentials | None = None
) -> StoreAddress:
    """Return the address of a store.

    Raises
    ------
    InputError
        If it is not a path, URL or Store of zarr.
    ReadError
        If a local path does not exist.
    """
    if isinstance(store, (str, os.PathLike)):
        return StoreAddress(store=_existing(store), options=options, credentials=credentials)
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


def _open_url(url: str, options: Mapping[str, Any] | None, credentials: Credentials) -> Any:
    """Return the store at a URL: by obstore if it is installed and no options of fsspec are given, else by fsspec."""
    if options is None and not url.startswith("memory://"):
        with suppress(ImportError):
            import obstore.store
            from zarr.storage import ObjectStore

            # HTTPStore sends the query of its URL, such as a signature, with each request; stores of clouds do not.
            signed = "?" in url and url.startswith("http")
            from_url: Any = obstore.store.HTTPStore.from_url if signed else obstore.store.from_url
            return ObjectStore(from_url(url, **_configuration(url, credentials)), read_only=True)
    with optional_import("fsspec", "zarr", "open a Zarr store at a URL"):
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(url, storage_options=dict(options or {}), read_only=True)


_CONFIGURATION = {
    "s3": {
        "AWS_ACCESS_KEY_ID": "access_key_id", "AWS_SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_SESSION_TOKEN": "session_token", "AWS_REGION": "region", "AWS_NO_SIGN_REQUEST": "skip_signature",
    },
    "gs": {"GS_NO_SIGN_REQUEST": "skip_signature"},
    "az": {
        "AZURE_STORAGE_ACCOUNT": "account_name", "AZURE_STORAGE_ACCESS_KEY": "account_key",
        "AZURE_STORAGE_SAS_TOKEN": "sas_key", "AZURE_NO_SIGN_REQUEST": "skip_signature",
    },
}  # fmt: skip
"""obstore's names of GDAL's options, by the scheme of the URL."""


def _configuration(url: str, credentials: Credentials) -> dict[str, Any]:
    """Return obstore's options for GDAL's: those of the credentials, an enclosing `rasterio.Env` or the environment."""
    scheme = url.partition("://")[0]
    if scheme == "http":
        return {"client_options": {"allow_http": True}}
    names = _CONFIGURATION.get({"s3a": "s3", "abfs": "az", "abfss": "az"}.get(scheme, scheme), {})
    options: dict[str, Any] = {
        name: value for option, name in names.items() if (value := credentials.setting(option)) is not None
    }
    if "skip_signature" in options:
        options["skip_signature"] = options["skip_signature"].upper() in TRUE
    if "access_key_id" in names.values():
        payer, endpoint = credentials.setting("AWS_REQUEST_PAYER"), credentials.setting("AWS_S3_ENDPOINT")
        if payer:
            options["request_payer"] = True
        if endpoint:
            secure = (credentials.setting("AWS_HTTPS") or "YES").upper() in TRUE
            endpoint = endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"
            options |= {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
    return options


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
