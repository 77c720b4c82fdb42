"""From a scene to a map: whole scenes through a model, lazily, and into files; things found in them."""

from geoxt.predict.cog import to_cog
from geoxt.predict.outputs import Output
from geoxt.predict.scene import predict
from geoxt.predict.score import score
from geoxt.predict.staging import require_writable
from geoxt.predict.store import to_zarr
from geoxt.predict.tiles import Blend
from geoxt.predict.vector import predict_vector
from geoxt.predict.vector_file import to_vector

__all__ = [
    "Blend",
    "Output",
    "predict",
    "predict_vector",
    "require_writable",
    "score",
    "to_cog",
    "to_vector",
    "to_zarr",
]
