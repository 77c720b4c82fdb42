"""Fill values: a number for invalid pixels that no valid pixel can have, and the dtype that holds it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.errors import ReadError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.transform import coinciding_grid
from geoxt.source.scene_assets import Scene
from geoxt.types import Array, Mask

_WIDER = {
    "bool": "int8",
    "uint8": "int16",
    "int8": "int16",
    "uint16": "int32",
    "int16": "int32",
    "uint32": "int64",
    "int32": "int64",
}
"""The smallest signed dtype with a number beyond the range of a dtype."""


def free_fill(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], float]:
    """Return a wider dtype for the values of a dtype, and a fill value outside the range of the latter.

    -1 for unsigned integers, the smallest value of the wider dtype for signed ones, NaN for floating point. 64-bit
    integers have no wider dtype: their fill is the value furthest from zero, see `require_free`.

    Examples
    --------
    >>> free_fill(np.dtype("uint8"))
    (dtype('int16'), -1)
    """
    if dtype.kind == "f":
        return dtype, float("nan")
    if dtype.itemsize == 8:
        limits = np.iinfo(dtype)
        return dtype, int(limits.min or limits.max)
    wider = np.dtype(_WIDER[dtype.newbyteorder("=").name])
    return wider, -1 if dtype.kind in "bu" else int(np.iinfo(wider).min)


def require_free(values: Array, valid: Mask | None, dtype: np.dtype[Any], nodata: float | None) -> None:
    """Raise if a valid pixel of 64-bit integers has the fill value, like an invalid pixel.

    Raises
    ------
    ReadError
        If a valid pixel has the value.
    """
    if nodata is None or dtype.kind not in "iu" or dtype.itemsize < 8 or values.dtype != dtype:
        return
    hits = values == dtype.type(nodata)
    if (hits if valid is None else hits & valid).any():
        problem = f"Cannot represent missing pixels of a layer of {dtype}: valid pixels have its fill value {nodata}."
        raise ReadError(problem, remedy="Pass {nodata}, a number that no valid pixel has.", argument="nodata")


def require_fill(source: Any, valid: Mask) -> None:
    """Raise if pixels are invalid by a mask that no catalog states, in a layer without a fill value for them.

    Raises
    ------
    ReadError
        If a pixel would become valid in an array, which holds values and no mask.
    """
    if source.nodata is not None or source.dtype.kind == "f" or valid.all():
        return
    scenes: Iterable[Scene] = getattr(source, "scenes", ())
    unknown = [a.href for scene in scenes for a in scene.assets if a is not None and a.masked is None]
    if unknown:
        problem = f"Cannot compute the layer: {int((~valid).sum())} pixels are invalid by a mask or alpha band that no "
        problem += f"item states (such as that of {redact_url(unknown[0])!r}), and its {source.dtype} has no number "
        problem += "for them."
        raise ReadError(problem, remedy="Pass {headers:'all'} or {nodata} to open_stac.", argument="headers")


def covers(scenes: Iterable[Scene], grid: GeoBox) -> bool:
    """Return whether the files of scenes cover a whole grid pixel by pixel, in every band."""
    grids: dict[Any, GeoBox] = {}
    for scene in scenes:
        # Hashing a CRS is slow, hence its id.
        scene_grids = {(id(a.grid.crs), a.grid.affine, *a.grid.shape): a.grid for a in scene.assets if a is not None}
        if len(scene_grids) == 1 and None not in scene.assets:
            grids |= scene_grids
    boxes = []
    for scene_grid in grids.values():
        coincidence = coinciding_grid(grid, scene_grid)
        if coincidence is not None:
            (row, col), (rows, cols) = coincidence[1], scene_grid.shape
            boxes.append(shapely.box(-col, -row, cols - col, rows - row))
    extent = shapely.box(0, 0, grid.shape[1], grid.shape[0])
    return any(box.covers(extent) for box in boxes) or bool(shapely.union_all(boxes).covers(extent))


def has_invalid(scenes: Iterable[Scene]) -> bool:
    """Return whether files of scenes without nodata can have invalid pixels: by masks, quality or missing bands."""
    return any(scene.quality or any(a is None or a.masked or a.extra_nodata for a in scene.assets) for scene in scenes)


def comparable(nodata: float | None) -> float | str | None:
    """Return a nodata value for comparisons, with "nan" for NaN, which does not equal itself."""
    return "nan" if nodata is not None and np.isnan(nodata) else nodata
