"""Keyword arguments of the openers, for type checkers: `**options: Unpack[CogOptions]` in their overloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.layers.area import SomeBounds, SomeGeometry
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.exclusion_masks import SomeExclude
from geoxt.layers.products import Product
from geoxt.layers.stac.filters import SomeTimes
from geoxt.layers.stac.odc_config import StacConfig
from geoxt.layers.time import Composite, GroupBy
from geoxt.legend import Legend
from geoxt.pixels.block_cache import SomeCache
from geoxt.pixels.credentials import Sign
from geoxt.template import Template
from geoxt.types import Resampling, SomeCRS


class GridOptions(TypedDict, total=False):
    """Keyword arguments that all openers of rasters share, without `crs`."""

    product: str | Product | None
    bands: str | Sequence[str] | None
    bbox: SomeBounds | None
    intersects: SomeGeometry | None
    resolution: float | tuple[float, float] | None
    grid: GeoBox | None
    groupby: GroupBy
    composite: Composite
    rescale: bool
    nodata: float | None
    source_crs: SomeCRS | None
    resampling: Resampling | None
    chunks: Mapping[str, int] | int | None
    errors: Literal["raise", "nodata"]
    name: str | None


class OpenOptions(GridOptions, total=False):
    """Keyword arguments that `open_cogs` and `open_stac` share, without `crs`."""

    exclude: SomeExclude
    sign: Sign | None
    env: Mapping[str, object] | None
    cache: SomeCache


class CogOptions(OpenOptions, total=False):
    """Keyword arguments of `open_cogs`, without `crs`."""

    pattern: str | Template | None
    like: xr.DataArray | xr.Dataset | None
    scale: float | None
    offset: float | None
    baseline: str | None
    categorical: bool | None


class StacOptions(OpenOptions, total=False):
    """Keyword arguments of `open_stac`, without `crs`."""

    baseline: str | None
    collections: str | Sequence[str] | None
    datetime: SomeTimes | None
    query: str | Mapping[str, object] | None
    limit: int | None
    deduplicate: bool
    stac_cfg: StacConfig | None
    dtype: npt.DTypeLike | None
    headers: Literal["missing", "all"]
    trust: bool


class CubeOptions(GridOptions, total=False):
    """Keyword arguments that `open_zarr` and `open_xarray` share, without `crs`."""

    baseline: str | None
    select: Mapping[str, Any] | None
    like: xr.DataArray | xr.Dataset | None
    categorical: bool | None


class ZarrOptions(CubeOptions, total=False):
    """Keyword arguments of `open_zarr`, without `crs`."""

    group: str | None
    exclude: SomeFlags
    sign: Sign | None
    env: Mapping[str, object] | None
    storage_options: Mapping[str, Any] | None
    cache: SomeCache


class XarrayOptions(CubeOptions, total=False):
    """Keyword arguments of `open_xarray`, without `crs`."""

    engine: str | None
    open_kwargs: Mapping[str, Any] | None


class VectorOptions(TypedDict, total=False):
    """Keyword arguments of `open_vector`, without `like` and `grid`."""

    product: str | Product | None
    layer: str | None
    column: str | None
    classes: Mapping[Any, int] | Sequence[Any] | None
    legend: Legend | None
    background: int
    nodata: int | None
    all_touched: bool
    by: str | None
    instances: bool
    source_crs: SomeCRS | None
    chunks: Mapping[str, int] | int | None
    name: str | None
