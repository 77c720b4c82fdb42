"""Open layers: from raster files, STAC items, Zarr stores and vector files."""

from geoxt.layers import products
from geoxt.layers.cubes.open_xarray import open_xarray
from geoxt.layers.cubes.open_zarr import open_zarr
from geoxt.layers.files.open import open_cogs
from geoxt.layers.layer_summary import describe
from geoxt.layers.products import Product
from geoxt.layers.stac.open import open_stac
from geoxt.layers.vector.open import features, open_vector
from geoxt.source.block_reads import reads

__all__ = [
    "Product",
    "describe",
    "features",
    "open_cogs",
    "open_stac",
    "open_vector",
    "open_xarray",
    "open_zarr",
    "products",
    "reads",
]
