"""Training: tasks as data over one LightningModule, batches from layers and a split, and one call that fits."""

from geoxt.trainers.average import WeightAverage
from geoxt.trainers.data import DataModule
from geoxt.trainers.fit import Progress, fit
from geoxt.trainers.kinds import KINDS, Kind
from geoxt.trainers.recipe import Recipe, Schedule
from geoxt.trainers.scores import Confusion, confusion, summarise
from geoxt.trainers.statistics import band_statistics, legend_of
from geoxt.trainers.task import Task

__all__ = [
    "KINDS",
    "Confusion",
    "DataModule",
    "Kind",
    "Progress",
    "Recipe",
    "Schedule",
    "Task",
    "WeightAverage",
    "band_statistics",
    "confusion",
    "fit",
    "legend_of",
    "summarise",
]
