"""Samplers: which windows to read. All are seeded, immutable sequences of windows.

They read no pixel, but where asked: labels to balance, weights, and the share of valid pixels.
"""

from geoxt.regions.region import Region, TreeRegion
from geoxt.samplers.constraints import Options
from geoxt.samplers.grid_sampler import GridSampler
from geoxt.samplers.points import PointSampler
from geoxt.samplers.random_sampler import RandomBatchSampler, RandomSampler
from geoxt.samplers.sequence import Shard, WindowSequence
from geoxt.samplers.stratified import StratifiedSampler
from geoxt.samplers.time_windows import Times, time_intervals, time_periods, time_steps
from geoxt.samplers.triplet import TripletSampler

__all__ = [
    "GridSampler",
    "Options",
    "PointSampler",
    "RandomBatchSampler",
    "RandomSampler",
    "Region",
    "Shard",
    "StratifiedSampler",
    "Times",
    "TreeRegion",
    "TripletSampler",
    "WindowSequence",
    "time_intervals",
    "time_periods",
    "time_steps",
]
