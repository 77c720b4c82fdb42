"""Open layers: from raster files, from STAC and from vector files."""

from geoxt.layers.files.open import open_cogs
from geoxt.layers.sensors import LayerSpec, names, spec
from geoxt.layers.stac.open import open_stac
from geoxt.layers.vector.open import features, open_vector

__all__ = ["LayerSpec", "features", "names", "open_cogs", "open_stac", "open_vector", "spec"]
