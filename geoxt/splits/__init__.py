"""Splits: training, validation and test regions that share no pixel, or no time step.

By blocks of a grid (at random or stratified by class), in cross-validation folds, by regions, by time, and by a column
of a table. A split is a value that can be checked, drawn, saved and loaded. Of points: folds whose distances are like
those at prediction.
"""

from geoxt.splits.by_block import by_block, folds
from geoxt.splits.by_region import by_column, by_region
from geoxt.splits.by_time import by_time
from geoxt.splits.checks import check
from geoxt.splits.nearest_neighbor_folds import PointFolds, knndm, point_folds
from geoxt.splits.split import Split

__all__ = [
    "PointFolds",
    "Split",
    "by_block",
    "by_column",
    "by_region",
    "by_time",
    "check",
    "folds",
    "knndm",
    "point_folds",
]
