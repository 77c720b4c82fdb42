"""Multiscales of OME-NGFF and of tile matrix sets as overviews: the stored pixels of the level that a read needs."""

import numpy as np
import pytest

import geoxt
from geoxt.errors import GridError, InputError
from geoxt.grid import grid_of
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid

from .test_open_zarr import write_store

zarr = pytest.importorskip("zarr")

GRIDS = [make_grid((64 >> level, 64 >> level), resolution=30 << level) for level in range(3)]
LEVELS = [distinct((64 >> level, 64 >> level), "uint16") + 5000 * level for level in range(3)]
"""Pixels that tell the level that they are read from."""
TILES = {
    "tile_matrix_set": {
        "id": "UTM", "supportedCRS": "EPSG:32615",
        "tileMatrices": [
            {"id": str(level), "cellSize": 30 << level, "pointOfOrigin": [GRIDS[0].affine.c, GRIDS[0].affine.f],
             "tileWidth": 16, "tileHeight": 16, "matrixWidth": 4 >> level, "matrixHeight": 4 >> level}
            for level in range(3)
        ],
    },
    "tile_matrix_limits": {str(level): {"tileMatrix": str(level)} for level in range(3)},
}  # fmt: skip
OME = [{"version": "0.5", "datasets": [{"path": str(level)} for level in range(3)]}]
ATTRS = {
    "tile matrix set": {"multiscales": TILES},
    "OME 0.4": {"multiscales": OME},
    "OME 0.5": {"ome": {"multiscales": OME}},
}


@pytest.mark.parametrize("kind", ATTRS)
def test_levels_in_groups_are_overviews(tmp_path, kind):
    path = tmp_path / "a.zarr"
    zarr.open_group(str(path), mode="w", attributes=ATTRS[kind])
    for level, values in enumerate(LEVELS):
        write_store(path / str(level), {"b": (("y", "x"), values, {})}, grid=GRIDS[level])
    layer = geoxt.open_zarr(path)
    (asset,) = view_of(layer).source.scenes[0].assets
    assert [level.path for level in asset.array.levels] == ["0/b", "1/b", "2/b"]
    assert grid_of(layer) == GRIDS[0]
    assert np.array_equal(layer.values[0], LEVELS[0])
    for grid, values in zip(GRIDS[1:], LEVELS[1:], strict=True):
        assert np.array_equal(geoxt.align(layer, grid).values[0], values)


@pytest.mark.parametrize("kind", ["OME 0.4", "OME 0.5"])
def test_levels_as_arrays_are_overviews(tmp_path, kind):
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", attributes=ATTRS[kind])
    for level, (grid, values) in enumerate(zip(GRIDS, LEVELS, strict=True)):
        attrs = {"spatial:transform": list(grid.affine[:6]), "proj:code": "EPSG:32615"}
        root.create_array(str(level), data=values, dimension_names=("y", "x"), attributes=attrs)
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    assert grid_of(layer) == GRIDS[0]
    assert np.array_equal(layer.values[0], LEVELS[0])
    assert np.array_equal(geoxt.align(layer, GRIDS[2]).values[0], LEVELS[2])


@pytest.mark.parametrize("kind", ATTRS)
def test_levels_without_position_raise(tmp_path, kind):
    """Neither pixels of a microscope nor tile matrices without coordinates are placed."""
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", attributes=ATTRS[kind])
    for level, values in enumerate(LEVELS):
        root.create_array(
            f"{level}/b" if kind.startswith("tile") else str(level), data=values, dimension_names=("y", "x")
        )
    with pytest.raises(GridError, match="it has neither coordinates along y and x nor a transform"):
        geoxt.open_zarr(tmp_path / "a.zarr", source_crs="EPSG:32615")
    unnamed = zarr.open_group(str(tmp_path / "b.zarr"), mode="w", zarr_format=2, attributes=ATTRS[kind])
    unnamed.create_array("0", data=LEVELS[0])
    with pytest.raises(InputError, match="no array has the dimensions y and x"):
        geoxt.open_zarr(tmp_path / "b.zarr", source_crs="EPSG:32615")
