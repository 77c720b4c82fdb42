"""A split as a value: three regions of one grid, saved with their exact pixels and drawn on a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import ReadError
from geoxt.regions.region import Region
from geoxt.samplers.drawing import Figure, draw_parts
from geoxt.splits.split_files import PARTS, Facts, frame_of, load_facts, save_facts
from geoxt.types import SomePath
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Three regions of one grid."""

    train: Region
    """Where to learn."""
    val: Region
    """Where to choose."""
    test: Region
    """Where to measure, once."""
    gap: np.timedelta64 | None = None
    """Least time between steps of two parts, for splits in time."""

    @property
    def grid(self) -> GeoBox:
        """The grid that the regions refer to."""
        return self.train.grid

    @property
    def parts(self) -> dict[str, Region]:
        """The regions by name: train, val, test."""
        return {name: getattr(self, name) for name in PARTS}

    def save(self, path: SomePath) -> None:
        """Write the split to GeoJSON (`.geojson`, `.json`) or GeoParquet (`.parquet`).

        Its rectangles are features in WGS 84, to be looked at in any GIS; their rows and columns, the grid, buffer and
        time steps stand beside them, so that what is loaded equals what was saved.

        Raises
        ------
        OutputError
            Where the file cannot be written, or its name ends otherwise.
        MissingDependency
            For GeoParquet without geopandas and pyarrow.
        """
        save_facts(path, {"": self.facts()})

    @classmethod
    def load(cls, path: SomePath) -> Split:
        """Read a split that was saved.

        Raises
        ------
        ReadError
            Where the file is missing, or no split.
        """
        found = load_facts(path)
        if "" not in found:
            msg = f"Cannot load a split of one grid from {str(path)!r}: it is of a tree. Use TreeSplit.load for it."
            raise ReadError(msg)
        return cls.from_facts(found[""])

    @classmethod
    def from_facts(cls, facts: Facts) -> Split:
        """Return the split that plain values describe."""
        regions = {
            name: Region(
                facts.grid,
                tuple(Window(*row) for row in facts.rows[name]),
                joined=facts.joined[name],
                margin=facts.margin[name],
                times=_stamps(facts.times[name]),
            )
            for name in PARTS
        }
        return cls(**regions, gap=None if facts.gap is None else np.timedelta64(facts.gap, "ns"))

    def to_geodataframe(self) -> Any:
        """Return the rectangles as a GeoDataFrame in WGS 84 with the columns part, row, col, height and width."""
        return frame_of({"": self.facts()})

    def plot(self, layer: xr.DataArray | None = None, *, title: str | None = None) -> Figure:
        """Draw the parts, over a layer on the split's grid where one is given; returns a matplotlib figure."""
        counts = ", ".join(f"{name} {region.pixels:,}" for name, region in self.parts.items() if region)
        return draw_parts({"": self.grid}, {"": self.parts}, layer, title or f"Pixels: {counts}")

    def facts(self) -> Facts:
        """Return all that the split says, as plain values."""
        parts = self.parts
        return Facts(
            grid=self.grid,
            rows={n: [(w.row, w.col, w.height, w.width) for w in r.on(self.grid)] for n, r in parts.items()},
            joined={n: r.joined for n, r in parts.items()},
            margin={n: r.margin for n, r in parts.items()},
            times={
                n: None if r.times is None else [str(t.astype("M8[ns]")) for t in r.times] for n, r in parts.items()
            },
            gap=None if self.gap is None else int(self.gap.astype("m8[ns]").astype("int64")),
        )


def _stamps(times: list[str] | None) -> tuple[np.datetime64, ...] | None:
    return None if times is None else tuple(np.datetime64(t, "ns") for t in times)
