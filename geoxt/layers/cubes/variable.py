"""Variables of a data cube: arrays with named dimensions, attributes and coordinates, before any pixel is read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import GridError

NAMES = {
    "y": frozenset({"y", "lat", "latitude", "northing", "yc", "projection_y_coordinate"}),
    "x": frozenset({"x", "lon", "long", "longitude", "easting", "xc", "projection_x_coordinate"}),
}
"""Names of spatial dimensions and standard names of their coordinates, in lower case."""
STANDARD_NAMES = {
    "y": frozenset({"latitude", "projection_y_coordinate", "grid_latitude"}),
    "x": frozenset({"longitude", "projection_x_coordinate", "grid_longitude"}),
}
"""Standard names of CF of coordinates along y and x."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variable:
    """A variable of a group of a cube."""

    name: str
    """Name in its group."""
    group: str
    """Path of the group; empty for the root."""
    dims: tuple[str, ...]
    """Names of its dimensions."""
    shape: tuple[int, ...]
    """Sizes of its dimensions."""
    dtype: np.dtype[Any]
    """Stored data type."""
    attrs: Mapping[Hashable, Any]
    """Attributes, with `_FillValue`, `scale_factor` and `add_offset` undecoded."""
    chunks: tuple[int, ...] | None
    """Sizes of the stored chunks, or `None`."""
    coords: xr.Dataset
    """Coordinates and other variables of its group with at most one dimension, in memory; attributes of the group."""
    parents: tuple[Mapping[str, Any], ...]
    """Attributes of the groups above, from the nearest to the root."""
    array: Any
    """Source of the pixels: an array of zarr, or a variable of xarray."""

    @property
    def path(self) -> str:
        """Path of the variable."""
        return f"{self.group}/{self.name}".lstrip("/")

    @property
    def scopes(self) -> tuple[Mapping[Any, Any], ...]:
        """Attributes that may describe the variable, its attributes first, then those of its groups up to the root."""
        return self.attrs, self.coords.attrs, *self.parents

    def axis(self, direction: str) -> int | None:
        """Return the position of the y or x dimension, or `None`.

        Raises
        ------
        GridError
            If several dimensions are candidates.
        """
        spatial_dims = next((s["spatial:dimensions"] for s in self.scopes if "spatial:dimensions" in s), None)
        if spatial_dims is not None and set(spatial_dims[-2:]) <= set(self.dims):
            return self.dims.index(spatial_dims[-2:][0 if direction == "y" else 1])
        axes = [i for i, dim in enumerate(self.dims) if self._is_along(dim, direction)]
        if len(axes) > 1:
            problem = f"Cannot open {self.path!r}: its dimensions {[self.dims[i] for i in axes]} are all along "
            raise GridError(f"{problem}{direction}.", remedy="Rename one of them.")
        return axes[0] if axes else None

    def _is_along(self, dim: str, direction: str) -> bool:
        """Return whether a dimension is along y or x: by its name, or by the CF attributes of its coordinate."""
        if dim.lower() in NAMES[direction]:
            return True
        attrs = self.coords[dim].attrs if dim in self.coords.variables else {}
        has_standard_name = attrs.get("standard_name") in STANDARD_NAMES[direction]
        return has_standard_name or str(attrs.get("axis", "")).lower() == direction

    @property
    def axes(self) -> tuple[int, int]:
        """Positions of the y and x dimensions of a spatial variable."""
        y, x = self.axis("y"), self.axis("x")
        assert y is not None
        assert x is not None
        return y, x

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of a spatial variable."""
        y, x = self.axes
        return self.shape[y], self.shape[x]

    @property
    def spatial(self) -> bool:
        """Whether it has both spatial dimensions."""
        return len(self.dims) > 1 and self.axis("y") is not None and self.axis("x") is not None
