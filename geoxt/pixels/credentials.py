"""Credentials of files: addresses are signed, and GDAL options set, at the moment of opening.

Signed URLs expire, so that a layer must not store them; nor may it carry secrets to workers in its graph.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import rasterio
from rasterio.env import getenv, hasenv, setenv
from rasterio.errors import NotGeoreferencedWarning

from geoxt.errors import InputError, ReadError
from geoxt.pixels.block_cache import BlockCache, SomeCache, parse_block_cache
from geoxt.pixels.gdal_cache import OPTION, limit_gdal_cache
from geoxt.pixels.remote import CACHE_BYPASS, SETTINGS, is_remote
from geoxt.pixels.remote_version import add_header

Sign = Callable[[str], str]
"""Turns an address from a catalog into a signed URL, which is valid for a limited time."""
SECRET = re.compile("SECRET|TOKEN|PASSWORD|ACCESS_KEY|USERPWD|SAS|AUTH|COOKIE|HEADER|CONNECTION_STRING", re.IGNORECASE)
"""GDAL options not copied from the environment into layers, because they hold secrets."""
_warning_filters = threading.Lock()
"""Held while the warning filters of the process are changed."""


def _unlock() -> None:
    """Replace the lock in a forked process, since the parent may hold it during the fork."""
    global _warning_filters  # noqa: PLW0603
    _warning_filters = threading.Lock()


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_unlock)

_QUERY = re.compile(r"\?[^\s'\"?=]+=[^\s'\"]*")
_URL_QUERY = re.compile(r"((?:\w://|/vsi)[^\s'\"?]+)\?[^\s'\"]+")
"""Query of a URL, which may be a token without a name."""
_LINKING_NAME = re.compile(
    r"\.(?:vrt|xml|json|gti)\b|<VRTDataset|^(?:vrt|WMS|WCS|WMTS|GTI|STACTA|STACIT):", re.IGNORECASE
)
"""Addresses that state by their names that the file links to others."""
_LINKING_DRIVERS = frozenset({"VRT", "WMS", "WCS", "WMTS", "GTI", "STACTA", "STACIT", "DERIVED", "HTTP"})
"""GDAL drivers whose files can link to local files: not allowed for remote files with other extensions.

See "Security issues" of https://gdal.org/en/stable/drivers/raster/vrt.html."""
_USER = re.compile(r"(\w://)[^\s/]+@")


def _require_pixels(file: rasterio.DatasetReader, address: str) -> None:
    """Raise if a remote file links to others, and its name does not state so; the file is then closed."""
    if file.driver in _LINKING_DRIVERS and is_remote(address) and not _LINKING_NAME.search(address):
        file.close()
        problem = f"Cannot open {redact_url(address)}: it is a {file.driver} file, whose sources may be local files."
        raise ReadError(problem, remedy="Pass a file of pixels. Or name it .vrt if you trust it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """URL signer and GDAL options to open files with; pickled with the layer, with a repr that hides the values."""

    sign: Sign | None = None
    """Called with the address whenever a file is opened; must pickle to be used in worker processes."""
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """GDAL configuration options, (name, value) pairs."""
    georeferenced: bool = True
    """Whether rasterio may warn about files without a geotransform."""
    cache: BlockCache | None = None
    """Cache of decoded blocks."""

    def open(self, href: str, **options: Any) -> rasterio.DatasetReader:
        """Open a file by its signed address, with the GDAL options set."""
        return self.open_at(self.address(href), **options)

    def open_at(
        self, address: str, *, cached: bool = True, condition: str = "", **options: Any
    ) -> rasterio.DatasetReader:
        """Open a file by an address that is signed already."""
        limit_gdal_cache(dict(self.env).get(OPTION))
        if address.startswith("az://"):  # rasterio 1.4 replaces an account without a key by the one named "None"
            address = f"/vsiaz/{address.removeprefix('az://')}"
        with self.gdal_env(address, cached=cached, condition=condition):
            if self.georeferenced:
                file = rasterio.open(address, **options)
            else:
                with _warning_filters, warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
                    file = rasterio.open(address, **options)
            _require_pixels(file, address)
            return file

    @contextmanager
    def gdal_env(self, address: str = "", *, cached: bool = True, condition: str = "") -> Iterator[None]:
        """Set the GDAL options for opening or reading a file.

        For remote files, `remote.SETTINGS` fill in options that neither these credentials, an enclosing `rasterio.Env`
        nor the environment set; GDAL's own retries are off (see `gdal_retry`). With `cached=False`, GDAL makes no
        request, and clears its cache of the file once it is closed or could not be opened. `condition` is an HTTP
        header of all requests; see `remote_version`.
        """
        settings = dict(self.env)
        settings.pop(OPTION, None)  # an option of the process, and an integer in rasterio: see `limit_gdal_cache`
        if is_remote(address):
            settings = {k: v for k, v in SETTINGS.items() if self.setting(k) is None} | settings
            settings["GDAL_HTTP_MAX_RETRY"] = "0"
            if condition:
                settings["GDAL_HTTP_HEADERS"] = add_header(self.setting("GDAL_HTTP_HEADERS"), condition)
            if not cached:
                settings |= CACHE_BYPASS
        if not settings or (hasenv() and settings.items() <= getenv().items()):  # entering an Env takes 0.1 ms
            yield
            return
        with rasterio.Env():
            setenv(**settings)  # rasterio.Env(AWS_…=) raises: it requires a session
            yield

    def with_env(self) -> Credentials:
        """Return these credentials plus the options of this thread's `rasterio.Env`, for another thread."""
        enclosing = {str(k).upper(): _text(v) for k, v in getenv().items()} if hasenv() else {}
        return replace(self, env=tuple(sorted((enclosing | dict(self.env)).items()))) if enclosing else self

    def setting(self, name: str) -> str | None:
        """Return the value of a GDAL option set here, in an enclosing `rasterio.Env`, or in the environment."""
        chosen = dict(self.env).get(name)
        if chosen is None and hasenv():
            enclosing = getenv().get(name)
            chosen = None if enclosing is None else _text(enclosing)
        return os.environ.get(name) if chosen is None else chosen

    def address(self, href: str) -> str:
        """Return the signed address, or the address itself without a signer.

        Raises
        ------
        ReadError
            If the signer raises, or does not return a URL.
        """
        if self.sign is None:
            return href
        try:
            signed = self.sign(href)
        except Exception as error:  # noqa: BLE001 (signers are the user's)
            problem = f"Cannot sign {redact_url(href)}: {type(error).__name__}: {redact_url(str(error))}."
            raise ReadError(problem, remedy="Pass another {sign}.", argument="sign") from None  # hides secrets
        if not isinstance(signed, str):
            problem = f"Cannot sign {redact_url(href)}: the function returned {type(signed).__name__}."
            raise ReadError(problem, remedy="Pass {sign}, a function that returns the signed URL.", argument="sign")
        return signed


DATA_FOLDERS = ("GDAL_DATA", "PROJ_DATA", "PROJ_LIB")
"""Options that rasterio sets to folders of this installation, which another machine lacks."""


def make_credentials(
    sign: Sign | None, env: Mapping[str, object] | None, cache: SomeCache = None
) -> Credentials | None:
    """Return the credentials for a signer and GDAL options, with those of an enclosing `rasterio.Env` as defaults.

    Secrets of the enclosing `rasterio.Env` are left out: pass them in `env`, or set them in the workers' environment.
    `None` if there is neither a signer nor an option nor a block cache.

    Raises
    ------
    InputError
        If the signer is not a function.
    """
    if sign is not None and not callable(sign):
        problem = f"Cannot sign URLs by a {type(sign).__name__}: it is not a function."  # a text may be a secret
        remedy = "Pass {sign}, a function from a URL to the signed URL, such as planetary_computer.sign."
        raise InputError(problem, remedy=remedy, argument="sign")
    enclosing = {k: v for k, v in (getenv() if hasenv() else {}).items() if not SECRET.search(str(k))}
    for name in DATA_FOLDERS:
        enclosing.pop(name, None)
    chosen = {str(k).upper(): _text(v) for k, v in {**enclosing, **(env or {})}.items()}
    block_cache = parse_block_cache(cache)
    if sign is None and not chosen and block_cache is None:
        return None
    return Credentials(sign=sign, env=tuple(sorted(chosen.items())), cache=block_cache)


def redact_url(text: str) -> str:
    """Return a text whose URLs lack query strings, user names and passwords, which may be secret."""
    return _USER.sub(r"\1", _URL_QUERY.sub(r"\1?…", _QUERY.sub("?…", text)))


def _redact_record(record: logging.LogRecord) -> bool:
    """Redact rasterio's log: GDAL's messages and the names of datasets hold signed URLs."""
    record.msg, record.args = redact_url(record.getMessage()), ()
    return True


_LOGGERS = (
    "_base", "_env", "_err", "_features", "_filepath", "_io", "_path", "_transform", "_vsiopener", "_warp", "crs",
    "env", "features", "io", "mask", "merge", "plot", "session", "shutil", "stack", "vrt", "warp",
)  # fmt: skip
for _name in ("rasterio", *(f"rasterio.{module}" for module in _LOGGERS)):
    logging.getLogger(_name).addFilter(_redact_record)  # a filter does not see the records of child loggers


def _text(value: object) -> str:
    return {True: "YES", False: "NO"}[value] if isinstance(value, bool) else str(value)
