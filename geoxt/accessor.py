"""`.geoml`: the functions of geoxt, bound to a layer, a Dataset of layers, or a tree of several CRSs."""

from __future__ import annotations

from importlib import import_module
from types import MethodType
from typing import Any

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.grid import grid_of
from geoxt.trees import grids_of


class _Bound:
    """A function of geoxt as a method: imported on first use, with its own name, signature and docstring."""

    def __init__(self, path: str) -> None:
        self.module, self.name = path.split(":")

    def __get__(self, instance: Any, owner: type) -> Any:
        function = getattr(import_module(self.module), self.name)
        return function if instance is None else MethodType(function, instance.data)


class Geoml:
    """What geoxt does with data; each method is the function of the same name, with the data as its subject."""

    def __init__(self, data: Any) -> None:
        self.data = data

    loader = _Bound("geoxt.bridge:loader")
    to_torch = _Bound("geoxt.bridge:to_torch")


class GridGeoml(Geoml):
    """What lies on one grid."""

    @property
    def grid(self) -> GeoBox:
        """The grid of the layer: CRS, affine and shape."""
        return grid_of(self.data)


@xr.register_dataset_accessor("geoml")
class DatasetGeoml(GridGeoml):
    """`.geoml` of a Dataset of layers on one grid."""


@xr.register_datatree_accessor("geoml")
class TreeGeoml(Geoml):
    """`.geoml` of a tree of layers in several CRSs."""

    align = _Bound("geoxt.alignment:align")
    predict = _Bound("geoxt.inference:predict")
    plot = _Bound("geoxt.plot:plot")

    @property
    def grids(self) -> dict[str, GeoBox]:
        """The grid of each child, by node."""
        return grids_of(self.data)


@xr.register_dataarray_accessor("geoml")
class ArrayGeoml(GridGeoml):
    """`.geoml` of a layer."""

    align = _Bound("geoxt.alignment:align")
    predict = _Bound("geoxt.inference:predict")
    plot = _Bound("geoxt.plot:plot")
    detect = _Bound("geoxt.inference:detect")
    to_cog = _Bound("geoxt.writers:to_cog")
    to_zarr = _Bound("geoxt.writers:to_zarr")
    legend = property(lambda self: import_module("geoxt.legend").Legend.of(self.data), doc="Codes, names and colours.")
