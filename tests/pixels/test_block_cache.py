"""The block cache: the same bits as without it for any entries, and never the pixels of another file."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import start_code

import geoxt
from geoxt import storage
from geoxt.errors import GeoxtWarning, InputError, ReadError
from geoxt.pixels import block_cache, cached_blocks, reader
from geoxt.pixels.block_cache import BlockCache, clear_block_cache, entries_of
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.handles import close_local_handles
from geoxt.windows import Window

SHAPE = 3, 150, 190
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
LAYOUTS = {
    "tiles by band": TILED | {"interleave": "band", "predictor": 2},
    "tiles by pixel": TILED | {"interleave": "pixel"},
    "small tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32},
    "strips": {"blockysize": 7, "interleave": "pixel"},
    "one strip": {"blockysize": 150, "interleave": "band"},
    "float32": TILED | {"dtype": "float32", "predictor": 3},
    "uint8 and a mask": TILED | {"dtype": "uint8", "mask": True},
    "alpha": TILED | {"dtype": "uint8", "photometric": "RGB", "alpha": "YES", "count": 4},
    "zstd": TILED | {"compress": "zstd"},
    "jpeg": TILED | {"compress": "jpeg", "dtype": "uint8", "photometric": "YCBCR", "interleave": "pixel"},
    "uncompressed": TILED | {"compress": "none"},
}


def write(path, *, seed=0, mask=False, **options):
    profile = {"driver": "GTiff", "width": SHAPE[2], "height": SHAPE[1], "count": SHAPE[0], "dtype": "uint16"}
    profile |= {"crs": "EPSG:32615", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "compress": "deflate"} | options
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 200, (profile["count"], profile["height"], profile["width"])).astype(profile["dtype"])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if mask:
            file.write_mask(rng.random(values.shape[1:]) < 0.5)
    return str(path)


def credentials(folder, limit=10**9):
    return Credentials(cache=BlockCache(str(folder), limit))


def read_afresh(*args, **options):
    """Read with a new handle, whose record of stored blocks is empty."""
    close_local_handles()
    return reader.read(*args, **options)


def entry_of(folder):
    (entry,) = entries_of(folder)
    return entry.path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cold_warm_and_half_filled_cache_equal_gdal(tmp_path, layout):
    path, masks = write(tmp_path / "a.tif", **LAYOUTS[layout]), layout in {"uint8 and a mask", "alpha"}
    with rasterio.open(path) as file:
        full, valid = file.read(), file.read_masks() != 0
        valid = np.broadcast_to(file.read(4) != 0, full.shape) if layout == "alpha" else valid
    cached = credentials(tmp_path / "cache")
    rng = np.random.default_rng(1)
    for _ in range(40):  # the first windows find an empty cache, the last a full one
        top, left = int(rng.integers(0, 149)), int(rng.integers(0, 189))
        window = Window(top, left, int(rng.integers(1, 151 - top)), int(rng.integers(1, 191 - left)))
        bands = (rng.permutation(len(full))[: rng.integers(1, len(full) + 1)] + 1).tolist()
        read = read_afresh if rng.random() < 0.3 else reader.read
        values, mask = read(path, bands, window, masks=masks, credentials=cached)
        part = slice(top, window.stop[0]), slice(left, window.stop[1])
        index = [band - 1 for band in bands]
        assert values.dtype == full.dtype
        assert np.array_equal(values, full[index][:, *part])
        assert mask is None or np.array_equal(mask, valid[index][:, *part])
    assert len(list(entries_of(tmp_path / "cache"))) == (layout != "uncompressed")


@settings(deadline=None, max_examples=10)
@given(data=st.data(), block=st.tuples(*[st.sampled_from([16, 48, 64, 128, 160])] * 2), seed=st.integers(0, 99))
def test_windows_equal_the_raster_for_any_blocks(tmp_path_factory, data, block, seed):
    folder = tmp_path_factory.mktemp("blocks")
    path = write(folder / "a.tif", seed=seed, tiled=True, blockysize=block[0], blockxsize=block[1])
    with rasterio.open(path) as file:
        full = file.read()
    for _ in range(6):
        top, left = data.draw(st.integers(0, 149)), data.draw(st.integers(0, 189))
        height, width = data.draw(st.integers(1, 150 - top)), data.draw(st.integers(1, 190 - left))
        values, _ = read_afresh(path, [2, 1], Window(top, left, height, width), credentials=credentials(folder / "c"))
        assert np.array_equal(values, full[[1, 0], top : top + height, left : left + width])


def test_overviews_have_separate_entries(tmp_path):
    path = write(tmp_path / "a.tif", **TILED)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    with rasterio.open(path, overview_level=0) as file:
        expected = file.read()
    for _ in range(2):
        values, _ = read_afresh(path, [1, 2, 3], Window(3, 5, 70, 80), level=0, credentials=credentials(tmp_path / "c"))
        assert np.array_equal(values, expected[:, 3:73, 5:85])
        read_afresh(path, [1], Window(0, 0, 9, 9), credentials=credentials(tmp_path / "c"))
    assert len(list(entries_of(tmp_path / "c"))) == 2


def test_cached_pixels_come_from_the_entry(tmp_path, monkeypatch):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    expected, _ = reader.read(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
    monkeypatch.setattr(cached_blocks.CachedBlocks, "_decode", None)  # GDAL must not be asked again
    values, _ = read_afresh(path, [3, 1], Window(10, 20, 100, 150), credentials=cached)
    assert np.array_equal(values, expected[[2, 0], 10:110, 20:170])


@pytest.mark.parametrize("change", ["rewritten", "moved over it", "same time"])
def test_a_changed_file_is_not_served_from_its_former_entry(tmp_path, change):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    window = Window(0, 0, 60, 60)
    reader.read(path, [1], window, credentials=cached)
    times = Path(path).stat()
    if change == "rewritten":
        write(path, seed=1, **TILED)
    else:
        Path(write(tmp_path / "b.tif", seed=1, **TILED)).replace(path)
    if change == "same time":
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with rasterio.open(path) as file:
        expected = file.read(1)[:60, :60]
    for read in (reader.read, read_afresh):
        assert np.array_equal(read(path, [1], window, credentials=cached)[0][0], expected)


@pytest.mark.parametrize("damage", ["header", "truncated", "empty", "magic", "version", "not JSON"])
def test_a_damaged_entry_is_dropped(tmp_path, damage):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    expected, _ = reader.read(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
    entry = entry_of(tmp_path / "c")
    content = bytearray(entry.read_bytes())
    if damage == "header":
        content[60] ^= 1
    elif damage == "truncated":
        content = content[:-5000]
    elif damage == "empty":
        content = bytearray()
    elif damage == "not JSON":
        content[16:24] = struct.pack("=II", 4, 0xFFFFFFFF)
    else:
        content[0 if damage == "magic" else 13] ^= 1
    entry.write_bytes(content)
    for _ in range(2):
        values, _ = read_afresh(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
        assert np.array_equal(values, expected)
    assert entry_of(tmp_path / "c").stat().st_size > 2 * 150 * 190


def test_blocks_from_before_the_last_boot_are_compared_with_their_checksum(tmp_path, monkeypatch):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    expected, _ = reader.read(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
    entry = entry_of(tmp_path / "c")
    content = bytearray(entry.read_bytes())
    content[-20_000:] = bytes(20_000)  # a crash of the system lost the last pages
    entry.write_bytes(content)
    monkeypatch.setattr(cached_blocks, "boot", lambda: "another")
    values, _ = read_afresh(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
    assert np.array_equal(values, expected)


def test_an_unreadable_source_is_an_error_and_leaves_the_cache_on(tmp_path):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    os.truncate(path, Path(path).stat().st_size // 2)
    with pytest.raises(ReadError, match=r"a\.tif"):
        reader.read(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
    assert block_cache.budget_of(cached.cache).enabled


def test_a_full_disk_reads_on_without_the_cache_and_warns_once(tmp_path, monkeypatch):
    path, cached = write(tmp_path / "a.tif", **TILED), credentials(tmp_path / "c")
    with rasterio.open(path) as file:
        full = file.read()

    def pwrite(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cached_blocks.os, "pwrite", pwrite)
    with pytest.warns(GeoxtWarning, match="No space left on device"):
        values, _ = reader.read(path, [1, 2, 3], Window(0, 0, 60, 190), credentials=cached)
    assert np.array_equal(values, full[:, :60])
    values, _ = reader.read(path, [1, 2, 3], Window(50, 0, 60, 190), credentials=cached)  # a second warning would raise
    assert np.array_equal(values, full[:, 50:110])


@pytest.mark.parametrize("obstacle", ["a file", "a folder of another user"])
def test_a_folder_that_cannot_be_written_warns_once(tmp_path, obstacle, monkeypatch):
    path, folder = write(tmp_path / "a.tif", **TILED), tmp_path / "c"
    if obstacle == "a file":
        folder.write_text("")
    else:  # root may write everywhere, so that permissions alone would not do
        folder.mkdir()

        def no_permission(*args, **options):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(cached_blocks.Path, "mkdir", no_permission)
    with pytest.warns(GeoxtWarning, match="Files are read without the cache"):
        read_afresh(path, [1], Window(0, 0, 60, 60), credentials=credentials(folder))
    values, _ = read_afresh(path, [1], Window(0, 0, 60, 60), credentials=credentials(folder))  # without a warning
    with rasterio.open(path) as file:
        assert np.array_equal(values[0], file.read(1)[:60, :60])


def test_the_limit_holds_and_the_least_recently_used_entries_go_first(tmp_path):
    size = 3 * 192 * 192 * 2  # bytes of a file's blocks
    cached = credentials(tmp_path / "c", limit=4 * size)
    paths = [write(tmp_path / f"{n}.tif", seed=n, **TILED) for n in range(10)]
    for n, path in enumerate(paths):
        values, _ = reader.read(path, [1, 2, 3], Window(0, 0, 150, 190), credentials=cached)
        with rasterio.open(path) as file:
            assert np.array_equal(values, file.read())
        for entry in entries_of(cached.cache.folder):  # file times are coarse
            if entry.source.endswith(f"{n}.tif"):
                os.utime(entry.path, (n, n))
    entries = list(entries_of(cached.cache.folder))
    assert 0 < sum(entry.size for entry in entries) <= cached.cache.limit
    assert {Path(entry.source).name for entry in entries} <= {f"{n}.tif" for n in range(6, 10)}


def test_a_file_larger_than_the_limit_is_read_and_stays_below_it(tmp_path):
    path, cached = write(tmp_path / "a.tif", height=600, width=600, **TILED), credentials(tmp_path / "c", limit=10**6)
    with rasterio.open(path) as file:
        full = file.read()
    for row in range(0, 600, 100):
        values, _ = reader.read(path, [1, 2, 3], Window(row, 0, 100, 600), credentials=cached)
        assert np.array_equal(values, full[:, row : row + 100])
    assert sum(entry.size for entry in entries_of(cached.cache.folder)) <= 10**6


FILL = """
import sys
import numpy as np, rasterio
from geoxt.pixels import reader
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.handles import close_local_handles
from geoxt.windows import Window
path, folder, seed = sys.argv[1:]
with rasterio.open(path) as file:
    whole = file.read()
rng = np.random.default_rng(int(seed))
cached = Credentials(cache=BlockCache(folder))
for _ in range(60):
    top, left = rng.integers(0, 400, 2).tolist()
    values, _ = reader.read(path, [1, 2, 3], Window(top, left, 200, 200), credentials=cached)
    assert np.array_equal(values, whole[:, top:top + 200, left:left + 200])
    print("read", flush=True)
"""


def fill(folder, seed):
    """Read windows of the file a.tif in another process, through the cache c."""
    (folder / f"{seed}").mkdir()
    return start_code(FILL, str(folder / "a.tif"), str(folder / "c"), str(seed), output=folder / f"{seed}")


def test_two_processes_fill_one_cache_at_once(tmp_path):
    write(tmp_path / "a.tif", height=600, width=600, **TILED)
    runs = [fill(tmp_path, seed) for seed in range(2)]
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    assert len(list(entries_of(tmp_path / "c"))) == 1


def test_a_killed_process_leaves_a_valid_cache(tmp_path):
    path = write(tmp_path / "a.tif", height=600, width=600, **TILED)
    with rasterio.open(path) as file:
        full = file.read()
    for seed in range(3):
        run = fill(tmp_path, seed)
        printed = tmp_path / f"{seed}" / "stdout"
        while not printed.exists() or printed.read_text().count("\n") < 1 + 3 * seed:
            time.sleep(0.001)
        run.kill()
        run.join()
        assert run.exitcode == -signal.SIGKILL
        values, _ = read_afresh(path, [1, 2, 3], Window(0, 0, 600, 600), credentials=credentials(tmp_path / "c"))
        assert np.array_equal(values, full)
        shutil.rmtree(tmp_path / "c")


def test_a_temporary_entry_of_a_killed_process_is_removed_a_day_later(tmp_path):
    path = write(tmp_path / "a.tif", **TILED)
    window = Window(0, 0, 64, 64)
    read_afresh(path, [1], window, credentials=credentials(tmp_path / "c"))
    entry = entry_of(tmp_path / "c")
    entry.unlink()
    stale = [entry.with_name(f".{entry.name}-{pid}-0123456789") for pid in (2**22 + 1, os.getpid())]
    for left in stale:
        left.write_bytes(b"half")
        os.utime(left, (0, 0))
    storage._swept.clear()  # as in the next process
    read_afresh(path, [1], window, credentials=credentials(tmp_path / "c"))
    assert sorted(entry.parent.iterdir()) == sorted([entry, stale[1]])


def test_layers_and_loaders_read_the_same_bits(tmp_path):
    path = write(tmp_path / "a.tif", nodata=7, **TILED)
    plain, cached = geoxt.open_cogs(path, cache=False), geoxt.open_cogs(path, cache=tmp_path / "c")
    windows = geoxt.samplers.RandomSampler(plain, size=64, length=12, seed=0)
    for _ in range(2):
        for workers in (0, 2):
            options = {"batch_size": 4, "num_workers": workers}
            for expected, batch in zip(
                plain.geoml.loader(windows, **options), cached.geoml.loader(windows, **options), strict=True
            ):
                assert all(np.array_equal(batch[key], expected[key]) for key in ("image", "image_valid"))
    assert np.array_equal(cached.values, plain.values)


def test_the_environment_variable_is_the_default(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", **TILED)
    monkeypatch.setenv("GEOXT_BLOCK_CACHE", f"{tmp_path / 'c'}:1GB")
    geoxt.open_cogs(path, cache=False).values  # noqa: B018
    assert not list(entries_of(tmp_path / "c"))
    geoxt.open_cogs(path).values  # noqa: B018
    assert len(list(entries_of(tmp_path / "c"))) == 1


def test_warm_fills_the_cache(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", **TILED)
    layer = geoxt.open_cogs(path, cache=tmp_path / "c")
    geoxt.warm_cache(layer, progress=False)
    monkeypatch.setattr(cached_blocks.CachedBlocks, "_decode", None)
    close_local_handles()
    with rasterio.open(path) as file:
        assert np.array_equal(layer.values, file.read())


def test_warm_reads_only_the_windows_and_requires_a_cache(tmp_path):
    path = write(tmp_path / "a.tif", **TILED)
    layer = geoxt.open_cogs(path, cache=tmp_path / "c")
    geoxt.warm_cache(layer, [Window(0, 0, 10, 10)], progress=False)
    assert entry_of(tmp_path / "c").stat().st_blocks * 512 < 3 * 150 * 190 * 2
    with pytest.raises(InputError, match="block cache"):
        geoxt.warm_cache(geoxt.open_cogs(path, cache=False))


def test_clear_removes_all_entries(tmp_path):
    cached = credentials(tmp_path / "c")
    reader.read(write(tmp_path / "a.tif", **TILED), [1], Window(0, 0, 60, 60), credentials=cached)
    assert clear_block_cache(cached.cache) > 0
    assert not list(entries_of(tmp_path / "c"))


def test_a_filesystem_without_sparse_files_is_not_used(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", height=3000, width=3000, **TILED)
    fstat = os.fstat

    class Status:
        def __init__(self, status):
            self.status, self.st_blocks = status, status.st_size // 512

        def __getattr__(self, name):
            return getattr(self.status, name)

    monkeypatch.setattr(cached_blocks.os, "fstat", lambda descriptor: Status(fstat(descriptor)))
    with pytest.warns(GeoxtWarning, match="no sparse files"):
        reader.read(path, [1], Window(0, 0, 60, 60), credentials=credentials(tmp_path / "c"))
    assert not list(entries_of(tmp_path / "c"))


def test_virtual_rasters_are_not_cached(tmp_path):
    path = write(tmp_path / "a.tif", **TILED)
    vrt = tmp_path / "a.vrt"
    vrt.write_text(
        f'<VRTDataset rasterXSize="190" rasterYSize="150"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        reader.read(str(vrt), [1], Window(0, 0, 60, 60), credentials=credentials(tmp_path / "c"))
    assert not list(entries_of(tmp_path / "c"))
