"""Saved window sequences: a NumPy archive of the table of windows, with the grids as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_text, parse_crs
from geoxt.errors import OutputError, ReadError
from geoxt.storage import atomic_write
from geoxt.types import Array, SomePath

_FORMAT = "geoxt plan 1"


def save_table(
    path: SomePath, grids: Mapping[str, GeoBox], table: Array, steps: Array | None, unit: int, node_index: Array
) -> None:
    """Write windows, their time steps and the grid of each node, atomically.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    header = {
        "format": _FORMAT,
        "grids": {node: grid_to_json(grid) for node, grid in grids.items()},
        "unit": unit,
    }
    arrays: dict[str, Any] = {"table": table, "which": node_index} | ({} if steps is None else {"steps": steps})
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, facts=np.array(json.dumps(header)), **arrays)
    except OSError as error:
        raise OutputError(
            f"Cannot save the windows to {str(path)!r}: {error}.",
            remedy="Pass {path} in a folder that can be written.",
            argument="path",
        ) from error


def load_table(path: SomePath) -> tuple[dict[str, GeoBox], Array, Array | None, int, Array | None]:
    """Read grids, windows, time steps, unit and node positions of a file written by `save_table`.

    Raises
    ------
    ReadError
        If the file is missing or holds no windows.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            header, arrays = json.loads(str(file["facts"])), dict(file)
        # before windows had nodes, files of one grid held "grid" in place of "grids", and no "which"
        grids = header.get("grids") or {"": header["grid"]}
        grids = {node: grid_from_json(grid) for node, grid in grids.items()}
        return grids, arrays["table"], arrays.get("steps"), int(header["unit"]), arrays.get("which")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"Cannot load windows from {str(path)!r}: {error}.",
            remedy="Pass {path} a file that WindowSequence.save wrote.",
            argument="path",
        ) from error


def grid_to_json(grid: GeoBox) -> dict[str, Any]:
    """Return a grid as JSON values: CRS (code or WKT), affine transform, shape."""
    assert grid.crs is not None
    return {"crs": crs_text(grid.crs), "transform": list(grid.affine[:6]), "shape": [int(n) for n in grid.shape]}


def grid_from_json(values: dict[str, Any]) -> GeoBox:
    """Return the grid of JSON values that `grid_to_json` returned."""
    rows, cols = values["shape"]
    return GeoBox((rows, cols), Affine(*values["transform"]), parse_crs(values["crs"]))
