"""The grid of an open raster file: from its CRS and geotransform, or the grid that the caller passes for its pixels."""

from __future__ import annotations

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_name, geographic_or_projected, parse_crs
from geoxt.errors import CRSError, GridError
from geoxt.pixels.credentials import redact_url
from geoxt.types import SomeCRS

TINY = 1e-100
"""Determinant of a geotransform, the area of a pixel in CRS units, below which it is singular in floating point."""


def file_grid(
    file: rasterio.DatasetReader, href: str, *, crs: SomeCRS | None = None, grid: GeoBox | None = None
) -> GeoBox:
    """Return the grid of a file's pixels.

    Parameters
    ----------
    file
        The open file.
    href
        Its path or URL, for messages.
    crs
        CRS of a file without one, or with a local one.
    grid
        Grid of the pixels of a file that has no geotransform, control points or RPCs, if it has their shape.

    Raises
    ------
    CRSError
        If the file has no CRS and none is given; or no geotransform, and no grid of its shape is given.
    """
    name, own_crs = redact_url(href), geographic_or_projected(file.crs)
    file_crs = own_crs or (None if crs is None else parse_crs(crs))
    if not file.transform.is_identity:  # rasterio returns the identity for a file without a geotransform
        if file_crs is not None:
            if not np.isfinite(file.transform[:6]).all() or not abs(file.transform.determinant) > TINY:
                problem = f"Cannot georeference {name}: its geotransform {tuple(file.transform[:6])} has no inverse."
                raise GridError(problem, remedy="Write a geotransform into the file (gdal_edit.py -a_ullr).")
            return GeoBox(file.shape, file.transform, file_crs)
        lacks = "no CRS" if not file.crs else "a local CRS, which is neither geographic nor projected"
        remedy = "Write it into the file first (gdal_edit.py -a_srs)."
        raise CRSError(f"Cannot georeference {name}: the file has {lacks}.", remedy=remedy, argument="crs")
    points = "ground control points" if file.gcps[0] else "rational polynomial coefficients" if file.rpcs else ""
    if points:
        problem = f"Cannot georeference {name}: the file has no geotransform, only {points}."
        raise CRSError(problem, remedy=f"Warp it to a grid first (gdalwarp {'-tps' if file.gcps[0] else '-rpc'}).")
    if grid is not None and grid.shape == file.shape:
        if own_crs is not None and own_crs != grid.crs:
            problem = f"Cannot take the pixels of {name} as those of the grid: the file is in {crs_name(own_crs)}, "
            problem += f"the grid in {crs_name(grid.crs)}."
            raise CRSError(problem, remedy="Pass the {grid} of its pixels.", argument="grid")
        return grid
    size = f"{file.shape[0]} x {file.shape[1]} pixels"
    if grid is not None:
        problem = (
            f"Cannot take the pixels of {name} as those of the grid, as the file has no geotransform: it has {size}"
        )
        remedy = (
            "Pass a {grid} of the file's shape. Or write a geotransform or world file first (gdal_edit.py -a_ullr)."
        )
        problem += f", the grid {grid.shape[0]} x {grid.shape[1]} (rows x columns)."
        raise GridError(problem, remedy=remedy, argument="grid")
    lacks = "no geotransform" if file_crs is not None else "neither a CRS nor a geotransform"
    remedy = "Write a geotransform or world file first (gdal_edit.py -a_ullr)."
    raise CRSError(f"Cannot georeference {name} ({size}): the file has {lacks}.", remedy=remedy, argument="grid")
