"""Windowed reads from raster files, through rasterio handles that are kept open.

Handles of local files are kept for each thread, those of remote files for a process. What is remote is tried again.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from geoxt.errors import CRSError, ReadError
from geoxt.grid import parse_crs
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.gdal_retry import retry_read
from geoxt.pixels.raw_tiff import open_raw
from geoxt.types import Array, SomeCRS
from geoxt.windows import Window

HANDLES = int(os.environ.get("GEOXT_HANDLES", "128"))
"""Files kept open by one thread."""


T = TypeVar("T")
SLACK = 0.1
"""How much coarser than wanted an overview may be, in pixels of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header of a raster file says; reading it touches no pixel."""

    href: str
    """Path or URL of the file."""
    grid: GeoBox
    """Grid of the full-resolution pixels."""
    dtypes: tuple[str, ...]
    """Data type of each band."""
    nodata: tuple[float | None, ...]
    """Value that marks missing pixels, per band."""
    masked: tuple[bool, ...]
    """Whether an internal mask or an alpha band says which pixels are valid, per band."""
    alpha: tuple[bool, ...]
    """Whether the band is itself an alpha band."""
    scales: tuple[float, ...]
    """Factor from stored to physical values, per band."""
    offsets: tuple[float, ...]
    """Added after the factor, per band."""
    names: tuple[str | None, ...]
    """Band descriptions."""
    colors: dict[int, tuple[int, int, int, int]] | None
    """Colour table of the first band: code to red, green, blue, alpha."""
    tags: dict[str, str]
    """Metadata of the file and of its first band."""


class _Handle:
    """An open file: through GDAL, and past it where nothing needs decoding."""

    __slots__ = ("file", "raw")

    def __init__(self, file: rasterio.DatasetReader, address: str, *, full: bool) -> None:
        self.file = file
        self.raw = open_raw(file, address) if full else None


class _Handles(threading.local):
    """Open files of one thread by their unsigned address, least recently used first; empty again after a fork."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[Any, _Handle] = OrderedDict()

    def get(self, href: str, credentials: Credentials | None = None, **options: Any) -> _Handle:
        if self.pid != os.getpid():
            _inherited.append(self.open)
            self.pid, self.open = os.getpid(), OrderedDict()
        key = (href, *options.items()) if options else href
        found = self.open.get(key)
        if found is not None:
            self.open.move_to_end(key)
            return found
        found = self.open[key] = _Handle(_open(href, credentials, **options), href, full=not options)
        if len(self.open) > HANDLES:
            self.open.popitem(last=False)[1].file.close()
        return found

    def drop(self, href: str) -> None:
        for key in [k for k in self.open if k == href or (isinstance(k, tuple) and k[0] == href)]:
            self.open.pop(key).file.close()


_inherited: list[Any] = []
_handles = _Handles()


def _open(href: str, credentials: Credentials | None = None, **options: Any) -> rasterio.DatasetReader:
    try:
        return rasterio.open(href, **options) if credentials is None else credentials.open(href, **options)
    except ReadError:
        raise
    except (RasterioError, OSError) as error:
        msg = f"Cannot open {redact_url(href)}: {redact_url(str(error))}. Check the path, or leave the file out."
        raise ReadError(msg) from _cause(error)


def _said(error: BaseException) -> str:
    """Return what GDAL says; of an error that only points at the one before it, what that says."""
    if "See previous exception" in str(error) and error.__cause__ is not None:
        return _said(error.__cause__)
    return redact_url(str(error)).rstrip(".")


def _cause(error: Exception) -> Exception | None:
    """Return an error that may be shown as the cause of another: one that tells no signature."""
    return error if redact_url(str(error)) == str(error) else None


def read_header(href: str, *, crs: SomeCRS | None = None, credentials: Credentials | None = None) -> Header:
    """Read the header of a raster file.

    Parameters
    ----------
    href
        Path or URL that GDAL can open.
    crs
        CRS to take where the file has none; never overrides one that it has.
    credentials
        How the file is opened; `None` for as it is.

    Raises
    ------
    ReadError
        Where the file cannot be opened.
    CRSError
        Where it has no CRS, and none was given, or is placed by control points only.
    """
    if _far(href, credentials):
        return _patiently(
            href, credentials, None, f"Cannot open {redact_url(href)}", lambda h: _header(h.file, href, crs)
        )()
    with _open(href, credentials) as file:
        return _header(file, href, crs)


def _header(file: rasterio.DatasetReader, href: str, crs: SomeCRS | None) -> Header:
    found = file.crs or crs
    if found is None:
        how = "only ground control points" if file.gcps[0] else "no CRS"
        msg = f"Cannot place {redact_url(href)} on Earth: the file has {how}."
        raise CRSError(msg + " Pass source_crs='EPSG:…' if you know it, or warp it first.")
    flags = file.mask_flag_enums
    alpha = tuple(c == ColorInterp.alpha for c in file.colorinterp)
    return Header(
        href=href,
        grid=GeoBox(file.shape, file.transform, parse_crs(found)),
        dtypes=file.dtypes,
        nodata=file.nodatavals,
        masked=tuple(any(alpha) or MaskFlags.per_dataset in f for f in flags),
        alpha=alpha,
        scales=file.scales,
        offsets=file.offsets,
        names=file.descriptions,
        colors=file.colormap(1) if file.colorinterp[0] == ColorInterp.palette else None,
        tags=file.tags() | file.tags(1),
    )


def choose_overview(
    href: str, *, ratio: float, credentials: Credentials | None = None
) -> tuple[int, tuple[int, int]] | None:
    """Return the number and shape of the coarsest overview whose pixels are no larger than a ratio allows.

    Parameters
    ----------
    href
        Path or URL of the file.
    ratio
        Pixels of the file for one pixel that is wanted.
    credentials
        How the file is opened; `None` for as it is.

    Returns
    -------
    The overview's number, 0 for the first, and its rows and columns; `None` where the full resolution is best.

    Notes
    -----
    As gdalwarp does (`-ovr AUTO`), an overview up to 0.1 coarser than the ratio is taken too.
    """
    factors = _ask(href, credentials, None, lambda file: file.overviews(1))
    fitting = [n for n, factor in enumerate(factors) if 1 < factor <= ratio + SLACK]
    if not fitting:
        return None
    level = max(fitting, key=lambda n: factors[n])
    return level, _ask(href, credentials, level, lambda file: file.shape)


def _ask(
    href: str, credentials: Credentials | None, level: int | None, ask: Callable[[rasterio.DatasetReader], T]
) -> T:
    """Return what an open file says."""
    if _far(href, credentials):
        return _patiently(
            href, credentials, level, f"Cannot open {redact_url(href)}", lambda handle: ask(handle.file)
        )()
    return ask(_handles.get(href, credentials, **_options(level)).file)


def read(
    href: str,
    bands: Sequence[int],
    window: Window,
    *,
    masks: bool = False,
    level: int | None = None,
    credentials: Credentials | None = None,
    out: Array | None = None,
) -> tuple[Array, Array | None]:
    """Read a window of a file in its own grid.

    Parameters
    ----------
    href
        Path or URL of the file; its handle stays open.
    bands
        Band numbers, the first is 1.
    window
        Rectangle of the file's pixels, inside it.
    masks
        Also return the mask that the file keeps (internal mask or alpha).
    level
        Number of the overview to read, to whose pixels the window then refers; `None` for the full resolution.
    credentials
        How the file is opened; `None` for as it is.
    out
        (band, height, width) in which the values may be put; they are elsewhere where its type is not the file's.

    Returns
    -------
    values : (band, height, width), in the stored type
    valid : (band, height, width) of bool, or `None` where no masks were asked for

    Raises
    ------
    ReadError
        Where the pixels cannot be read; the handle is dropped, so that another try opens the file again. Remote and
        signed files are opened and read again some times before, each time by a new signature.
    """
    return start_read(href, bands, window, masks=masks, level=level, credentials=credentials, out=out)()


def start_read(
    href: str,
    bands: Sequence[int],
    window: Window,
    *,
    masks: bool = False,
    level: int | None = None,
    credentials: Credentials | None = None,
    out: Array | None = None,
) -> Callable[[], tuple[Array, Array | None]]:
    """Begin to read a window; return what waits for it and gives what `read` does.

    Several remote files are so read at once. A local file is read when it is waited for.
    """

    def use(handle: _Handle) -> tuple[Array, Array | None]:
        return _pixels(handle, bands, window, masks, out)

    if _far(href, credentials):
        return _patiently(href, credentials, level, f"Cannot read {_where(href, window)}", use)

    def now() -> tuple[Array, Array | None]:
        try:
            return use(_handles.get(href, credentials, **_options(level)))
        except ReadError:
            raise
        except (RasterioError, OSError, ValueError) as error:
            _handles.drop(href)
            msg = f"Cannot read {_where(href, window)}: {_said(error)}. Is the file whole?"
            raise ReadError(msg) from _cause(error)

    return now


def _where(href: str, window: Window) -> str:
    bottom, right = window.stop
    return f"{redact_url(href)}, rows {(window.row, bottom)} and columns {(window.col, right)}"


def _pixels(
    handle: _Handle,
    bands: Sequence[int],
    window: Window,
    masks: bool,  # noqa: FBT001
    out: Array | None,
) -> tuple[Array, Array | None]:
    bounds = ((window.row, window.row + window.height), (window.col, window.col + window.width))
    values = None if handle.raw is None else handle.raw.read(bands, window, out)
    if values is None:
        values = handle.file.read(list(bands), window=bounds)
    return values, _mask(handle.file, list(bands), bounds) if masks else None


def _far(href: str, credentials: Credentials | None) -> bool:
    """Tell whether a file is read with patience: it is remote, or its address is signed."""
    return (credentials is not None and credentials.sign is not None) or remote.is_remote(href)


def _patiently(
    href: str, credentials: Credentials | None, level: int | None, what: str, use: Callable[[_Handle], T]
) -> Callable[[], T]:
    """Begin to use a remote file, in a thread that talks to servers; return what waits for it, and tries again."""
    credentials = (credentials or Credentials()).settled()
    options = _options(level)

    def make() -> _Handle:
        address = credentials.address(href)
        with _forgetting(credentials, address):
            return _Handle(credentials.open_at(address, **options), address, full=not options)

    def once() -> T:
        with remote.borrow_handle(href, (credentials.env, *options.items()), make) as handle:
            address = handle.file.name
            with (
                _forgetting(credentials, address),
                credentials.around(address),
            ):  # GDAL reads some settings at each request
                return use(handle)

    first = [remote.submit(once)]

    def attempt() -> T:
        return (first.pop() if first else remote.submit(once)).result()

    return lambda: retry_read(attempt, lambda: remote.close_handles(href), href, credentials, what)


@contextmanager
def _forgetting(credentials: Credentials, address: str) -> Iterator[None]:
    """After an error, have GDAL forget what it knows of a file: that it is not there, or an answer cut short."""
    try:
        yield
    except (RasterioError, OSError, ValueError):
        if remote.is_remote(address):
            with suppress(RasterioError, OSError):
                credentials.open_at(address, cached=False).close()
        raise


def _options(level: int | None) -> dict[str, Any]:
    return {} if level is None else {"overview_level": level}


def _mask(file: rasterio.DatasetReader, bands: list[int], bounds: Any) -> Array:
    """Return which pixels an internal mask or an alpha band calls valid; GDAL itself takes few alpha bands as masks."""
    if ColorInterp.alpha in file.colorinterp:
        alpha = file.read(file.colorinterp.index(ColorInterp.alpha) + 1, window=bounds) != 0
        return np.broadcast_to(alpha, (len(bands), *alpha.shape)).copy()
    return np.asarray(file.read_masks(bands, window=bounds) != 0)


__all__ = ["HANDLES", "Header", "read", "read_header"]
