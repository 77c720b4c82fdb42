"""Pixels of a map at the points of a sample, and comparison of the map's pixels with those of the strata."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geoxt.assess.map_strata import Codes
from geoxt.errors import AssessmentWarning, CRSError, InputError, OverlapError
from geoxt.types import Array, Mask
from geoxt.windows import Window

_MAX_DIFFERENCE = 0.001
"""Maximum relative difference of the areas of map and strata that pixels of another size cause at the borders."""
_MAX_EXTRAPOLATED = 0.01
"""Maximum relative difference of the areas for which the mean of a continuous map is taken as that of the strata."""


def pixel_positions(frame: Any, grid: GeoBox) -> tuple[Array, Array]:
    """Return row and column of the pixels that the points lie in.

    Raises
    ------
    CRSError
        If sample or map have no CRS.
    OverlapError
        If points lie outside the map.
    """
    if not hasattr(frame, "geometry") or frame.geometry.is_empty.any() or frame.geometry.isna().any():
        problem = "Cannot find the pixels of a sample: rows have no point."
        raise InputError(problem, remedy="Pass {sample} as a GeoDataFrame with a point in each row.", argument="sample")
    if frame.crs is None or grid.crs is None:
        problem = "Cannot find the pixels of a sample: the sample or the map has no CRS."
        raise CRSError(problem, remedy="Set it: sample.set_crs('EPSG:…').")
    geom_types = sorted({str(geom_type) for geom_type in frame.geometry.geom_type.dropna()} - {"Point"})
    if geom_types:
        problem = f"Cannot find the pixels of a sample: its geometries are {', '.join(geom_types)}."
        raise InputError(problem, remedy="Pass {sample} of points.", argument="sample")
    points = frame.geometry if frame.crs == grid.crs.to_wkt() else frame.geometry.to_crs(grid.crs.to_wkt())
    col, row = ~grid.affine @ np.stack([points.x.to_numpy(), points.y.to_numpy()])
    row, col = np.floor(row + 1e-6).astype(np.int64), np.floor(col + 1e-6).astype(np.int64)
    height, width = grid.shape
    require_on_map((row >= 0) & (row < height) & (col >= 0) & (col < width), "outside the map")
    return row, col


def require_on_map(inside: Array, where: str) -> None:
    """Raise if sampled pixels are not on the map.

    Raises
    ------
    OverlapError
        If some are not.
    """
    if not inside.all():
        problem = f"Cannot estimate: {int((~inside).sum())} of {len(inside)} sampled pixels lie {where}."
        raise OverlapError(problem, remedy="Pass the map that the sample was drawn from, as {map}.", argument="map")


def recording_reader(read: Codes, row: Array, col: Array, dtype: npt.DTypeLike) -> tuple[Codes, npt.NDArray[Any], Mask]:
    """Return a reader of windows that saves values and validity of pixels, and both arrays, which it fills.

    Parameters
    ----------
    read
        Reader of values and valid mask of a window.
    row, col
        Positions of the pixels. Shape (n,).
    dtype
        Type of the values.
    """
    values, valid = np.zeros(len(row), dtype), np.zeros(len(row), bool)

    def read_and_save(window: Window) -> tuple[Array, Mask]:
        block, block_valid = read(window)
        r, c = row - window.row, col - window.col
        inside = np.flatnonzero((r >= 0) & (r < window.height) & (c >= 0) & (c < window.width))
        values[inside], valid[inside] = block[r[inside], c[inside]], block_valid[r[inside], c[inside]]
        return block, block_valid

    return read_and_save, values, valid


def compare_with_strata(
    frame: Any, row: Array, col: Array, *, pixels: int, area: float, continuous: bool = False
) -> None:
    """Compare the valid pixels of a map with those of the strata of a sample.

    Parameters
    ----------
    frame
        The sample.
    row, col
        Positions of its pixels in the map.
    pixels
        Valid pixels of the map.
    area
        Their area in hectares.
    continuous
        Whether the mean of the map is used for the total.

    Raises
    ------
    InputError
        If a continuous map and the strata differ by more than 1 % of the area.

    Warns
    -----
    AssessmentWarning
        If their areas, or on one grid their numbers of pixels, differ.
    """
    strata = frame.drop_duplicates("stratum")
    sampled, of_strata = int(strata["stratum_pixels"].astype(float).sum()), float(strata["stratum_area"].sum())
    same_grid = {"row", "col"} <= {*frame.columns} and (frame["row"] == row).all() and (frame["col"] == col).all()
    difference = abs(area - of_strata) / of_strata
    if (pixels == sampled) if same_grid else (difference <= _MAX_DIFFERENCE):
        return
    text = f"the map has {pixels:,} valid pixels ({area:,.6g} ha), and the strata of the sample have {sampled:,} "
    text += f"({of_strata:,.6g} ha)"
    if continuous and difference > _MAX_EXTRAPOLATED:
        problem = f"Cannot estimate the mean and total of the reference variable: {text}."
        remedy = "Pass {map} with nodata outside the strata, and valid pixels in all of them."
        raise InputError(problem, remedy=remedy, value=area, argument="map")
    text = f"{text[0].upper()}{text[1:]}: the estimates are for the area of the strata."
    warnings.warn(text, AssessmentWarning, stacklevel=4)
