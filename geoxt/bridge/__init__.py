"""The only door from xarray to torch: windows become samples, batches and loaders."""

from geoxt.bridge.iterable import WindowStream
from geoxt.bridge.loader import BatchPlan, Loader, loader
from geoxt.bridge.reading import Sample, read_batch
from geoxt.bridge.statistics import Statistics, statistics
from geoxt.bridge.to_xarray import to_xarray
from geoxt.bridge.tree_dataset import TreeBatchPlan, TreeDataset
from geoxt.bridge.window_dataset import WindowDataset, to_torch

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
