"""Plans on disk: a NumPy archive that holds the table of windows and, as text, the grid they refer to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import OutputError, ReadError
from geoxt.grid import crs_name, parse_crs
from geoxt.types import Array, SomePath

_FORMAT = "geoxt plan 1"


def save_table(
    path: SomePath, grids: Mapping[str, GeoBox], table: Array, steps: Array | None, unit: int, node_index: Array
) -> None:
    """Write windows and the grid of each node.

    A file of that name is replaced when all is written.

    Raises
    ------
    OutputError
        Where the file cannot be written.
    """
    places = {node: grid_facts(grid) for node, grid in grids.items()}
    facts = json.dumps({"format": _FORMAT, "grids": places, "unit": unit})
    arrays: dict[str, Any] = {"table": table, "which": node_index} | ({} if steps is None else {"steps": steps})
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, facts=np.array(facts), **arrays)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        msg = f"Cannot save the plan to {str(path)!r}: {error}. Pass a path in a folder that can be written."
        raise OutputError(msg) from error


def load_table(path: SomePath) -> tuple[dict[str, GeoBox], Array, Array | None, int, Array | None]:
    """Read what `save_table` wrote: grids, windows, steps, unit, and the position of each window's node.

    Raises
    ------
    ReadError
        Where the file is missing, or no plan.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            facts, arrays = json.loads(str(file["facts"])), dict(file)
        # files written before version 1 of geoxt hold one "grid" and no "which"
        grids = {node: grid_from(grid) for node, grid in (facts.get("grids") or {"": facts["grid"]}).items()}
        return grids, arrays["table"], arrays.get("steps"), int(facts["unit"]), arrays.get("which")
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"Cannot load a plan from {str(path)!r}: {error}. Pass a file that Plan.save wrote."
        raise ReadError(msg) from error


def grid_facts(grid: GeoBox) -> dict[str, Any]:
    """Return a grid as plain values: CRS (EPSG code or WKT), transform, shape."""
    assert grid.crs is not None
    name = crs_name(grid.crs)
    crs = name if name.startswith("EPSG:") else grid.crs.to_wkt()
    return {"crs": crs, "transform": list(grid.affine[:6]), "shape": [int(n) for n in grid.shape]}


def grid_from(facts: dict[str, Any]) -> GeoBox:
    """Return the grid that plain values describe."""
    rows, cols = facts["shape"]
    return GeoBox((rows, cols), Affine(*facts["transform"]), parse_crs(facts["crs"]))
