"""Writers: layers as COG and Zarr, block by block and resumable; features as vector files."""

from geoxt.writers.cog import to_cog
from geoxt.writers.polygons import polygonize
from geoxt.writers.staging import require_writable as require_writable
from geoxt.writers.vector import to_vector
from geoxt.writers.zarr import to_zarr

__all__ = ["polygonize", "to_cog", "to_vector", "to_zarr"]
