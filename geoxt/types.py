"""Types of arguments that public functions accept; each has one function that normalizes it."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Floats", "Mask", "Resampling", "SomeCRS", "SomePath", "SomePaths", "SomeSize"]

Array = npt.NDArray[Any]
"""Any numpy array."""
Mask = npt.NDArray[np.bool_]
"""A numpy array of truth values, true where a pixel is valid."""
Floats = npt.NDArray[np.float64]
"""A numpy array of float64."""
SomePath = str | PathLike[str]
SomeCRS = Any
"""Whatever `odc.geo.CRS` takes: an EPSG code, WKT, PROJ string, pyproj or odc-geo CRS."""
SomeSize = int | tuple[int, int]
"""Pixels: one number for a square, or (height, width)."""
SomePaths = SomePath | Sequence[SomePath]
Resampling = Literal["nearest", "bilinear", "cubic", "lanczos", "average", "mode", "min", "max"]
"""How pixels of one grid become pixels of another, in GDAL's terms."""
