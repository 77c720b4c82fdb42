"""Sources of a layer's pixels: mosaics of scenes, vector files, and other arrays."""

from geoxt.source.array_source import ArraySource
from geoxt.source.band_dataset import as_layer, stack_bands, unstack_bands
from geoxt.source.band_dataset import is_band_dataset as is_band_dataset
from geoxt.source.derived import resolve_attrs as resolve_attrs
from geoxt.source.interpolated import is_interpolated as is_interpolated
from geoxt.source.interpolated import mark_interpolated as mark_interpolated
from geoxt.source.layer import View, is_categorical, resampling_of, to_layer, view_of
from geoxt.source.mosaic import Mosaic
from geoxt.source.protocol import Source
from geoxt.source.scene_assets import Asset, QualityBand, Scene
from geoxt.source.stored_attrs import nodata_of
from geoxt.source.stored_attrs import unmarked as unmarked
from geoxt.source.vector_source import VectorSource, WindowFeatures

__all__ = [
    "ArraySource",
    "Asset",
    "Mosaic",
    "QualityBand",
    "Scene",
    "Source",
    "VectorSource",
    "View",
    "WindowFeatures",
    "as_layer",
    "is_categorical",
    "nodata_of",
    "resampling_of",
    "stack_bands",
    "to_layer",
    "unstack_bands",
    "view_of",
]
