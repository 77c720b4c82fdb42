"""Many files under a small limit of file descriptors: every pixel and mask is right, never nodata."""

import multiprocessing
import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio

from geoxt.errors import ReadWarning, ResourceError
from geoxt.layers import open_cogs
from geoxt.pixels import descriptors, handles, reader
from geoxt.source import view_of
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

resource = pytest.importorskip("resource")
COUNT, THREADS, SPARE = 90, 8, 100


def read_all(view):
    """Read every tile three times in threads; run in a separate process."""
    limit = in_use() + SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    warnings.simplefilter("error", ReadWarning)
    windows = [Window(0, 8 * n, 8, 8) for n in range(COUNT)]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3):
            for n, (values, valid) in enumerate(pool.map(view.read, windows)):
                assert (values[valid] == n + 1).all()
                assert valid.sum() == 63


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Tiles in a row, each with an external mask: two descriptors of GDAL and one of the raw reader."""
    folder = tmp_path_factory.mktemp("tiles")
    for n in range(COUNT):
        path = folder / f"{n:03d}.tif"
        grid = make_grid((8, 8), left=500_000 + 240 * n, resolution=30)
        write_cog(path, np.full((8, 8), n + 1, "uint8"), grid=grid, tiled=False, overviews=())
        mask = np.full((1, 8, 8), 255, "uint8")
        mask[0, 0, 0] = 0
        with rasterio.open(
            f"{path}.msk", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8", transform=grid.affine
        ) as file:
            file.write(mask)
            file.update_tags(INTERNAL_MASK_FLAGS_1=2)
    return [str(path) for path in sorted(folder.glob("*.tif"))]


def test_more_files_than_descriptors_give_right_pixels_and_masks(tiles):
    view = view_of(open_cogs(tiles, errors="nodata"))
    process = multiprocessing.get_context("fork").Process(target=read_all, args=(view,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_idle_files_take_half_of_the_free_descriptors_at_most(tiles, monkeypatch):
    monkeypatch.setattr(handles, "_idle", handles._LocalHandles())
    before = in_use()
    monkeypatch.setattr(descriptors, "limit", lambda: before + 40)
    monkeypatch.setattr(descriptors, "exhausted", lambda: False)
    for path in [*tiles[:30], *tiles[:30]]:
        reader.read(path, [1], Window(0, 0, 8, 8), masks=True)
        assert in_use() - before <= 20
    assert in_use() > before
    handles.close_local_handles()
    assert in_use() == before


def test_idle_files_are_closed_when_descriptors_run_out(tiles, monkeypatch):
    for path in tiles[:5]:
        reader.read(path, [1], Window(0, 0, 8, 8))
    monkeypatch.setattr(descriptors, "exhausted", lambda: len(handles._idle) > 0)
    assert reader.read(tiles[6], [1], Window(0, 0, 8, 8))[0].max() == 7
    assert len(handles._idle) == 1


def test_no_descriptor_left_is_not_a_read_error(tiles, monkeypatch):
    view = view_of(open_cogs(tiles[:1], errors="nodata"))
    handles.close_local_handles()
    monkeypatch.setattr(descriptors, "exhausted", lambda: True)
    monkeypatch.setattr(descriptors, "WAIT", 0.0)
    with pytest.raises(ResourceError, match=r"Cannot open .*000\.tif: .*descriptors left of \d+.*ulimit -n"):
        view.read(Window(0, 0, 8, 8))


def in_use():
    return len(os.listdir("/dev/fd"))  # noqa: PTH208
