"""Training: supervised tasks, self-supervised learning, data modules, the training loop, and experiments."""

from geoxt.metrics.confusion import ConfusionMatrix, classification_scores, confusion_matrix
from geoxt.trainers.config.benchmark_datamodule import BenchmarkDataModule
from geoxt.trainers.config.build import build
from geoxt.trainers.config.datamodules import LayerDataModule, UnlabeledLayerDataModule
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.schema import Comparison, Experiment, TrainingConfig, TrainingOptions
from geoxt.trainers.datamodules.image_folder import (
    ImageFolderDataModule,
    read_image_folder,
    score_images,
    stratified_split,
)
from geoxt.trainers.datamodules.label_legend import legend_of_labels
from geoxt.trainers.datamodules.layer_windows import WindowDataModule
from geoxt.trainers.datamodules.samples import SampleDataModule
from geoxt.trainers.experiments.run import run_experiment
from geoxt.trainers.loop.fit import Progress, evaluate, fit
from geoxt.trainers.loop.train import train
from geoxt.trainers.selfsup import METHODS, SelfSupervised, UnlabeledDataModule, Views, encoder_weights
from geoxt.trainers.tasks.module import Task

__all__ = [
    "METHODS",
    "BenchmarkDataModule",
    "Comparison",
    "ConfusionMatrix",
    "Experiment",
    "ImageFolderDataModule",
    "LayerDataModule",
    "Progress",
    "Recipe",
    "SampleDataModule",
    "SelfSupervised",
    "Task",
    "TrainingConfig",
    "TrainingOptions",
    "UnlabeledDataModule",
    "UnlabeledLayerDataModule",
    "Views",
    "WindowDataModule",
    "build",
    "classification_scores",
    "confusion_matrix",
    "encoder_weights",
    "evaluate",
    "fit",
    "legend_of_labels",
    "read_image_folder",
    "run_experiment",
    "score_images",
    "stratified_split",
    "train",
]
