"""`.geoml`: the functions of geoxt, bound to a layer or a Dataset of layers."""

from __future__ import annotations

from importlib import import_module
from types import MethodType
from typing import Any

import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.grid import grid_of


class _Bound:
    """A function of geoxt as a method: imported on first use, with its own name, signature and docstring."""

    def __init__(self, path: str) -> None:
        self.module, self.name = path.split(":")

    def __get__(self, instance: Any, owner: type) -> Any:
        function = getattr(import_module(self.module), self.name)
        return function if instance is None else MethodType(function, instance.data)


class Geoml:
    """What geoxt does with a layer; each method is the function of the same name, with the layer as its subject."""

    def __init__(self, data: xr.DataArray | xr.Dataset) -> None:
        self.data = data

    loader = _Bound("geoxt.bridge:loader")
    to_torch = _Bound("geoxt.bridge:to_torch")

    @property
    def grid(self) -> GeoBox:
        """The grid of the layer: CRS, affine and shape."""
        return grid_of(self.data)


@xr.register_dataset_accessor("geoml")
class DatasetGeoml(Geoml):
    """`.geoml` of a Dataset of layers on one grid."""


@xr.register_dataarray_accessor("geoml")
class ArrayGeoml(Geoml):
    """`.geoml` of a layer."""

    align = _Bound("geoxt.align:align")
    predict = _Bound("geoxt.predict:predict")
    plot = _Bound("geoxt.plot:plot")
    to_cog = _Bound("geoxt.predict:to_cog")
    legend = property(lambda self: import_module("geoxt.legend").Legend.of(self.data), doc="Codes, names and colours.")
