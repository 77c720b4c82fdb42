"""Open layers: from raster files and from STAC."""

from geoxt.layers.cogs import open_cogs
from geoxt.layers.items import open_stac
from geoxt.layers.sensors import LayerSpec, names, spec

__all__ = ["LayerSpec", "names", "open_cogs", "open_stac", "spec"]
