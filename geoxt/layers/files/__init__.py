"""Layers from raster files: paths, scenes and the metadata files beside them."""
