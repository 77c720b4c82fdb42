"""Sources of a layer's pixels: mosaics of scenes, vector files, and other arrays."""

from geoxt.source.array_source import ArraySource
from geoxt.source.band_dataset import as_layer, is_band_dataset, stack_bands, unstack_bands
from geoxt.source.derived import resolve_attrs
from geoxt.source.interpolated import is_interpolated, mark_interpolated
from geoxt.source.layer import View, is_categorical, resampling_of, to_layer, view_of
from geoxt.source.mosaic import Mosaic
from geoxt.source.protocol import Source
from geoxt.source.scene_assets import Asset, QualityBand, Scene
from geoxt.source.stored_attrs import nodata_of, unmarked
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
    "is_band_dataset",
    "is_categorical",
    "is_interpolated",
    "mark_interpolated",
    "nodata_of",
    "resampling_of",
    "resolve_attrs",
    "stack_bands",
    "to_layer",
    "unmarked",
    "unstack_bands",
    "view_of",
]
