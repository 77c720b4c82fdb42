"""Types of arguments that public functions accept; each has one function that normalizes it."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "Array",
    "Estimator",
    "Floats",
    "Mask",
    "Precision",
    "Quantization",
    "Resampling",
    "SomeCRS",
    "SomePath",
    "SomePaths",
    "SomeSize",
]

Array = npt.NDArray[Any]
"""Any numpy array."""
Mask = npt.NDArray[np.bool_]
"""A numpy array of bool; as a valid mask, True for valid pixels."""
Floats = npt.NDArray[np.float64]
"""A numpy array of float64."""
SomePath = str | PathLike[str]
"""A path or an address, as a string or a `pathlib.Path`."""
SomeCRS = Any
"""Anything that `odc.geo.CRS` accepts: EPSG code, WKT, PROJ string, pyproj or odc-geo CRS."""
SomeSize = int | tuple[int, int]
"""Size in pixels: one number for a square, or (height, width)."""
SomePaths = SomePath | Sequence[SomePath]
"""One path or several."""
Resampling = Literal["nearest", "bilinear", "cubic", "lanczos", "average", "mode", "min", "max"]
"""Resampling method, by GDAL's names."""
Quantization = Literal["signed square"]
"""Conversion of stored integers to numbers that is not linear."""
Precision = Literal["32", "bf16", "16"]
"""Floating-point numbers of a model's computations: float32, or mixed precision with bfloat16 or float16; its weights
are float32."""


class Estimator(Protocol):
    """An estimator with scikit-learn's interface; fitted, it has `predict` or `transform`."""

    def fit(self, X: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N803 (scikit-learn's name)
        """Fit to features (n, features)."""
