"""Training: tasks as data over one LightningModule, self-supervision over another, data modules, fits, experiments."""

from geoxt.metrics.confusion import ConfusionMatrix, confusion_matrix, segmentation_scores
from geoxt.trainers.config.build import Learning, build
from geoxt.trainers.config.datamodules import BenchmarkDataModule, LayerDataModule, UnlabeledLayerDataModule
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.datamodules.band_statistics import band_statistics, legend_of
from geoxt.trainers.datamodules.image_folder import ImageFolderDataModule, score_chips, stratified
from geoxt.trainers.datamodules.layer_windows import WindowDataModule
from geoxt.trainers.datamodules.samples import SampleDataModule
from geoxt.trainers.experiments.run import Experiment, Training
from geoxt.trainers.loop.fit import Progress, evaluate, fit
from geoxt.trainers.selfsup import METHODS, SelfSupervised, UnlabeledDataModule, Views, encoder_weights
from geoxt.trainers.tasks.module import Task

__all__ = [
    "METHODS",
    "BenchmarkDataModule",
    "ConfusionMatrix",
    "Experiment",
    "ImageFolderDataModule",
    "LayerDataModule",
    "Learning",
    "Progress",
    "Recipe",
    "SampleDataModule",
    "SelfSupervised",
    "Task",
    "Training",
    "UnlabeledDataModule",
    "UnlabeledLayerDataModule",
    "Views",
    "WindowDataModule",
    "band_statistics",
    "build",
    "confusion_matrix",
    "encoder_weights",
    "evaluate",
    "fit",
    "legend_of",
    "score_chips",
    "segmentation_scores",
    "stratified",
]
