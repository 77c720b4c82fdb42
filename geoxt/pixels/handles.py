"""Open raster files, pooled per process and lent to one thread at a time: a GDAL dataset is not thread-safe.

Idle local files count against the file descriptors of the process (`descriptors`); those that were replaced are opened
again (`file_version`). Remote files are used in threads of `remote`, and failed reads of them are retried.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import rasterio
from rasterio.errors import RasterioError

from geoxt.errors import GeoxtError, ReadError
from geoxt.pixels import descriptors, remote
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.file_version import file_version, note_use, this_batch
from geoxt.pixels.gdal_cache import limit_gdal_cache
from geoxt.pixels.gdal_retry import GDAL_ERRORS, FileChangedError, note_status, retry_read, version_headers
from geoxt.pixels.idle_handles import IdleHandles
from geoxt.pixels.object_requests import is_object
from geoxt.pixels.range_check import check_ranges
from geoxt.pixels.raster_handle import Handle
from geoxt.pixels.remote_version import RemoteVersion, remote_version, renew_version

HANDLES = int(os.environ.get("GEOXT_HANDLES", "1024"))
"""Idle local files kept open by a process; fewer if they take more than half of its file descriptors."""
RETRIES = 3
"""Maximum number of retries while no file descriptor is free."""
_CHECK_PATH = "Check the path, or leave the file out."
T = TypeVar("T")


class _LocalHandles(IdleHandles[Handle]):
    """Idle local files of a process; the descriptors that they may take are counted when the first is opened."""

    def __init__(self) -> None:
        self._budget: int | None = None
        super().__init__(self._limit)

    def _limit(self) -> tuple[int, int]:
        if self._budget is None:
            self._budget = descriptors.budget()
        return HANDLES, self._budget


_idle = _LocalHandles()
_inherited: list[Any] = []


def _reset_after_fork() -> None:
    """Give a child process no handles: it would share file offsets with its parent.

    Inherited datasets stay referenced, since closing them could flush the parent's state.
    """
    global _idle  # noqa: PLW0603 (one per process)
    _inherited.append(_idle)
    _idle = _LocalHandles()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_reset_after_fork)


def close_local_handles() -> None:
    """Close the idle local files of the process."""
    _idle.clear()


def start_use(
    href: str,
    use: Callable[[Handle], T],
    *,
    action: Callable[[], str],
    level: int | None = None,
    credentials: Credentials | None = None,
    stored: Callable[[Handle], T | None] | None = None,
) -> Callable[[], T]:
    """Start to call a function with an open file; return a function that waits for its result.

    Several remote files are thus used concurrently. A local file is used when the returned function is called.

    Parameters
    ----------
    href
        Path or unsigned URL.
    use
        Function of the handle, which it must not keep.
    action
        Returns a description for messages: "open a.tif".
    level
        Overview to open; `None` for the full resolution.
    credentials
        URL signer and GDAL options to open the file with.
    stored
        Returns the result for an open remote file without GDAL or a request, or `None` if that is impossible.

    Raises
    ------
    ReadError
        If the file cannot be opened or read; remote and signed files are opened anew, with a new signature, and read
        again before. Raised by the returned function.
    ResourceError
        If the process has no file descriptors left.
    """
    options = {} if level is None else {"overview_level": level}
    if is_slow(href, credentials):
        return _start_remote(href, credentials or Credentials(), options, action, use, stored)
    borrow_and_use = partial(_borrow_and_use, href, credentials, options, use)
    return partial(_attempt, href, borrow_and_use, action, "Check that the file is complete.")


def is_slow(href: str, credentials: Credentials | None) -> bool:
    """Return whether a file is read in remote threads, with retries: it is remote, or its address is signed."""
    return (credentials is not None and credentials.sign is not None) or remote.is_remote(href)


def _attempt(href: str, call: Callable[[], T], action: Callable[[], str], remedy: str) -> T:
    """Return the result of a call that opens or reads a local file; repeated if file descriptors ran out."""
    for retries in range(RETRIES, -1, -1):
        try:
            return call()
        except (GeoxtError, Warning):
            raise
        except Exception as error:  # noqa: BLE001 (GDAL's errors have many classes, some of them no RasterioError)
            message = gdal_message(error)
            if not retries or not (descriptors.exhausted() or "Too many open files" in message):
                _idle.drop(href)
                raise ReadError(f"Cannot {action()}: {message}.", remedy=remedy) from safe_cause(error)
        descriptors.free(_idle.clear, action())
    raise AssertionError


def _borrow_and_use(
    href: str, credentials: Credentials | None, options: Mapping[str, Any], use: Callable[[Handle], T]
) -> T:
    """Use an open file in this thread, and return it to the pool afterwards; if that raises, it is closed."""
    env = () if credentials is None else credentials.env
    key = (href, env, *options.items()) if options else (href, env)
    handle = _idle.take(key)
    if handle is not None and not handle.is_current():
        handle.close()
        handle = None
        _idle.drop(href)  # the file was replaced after it was opened
    if handle is None:
        version = file_version(href)
        handle = Handle(_open(href, credentials, **options), href, options=options, version=version)
        if version is not None and (batch := this_batch()) is not None:
            batch.add(version)
    note_use(handle.version)
    try:
        result = use(handle)
    except BaseException:
        handle.close()
        raise
    _idle.keep(key, handle)
    return result


def open_unpooled(href: str, use: Callable[[rasterio.DatasetReader], T], credentials: Credentials | None = None) -> T:
    """Return the result of a function of a local file, which is opened for it and closed.

    Raises
    ------
    ReadError
        If the file cannot be opened.
    ResourceError
        If the process has no file descriptors left.
    """

    def open_and_use() -> T:
        with _open(href, credentials) as file:
            return use(file)

    return _attempt(href, open_and_use, lambda: f"open {redact_url(href)}", _CHECK_PATH)


def _open(href: str, credentials: Credentials | None = None, **options: Any) -> rasterio.DatasetReader:
    """Open a file; repeated if it took the last descriptors, as GDAL then cannot open its sidecars."""

    def open_once() -> rasterio.DatasetReader:
        if credentials is not None:
            return credentials.open(href, **options)
        limit_gdal_cache()
        return rasterio.open(href, **options)

    def action() -> str:
        return f"open {redact_url(href)}"

    file = _attempt(href, open_once, action, _CHECK_PATH)
    while descriptors.exhausted():
        file.close()
        descriptors.free(_idle.clear, action())
        file = _attempt(href, open_once, action, _CHECK_PATH)
    return file


def gdal_message(error: BaseException) -> str:
    """Return GDAL's message, which rasterio puts into the cause of some errors."""
    if "See previous exception" in str(error) and error.__cause__ is not None:
        return gdal_message(error.__cause__)
    text = redact_url(str(error)).rstrip(".")
    gdal = isinstance(error, RasterioError | OSError | ValueError) or type(error).__name__.startswith("CPLE_")
    return text if gdal and text else f"{type(error).__name__}: {text}".rstrip(": ")


def safe_cause(error: Exception) -> Exception | None:
    """Return the error as a cause for the traceback, unless its message holds a signed URL."""
    return error if redact_url(str(error)) == str(error) else None


def _start_remote(
    href: str,
    credentials: Credentials,
    options: Mapping[str, Any],
    action: Callable[[], str],
    use: Callable[[Handle], T],
    stored: Callable[[Handle], T | None] | None,
) -> Callable[[], T]:
    """Start to use a remote file in a remote thread; return a function that waits for the result, with retries."""
    credentials = credentials.with_env()
    local = None if remote.is_remote(href) else file_version(href)  # of a local file with a signer
    latest: list[RemoteVersion] = []  # of the last attempt
    needs_identity = credentials.cache is not None and (href.startswith(("http://", "https://")) or is_object(href))
    key = credentials.env, None if local is None else local.token, needs_identity, *options.items()
    if stored is not None and local is None:
        result = remote.use_idle(href, key, partial(_use_stored, href, stored))
        if result is not None:
            return lambda: result

    def make() -> Handle:
        address = credentials.address(href)
        with _clear_gdal_cache_on_error(credentials, address):
            if needs_identity and latest[0].identity is None:
                renew_version(href, latest[0], version_headers(href, credentials, latest[0].condition))
                latest[:] = [remote_version(href)]
                _clear_gdal_cache(credentials, address)  # may hold parts of a former version
            version = latest[0]
            file = credentials.open_at(address, condition=version.condition, **options)
            check = partial(check_ranges, file, address, credentials, version.condition)
            return Handle(
                file, address, href=href, options=options, version=local, remote_version=version, before_read=check
            )

    def use_once() -> T:
        latest[:] = [remote_version(href)]
        with note_status(), remote.borrow_handle(href, key, make) as handle:
            address = handle.file.name
            version = latest[0] = handle.remote_version or latest[0]
            with (
                _clear_gdal_cache_on_error(credentials, address),
                credentials.gdal_env(address, condition=version.condition),
            ):  # GDAL reads some settings at each request
                result = use(handle)
                if remote_version(href) is not version:  # another thread put parts of the new file into GDAL's cache
                    raise FileChangedError
                return result

    first = [remote.submit(use_once)]

    def attempt() -> T:
        return (first.pop() if first else remote.submit(use_once)).result()

    def reset(headers: Mapping[str, str] | None) -> None:
        if headers is not None:
            renew_version(href, latest[0], headers)
        remote.close_handles(href)
        if descriptors.exhausted():
            descriptors.free(_idle.clear, action())

    def condition() -> str:
        return latest[0].condition if latest else ""

    return lambda: retry_read(attempt, reset, href, credentials, f"Cannot {action()}", condition)


def _use_stored(href: str, stored: Callable[[Handle], T | None], handle: Handle) -> T | None:
    """Return the result for a handle of the file's present version; `None` if that needs a request."""
    if handle.remote_version is not remote_version(href):
        return None
    with suppress(OSError):  # of the block cache: the file itself is read
        return stored(handle)
    return None


@contextmanager
def _clear_gdal_cache_on_error(credentials: Credentials, address: str) -> Iterator[None]:
    """After an error, clear GDAL's cache of a file: /vsicurl/ remembers a missing file or a truncated response."""
    try:
        yield
    except GDAL_ERRORS:
        _clear_gdal_cache(credentials, address)
        raise


def _clear_gdal_cache(credentials: Credentials, address: str) -> None:
    if remote.is_remote(address):
        with suppress(*GDAL_ERRORS):
            credentials.open_at(address, cached=False).close()
