"""Training: tasks as data over one LightningModule, self-supervision over another, data modules, fits, experiments."""

from geoxt.metrics.confusion import Confusion, confusion, summarise
from geoxt.trainers.average import WeightAverage
from geoxt.trainers.chips import ChipModule, score_chips, stratified
from geoxt.trainers.data import DataModule
from geoxt.trainers.experiment import Experiment, Training
from geoxt.trainers.fit import Progress, evaluate, fit
from geoxt.trainers.kinds import KINDS, Kind
from geoxt.trainers.learning import Learning, build
from geoxt.trainers.named import Files, Images, Named
from geoxt.trainers.recipe import Recipe
from geoxt.trainers.selfsup import METHODS, SelfSupervised, Views, WindowModule, encoder_weights
from geoxt.trainers.sets import SetModule
from geoxt.trainers.statistics import band_statistics, legend_of
from geoxt.trainers.task import Task

__all__ = [
    "KINDS",
    "METHODS",
    "ChipModule",
    "Confusion",
    "DataModule",
    "Experiment",
    "Files",
    "Images",
    "Kind",
    "Learning",
    "Named",
    "Progress",
    "Recipe",
    "SelfSupervised",
    "SetModule",
    "Task",
    "Training",
    "Views",
    "WeightAverage",
    "WindowModule",
    "band_statistics",
    "build",
    "confusion",
    "encoder_weights",
    "evaluate",
    "fit",
    "legend_of",
    "score_chips",
    "stratified",
    "summarise",
]
