"""Headers and windowed reads of raster files through pooled rasterio handles (`handles`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags

from geoxt.errors import ReadError
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.class_names import class_tags
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.georeference import file_grid
from geoxt.pixels.handles import is_slow, open_unpooled, start_use
from geoxt.pixels.raster_handle import FileCheck, Handle
from geoxt.pixels.raw_tiff import NOT_LOCAL, missing_directory
from geoxt.types import Array, SomeCRS
from geoxt.windows import Window

T = TypeVar("T")
MAX_EXACT = 2**53
"""Integers from which on float64 does not hold each."""
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
    internal_mask: bool
    """Whether the file has a mask (internal or `.msk`) that is not an alpha band."""
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
    extra_nodata: tuple[tuple[float, ...], ...] = ()
    """Further stored values of missing pixels of each band of a Zarr group."""
    planes: tuple[tuple[str, int, Any], ...] = ()
    """Address of the array, number of the plane, and array of each band of a Zarr group; empty for a file."""


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
    if is_slow(href, credentials):  # the handle stays open, since the file will be read
        return use_file(href, lambda file: _header(file, href, crs, grid), credentials=credentials)
    return open_unpooled(href, lambda file: _header(file, href, crs, grid), credentials)


def _header(file: rasterio.DatasetReader, href: str, crs: SomeCRS | None, grid: GeoBox | None) -> Header:
    if file.subdatasets and (file.count == 0 or file.transform.is_identity):
        names = ", ".join(file.subdatasets[:5]) + (", …" if len(file.subdatasets) > 5 else "")
        problem = f"Cannot open {redact_url(href)}: it holds {len(file.subdatasets)} rasters."
        raise ReadError(problem, remedy=redact_url(f"Pass one of them as path: {names}."))
    cut = missing_directory(href) if file.driver in {"GTiff", "COG"} and not href.startswith(NOT_LOCAL) else None
    if cut is not None:
        problem = f"Cannot open {redact_url(href)}: its directory at byte {cut}, of a mask or overview, is cut off."
        raise ReadError(problem, remedy="Check that the file is complete.")
    grid = file_grid(file, href, crs=crs, grid=grid)
    alpha = tuple(c == ColorInterp.alpha for c in file.colorinterp)
    nodata, rounded = header_nodata(file)
    return Header(
        href=href,
        grid=grid,
        dtypes=file.dtypes,
        nodata=nodata,
        masked=tuple(
            any(alpha) or MaskFlags.per_dataset in f or r for f, r in zip(file.mask_flag_enums, rounded, strict=True)
        ),
        alpha=alpha,
        internal_mask=has_internal_mask(file),
        scales=file.scales,
        offsets=file.offsets,
        names=file.descriptions,
        colors=_colors(file),
        tags=_tags(file, href),
    )


def header_nodata(file: rasterio.DatasetReader) -> tuple[tuple[float | None, ...], tuple[bool, ...]]:
    """Return the nodata value of each band, `None` if a float rounds it, and whether a float rounds it.

    rasterio returns nodata as a float, which rounds integers beyond 2**53, or as None if the float is out of range:
    GDAL's mask marks such pixels.
    """
    values = file.nodatavals
    if not {"int64", "uint64"} & set(file.dtypes):
        return values, (False,) * file.count
    rounded = tuple(
        d in {"int64", "uint64"} and MaskFlags.nodata in f and (n is None or abs(n) >= MAX_EXACT)
        for n, d, f in zip(values, file.dtypes, file.mask_flag_enums, strict=True)
    )
    return tuple(None if r else n for n, r in zip(values, rounded, strict=True)), rounded


def has_internal_mask(file: rasterio.DatasetReader) -> bool:
    """Return whether a band has a mask that is not an alpha band, inside the file or in a sidecar."""
    return any(MaskFlags.per_dataset in f and MaskFlags.alpha not in f for f in file.mask_flag_enums)


def _tags(file: rasterio.DatasetReader, href: str) -> dict[str, str]:
    """Return GDAL metadata of the file and of its first band; class names of other sources as CF tags."""
    tags: dict[str, str] = file.tags() | file.tags(1)
    return tags if "flag_meanings" in tags else tags | class_tags(file, href)


def _colors(file: rasterio.DatasetReader) -> dict[int, tuple[int, int, int, int]] | None:
    """Return the colour table of the first band; `None` for a palette without entries, for which rasterio raises."""
    if file.colorinterp[0] != ColorInterp.palette:
        return None
    try:
        colors: dict[int, tuple[int, int, int, int]] = file.colormap(1)
    except ValueError:
        return None
    return colors


def choose_overview(
    href: str, *, ratio: float, credentials: Credentials | None = None, check: FileCheck | None = None
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
    check
        Compares the file with its catalog or former header.

    Returns
    -------
    tuple or None
        Level (0 is the first overview) and (rows, columns); `None` if the full resolution is best.

    Notes
    -----
    Like gdalwarp (`-ovr AUTO`), also takes an overview whose factor exceeds the ratio by up to 0.1.
    """
    factors = use_file(href, lambda file: list(file.overviews(1)), credentials=credentials, check=check)
    level = fitting_overview(factors, ratio)
    if level is None:
        return None
    return level, use_file(href, lambda file: file.shape, level=level, credentials=credentials)


def fitting_overview(factors: Sequence[float], ratio: float) -> int | None:
    """Return the level of the coarsest overview that is fine enough for a ratio; `None` for the full resolution."""
    fitting = [n for n, factor in enumerate(factors) if 1 < factor <= ratio + SLACK]
    return max(fitting, key=lambda n: factors[n]) if fitting else None


def use_file(
    href: str,
    use: Callable[[rasterio.DatasetReader], T],
    *,
    level: int | None = None,
    credentials: Credentials | None = None,
    check: FileCheck | None = None,
) -> T:
    """Return the result of a function of the open file, whose handle later reads use again.

    Parameters
    ----------
    href
        Path or URL of the file.
    use
        Function of the dataset, which it must not keep or close.
    level
        Overview to open; `None` for the full resolution.
    credentials
        URL signer and GDAL options to open the file with.
    check
        Compares the file with its catalog or former header.

    Raises
    ------
    ReadError
        If the file cannot be opened.
    """

    def checked(handle: Handle) -> T:
        if check is not None:
            handle.check(check)
        return use(handle.file)

    return start_use(href, checked, action=lambda: f"open {redact_url(href)}", level=level, credentials=credentials)()


def read(
    href: str,
    bands: Sequence[int],
    window: Window,
    *,
    masks: bool = False,
    level: int | None = None,
    credentials: Credentials | None = None,
    out: Array | None = None,
    check: FileCheck | None = None,
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
        Also return the file's mask (internal mask or alpha band).
    level
        Overview to read, to whose pixels the window refers; `None` for the full resolution.
    credentials
        URL signer and GDAL options to open the file with.
    out
        (band, height, width) array to read into, if its dtype is the file's; may stay unused.
    check
        Compares the file with its catalog or former header, once per handle; decides about its mask instead of `masks`.

    Returns
    -------
    values : (band, height, width), in the stored type
    valid : (band, height, width) of bool, or `None` without `masks`

    Raises
    ------
    ReadError
        If the pixels cannot be read. Remote and signed files are opened anew, with a new signature, and read again
        before. The handle is closed, so that a later call opens the file again.
    ResourceError
        If the process has no file descriptors left.
    """
    return start_read(href, bands, window, masks=masks, level=level, credentials=credentials, out=out, check=check)()


def start_read(
    href: str,
    bands: Sequence[int],
    window: Window,
    *,
    masks: bool = False,
    level: int | None = None,
    credentials: Credentials | None = None,
    out: Array | None = None,
    check: FileCheck | None = None,
) -> Callable[[], tuple[Array, Array | None]]:
    """Start to read a window; return a function that waits for the result of `read`.

    Several remote files are thus read concurrently. A local file is read when the function is called.
    """
    cache = None if credentials is None else credentials.cache

    def read_pixels(handle: Handle) -> tuple[Array, Array | None]:
        return _pixels(handle, bands, window, masks if check is None else handle.check(check), out, cache)

    def read_stored(handle: Handle) -> tuple[Array, Array | None] | None:
        blocks = None if cache is None else handle.blocks.get(cache)
        masked = masks if check is None else handle.known_mask(check)
        return None if blocks is None or masked is None else blocks.read_stored(bands, window, masks=masked, out=out)

    return start_use(
        href,
        read_pixels,
        action=lambda: f"read {_where(href, window)}",
        level=level,
        credentials=credentials,
        stored=None if cache is None else read_stored,
    )


def _where(href: str, window: Window) -> str:
    bottom, right = window.stop
    return f"{redact_url(href)}, rows {(window.row, bottom)} and columns {(window.col, right)}"


def _pixels(
    handle: Handle,
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
        values = handle.read_compressed(bands, window, out)
    if values is None:
        values = handle.file.read(list(bands), window=bounds)
    return values, _mask(handle.file, list(bands), bounds) if masks else None


def _mask(file: rasterio.DatasetReader, bands: list[int], bounds: Any) -> Array:
    """Return the valid mask of an internal mask or alpha band.

    The alpha band is read directly: GDAL's GMF_ALPHA masks exist only for two or four bands of 8 or 16 bits.
    """
    if ColorInterp.alpha in file.colorinterp:
        position = file.colorinterp.index(ColorInterp.alpha) + 1
        alpha = file.read(position, window=bounds) != 0
        flags = file.mask_flag_enums[bands[0] - 1]
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:  # an internal mask beside it: both count
            alpha &= file.read_masks(bands[0], window=bounds) != 0
        return np.broadcast_to(alpha, (len(bands), *alpha.shape)).copy()
    return np.asarray(file.read_masks(bands, window=bounds) != 0)
