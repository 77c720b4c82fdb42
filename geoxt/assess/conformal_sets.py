"""Conformal sets of classes and conformal intervals, as lazy layers of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.assess.conformal_scores import SCORES, Exchangeable, Method
from geoxt.errors import InputError
from geoxt.types import Array, Floats

NODATA = 255
"""Value of pixels without a prediction in layers of sets."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConformalSets:
    """Conformal prediction sets: classes that include the true class with a probability of at least 1 - alpha.

    Arrays have one number per class, in the order of `classes`.
    """

    alpha: float
    """Requested error rate."""
    method: Method
    """Conformity score: "lac" or "aps"."""
    class_conditional: bool
    """Whether the probability holds for each class, not only over all pixels."""
    exchangeable: Exchangeable
    """Whether it holds for pixels like the calibration pixels, or for pixels of new blocks."""
    classes: tuple[str, ...]
    """Names of the classes, as of the bands of probabilities."""
    thresholds: Array
    """Maximum conformity score of a class in a set, float32; infinite for classes with too few calibration pixels."""
    calibration_pixels: Array
    """Number of calibration pixels of each class."""
    test_pixels: Array
    """Number of test pixels of each class, in other blocks."""
    coverage: float
    """Fraction of the test pixels whose set contains their class."""
    coverage_ci95: float
    """Half width of its 95 % interval over blocks such as the test blocks; NaN for one block."""
    class_coverage: Floats
    """Coverage of each class; NaN for classes without test pixels."""
    class_coverage_ci95: Floats
    """Half widths of their 95 % intervals; NaN for classes that fewer than two test blocks contain."""
    sizes: Array
    """Number of test pixels by set size, 0 to the number of classes. Shape (classes + 1,)."""
    blocks: tuple[int, int]
    """Numbers of calibration and test blocks."""

    @property
    def mean_size(self) -> float:
        """Mean set size of the test pixels."""
        return float((self.sizes * np.arange(len(self.sizes))).sum() / self.sizes.sum())

    def predict_set(self, probabilities: xr.DataArray) -> xr.DataArray:
        """Return the conformal prediction set of each pixel.

        Parameters
        ----------
        probabilities
            Probabilities ([time,] band, y, x) of the same model: `predict(…, output="probabilities")`.

        Returns
        -------
        xarray.DataArray
            Lazy, uint8, of the shape of the probabilities: 1 for classes in the set, 0 for others, nodata 255.

        Raises
        ------
        InputError
            If the bands are not the classes. When computed, if values are not probabilities.
        """
        sets = self._apply(probabilities, ["band"]).transpose(*probabilities.dims)
        return self._described(sets, probabilities, "class in the conformal set")

    def set_size(self, probabilities: xr.DataArray) -> xr.DataArray:
        """Return the number of classes in the set of each pixel.

        Parameters
        ----------
        probabilities
            As for `predict_set`.

        Returns
        -------
        xarray.DataArray
            Lazy, uint8 ([time,] y, x), nodata 255; uint16 for 255 classes or more.

        Raises
        ------
        InputError
            If the bands are not the classes. When computed, if values are not probabilities.
        """
        return self._described(self._apply(probabilities, []), probabilities, "size of the conformal set")

    def _apply(self, probabilities: xr.DataArray, core: list[str]) -> xr.DataArray:
        require_bands(probabilities, self.classes)
        chunked = probabilities.chunk(band=-1) if probabilities.chunks is not None else probabilities
        sets: xr.DataArray = xr.apply_ufunc(
            prediction_sets if core else set_sizes,
            chunked,
            kwargs={"thresholds": self.thresholds, "method": self.method},
            input_core_dims=[["band"]],
            output_core_dims=[core],
            dask="parallelized",
            output_dtypes=[np.uint8 if core else size_dtype(len(self.classes))],
        )
        return sets

    def _described(self, layer: xr.DataArray, probabilities: xr.DataArray, long_name: str) -> xr.DataArray:
        nodata = layer.dtype.type(np.iinfo(layer.dtype).max)
        attrs = {"_FillValue": nodata, "long_name": long_name, "alpha": self.alpha, "method": self.method}
        name = "set_size" if "band" not in layer.dims else "conformal_set"
        return layer.drop_attrs().assign_attrs(attrs).rename(name).assign_coords(probabilities.drop_vars("band").coords)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with a row per class: coverage, test pixels, calibration pixels and threshold."""
        columns = {
            "coverage": self.class_coverage,
            "coverage_ci95": self.class_coverage_ci95,
            "test_pixels": self.test_pixels,
            "calibration_pixels": self.calibration_pixels,
            "threshold": self.thresholds,
        }
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    def __repr__(self) -> str:
        head = (
            f"sets of alpha={self.alpha:g} ({self.method}): coverage {self.coverage:.4f} ± {self.coverage_ci95:.4f}, "
        )
        head += f"mean size {self.mean_size:.2f}, on {self.test_pixels.sum():,} pixels in {self.blocks[1]} blocks"
        return f"{head}\n{self.to_dataframe().to_string(float_format='%.4f')}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConformalIntervals:
    """Conformal prediction intervals, which contain the true value with a probability of at least 1 - alpha."""

    alpha: float
    """Requested error rate."""
    half_width: float
    """Half the width of the intervals, in the unit of the quantity."""
    calibration_pixels: int
    """Number of calibration pixels."""
    test_pixels: int
    """Number of test pixels, in other blocks."""
    coverage: float
    """Fraction of the test pixels whose interval contains their value."""
    coverage_ci95: float
    """Half width of its 95 % interval over blocks such as the test blocks; NaN for one block."""
    blocks: tuple[int, int]
    """Numbers of calibration and test blocks."""

    def predict_interval(self, predicted: xr.DataArray) -> xr.DataArray:
        """Return the conformal prediction interval of each pixel.

        Parameters
        ----------
        predicted
            Prediction ([time,] band, y, x) of the same model, with one band.

        Returns
        -------
        xarray.DataArray
            Lazy, float32 ([time,] band, y, x) with the bands "lower" and "upper"; NaN for pixels without a prediction.

        Raises
        ------
        InputError
            If there are several bands.
        """
        if predicted.sizes.get("band", 1) != 1:
            problem = f"Cannot compute intervals of {predicted.sizes['band']} bands."
            raise InputError(problem, remedy="Pass one band: predicted.isel(band=[0]).", argument="predicted")
        center = predicted.isel(band=0, drop=True) if "band" in predicted.dims else predicted
        half_width = np.float32(self.half_width)
        ends = xr.concat([center - half_width, center + half_width], "band").transpose(..., "band", "y", "x")
        attrs = {"_FillValue": np.float32(np.nan), "long_name": "end of the conformal interval", "alpha": self.alpha}
        coords = predicted.drop_vars("band", errors="ignore").coords
        named = ends.drop_attrs().assign_coords(coords).assign_coords(band=["lower", "upper"])
        return named.assign_attrs(attrs).rename("conformal_interval").astype(np.float32)

    def __repr__(self) -> str:
        return (
            f"intervals of alpha={self.alpha:g}: ± {self.half_width:g}, coverage {self.coverage:.4f} ± "
            f"{self.coverage_ci95:.4f} on {self.test_pixels:,} pixels in {self.blocks[1]} blocks"
        )


def in_set(probabilities: Array, thresholds: Array, method: Method) -> Array:
    """Return whether each class (…, class) is in the set; "aps" always includes the most probable class."""
    members: Array = SCORES[method](probabilities) <= thresholds
    if method == "aps":
        np.put_along_axis(members, probabilities.argmax(-1)[..., None], True, -1)
    return members


def prediction_sets(probabilities: Array, *, thresholds: Array, method: Method) -> Array:
    """Return 1 for classes (…, class) in the set, 0 for others, `NODATA` for pixels that are not finite."""
    valid = _valid(probabilities)
    return np.where(valid[..., None], in_set(probabilities, thresholds, method), np.uint8(NODATA)).astype(np.uint8)


def set_sizes(probabilities: Array, *, thresholds: Array, method: Method) -> Array:
    """Return the number of classes in the set of each pixel, `NODATA` for pixels that are not finite."""
    sizes = in_set(probabilities, thresholds, method).sum(-1)
    dtype = size_dtype(probabilities.shape[-1])
    return np.where(_valid(probabilities), sizes, np.iinfo(dtype).max).astype(dtype)


def size_dtype(classes: int) -> np.dtype[Any]:
    """Return the dtype of set sizes; its largest value is nodata."""
    return np.dtype(np.uint8 if classes < NODATA else np.uint16)


def _valid(probabilities: Array) -> Array:
    """Return whether all classes of each pixel are finite, and raise if values are not probabilities."""
    valid: Array = np.asarray(np.isfinite(probabilities).all(-1))
    values = probabilities[valid]
    if values.size and not (values.min() >= -1e-4 and values.max() <= 1 + 1e-4):
        problem = f"Cannot take values from {values.min():g} to {values.max():g} as probabilities."
        remedy = "Pass {probabilities} as predict(…, output='probabilities') returns them."
        raise InputError(problem, remedy=remedy, argument="probabilities")
    return valid


def require_bands(probabilities: xr.DataArray, classes: tuple[str, ...]) -> None:
    """Raise if the bands of a layer are not the classes.

    Raises
    ------
    InputError
        If names, number or order differ.
    """
    bands = tuple(map(str, probabilities["band"].to_numpy())) if "band" in probabilities.coords else ()
    if bands != classes:
        problem = f"Cannot compute sets of the classes {', '.join(classes)} for a layer with the bands {bands}."
        remedy = "Pass {probabilities} as predict(…, output='probabilities') of the same model returns them."
        raise InputError(problem, remedy=remedy, value=bands, argument="probabilities")
