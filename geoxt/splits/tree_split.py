"""A split of a tree as a value: the split of each child, such that no ground is shared across children either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import ReadError
from geoxt.regions.region import TreeRegion
from geoxt.samplers.drawing import Figure, draw_parts
from geoxt.splits.split import Split
from geoxt.splits.split_files import PARTS, frame_of, load_facts, save_facts
from geoxt.types import SomePath


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSplit:
    """Regions of the children of a tree, for three parts."""

    children: Mapping[str, Split]
    """The split of each child, by node."""

    @property
    def train(self) -> TreeRegion:
        """Where to learn, in every child."""
        return self.parts["train"]

    @property
    def val(self) -> TreeRegion:
        """Where to choose, in every child."""
        return self.parts["val"]

    @property
    def test(self) -> TreeRegion:
        """Where to measure, once, in every child."""
        return self.parts["test"]

    @property
    def parts(self) -> dict[str, TreeRegion]:
        """The regions by name: train, val, test."""
        return {name: TreeRegion({n: s.parts[name] for n, s in self.children.items()}) for name in PARTS}

    @property
    def grids(self) -> dict[str, GeoBox]:
        """The grid of each child, by node."""
        return {node: split.grid for node, split in self.children.items()}

    @property
    def gap(self) -> np.timedelta64 | None:
        """Least time between steps of two parts; `None` where there is no such."""
        return next(iter(self.children.values())).gap

    def save(self, path: SomePath) -> None:
        """Write the split to GeoJSON or GeoParquet, as `Split.save` does; each rectangle says its node."""
        save_facts(path, {node: split.facts() for node, split in self.children.items()})

    @classmethod
    def load(cls, path: SomePath) -> TreeSplit:
        """Read a split of a tree that was saved.

        Raises
        ------
        ReadError
            Where the file is missing, or no split of a tree.
        """
        found = load_facts(path)
        if "" in found:
            msg = f"Cannot load a split of a tree from {str(path)!r}: it is of one grid. Use Split.load for it."
            raise ReadError(msg)
        return cls(children={node: Split.from_facts(facts) for node, facts in found.items()})

    def to_geodataframe(self) -> Any:
        """Return the rectangles as a GeoDataFrame in WGS 84 with the columns node, part, row, col, height and width."""
        return frame_of({node: split.facts() for node, split in self.children.items()})

    def plot(self, layer: xr.DataTree | None = None, *, title: str | None = None) -> Figure:
        """Draw the parts in every child, over a tree of layers where one is given; returns a matplotlib figure."""
        counts = ", ".join(f"{name} {region.pixels:,}" for name, region in self.parts.items() if region)
        parts = {node: split.parts for node, split in self.children.items()}
        return draw_parts(self.grids, parts, layer, title or f"Pixels: {counts}")
