"""Samplers: which windows to read. All are seeded, immutable sequences of windows, and read no pixel."""

from geoxt.samplers.grids import GridSampler
from geoxt.samplers.plans import Plan
from geoxt.samplers.random import RandomBatchSampler, RandomSampler
from geoxt.samplers.regions import Region

__all__ = ["GridSampler", "Plan", "RandomBatchSampler", "RandomSampler", "Region"]
