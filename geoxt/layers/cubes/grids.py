"""Grid of a variable: from its coordinates, or from the transform that its attributes state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError
from geoxt.layers.cubes.variable import Variable
from geoxt.types import Array

IRREGULAR = 0.01
"""Maximum deviation of coordinates from even spacing, in steps."""


def grid_of_variable(variable: Variable, crs: CRS) -> GeoBox:
    """Return the grid of a variable, in the orientation of its array.

    Raises
    ------
    GridError
        If its coordinates are irregular, missing or two-dimensional, or contradict its transform.
    """
    affine = affine_of(variable)
    return GeoBox(variable.grid_shape, affine, crs)


def affine_of(variable: Variable) -> Affine:
    """Return the affine of a variable; see `grid_of_variable`."""
    coordinates = _of_coordinates(variable)
    if coordinates is not None and _has_pixel_numbers(variable):  # of a rotated grid, as odc-geo writes it
        geo_transform = _geo_transform(variable)
        if geo_transform is None:
            raise _missing_grid_error(variable)
        return geo_transform @ coordinates
    transform = _affine_of_attrs(variable)
    if transform is not None and coordinates is not None:
        rows, cols = variable.grid_shape
        for corner in ((0, 0), (cols, rows)):
            x, y = ~transform @ (coordinates @ corner)
            if max(abs(x - corner[0]), abs(y - corner[1])) > 0.5:
                problem = f"Cannot place {variable.path!r}: its transform {tuple(transform[:6])} contradicts its "
                raise GridError(f"{problem}coordinates, {tuple(coordinates[:6])}.", remedy="Correct one of them.")
        return coordinates
    affine = transform or coordinates
    if affine is None:
        raise _missing_grid_error(variable)
    return affine


def curvilinear_error(name: str, coordinates: Sequence[str]) -> GridError:
    """Return the error of a variable on a grid of two-dimensional coordinates."""
    problem = f"Cannot open {name}: its grid is not regular, but given by {' and '.join(coordinates)}."
    return GridError(problem, remedy="Resample it to a regular grid first, such as by pyresample or xESMF.")


def _missing_grid_error(variable: Variable) -> GridError:
    curvilinear = str(variable.attrs.get("coordinates", "")).split()
    if curvilinear:
        return curvilinear_error(repr(variable.path), curvilinear)
    problem = f"Cannot open {variable.path!r}: it has neither coordinates along y and x nor a transform."
    return GridError(problem, remedy="Assign regular coordinates.")


def _of_coordinates(variable: Variable) -> Affine | None:
    """Return the affine transform of 1D coordinates of pixel centers; `None` without such coordinates."""
    ends = []
    for axis in reversed(variable.axes):
        dim = variable.dims[axis]
        if dim not in variable.coords.variables or variable.coords[dim].dtype.kind not in "iuf":
            return None
        values = variable.coords[dim].to_numpy().astype("float64")
        if len(values) != variable.shape[axis]:
            problem = f"Cannot open {variable.path!r}: {len(values)} {dim} coordinates for {variable.shape[axis]} "
            raise GridError(f"{problem}pixels.", remedy="Correct the coordinates.")
        if len(values) < 2:
            return None
        ends.append((values[0], _step(values, dim, variable)))
    (x, width), (y, height) = ends
    return Affine(width, 0, x - width / 2, 0, height, y - height / 2)


def _step(values: Array, dim: str, variable: Variable) -> float:
    """Return the step of even coordinates.

    Raises
    ------
    GridError
        If they are uneven.
    """
    step = float(values[-1] - values[0]) / (len(values) - 1)
    even = values[0] + step * np.arange(len(values))
    if step and np.abs(values - even).max() <= IRREGULAR * abs(step):
        return _round_step(step, values)
    steps = np.diff(values)
    worst = int(np.argmax(np.abs(steps - np.median(steps)))) if np.isfinite(values).all() else 0
    problem = f"Cannot open {variable.path!r}: {dim} is not regular, as step {worst} is {steps[worst]:g} and the "
    remedy = "Resample it to a regular grid first, such as with Dataset.interp()."
    raise GridError(f"{problem}median step {np.median(steps):g}.", remedy=remedy)


def _round_step(step: float, values: Array) -> float:
    """Return a step without the rounding errors of coordinates: 0.25 for 0.2499999, if all coordinates allow it."""
    short = float(f"{step:.9g}")
    even = values[0] + short * np.arange(len(values))
    return short if np.abs(values - even).max() <= 1e-6 * abs(step) else step


def _affine_of_attrs(variable: Variable) -> Affine | None:
    """Return the transform in attributes: of the variable, its grid mapping or its group."""
    transforms = [
        (_numbers(attrs.get(key)), attrs)
        for attrs in (variable.attrs, variable.coords.attrs)
        for key in ("spatial:transform", "proj:transform")
    ]
    for numbers, attrs in transforms:
        if numbers is not None:
            if attrs.get("spatial:transform_type", "affine") != "affine":
                problem = f"Cannot place {variable.path!r}: its spatial:transform_type is "
                raise GridError(f"{problem}{attrs['spatial:transform_type']!r}, not 'affine'.",
                                remedy="Assign regular coordinates.")  # fmt: skip
            affine = Affine(*numbers)
            node = attrs.get("spatial:registration") == "node"  # then the transform refers to pixel centers
            return affine @ Affine.translation(-0.5, -0.5) if node else affine
    return _geo_transform(variable)


def _has_pixel_numbers(variable: Variable) -> bool:
    """Return whether coordinates along y and x are pixel numbers."""
    dims = [variable.dims[axis] for axis in variable.axes]
    return all(dim in variable.coords.variables and variable.coords[dim].attrs.get("units") == "pixel" for dim in dims)


def _geo_transform(variable: Variable) -> Affine | None:
    """Return the `GeoTransform` of the variable's grid mapping."""
    mapping = variable.attrs.get("grid_mapping") or "spatial_ref"
    name = str(mapping).split(":", 1)[0].split()[0]
    if name in variable.coords.variables:
        numbers = _numbers(variable.coords[name].attrs.get("GeoTransform"))
        if numbers is not None:
            return Affine.from_gdal(*numbers)
    return None


def _numbers(value: Any) -> tuple[float, ...] | None:
    """Return six coefficients of a list or a text; `None` for other values."""
    if value is None or isinstance(value, Mapping):
        return None
    parts: Sequence[Any] = value.split() if isinstance(value, str) else list(value)
    return tuple(float(part) for part in parts[:6]) if len(parts) in {6, 9} else None
