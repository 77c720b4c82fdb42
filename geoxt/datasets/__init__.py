"""Benchmark datasets as data: one spec per dataset, and one engine to locate, fetch, verify, read, split and plot."""

from geoxt.datasets.assets import Asset, Audio, Boxes, HDF5Array, Raster, Table, Vector
from geoxt.datasets.catalog import get, names
from geoxt.datasets.dataset import Dataset, load
from geoxt.datasets.fetch import fetch
from geoxt.datasets.spec import (
    Archive,
    FieldSplit,
    FolderSplit,
    Level,
    ListSplit,
    RandomSplit,
    SequentialSplit,
    Spec,
    Statistics,
)
from geoxt.datasets.summary import describe
from geoxt.datasets.verify import Report
from geoxt.layers.products import Band as Band

__all__ = [
    "Archive",
    "Asset",
    "Audio",
    "Boxes",
    "Dataset",
    "FieldSplit",
    "FolderSplit",
    "HDF5Array",
    "Level",
    "ListSplit",
    "RandomSplit",
    "Raster",
    "Report",
    "SequentialSplit",
    "Spec",
    "Statistics",
    "Table",
    "Vector",
    "describe",
    "fetch",
    "get",
    "load",
    "names",
]
