"""Blocks that reading a window touches: other blocks may hold anything, and sizes are those of the TIFF's index."""

import numpy as np
import pytest

from geoxt.errors import InputError
from geoxt.layers import open_cogs, reads
from geoxt.pixels.tiff_directory import read_directory
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((64, 96))
SHIFTED = make_grid((64, 96), left=GRID.affine.c + 12, top=GRID.affine.f - 12)
WINDOW = Window(20, 30, 20, 10)


def write(path, *, count=2, grid=GRID, nodata=None, **options):
    values = distinct((count, *grid.shape), "uint16") + 1
    return write_cog(path, values, grid=grid, nodata=nodata, blocksize=16, overviews=(), driver="GTiff", **options)


def pixels(path, window, like):
    layer = open_cogs(path, like=like) if like is not None else open_cogs(path)
    return layer.isel(y=slice(window.row, window.stop[0]), x=slice(window.col, window.stop[1])).values


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("grid", [None, SHIFTED])
def test_other_blocks_may_hold_anything(tmp_path, interleave, grid):
    path = write(tmp_path / "a.tif", interleave=interleave)
    like = None if grid is None else open_cogs(write(tmp_path / "like.tif", grid=grid))
    layer = open_cogs(path) if like is None else open_cogs(path, like=like)
    table = reads(layer, WINDOW)
    expected = pixels(path, WINDOW, like)
    content = path.read_bytes()
    with path.open("rb") as file:
        directory = read_directory(file.fileno())
        starts, sizes = directory.numbers(324), directory.numbers(325)
    size_of = dict(zip(starts.tolist(), sizes.tolist(), strict=True))
    assert [size_of[int(row.offset)] for row in table.itertuples()] == table["bytes"].tolist()
    listed = set(table.offset.astype(int))
    damaged = bytearray(content)
    for start, size in size_of.items():
        if start not in listed:
            damaged[start : start + size] = b"\xaa" * size
    (tmp_path / "b.tif").write_bytes(damaged)
    assert np.array_equal(pixels(tmp_path / "b.tif", WINDOW, like), expected)
    for start in sorted(listed)[::3]:
        damaged = bytearray(content)
        damaged[start : start + size_of[start]] = b"\xaa" * size_of[start]
        (tmp_path / f"{start}.tif").write_bytes(damaged)
        assert not np.array_equal(pixels(tmp_path / f"{start}.tif", WINDOW, like), expected)


def test_blocks_of_the_whole_layer_and_of_parts(tmp_path):
    layer = open_cogs(write(tmp_path / "a.tif", interleave="band"))
    assert len(reads(layer)) == 2 * 4 * 6
    part = reads(layer.isel(band=1, y=slice(16, 48), x=slice(16, 64)), Window(0, 0, 16, 17))
    assert part[["band", "row", "col"]].values.tolist() == [[2, 1, 1], [2, 1, 2]]
    assert len(reads(layer, Window(500, 0, 10, 10))) == 0


def test_scenes_that_intersect_the_window(tmp_path):
    west = write(tmp_path / "west.tif", interleave="pixel")
    east = write(tmp_path / "east.tif", grid=GRID.translate_pix(96, 0), interleave="pixel")
    layer = open_cogs([west, east])
    assert set(reads(layer, Window(0, 0, 8, 8)).scene) == {"west"}
    both = reads(layer, Window(0, 90, 8, 20))
    assert both.groupby("file").size().to_dict() == {str(west): 1, str(east): 1}
    assert set(both.band) == {0}


def test_overviews_and_sparse_blocks(tmp_path):
    fine = write_cog(tmp_path / "o.tif", distinct((64, 96), "uint16"), grid=GRID, blocksize=16, overviews=(2,))
    coarse = open_cogs(fine, resolution=abs(GRID.resolution.x) * 2)
    table = reads(coarse, Window(0, 0, 16, 16))
    assert set(table.overview) == {0}
    sparse = write_cog(
        tmp_path / "s.tif", np.zeros((64, 96), "uint8"), grid=GRID, blocksize=16, overviews=(), driver="GTiff",
        sparse_ok="true",
    )  # fmt: skip
    assert reads(open_cogs(sparse)).bytes.sum() == 0


def test_quality_bands(tmp_path):
    for name in ("B02", "SCL"):
        write(tmp_path / f"{name}.tif", count=1)
    layer = open_cogs(tmp_path, product="sentinel2", pattern="{band}.tif", bands="B02", exclude="clouds")
    blocks = reads(layer, Window(0, 0, 8, 20)).groupby("file").size()
    assert blocks.to_dict() == {str(tmp_path / "B02.tif"): 2, str(tmp_path / "SCL.tif"): 2}


def test_computed_layers_have_no_blocks(tmp_path):
    layer = open_cogs(write(tmp_path / "a.tif"))
    for other in (layer + 1, layer.compute()):
        with pytest.raises(InputError, match="not read from raster files"):
            reads(other)
