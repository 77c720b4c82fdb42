"""How a file is got at: its address signed, and GDAL's settings in place, at the moment when it is opened."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import rasterio
from rasterio.env import getenv, hasenv, setenv

from geoxt.errors import ReadError
from geoxt.pixels.remote import CACHE_BYPASS, SETTINGS, is_remote

Sign = Callable[[str], str]
"""Turns an address as catalogs have it into one that can be opened for a while."""
SECRET = re.compile("SECRET|TOKEN|PASSWORD|ACCESS_KEY|USERPWD|SAS|AUTH|COOKIE|HEADER|CONNECTION_STRING", re.IGNORECASE)
"""Settings that are not captured from the surroundings: each process has its own."""
_QUERY = re.compile(r"\?[^\s'\"?=]+=[^\s'\"]*")
_USER = re.compile(r"(\w://)[^\s/@]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What opening files takes; it travels to workers with the layer, and its repr tells no value."""

    sign: Sign | None = None
    """Called with the address each time that a file is opened; for worker processes it has to pickle."""
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """GDAL's configuration options by name."""

    def open(self, href: str, **options: Any) -> rasterio.DatasetReader:
        """Open a file, under its settings and by its signed address."""
        return self.open_at(self.address(href), **options)

    def open_at(self, address: str, *, cached: bool = True, **options: Any) -> rasterio.DatasetReader:
        """Open a file by the address that GDAL is given."""
        with self.around(address, cached=cached):
            return rasterio.open(address, **options)

    @contextmanager
    def around(self, address: str, *, cached: bool = True) -> Iterator[None]:
        """Have the settings in place, to open or to read a file.

        A remote file gets those of `remote.SETTINGS` where neither these, nor an enclosing `rasterio.Env`, nor the
        environment say otherwise; GDAL's own retries are off (`gdal_retry` has its own). Without `cached`, GDAL asks
        nobody, and forgets all that it knows of a remote file when it is closed, or could not be opened.
        """
        settings = dict(self.env)
        if is_remote(address):
            settings = {k: v for k, v in SETTINGS.items() if self.setting(k) is None} | settings
            settings["GDAL_HTTP_MAX_RETRY"] = "0"
            if not cached:
                settings |= CACHE_BYPASS
        if not settings:
            yield
            return
        with rasterio.Env():
            setenv(**settings)  # rasterio.Env itself refuses AWS's keys
            yield

    def settled(self) -> Credentials:
        """Return the same with the settings of an enclosing `rasterio.Env` of this thread, for another thread."""
        around = {str(k).upper(): _text(v) for k, v in getenv().items()} if hasenv() else {}
        return replace(self, env=tuple(sorted((around | dict(self.env)).items()))) if around else self

    def setting(self, name: str) -> str | None:
        """Return what the caller chose for one of GDAL's options: here, in an enclosing Env, or in the environment."""
        chosen = dict(self.env).get(name)
        if chosen is None and hasenv():
            around = getenv().get(name)
            chosen = None if around is None else _text(around)
        return os.environ.get(name) if chosen is None else chosen

    def address(self, href: str) -> str:
        """Return the address to open.

        Raises
        ------
        ReadError
            Where it cannot be signed.
        """
        if self.sign is None:
            return href
        try:
            return self.sign(href)
        except Exception as error:  # noqa: BLE001 (whatever a signer raises)
            msg = (
                f"Cannot sign {redact_url(href)}: {type(error).__name__}: {redact_url(str(error))}. Pass another sign=."
            )
            raise ReadError(msg) from None  # its traceback could show what it signs with


def make_credentials(sign: Sign | None, env: Mapping[str, object] | None) -> Credentials | None:
    """Return how files are opened, with the settings of an enclosing `rasterio.Env` below those given.

    Secrets of the enclosing environment are left out: pass them in `env`, or set them in the workers' environment.
    `None` where nothing is special.
    """
    around = {k: v for k, v in (getenv() if hasenv() else {}).items() if not SECRET.search(str(k))}
    chosen = {str(k).upper(): _text(v) for k, v in {**around, **(env or {})}.items()}
    return Credentials(sign=sign, env=tuple(sorted(chosen.items()))) if sign is not None or chosen else None


def redact_url(text: str) -> str:
    """Return a text without what addresses in it may hide: query strings, user names and passwords."""
    return _USER.sub(r"\1", _QUERY.sub("?…", text))


def _plainly(record: logging.LogRecord) -> bool:
    """Leave nothing secret in what rasterio logs of GDAL's warnings, which name addresses as they were signed."""
    record.msg, record.args = redact_url(record.getMessage()), ()
    return True


logging.getLogger("rasterio._env").addFilter(_plainly)


def _text(value: object) -> str:
    return {True: "YES", False: "NO"}[value] if isinstance(value, bool) else str(value)
