"""Windowed reads of raster files through pooled rasterio handles.

A GDAL dataset must not be used by two threads at once. Handles of local files are therefore pooled per thread; handles
of remote files, which are few and slow to open, per process (`remote`), each lent to one thread at a time. Failed reads
of remote files are retried.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError

from geoxt.errors import ReadError
from geoxt.pixels import remote
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.cached_blocks import CachedBlocks, open_blocks
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.gdal_retry import retry_read
from geoxt.pixels.georeference import file_grid
from geoxt.pixels.raw_tiff import RawTiff, open_raw
from geoxt.types import Array, SomeCRS
from geoxt.windows import Window

HANDLES = int(os.environ.get("GEOXT_HANDLES", "128"))
"""Local files kept open per thread."""


T = TypeVar("T")
SLACK = 0.1
"""Full-resolution pixels by which an overview's pixels may exceed the requested ratio (gdalwarp -ovr AUTO)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Metadata of a raster file, read without its pixels."""

    href: str
    """Path or URL of the file."""
    grid: GeoBox
    """Grid of the full-resolution pixels."""
    dtypes: tuple[str, ...]
    """Data type of each band."""
    nodata: tuple[float | None, ...]
    """Nodata value of each band."""
    masked: tuple[bool, ...]
    """Whether an internal mask or an alpha band gives the valid mask, per band."""
    alpha: tuple[bool, ...]
    """Whether the band is itself an alpha band."""
    scales: tuple[float, ...]
    """Factor from stored to physical values, per band."""
    offsets: tuple[float, ...]
    """Offset added after scaling, per band."""
    names: tuple[str | None, ...]
    """Band descriptions."""
    colors: dict[int, tuple[int, int, int, int]] | None
    """Colour table of the first band: (red, green, blue, alpha) by pixel value."""
    tags: dict[str, str]
    """GDAL metadata of the file and of its first band."""


class _Handle:
    """An open file: a rasterio dataset and, from the second read on, a raw reader if it is an uncompressed GeoTIFF.

    The first read goes through GDAL: in a folder of small images every file is read once, and locating its blocks takes
    longer than that. Both return the same bits.
    """

    __slots__ = ("address", "blocks", "file", "full", "options", "raw", "reads", "stamp")

    def __init__(
        self, file: rasterio.DatasetReader, address: str, *, options: Mapping[str, Any], stamp: Any = None
    ) -> None:
        self.file, self.address, self.options, self.stamp = file, address, options, stamp
        self.full = not options
        self.raw: RawTiff | None = None
        self.reads = 0
        self.blocks: dict[BlockCache, CachedBlocks | None] = {}

    def read_raw(self, bands: Sequence[int], window: Window, out: Array | None) -> Array | None:
        """Return the pixels without GDAL; `None` for the first read, and for files that need GDAL."""
        self.reads += 1
        if self.reads == 2 and self.full and not self.blocks:
            self.raw = open_raw(self.file, self.address)
        return None if self.raw is None else self.raw.read(bands, window, out)

    def cached_blocks(self, cache: BlockCache) -> CachedBlocks | None:
        """Return the decoded blocks of the file in a cache; `None` if they cannot be cached."""
        if cache not in self.blocks:
            self.blocks[cache] = None
            if self.reads < 2 and self.full:
                self.raw = open_raw(self.file, self.address)
            if self.stamp is not None and self.raw is None:
                sidecars = [(name, _stamp(name)) for name in sorted(self.file.files)]
                source = [os.path.abspath(self.address), sorted(self.options.items()), self.stamp, sidecars]  # noqa: PTH100
                self.blocks[cache] = open_blocks(self.file, source, cache)
        return self.blocks[cache]


class _Handles(threading.local):
    """Open files of one thread by unsigned address, least recently used first.

    A forked process starts empty: it would share file offsets with its parent. Inherited datasets are kept alive,
    because closing them could flush the parent's state.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.open: OrderedDict[Any, _Handle] = OrderedDict()

    def get(self, href: str, credentials: Credentials | None = None, **options: Any) -> _Handle:
        if self.pid != os.getpid():
            _inherited.append(self.open)
            self.pid, self.open = os.getpid(), OrderedDict()
        key = (href, *options.items()) if options else href
        stamp = _stamp(href)
        handle = self.open.get(key)
        if handle is not None and handle.stamp == stamp:
            self.open.move_to_end(key)
            return handle
        if handle is not None:  # the file was replaced after it was opened
            self.drop(href)
        opened = _open(href, credentials, **options)
        handle = self.open[key] = _Handle(opened, href, options=options, stamp=stamp)
        if len(self.open) > HANDLES:
            self.open.popitem(last=False)[1].file.close()
        return handle

    def drop(self, href: str) -> None:
        for key in [k for k in self.open if k == href or (isinstance(k, tuple) and k[0] == href)]:
            self.open.pop(key).file.close()


def _stamp(href: str) -> tuple[int, int, int] | None:
    """Return size, modification time and inode of a local file, `None` for any other."""
    try:
        status = os.stat(href)  # noqa: PTH116 (URLs have no Path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


_inherited: list[Any] = []
_handles = _Handles()


def _open(href: str, credentials: Credentials | None = None, **options: Any) -> rasterio.DatasetReader:
    try:
        return rasterio.open(href, **options) if credentials is None else credentials.open(href, **options)
    except ReadError:
        raise
    except (RasterioError, OSError) as error:
        problem = f"Cannot open {redact_url(href)}: {redact_url(str(error))}."
        raise ReadError(problem, remedy="Check the path, or leave the file out.") from _cause(error)


def _gdal_message(error: BaseException) -> str:
    """Return GDAL's message, which rasterio puts into the cause of some errors."""
    if "See previous exception" in str(error) and error.__cause__ is not None:
        return _gdal_message(error.__cause__)
    return redact_url(str(error)).rstrip(".")


def _cause(error: Exception) -> Exception | None:
    """Return the error as a cause for the traceback, unless its message holds a signed URL."""
    return error if redact_url(str(error)) == str(error) else None


def read_header(
    href: str,
    *,
    crs: SomeCRS | None = None,
    grid: GeoBox | None = None,
    credentials: Credentials | None = None,
) -> Header:
    """Read the header of a raster file.

    Parameters
    ----------
    href
        Path or URL that GDAL can open.
    crs
        CRS of a file without one; never overrides the file's CRS.
    grid
        Grid of the pixels of a file without a geotransform, if it has the file's shape.
    credentials
        URL signer and GDAL options to open the file with.

    Raises
    ------
    ReadError
        If the file cannot be opened.
    CRSError, GridError
        If it has no CRS and `crs` is None, or no geotransform and the shape of `grid` is not the file's.
    """
    if _is_slow(href, credentials):
        return _start_remote(
            href, credentials, None, f"Cannot open {redact_url(href)}", lambda h: _header(h.file, href, crs, grid)
        )()
    with _open(href, credentials) as file:
        return _header(file, href, crs, grid)


def _header(file: rasterio.DatasetReader, href: str, crs: SomeCRS | None, grid: GeoBox | None) -> Header:
    grid = file_grid(file, href, crs=crs, grid=grid)
    flags = file.mask_flag_enums
    alpha = tuple(c == ColorInterp.alpha for c in file.colorinterp)
    return Header(
        href=href,
        grid=grid,
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
    """Return the level and shape of the coarsest overview that is fine enough for a ratio of pixel sizes.

    Parameters
    ----------
    href
        Path or URL of the file.
    ratio
        Full-resolution pixels per requested pixel.
    credentials
        URL signer and GDAL options to open the file with.

    Returns
    -------
    tuple or None
        Level (0 is the first overview) and (rows, columns); `None` if the full resolution is best.

    Notes
    -----
    Like gdalwarp (`-ovr AUTO`), also takes an overview whose factor exceeds the ratio by up to 0.1.
    """
    factors = _ask(href, credentials, None, lambda file: file.overviews(1))
    fitting = [n for n, factor in enumerate(factors) if 1 < factor <= ratio + SLACK]
    if not fitting:
        return None
    level = max(fitting, key=lambda n: factors[n])
    return level, _ask(href, credentials, level, lambda file: file.shape)


def open_file(href: str, *, credentials: Credentials | None = None) -> rasterio.DatasetReader:
    """Return the open handle that reads of a local file in this thread share; do not close it."""
    return _handles.get(href, credentials).file


def _ask(
    href: str, credentials: Credentials | None, level: int | None, ask: Callable[[rasterio.DatasetReader], T]
) -> T:
    """Return the result of a function of an open file."""
    if _is_slow(href, credentials):
        return _start_remote(
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
    """Read a window of the file's grid.

    Parameters
    ----------
    href
        Path or URL of the file; its handle stays open.
    bands
        Band numbers; the first is 1.
    window
        Window of the file's pixels, inside the file.
    masks
        Also return the file's own mask (internal mask or alpha band).
    level
        Overview to read, to whose pixels the window refers; `None` for the full resolution.
    credentials
        URL signer and GDAL options to open the file with.
    out
        (band, height, width) array to read into, if its dtype is the file's; may stay unused.

    Returns
    -------
    values : (band, height, width), in the stored type
    valid : (band, height, width) of bool, or `None` without `masks`

    Raises
    ------
    ReadError
        If the pixels cannot be read. Remote and signed files are opened anew, with a new signature, and read again
        before. The handle is closed, so that a later call opens the file again.
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
    """Start to read a window; return a function that waits for the result of `read`.

    Several remote files are thus read concurrently. A local file is read when the function is called.
    """

    def read_pixels(handle: _Handle) -> tuple[Array, Array | None]:
        return _pixels(handle, bands, window, masks, out, None if credentials is None else credentials.cache)

    if _is_slow(href, credentials):
        return _start_remote(href, credentials, level, f"Cannot read {_where(href, window)}", read_pixels)

    def read_local() -> tuple[Array, Array | None]:
        try:
            return read_pixels(_handles.get(href, credentials, **_options(level)))
        except ReadError:
            raise
        except (RasterioError, OSError, ValueError) as error:
            _handles.drop(href)
            problem = f"Cannot read {_where(href, window)}: {_gdal_message(error)}."
            raise ReadError(problem, remedy="Check that the file is complete.") from _cause(error)

    return read_local


def _where(href: str, window: Window) -> str:
    bottom, right = window.stop
    return f"{redact_url(href)}, rows {(window.row, bottom)} and columns {(window.col, right)}"


def _pixels(
    handle: _Handle,
    bands: Sequence[int],
    window: Window,
    masks: bool,  # noqa: FBT001
    out: Array | None,
    cache: BlockCache | None,
) -> tuple[Array, Array | None]:
    bounds = ((window.row, window.row + window.height), (window.col, window.col + window.width))
    values = handle.read_raw(bands, window, out)
    if values is None and cache is not None and (blocks := handle.cached_blocks(cache)) is not None:
        cached = blocks.read_window(bands, window, masks=masks, out=out)
        if cached is not None:
            return cached
    if values is None:
        values = handle.file.read(list(bands), window=bounds)
    return values, _mask(handle.file, list(bands), bounds) if masks else None


def _is_slow(href: str, credentials: Credentials | None) -> bool:
    """Return whether a file is read in remote threads, with retries: it is remote, or its address is signed."""
    return (credentials is not None and credentials.sign is not None) or remote.is_remote(href)


def _start_remote(
    href: str, credentials: Credentials | None, level: int | None, problem: str, use: Callable[[_Handle], T]
) -> Callable[[], T]:
    """Start to use a remote file in a remote thread; return a function that waits for the result, with retries."""
    credentials = (credentials or Credentials()).with_env()
    options = _options(level)

    def make() -> _Handle:
        address = credentials.address(href)
        with _clear_gdal_cache_on_error(credentials, address):
            return _Handle(credentials.open_at(address, **options), address, options=options)

    def use_once() -> T:
        with remote.borrow_handle(href, (credentials.env, *options.items()), make) as handle:
            address = handle.file.name
            with (
                _clear_gdal_cache_on_error(credentials, address),
                credentials.gdal_env(address),
            ):  # GDAL reads some settings at each request
                return use(handle)

    first = [remote.submit(use_once)]

    def attempt() -> T:
        return (first.pop() if first else remote.submit(use_once)).result()

    return lambda: retry_read(attempt, lambda: remote.close_handles(href), href, credentials, problem)


@contextmanager
def _clear_gdal_cache_on_error(credentials: Credentials, address: str) -> Iterator[None]:
    """After an error, clear GDAL's cache of a file: /vsicurl/ remembers a missing file or a truncated response."""
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
    """Return the valid mask of an internal mask or alpha band.

    The alpha band is read directly: GDAL's GMF_ALPHA masks exist only for two or four bands of 8 or 16 bits.
    """
    if ColorInterp.alpha in file.colorinterp:
        alpha = file.read(file.colorinterp.index(ColorInterp.alpha) + 1, window=bounds) != 0
        return np.broadcast_to(alpha, (len(bands), *alpha.shape)).copy()
    return np.asarray(file.read_masks(bands, window=bounds) != 0)


__all__ = ["HANDLES", "Header", "read", "read_header"]
