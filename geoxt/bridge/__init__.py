"""The only door from xarray to torch: windows become samples, batches and loaders."""

from geoxt.bridge.collate import collate
from geoxt.bridge.iterable import WindowStream
from geoxt.bridge.loader import BatchPlan, Loader, loader
from geoxt.bridge.reading import Sample, read_batch
from geoxt.bridge.sample_dataset import SampleDataset
from geoxt.bridge.statistics import Statistics, statistics
from geoxt.bridge.to_torch import to_torch
from geoxt.bridge.to_xarray import to_xarray
from geoxt.bridge.tree_dataset import TreeBatchPlan, TreeDataset
from geoxt.bridge.window_dataset import WindowDataset

__all__ = [
    "BatchPlan",
    "Loader",
    "Sample",
    "SampleDataset",
    "Statistics",
    "TreeBatchPlan",
    "TreeDataset",
    "WindowDataset",
    "WindowStream",
    "collate",
    "loader",
    "read_batch",
    "statistics",
    "to_torch",
    "to_xarray",
]
