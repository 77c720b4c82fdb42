"""Plans on disk: a NumPy archive that holds the table of windows and, as text, the grid they refer to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import OutputError, ReadError
from geoxt.grid import label, parse_crs
from geoxt.types import Array, SomePath

_FORMAT = "geoxt plan 1"


def save_table(path: SomePath, grid: GeoBox, table: Array, steps: Array | None, unit: int) -> None:
    """Write windows and their grid.

    Raises
    ------
    OutputError
        Where the file cannot be written.
    """
    facts = json.dumps({"format": _FORMAT, "grid": grid_facts(grid), "unit": unit})
    arrays: dict[str, Any] = {"table": table} if steps is None else {"table": table, "steps": steps}
    try:
        with Path(path).open("wb") as file:
            np.savez_compressed(file, facts=np.array(facts), **arrays)
    except OSError as error:
        msg = f"Cannot save the plan to {str(path)!r}: {error}. Pass a path in a folder that can be written."
        raise OutputError(msg) from error


def load_table(path: SomePath) -> tuple[GeoBox, Array, Array | None, int]:
    """Read what `save_table` wrote: grid, windows, steps, unit.

    Raises
    ------
    ReadError
        Where the file is missing, or no plan.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            grid = grid_from(facts["grid"])
            return grid, file["table"], dict(file).get("steps"), int(facts["unit"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"Cannot load a plan from {str(path)!r}: {error}. Pass a file that Plan.save wrote."
        raise ReadError(msg) from error


def grid_facts(grid: GeoBox) -> dict[str, Any]:
    """Return a grid as plain values: CRS (EPSG code or WKT), transform, shape."""
    assert grid.crs is not None
    name = label(grid.crs)
    crs = name if name.startswith("EPSG:") else grid.crs.to_wkt()
    return {"crs": crs, "transform": list(grid.affine[:6]), "shape": [int(n) for n in grid.shape]}


def grid_from(facts: dict[str, Any]) -> GeoBox:
    """Return the grid that plain values describe."""
    rows, cols = facts["shape"]
    return GeoBox((rows, cols), Affine(*facts["transform"]), parse_crs(facts["crs"]))
