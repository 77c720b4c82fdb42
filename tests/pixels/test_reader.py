"""Headers and windowed reads against rasterio; handles are reused, bounded, never shared across threads or forks."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import CRSError, ReadError
from geoxt.pixels import file_version, handles, reader
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

GRID = make_grid((90, 70))


@pytest.fixture(scope="module")
def path(write):
    return write(distinct((3, 90, 70)), GRID, nodata=0, bands=["red", "green", "blue"])


@pytest.fixture
def opened(monkeypatch):
    """List of opened paths, in order; handles of earlier tests are dropped."""
    handles.close_local_handles()
    monkeypatch.setattr(file_version, "TICK", -1)  # files just written are opened again, in case they change again
    hrefs, real = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda href, *a, **k: hrefs.append(href) or real(href, *a, **k))
    return hrefs


@given(st.integers(0, 80), st.integers(0, 60), st.integers(1, 10), st.integers(1, 10), st.permutations([1, 2, 3]))
def test_read_equals_rasterio(path, row, col, height, width, bands):
    values, valid = reader.read(path, bands, Window(row, col, height, width))
    full = distinct((3, 90, 70))[[b - 1 for b in bands]]
    assert np.array_equal(values, full[:, row : row + height, col : col + width])
    assert valid is None


def test_valid_mask_is_read_on_request(write):
    mask = np.eye(90, 70, dtype=bool)
    for options in ({"mask": mask}, {"alpha": mask.astype("uint16") * 65535}):
        href = write(distinct((3, 90, 70)), GRID, **options)
        assert reader.read_header(href).masked[:3] == (True, True, True)
        _, valid = reader.read(href, [1, 3], Window(0, 0, 90, 70), masks=True)
        assert np.array_equal(valid, np.stack([mask, mask]))


def test_header_holds_the_metadata_of_the_file(write):
    href = write(
        distinct((2, 90, 70)), GRID, nodata=3, bands=["a", "b"], scale=0.1, offset=-5.0, alpha=np.ones((90, 70))
    )
    header = reader.read_header(href)
    assert header.grid == GRID
    assert header.dtypes == ("uint16",) * 3
    assert header.nodata[:2] == (3, 3)
    assert header.alpha == (False, False, True)
    assert (header.scales[0], header.offsets[0], header.names[:2]) == (0.1, -5.0, ("a", "b"))
    assert header.colors is None


@pytest.mark.parametrize("options", [{"south_up": True}, {"degrees": 20.0}, {"crs": "EPSG:5070", "left": 0.0}])
def test_header_grid_equals_the_grid_of_the_file(write, options):
    grid = make_grid((20, 30), **options)
    assert reader.read_header(write(distinct((20, 30)), grid, point=True)).grid.affine.almost_equals(grid.affine, 1e-6)


def test_handle_is_reused(path, opened):
    for col in range(5):
        reader.read(path, [1], Window(0, col, 4, 4))
    assert opened == [path]


def test_number_of_open_handles_is_bounded(write, opened, monkeypatch):
    monkeypatch.setattr(handles, "HANDLES", 3)
    paths = [write(distinct((8, 8)), make_grid((8, 8))) for _ in range(5)]
    del opened[:]
    for href in [*paths, *paths[-3:]]:
        reader.read(href, [1], Window(0, 0, 8, 8))
    assert opened == paths
    assert len(handles._idle) == 3
    reader.read(paths[0], [1], Window(0, 0, 8, 8))
    assert opened[-1] == paths[0]


def test_threads_share_idle_handles_and_read_equal_pixels(path, opened):
    windows = [Window(r, c, 16, 16) for r in range(0, 70, 5) for c in range(0, 50, 5)]
    with ThreadPoolExecutor(4) as pool:
        patches = list(pool.map(lambda w: reader.read(path, [1, 2, 3], w)[0], windows))
    full = distinct((3, 90, 70))
    assert all(
        np.array_equal(patch, full[:, *w.within(Window(0, 0, 90, 70))])
        for patch, w in zip(patches, windows, strict=True)
    )
    assert 1 <= len(opened) <= 4
    assert len(handles._idle) == len(opened)


def child(path, queue):
    before = len(handles._idle)
    values, _ = reader.read(path, [2], Window(5, 6, 7, 8))
    queue.put((os.getpid(), before, values))


def test_forked_process_reopens_files(path):
    reader.read(path, [1], Window(0, 0, 4, 4))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(path, queue))
    process.start()
    pid, inherited, values = queue.get(timeout=20)
    process.join(20)
    assert pid != os.getpid()
    assert inherited == 0
    assert np.array_equal(values[0], distinct((3, 90, 70))[1, 5:12, 6:14])


def test_truncated_file_raises_and_its_handle_is_dropped(write, opened):
    href = write(distinct((1, 512, 512)), make_grid((512, 512)))
    os.truncate(href, Path(href).stat().st_size // 2)
    with pytest.raises(ReadError, match=rf"Cannot read {href}, rows \(500, 510\).*complete"):
        reader.read(href, [1], Window(500, 500, 10, 10))
    assert not len(handles._idle)


def test_missing_file_raises(tmp_path):
    href = str(tmp_path / "gone.tif")
    with pytest.raises(ReadError, match=rf"Cannot open {href}.*Check the path, or leave the file out"):
        reader.read_header(href)
    with pytest.raises(ReadError, match=rf"Cannot open {href}"):
        reader.read(href, [1], Window(0, 0, 1, 1))


def test_file_that_is_not_a_raster_raises(tmp_path):
    href = tmp_path / "table.csv"
    href.write_text("a,b\n1,2\n")
    with pytest.raises(ReadError, match=f"Cannot open {href}"):
        reader.read_header(str(href))


def test_file_without_a_crs_raises_unless_crs_is_passed(write):
    href = write(distinct((8, 8)), make_grid((8, 8), crs=None))
    with pytest.raises(CRSError, match=rf"Cannot georeference {href}: the file has no CRS.*gdal_edit.py -a_srs"):
        reader.read_header(href)
    assert reader.read_header(href, crs=32615).grid == make_grid((8, 8))


def test_crs_argument_never_overrides_the_crs_of_the_file(path):
    assert reader.read_header(path, crs=5070).grid == GRID
