"""From a scene to a map: whole scenes through a model, lazily, and into files; things found in them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoxt.predict.cog import to_cog
from geoxt.predict.outputs import Output
from geoxt.predict.scene import predict
from geoxt.predict.staging import require_writable
from geoxt.predict.store import to_zarr
from geoxt.predict.tiles import Blend
from geoxt.predict.vector import predict_vector
from geoxt.predict.vector_file import to_vector

if TYPE_CHECKING:
    from geoxt.predict.scoring import score

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


def __getattr__(name: str) -> Any:
    """Import what scores maps when it is first used: it brings Lightning, which prediction has no need of."""
    if name == "score":
        return import_module("geoxt.predict.scoring").score
    msg = f"module 'geoxt.predict' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
