"""Where a layer's pixels come from: scenes in files, shapes in files, or any other array."""

from geoxt.source.layer import View, is_categorical, nodata_of, resampling_of, to_layer, view_of
from geoxt.source.mosaic import Mosaic
from geoxt.source.pixels import Pixels
from geoxt.source.protocol import Source
from geoxt.source.scenes import Asset, Quality, Scene
from geoxt.source.shapes import Located, Shapes

__all__ = [
    "Asset",
    "Located",
    "Mosaic",
    "Pixels",
    "Quality",
    "Scene",
    "Shapes",
    "Source",
    "View",
    "is_categorical",
    "nodata_of",
    "resampling_of",
    "to_layer",
    "view_of",
]
