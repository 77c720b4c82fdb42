"""The only door from xarray to torch: windows become samples, batches and loaders."""

from geoxt.bridge.datasets import BatchPlan, WindowDataset, loader, to_torch
from geoxt.bridge.reading import Sample, read_batch

__all__ = ["BatchPlan", "Sample", "WindowDataset", "loader", "read_batch", "to_torch"]
