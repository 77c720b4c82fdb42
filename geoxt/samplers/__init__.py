"""Samplers: seeded, immutable sequences of the windows to read.

They read no pixels, except for labels to balance, weights, and `min_valid`.
"""

from geoxt.regions.region import GridRegion, Region
from geoxt.samplers.constraints import Options
from geoxt.samplers.grid_sampler import GridSampler
from geoxt.samplers.pack_sampler import PackSampler
from geoxt.samplers.points import PointSampler
from geoxt.samplers.random_sampler import RandomBatchSampler, RandomSampler
from geoxt.samplers.sequence import Shard, WindowSequence
from geoxt.samplers.stratified import StratifiedSampler
from geoxt.samplers.time_windows import Times, time_intervals, time_periods, time_steps
from geoxt.samplers.triplet import TripletSampler

__all__ = [
    "GridRegion",
    "GridSampler",
    "Options",
    "PackSampler",
    "PointSampler",
    "RandomBatchSampler",
    "RandomSampler",
    "Region",
    "Shard",
    "StratifiedSampler",
    "Times",
    "TripletSampler",
    "WindowSequence",
    "time_intervals",
    "time_periods",
    "time_steps",
]
