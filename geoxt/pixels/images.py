"""Image files that need not be georeferenced (PNG, JPEG, TIFF), read through the handles that `reader` keeps open.

Decoding is strict: a truncated JPEG or PNG raises instead of returning grey pixels, and no sidecar is searched for or
written, which in folders of many thousand images takes longer than reading one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from geoxt.crs import geographic_or_projected, parse_crs
from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.types import Array, SomeCRS
from geoxt.windows import Window

STRICT = Credentials(
    env=(
        ("GDAL_DISABLE_READDIR_ON_OPEN", "TRUE"),
        ("GDAL_ERROR_ON_LIBJPEG_WARNING", "TRUE"),
        ("GDAL_PAM_ENABLED", "NO"),
        ("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO"),  # the optimized path returns a truncated PNG without an error
    ),
    georeferenced=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """Size, type and georeference of an image file."""

    count: int
    """Bands."""
    shape: tuple[int, int]
    """Height and width, in pixels."""
    dtype: np.dtype[Any]
    """Data type of the first band."""
    grid: GeoBox | None
    """Grid of the pixels; `None` where the file has no geotransform, or no CRS and none is given."""


def strict_decoding() -> AbstractContextManager[None]:
    """Set GDAL's options for strict decoding in this thread; `read_image` relies on them."""
    return STRICT.gdal_env()


def read_image_header(path: str, *, crs: SomeCRS | None = None) -> ImageHeader:
    """Read size, type and georeference of an image file.

    Parameters
    ----------
    path
        The file.
    crs
        CRS of a file that has a geotransform (a world file, for example) and no CRS.

    Raises
    ------
    ReadError
        If the file cannot be opened.
    """

    def header(file: rasterio.DatasetReader) -> ImageHeader:
        # the identity means no geotransform
        file_crs = None if file.transform.is_identity else geographic_or_projected(file.crs) or crs
        grid = GeoBox(file.shape, file.transform, parse_crs(file_crs)) if file_crs else None
        return ImageHeader(count=file.count, shape=file.shape, dtype=np.dtype(file.dtypes[0]), grid=grid)

    return reader.use_file(path, header, credentials=STRICT)


def has_alpha(path: str, band: int) -> bool:
    """Return whether a band (1-based) of an image file is its alpha band.

    Parameters
    ----------
    path
        The file.
    band
        Band number, the first is 1.
    """
    return bool(reader.use_file(path, lambda file: file.colorinterp[band - 1] == ColorInterp.alpha, credentials=STRICT))


def read_image(path: str, bands: Sequence[int], window: Window) -> Array:
    """Read bands of a window of an image file, within `strict_decoding`: (band, height, width), in the stored type.

    Parameters
    ----------
    path
        The file.
    bands
        Band numbers, the first is 1.
    window
        Rectangle of the file's pixels, inside it.

    Raises
    ------
    ReadError
        If the pixels cannot be decoded.
    """
    return reader.read(path, bands, window, credentials=STRICT)[0]
