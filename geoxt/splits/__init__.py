"""Splits: train, validation and test regions that share no pixel, or no time step.

By blocks of a grid (at random or with like shares of each class), in folds of these, by regions, by time and by a
column of a table. Each is a value: it can be checked, drawn, saved and loaded.
"""

from geoxt.splits.blocks import blocks, folds
from geoxt.splits.checks import check
from geoxt.splits.places import by_column, by_region
from geoxt.splits.times import by_time
from geoxt.splits.trees import TreeSplit
from geoxt.splits.values import Split

__all__ = ["Split", "TreeSplit", "blocks", "by_column", "by_region", "by_time", "check", "folds"]
