"""Deep learning on geospatial data, natively in xarray and STAC."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geoxt import accessor as accessor
from geoxt._version import __version__ as __version__

if TYPE_CHECKING:  # what __getattr__ imports on first use, for type checkers and IDEs
    from geoxt import alignment as alignment
    from geoxt import assess as assess
    from geoxt import bridge as bridge
    from geoxt import crs as crs
    from geoxt import datasets as datasets
    from geoxt import embeddings as embeddings
    from geoxt import errors as errors
    from geoxt import grid as grid
    from geoxt import indices as indices
    from geoxt import inference as inference
    from geoxt import layers as layers
    from geoxt import metrics as metrics
    from geoxt import models as models
    from geoxt import plot as plot
    from geoxt import probes as probes
    from geoxt import samplers as samplers
    from geoxt import source as source
    from geoxt import splits as splits
    from geoxt import tables as tables
    from geoxt import template as template
    from geoxt import testing as testing
    from geoxt import tiling as tiling
    from geoxt import trainers as trainers
    from geoxt import transforms as transforms
    from geoxt import writers as writers
    from geoxt.alignment import align as align
    from geoxt.alignment import intersection as intersection
    from geoxt.alignment import union as union
    from geoxt.bridge import open_pack as open_pack
    from geoxt.bridge import pack as pack
    from geoxt.bridge.fill_cache import warm_cache as warm_cache
    from geoxt.inference import detect as detect
    from geoxt.inference import predict as predict
    from geoxt.layers import open_cogs as open_cogs
    from geoxt.layers import open_stac as open_stac
    from geoxt.layers import open_vector as open_vector
    from geoxt.layers import open_xarray as open_xarray
    from geoxt.layers import open_zarr as open_zarr
    from geoxt.legend import Legend as Legend
    from geoxt.tables import extract as extract
    from geoxt.tiling import to_tiles as to_tiles
    from geoxt.windows import Window as Window
    from geoxt.writers import to_cog as to_cog
    from geoxt.writers import to_zarr as to_zarr

_MODULE_OF = {
    "Legend": "geoxt.legend",
    "Window": "geoxt.windows",
    "align": "geoxt.alignment",
    "detect": "geoxt.inference",
    "extract": "geoxt.tables",
    "intersection": "geoxt.alignment",
    "open_cogs": "geoxt.layers",
    "open_pack": "geoxt.bridge",
    "open_stac": "geoxt.layers",
    "open_vector": "geoxt.layers",
    "open_xarray": "geoxt.layers",
    "open_zarr": "geoxt.layers",
    "pack": "geoxt.bridge",
    "predict": "geoxt.inference",
    "to_cog": "geoxt.writers",
    "to_tiles": "geoxt.tiling",
    "to_zarr": "geoxt.writers",
    "union": "geoxt.alignment",
    "warm_cache": "geoxt.bridge",
}
"""Module of each function and class of the package."""
_MODULES = (
    "alignment", "assess", "bridge", "crs", "datasets", "embeddings", "errors", "grid", "indices", "inference",
    "layers", "metrics", "models", "plot", "probes", "samplers", "source", "splits", "tables", "template", "testing",
    "tiling", "trainers", "transforms", "writers",
)  # fmt: skip

__all__ = [
    "Legend",
    "Window",
    "__version__",
    "align",
    "alignment",
    "assess",
    "bridge",
    "crs",
    "datasets",
    "detect",
    "embeddings",
    "errors",
    "extract",
    "grid",
    "indices",
    "inference",
    "intersection",
    "layers",
    "metrics",
    "models",
    "open_cogs",
    "open_pack",
    "open_stac",
    "open_vector",
    "open_xarray",
    "open_zarr",
    "pack",
    "plot",
    "predict",
    "probes",
    "samplers",
    "source",
    "splits",
    "tables",
    "template",
    "testing",
    "tiling",
    "to_cog",
    "to_tiles",
    "to_zarr",
    "trainers",
    "transforms",
    "union",
    "warm_cache",
    "writers",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562), so that `import geoxt` is fast and loads no torch."""
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    if name in _MODULES:
        return import_module(f"geoxt.{name}")
    msg = f"module 'geoxt' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
