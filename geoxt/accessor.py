"""`.geoml`: the functions of geoxt as methods of DataArrays, Datasets and DataTrees.

Each method is the function of the same name, with the data as its first argument. The definitions below state the
signatures for type checkers and IDEs; at run time the function itself is bound on first use, so that importing geoxt
loads no torch and `help(layer.geoml.align)` shows the function's docstring.
"""
# mypy: disable-error-code="empty-body"

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, cast

import xarray as xr

if TYPE_CHECKING:  # at run time, methods import what they need
    import pandas as pd
    import torch
    from matplotlib.figure import Figure
    from odc.geo.geobox import GeoBox
    from torch import nn
    from torch.utils.data import DataLoader

    from geoxt.alignment.retarget import Chunks
    from geoxt.bridge.layer_reader import TensorDtype
    from geoxt.bridge.loader import DataLoaderOptions
    from geoxt.bridge.read_batch import Sample
    from geoxt.bridge.window_dataset import Transform, WindowDataset
    from geoxt.inference.devices import SomeDevice
    from geoxt.inference.scene import PredictOptions
    from geoxt.legend import Legend
    from geoxt.plot import InteractiveMap
    from geoxt.samplers import WindowSequence
    from geoxt.tables.pixel_table import Reduction
    from geoxt.tiling.map_tile import SomeTiles
    from geoxt.trees import SomeData
    from geoxt.types import Estimator, Precision, Resampling, SomeCRS, SomePath, SomeSize
    from geoxt.windows import Window

Method = TypeVar("Method", bound=Callable[..., Any])


class _Bind(Protocol):
    """A decorator that keeps the signature."""

    def __call__(self, declared: Method, /) -> Method: ...


class _Bound:
    """A function as a method, imported on first use."""

    def __init__(self, module: str, declared: Callable[..., Any]) -> None:
        self.module, self.declared, self.__doc__ = module, declared, declared.__doc__

    def __get__(self, instance: Any, owner: type) -> Any:
        function = getattr(import_module(self.module), self.declared.__name__)
        return function if instance is None else MethodType(function, instance._data)  # noqa: SLF001


def _function_of(module: str) -> _Bind:
    """Bind the function of the same name in a module, imported on first use."""

    def bind(declared: Method) -> Method:
        return cast("Method", _Bound(module, declared))

    return bind


class _Accessor:
    """Methods of every kind of data."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @_function_of("geoxt.bridge")
    def loader(
        self,
        windows: WindowSequence | Iterable[Window],
        *,
        batch_size: int | None = 1,
        num_workers: int = 0,
        threads: int | None = None,
        transform: Transform | None = None,
        dtype: TensorDtype = "float32",
        drop_last: bool = False,
        device: str | torch.device | None = None,
        **options: Unpack[DataLoaderOptions],
    ) -> DataLoader[Sample]:
        """Return a DataLoader of the windows' pixels; see `geoxt.bridge.loader`."""

    @_function_of("geoxt.bridge")
    def to_torch(
        self,
        windows: WindowSequence | Iterable[Window],
        *,
        transform: Transform | None = None,
        dtype: TensorDtype = "float32",
        threads: int | None = None,
    ) -> WindowDataset:
        """Return a torch Dataset of the windows' pixels; see `geoxt.bridge.to_torch`."""

    @_function_of("geoxt.tables")
    def extract(self, geometries: Any, *, reduce: Reduction | Sequence[Reduction] | None = None) -> Any:
        """Return a table of the pixels at points or in polygons; see `geoxt.extract`."""

    @_function_of("geoxt.plot")
    def plot(self, *, title: str | None = None, legend: Legend | None = None) -> Figure:
        """Draw the data; see `geoxt.plot.plot`."""

    @_function_of("geoxt.plot")
    def explore(
        self, *, legend: Legend | None = None, basemap: str | None = None, title: str | None = None
    ) -> InteractiveMap:
        """Return an interactive map of the data; see `geoxt.plot.explore`."""


class _GridAccessor(_Accessor):
    """Methods of data on one grid."""

    @property
    def grid(self) -> GeoBox:
        """The grid: CRS, affine and shape."""
        grid: GeoBox = import_module("geoxt.grid").grid_of(self._data)
        return grid

    @_function_of("geoxt.inference")
    def predict(
        self, model: nn.Module | Estimator | SomePath | None = None, **options: Unpack[PredictOptions]
    ) -> xr.DataArray:
        """Return a lazy map of the model's predictions; see `geoxt.predict`."""

    @_function_of("geoxt.writers")
    def to_cog(self, path: SomePath, *, resume: bool = True, progress: bool | None = None) -> Path:
        """Write the layer, or variables with one band each, as a cloud-optimized GeoTIFF; see `geoxt.to_cog`."""

    @_function_of("geoxt.writers")
    def to_zarr(
        self, path: SomePath, *, shards: int | None = None, resume: bool = True, progress: bool | None = None
    ) -> Path:
        """Write the layer, or variables with one band each, as a Zarr store; see `geoxt.to_zarr`."""


@xr.register_dataarray_accessor("geoml")
class DataArrayAccessor(_GridAccessor):
    """`.geoml` of a DataArray."""

    @property
    def legend(self) -> Legend:
        """Class codes, names and colors, from the attributes."""
        legend: Legend = import_module("geoxt.legend").Legend.of(self._data)
        return legend

    @_function_of("geoxt.alignment")
    def align(
        self, other: SomeData | GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
    ) -> xr.DataArray:
        """Return the layer on the grid of another; see `geoxt.align`."""

    @_function_of("geoxt.layers")
    def describe(self) -> pd.DataFrame:
        """Return a summary: product, bands, dates, grid, nodata, classes, and why; see `geoxt.layers.describe`."""

    @_function_of("geoxt.layers")
    def reads(self, window: Window | None = None) -> pd.DataFrame:
        """Return the blocks of files that reading a window touches; see `geoxt.layers.reads`."""

    @_function_of("geoxt.inference")
    def detect(
        self,
        model: nn.Module | SomePath,
        *,
        size: SomeSize = 512,
        overlap: SomeSize | None = None,
        batch_size: int = 2,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.5,
        class_agnostic: bool = False,
        bands: Mapping[str, str] | None = None,
        legend: Legend | None = None,
        progress: bool | None = None,
        device: SomeDevice = "auto",
        precision: Precision = "32",
        compile: bool = False,
    ) -> Any:
        """Return the model's detections as a GeoDataFrame; see `geoxt.detect`."""

    @_function_of("geoxt.tiling")
    def to_tiles(
        self,
        folder: SomePath,
        *,
        tiles: SomeTiles = 10_000,
        tile_crs: SomeCRS | None = None,
        part: str | tuple[int, int] | None = None,
        num_workers: int = 0,
        retries: int = 2,
        model: SomePath | None = None,
        progress: bool | None = None,
    ) -> Any:
        """Write the layer as one COG per map tile, resumably; see `geoxt.to_tiles`."""


@xr.register_dataset_accessor("geoml")
class DatasetAccessor(_GridAccessor):
    """`.geoml` of a Dataset: layers, or the bands of one layer, on one grid."""

    @_function_of("geoxt.plot")
    def samples(
        self, windows: Iterable[Window], *, image: str = "image", mask: str = "mask", columns: int = 8
    ) -> Figure:
        """Draw windows of an image above their masks; see `geoxt.plot.samples`."""

    @_function_of("geoxt.alignment")
    def align(
        self, other: SomeData | GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
    ) -> xr.Dataset:
        """Return the layers on the grid of another; see `geoxt.align`."""


@xr.register_datatree_accessor("geoml")
class DataTreeAccessor(_Accessor):
    """`.geoml` of a DataTree: layers in several CRSs, a node for each grid."""

    @property
    def grids(self) -> dict[str, GeoBox]:
        """The grid of each node."""
        grids: dict[str, GeoBox] = import_module("geoxt.trees").grids_of(self._data)
        return grids

    @_function_of("geoxt.alignment")
    def align(
        self, other: SomeData | GeoBox, *, resampling: Resampling | None = None, chunks: Chunks = None
    ) -> xr.DataArray | xr.DataTree:
        """Return the tree on the grid, or grids, of another; see `geoxt.align`."""

    @_function_of("geoxt.inference")
    def predict(
        self, model: nn.Module | Estimator | SomePath | None = None, **options: Unpack[PredictOptions]
    ) -> xr.DataTree:
        """Return a lazy map of the model's predictions for each node; see `geoxt.predict`."""
