"""Splits as values: training, validation and test regions, saved with exact pixels and drawn over a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.plot.interactive_map import InteractiveMap, WindowGroup, draw_map
from geoxt.regions.region import Region
from geoxt.reprs import html_table, svg_map
from geoxt.samplers.drawing import Figure, draw_regions
from geoxt.splits.split_files import PARTS, load_parts, save_parts, to_geodataframe
from geoxt.trees import SomeData
from geoxt.types import SomePath

_COLORS = {"train": "#2e76b8", "val": "#e69f00", "test": "#c0392b"}
_MAX_MAPS = 4
"""Maximum number of nodes with a map in HTML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Training, validation and test regions of one grid, or of the grids of a tree."""

    train: Region
    """Training region."""
    val: Region
    """Validation region, for model selection."""
    test: Region
    """Test region, for the final evaluation."""
    gap: np.timedelta64 | None = None
    """Minimum time between time steps of two parts; `None` if the split is not by time."""

    @property
    def parts(self) -> dict[str, Region]:
        """The regions by name: train, val, test."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def grids(self) -> dict[str, GeoBox]:
        """The grid of each node; {"": grid} for data on one grid."""
        return self.train.grids

    @property
    def grid(self) -> GeoBox:
        """The only grid of the split.

        Raises
        ------
        GridError
            If the split has several grids.
        """
        if len(self.grids) == 1:
            return next(iter(self.grids.values()))
        raise GridError(
            f"Cannot name one grid of a split of the nodes {list(self.grids)}.",
            remedy="Use split.grids, or the split of one node by split.of(node).",
        )

    def of(self, node: str) -> Split:
        """Return the split of one node as a split of its grid alone."""
        if node not in self.grids:
            raise InputError(
                f"Cannot take the split of node {node!r}: it is of {list(self.grids)}.",
                remedy="Pass the name of a node.",
                argument="node",
            )
        regions = {name: Region({"": region.nodes[node]}) for name, region in self.parts.items()}
        return Split(**regions, gap=self.gap)

    def save(self, path: SomePath) -> None:
        """Write the split to GeoJSON (`.geojson`, `.json`) or GeoParquet (`.parquet`, `.geoparquet`).

        Rectangles are polygon features in WGS 84, so that any GIS can show them; node, part, rows and columns are their
        properties. Grids, buffers and time steps are in a header, so that the loaded split equals the saved one.

        Raises
        ------
        OutputError
            If the file cannot be written, or its name has another suffix.
        MissingDependency
            For GeoParquet, if geopandas or pyarrow is missing.
        """
        save_parts(path, self.parts, self.gap)

    @classmethod
    def load(cls, path: SomePath) -> Split:
        """Read a saved split.

        Raises
        ------
        ReadError
            If the file is missing or holds no split.
        """
        regions, gap = load_parts(path)
        return cls(**regions, gap=gap)

    def to_geodataframe(self) -> Any:
        """Return the rectangles as a GeoDataFrame in WGS 84 with the columns node, part, row, col, height and width."""
        return to_geodataframe(self.parts)

    def __repr__(self) -> str:
        return f"<Split: {', '.join(f'{name} {text}' for name, text in self._fractions().items())}>"

    def _repr_html_(self) -> str:
        """Return the fractions of the parts, and a small map of each node."""
        maps = "".join(
            svg_map(
                tuple(grid.shape),
                [
                    (_COLORS[part], ((w.row, w.col, w.height, w.width) for w in region.nodes[node]))
                    for part, region in self.parts.items()
                ],
            )
            for node, grid in list(self.grids.items())[:_MAX_MAPS]
        )
        key = " ".join(f"<span style='color:{color}'>&#9632;</span> {part}" for part, color in _COLORS.items())
        rows = self._fractions() | ({} if self.gap is None else {"gap": str(self.gap)})
        return html_table("Split", rows, below=f"<div>{key}</div>{maps}")

    def _fractions(self) -> dict[str, str]:
        """Return rectangles, pixels and fraction of each part as text."""
        total = max(sum(region.pixels for region in self.parts.values()), 1)
        return {
            name: f"{region.pixels:,} pixels ({region.pixels / total:.0%}) in {len(region):,} rectangles"
            for name, region in self.parts.items()
        }

    def explore(
        self, layer: SomeData | None = None, *, basemap: str | None = None, title: str | None = None
    ) -> InteractiveMap:
        """Return an interactive map of the parts, over a layer if one is given; see `geoxt.plot.explore`."""
        groups = [
            WindowGroup(name=part, color=_COLORS[part], grids=region.grids, windows=tuple(region.windows))
            for part, region in self.parts.items()
        ]
        return draw_map(layer, groups, basemap=basemap, title=title)

    def plot(self, layer: SomeData | None = None, *, title: str | None = None) -> Figure:
        """Draw the parts, one panel per node, over a layer on the split's grid (or a tree of these) if one is given.

        Returns
        -------
        matplotlib.figure.Figure
        """
        counts = ", ".join(f"{name} {region.pixels:,}" for name, region in self.parts.items() if region)
        return draw_regions(self.parts, layer, title or f"Pixels: {counts}")
