"""Deep learning on geospatial data, natively in xarray and STAC."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from geoxt import accessor as accessor

__version__ = "0.1.0"

_HOMES = {
    "align": "geoxt.alignment",
    "intersection": "geoxt.alignment",
    "union": "geoxt.alignment",
    "open_cogs": "geoxt.layers",
    "open_stac": "geoxt.layers",
    "open_vector": "geoxt.layers",
    "detect": "geoxt.inference",
    "predict": "geoxt.inference",
    "Legend": "geoxt.legend",
    "Window": "geoxt.windows",
    "to_cog": "geoxt.writers",
    "to_zarr": "geoxt.writers",
}
_MODULES = (
    "alignment", "bridge", "datasets", "errors", "footprints", "grid", "indices", "inference",
    "layers", "metrics", "models", "plot",
    "regions", "samplers", "source", "splits", "template", "testing", "trainers", "transforms", "writers",
)  # fmt: skip

__all__ = [
    "Legend",
    "Window",
    "__version__",
    "align",
    "alignment",
    "bridge",
    "datasets",
    "detect",
    "errors",
    "footprints",
    "grid",
    "indices",
    "inference",
    "intersection",
    "layers",
    "metrics",
    "models",
    "open_cogs",
    "open_stac",
    "open_vector",
    "plot",
    "predict",
    "regions",
    "samplers",
    "source",
    "splits",
    "template",
    "testing",
    "to_cog",
    "to_zarr",
    "trainers",
    "transforms",
    "union",
    "writers",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is first used, so that `import geoxt` is quick."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"geoxt.{name}")
    msg = f"module 'geoxt' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
