"""Layers to torch and back: windows as samples, batches and loaders, and model outputs as DataArrays."""

from geoxt.bridge.batch_sampler import WindowBatchSampler
from geoxt.bridge.collate import collate
from geoxt.bridge.fill_cache import warm_cache
from geoxt.bridge.layer_reader import LayerReader as LayerReader
from geoxt.bridge.layer_reader import NodeReader as NodeReader
from geoxt.bridge.layer_reader import readers_of as readers_of
from geoxt.bridge.loader import Loader, loader
from geoxt.bridge.pack_dataset import PackDataset, open_pack
from geoxt.bridge.pack_writer import pack
from geoxt.bridge.read_batch import Sample
from geoxt.bridge.read_batch import read_batch as read_batch
from geoxt.bridge.sample_dataset import SampleDataset
from geoxt.bridge.statistics import BandStatistics, statistics
from geoxt.bridge.statistics import RunningMoments as RunningMoments
from geoxt.bridge.to_torch import to_torch
from geoxt.bridge.to_xarray import to_xarray
from geoxt.bridge.window_dataset import WindowDataset
from geoxt.bridge.window_stream import WindowStream

__all__ = [
    "BandStatistics",
    "Loader",
    "PackDataset",
    "Sample",
    "SampleDataset",
    "WindowBatchSampler",
    "WindowDataset",
    "WindowStream",
    "collate",
    "loader",
    "open_pack",
    "pack",
    "statistics",
    "to_torch",
    "to_xarray",
    "warm_cache",
]
