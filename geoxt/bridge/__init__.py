"""The only door from xarray to torch: windows become samples, batches and loaders."""

from geoxt.bridge.back import to_xarray
from geoxt.bridge.datasets import WindowDataset, to_torch
from geoxt.bridge.iterable import WindowStream
from geoxt.bridge.loading import BatchPlan, Loader, loader
from geoxt.bridge.reading import Sample, read_batch
from geoxt.bridge.statistics import Statistics, statistics
from geoxt.bridge.trees import TreeBatchPlan, TreeDataset

__all__ = [
    "BatchPlan",
    "Loader",
    "Sample",
    "Statistics",
    "TreeBatchPlan",
    "TreeDataset",
    "WindowDataset",
    "WindowStream",
    "loader",
    "read_batch",
    "statistics",
    "to_torch",
    "to_xarray",
]
