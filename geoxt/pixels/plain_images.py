"""Whole images without georeference: PNG, JPEG and TIFF with their band names, palettes as colors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from geoxt.errors import ReadError
from geoxt.pixels.images import STRICT
from geoxt.types import Array, Mask


@contextmanager
def plain_images() -> Iterator[None]:
    """Ignore that images have no georeference, in all threads: Python's filters of warnings belong to the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainImage:
    """Pixels of an image file."""

    pixels: Array
    """(band, height, width), without alpha."""
    valid: Mask
    """(height, width): False where a band is nodata; alpha is not a mask."""
    names: tuple[str, ...]
    """Band names: descriptions, or R, G, B of a color image; empty if unknown."""
    georeferenced: bool
    """Whether the file has a CRS."""


def read_plain_image(source: str | bytes, *, name: str | None = None) -> PlainImage:
    """Read all bands of an image file, or of its content, within `plain_images`.

    Parameters
    ----------
    source
        Path, or content of the file.
    name
        Name of the file in errors; by default the path.

    Raises
    ------
    ReadError
        If the image cannot be decoded, or is truncated.
    """
    try:
        with STRICT.gdal_env():
            if isinstance(source, bytes):
                with MemoryFile(source) as memory, memory.open() as file:
                    return _image(file)
            with rasterio.open(source) as file:
                return _image(file)
    except RasterioError as error:
        msg = f"Cannot decode the image {name or source!r}: {error}."
        raise ReadError(msg, remedy="Remove the file, or replace it by a complete one.", value=name) from error


def _image(file: rasterio.DatasetReader) -> PlainImage:
    kinds = file.colorinterp
    color = [n for n, kind in enumerate(kinds, start=1) if kind is not ColorInterp.alpha]
    values, names = file.read(color), tuple(file.descriptions[n - 1] or "" for n in color)
    if kinds[0] is ColorInterp.palette and file.count == 1:
        values, names = _colors(file, values[0]), ("R", "G", "B")
    elif tuple(kinds[:3]) == _RGB and len(color) == len(_RGB) and not any(names):
        names = ("R", "G", "B")
    valid = np.ones(values.shape[-2:], bool)
    if len(values) == len(color):
        for band, number in zip(values, color, strict=True):
            valid &= band != (np.nan if file.nodatavals[number - 1] is None else file.nodatavals[number - 1])
    if len(set(names)) < len(names) or not all(names):
        names = ()
    return PlainImage(pixels=values, valid=valid, names=names, georeferenced=file.crs is not None)


def _colors(file: rasterio.DatasetReader, codes: Array) -> Array:
    """Return red, green and blue of the codes of a palette."""
    table = np.zeros((256, 3), "uint8")
    for code, color in file.colormap(1).items():
        table[code] = color[:3]
    return np.moveaxis(table[codes], -1, 0)
