"""Tables of pixel values: at points, in polygons, or reduced over each polygon."""

from geoxt.tables.pixel_table import extract

__all__ = ["extract"]
