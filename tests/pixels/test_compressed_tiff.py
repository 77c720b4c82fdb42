"""Reads of compressed GeoTIFFs without GDAL: GDAL's bits, and each block is decoded once and verified."""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.errors import ReadError
from geoxt.pixels import block_lru_cache, compressed_tiff, file_version, reader, tiff_codecs
from geoxt.pixels.block_cache import BlockCache
from geoxt.pixels.block_lru_cache import BlockLRUCache
from geoxt.pixels.compressed_tiff import open_compressed
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.handles import close_local_handles
from geoxt.windows import Window

pytest.importorskip("isal", reason="needs the extra 'codecs'")

SHAPE = 3, 70, 90
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
DEFLATE = {"compress": "deflate", "predictor": 2}


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Empty memory of decoded blocks, and files that count as settled at once."""
    monkeypatch.setattr(file_version, "TICK", 0)
    new = BlockLRUCache()
    monkeypatch.setattr(block_lru_cache, "_cache", new)
    return new


def write(path, *, seed=0, pixels=None, **options):
    profile = {"driver": "GTiff", "width": SHAPE[2], "height": SHAPE[1], "count": SHAPE[0], "dtype": "uint16"}
    profile |= {"crs": "EPSG:32615", "transform": Affine(10, 0, 5e5, 0, -10, 4e6)} | options
    rng = np.random.default_rng(seed)
    dtype = np.dtype(profile["dtype"])
    shape = profile["count"], profile["height"], profile["width"]
    values = rng.integers(0, 256, (*shape, dtype.itemsize), "uint8")
    values[..., :2, :, :] = values[..., :1, :, :]  # some rows repeat
    values = np.nan_to_num(values.view(dtype)[..., 0])  # rasterio counts NaN as equal to nothing
    values = values if pixels is None else pixels
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    return str(path), values


def opened(path):
    return open_compressed(rasterio.open(path), path, file_version.file_version(path))


@st.composite
def layouts(draw):
    """Draw a compression, predictor, dtype, byte order, interleave, TIFF variant and shape of blocks."""
    dtype = draw(st.sampled_from(DTYPES))
    predictors = [1, 2, 3] if dtype.startswith("float") else [1, 2]
    options = {"dtype": dtype, "predictor": draw(st.sampled_from(predictors))}
    options |= {"compress": "deflate", "count": draw(st.integers(1, 4))}
    options |= {"interleave": draw(st.sampled_from(["band", "pixel"])), "bigtiff": draw(st.sampled_from(["yes", "no"]))}
    options |= {"endianness": draw(st.sampled_from(["little", "big"]))}
    if draw(st.booleans()):
        return options | {"tiled": True, "blockxsize": draw(st.sampled_from([16, 48, 96])), "blockysize": 32}
    return options | {"blockysize": draw(st.sampled_from([1, 7, 70]))}


@settings(deadline=None, max_examples=15)
@given(options=layouts(), data=st.data(), seed=st.integers(0, 99))
def test_windows_equal_gdal_in_any_layout(tmp_path_factory, options, data, seed):
    path, values = write(tmp_path_factory.mktemp("coded") / "a.tif", seed=seed, **options)
    coded = opened(path)
    assert coded is not None
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(), values)
    for _ in range(3):
        top, left = data.draw(st.integers(0, 69)), data.draw(st.integers(0, 89))
        height, width = data.draw(st.integers(1, 70 - top)), data.draw(st.integers(1, 90 - left))
        bands = data.draw(st.lists(st.integers(1, len(values)), min_size=1, max_size=5))
        expected = values[[band - 1 for band in bands], top : top + height, left : left + width]
        out = np.empty(expected.shape, values.dtype)
        for pixels in (
            coded.read(bands, Window(top, left, height, width)),
            coded.decode(bands, Window(top, left, height, width)),
            coded.read(bands, Window(top, left, height, width), out),
        ):
            assert pixels.dtype == values.dtype
            assert pixels.tobytes() == expected.tobytes()
        assert pixels is out


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "lzw"},
        {"compress": "lerc_zstd", "dtype": "float32"},
        {"compress": "zstd"},
        {"compress": "jpeg", "dtype": "uint8", "photometric": "ycbcr", "interleave": "pixel"},
        {"compress": "packbits"},
        {"compress": "none"},
        DEFLATE | {"nbits": 12, "predictor": 1},
        DEFLATE | {"dtype": "complex64", "predictor": 1},
        DEFLATE | {"dtype": "uint8", "photometric": "cielab"},
        DEFLATE | {"dtype": "uint8", "photometric": "cmyk", "count": 4},
        DEFLATE | {"driver": "PNG", "count": 1, "dtype": "uint8"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_other_encodings_are_left_to_gdal(tmp_path, options):
    path = tmp_path / "a.tif"
    write(path, **options)
    assert opened(str(path)) is None


def test_large_blocks_are_left_to_gdal(tmp_path, monkeypatch):
    path, _ = write(tmp_path / "a.tif", **DEFLATE, blockysize=70, interleave="band")
    monkeypatch.setattr(compressed_tiff, "MAX_BLOCK", 70 * 90 * 2)
    assert opened(path) is not None
    monkeypatch.setattr(compressed_tiff, "MAX_BLOCK", 70 * 90 * 2 - 1)
    assert opened(path) is None


def test_gdal_reads_without_the_packages(tmp_path, monkeypatch):
    files = [write(tmp_path / f"{name}.tif", compress=name) for name in ("deflate", "zstd")]
    monkeypatch.setattr(tiff_codecs, "isal_zlib", None)
    for path, values in files:
        assert opened(path) is None
        for _ in range(3):
            assert np.array_equal(reader.read(path, [1, 2, 3], Window(0, 0, 70, 90))[0], values)


@pytest.mark.parametrize("nodata", [None, 7])
def test_sparse_blocks_have_gdals_values(tmp_path, nodata):
    path = str(tmp_path / "a.tif")
    profile = {"driver": "GTiff", "width": 90, "height": 70, "count": 1, "dtype": "uint16", "sparse_ok": True}
    profile |= {"crs": "EPSG:32615", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "nodata": nodata}
    with rasterio.open(path, "w", **profile, **TILED, **DEFLATE) as file:
        file.write(np.ones((1, 16, 32), "uint16"), window=((0, 16), (0, 32)))
    coded = opened(path)
    assert coded.read([1], Window(0, 0, 16, 32)).all()
    assert coded.read([1], Window(0, 30, 16, 32)) is None
    for _ in range(3):
        pixels, _ = reader.read(path, [1], Window(0, 30, 16, 4))
        assert pixels[0, 0].tolist() == [1, 1, nodata or 0, nodata or 0]


def positions(path, band=3, column=2, row=4):
    with rasterio.open(path) as file:
        return [
            int(file.get_tag_item(f"BLOCK_{name}_{column}_{row}", "TIFF", bidx=band)) for name in ("OFFSET", "SIZE")
        ]


@pytest.mark.parametrize("compress", ["deflate", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "zeros"])
def test_damaged_blocks_are_errors(tmp_path, compress, damage):
    path, values = write(tmp_path / "a.tif", compress=compress, interleave="band", **TILED)
    start, size = positions(path)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    if damage == "cut":
        data = data[: start + size // 2]
    else:
        data[start + size // 2 : start + size] = bytes(size - size // 2)
    (tmp_path / "a.tif").write_bytes(data)
    close_local_handles()
    assert np.array_equal(reader.read(path, [2], Window(0, 0, 70, 90))[0], values[1:2])  # opens the file
    for _ in range(2):
        with pytest.raises(ReadError):
            reader.read(path, [2, 3], Window(0, 0, 70, 90))
        reader.read(path, [2], Window(0, 0, 70, 90))  # opens the file again


@pytest.mark.parametrize("cached", [False, True])
def test_flipped_bits_of_deflate_blocks_are_found(tmp_path, cached):
    """GDAL returns wrong pixels of some such blocks: it ends at the last byte, before the checksum."""
    path = str(tmp_path / "a.tif")
    values = (np.add.outer(np.arange(70), np.arange(90) ** 2) % 50).astype("uint16")[None]  # compressed by symbols
    write(path, count=1, pixels=values, compress="deflate", blockysize=35)
    start, size = positions(path, 1, 0, 1)
    data = (tmp_path / "a.tif").read_bytes()
    credentials = Credentials(cache=BlockCache(str(tmp_path / "cache"), 10**9)) if cached else None
    for position in range(start + 20, start + size, 31):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        (tmp_path / "a.tif").write_bytes(damaged)
        close_local_handles()
        if not cached:  # whose blocks hold both strips
            assert np.array_equal(reader.read(path, [1], Window(0, 0, 3, 90))[0], values[:, :3])
        with pytest.raises(ReadError):  # in the last rows, and in the first ones
            reader.read(path, [1], Window(35 if position % 2 else 69, 0, 1, 90), credentials=credentials)


def test_the_error_of_a_wrong_checksum_names_file_and_block(tmp_path):
    path, _ = write(tmp_path / "a.tif", count=1, compress="deflate", blockysize=35)
    start, size = positions(path, 1, 0, 1)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[start + size - 1] ^= 1
    (tmp_path / "a.tif").write_bytes(data)
    coded = opened(path)
    for _ in range(2):
        with pytest.raises(ReadError, match=f"a.tif: its block at byte {start} is damaged"):
            coded.read([1], Window(35, 0, 1, 90))
    assert coded.read([1], Window(0, 0, 35, 90)) is not None


def test_blocks_beyond_the_end_of_a_file_are_left_to_gdal(tmp_path):
    path, values = write(tmp_path / "a.tif", count=1, compress="deflate", blockysize=35)
    start, size = positions(path, 1, 0, 1)
    os.truncate(path, start + size - 1)
    assert opened(path).read([1], Window(35, 0, 3, 90)) is None
    assert np.array_equal(opened(path).read([1], Window(0, 0, 35, 90)), values[:, :35])


def test_a_block_that_decodes_to_more_than_its_pixels_takes_no_more_memory():
    block = zlib.compress(bytes(10**6))
    assert tiff_codecs.decoder_of(8)(block, 1000) is None


def test_a_block_with_too_many_or_too_few_rows_is_left_to_gdal(tmp_path):
    path, values = write(tmp_path / "a.tif", count=1, compress="deflate", blockysize=70)
    start, size = positions(path, 1, 0, 0)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for rows, complete in ((70, True), (69, False), (71, False)):
        block = zlib.compress(np.resize(values, (rows, 90)).tobytes(), 0)
        position = len(data)
        new = data.replace(struct.pack("<I", size), struct.pack("<I", len(block)))
        new = new.replace(struct.pack("<I", start), struct.pack("<I", position)) + block
        (tmp_path / "a.tif").write_bytes(new)
        pixels = opened(path).read([1], Window(0, 0, 70, 90))
        assert (pixels is not None) is complete
        assert pixels is None or np.array_equal(pixels, values)


@pytest.fixture
def counted(monkeypatch):
    """Bytes of each decoded block."""
    sizes = []
    inflate = tiff_codecs.decoder_of(8)

    def decode(block, size):
        sizes.append(size)
        return inflate(block, size)

    monkeypatch.setattr(compressed_tiff, "decoder_of", lambda _: decode)
    return sizes


def test_a_block_is_decoded_once_for_all_readers_of_a_file(tmp_path, counted):
    path, values = write(tmp_path / "a.tif", **TILED, **DEFLATE, count=1)
    coded = opened(path)
    for rows in (3, 2, 16):
        assert np.array_equal(coded.read([1], Window(0, 0, rows, 32))[0], values[0, :rows, :32])
        assert counted == [16 * 64]
    assert np.array_equal(opened(path).read([1], Window(0, 0, 16, 32))[0], values[0, :16, :32])
    assert len(counted) == 1


def test_threads_decode_a_block_once(tmp_path, counted):
    path, values = write(tmp_path / "a.tif", **TILED, **DEFLATE, interleave="band")
    readers = [opened(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for pixels in pool.map(lambda n: readers[n % 4].read([1, 2, 3], Window(0, 0, 70, 90)), range(40)):
            assert np.array_equal(pixels, values)
    assert counted == [16 * 64] * 45  # 3 bands of 5 x 3 tiles


def test_memory_is_bounded_and_drops_the_least_recently_used(tmp_path, counted, monkeypatch):
    path, values = write(tmp_path / "a.tif", **TILED, **DEFLATE, count=1)
    small = BlockLRUCache(3 * 16 * 64)
    monkeypatch.setattr(block_lru_cache, "_cache", small)
    coded = opened(path)
    for left in (0, 32, 64, 0, 32, 64):
        coded.read([1], Window(0, left, 16, 8))
    assert (len(small), len(counted)) == (3, 3)
    coded.read([1], Window(16, 0, 16, 8))  # removes the block at 0
    coded.read([1], Window(0, 32, 16, 8))
    assert (len(small), len(counted)) == (3, 4)
    assert np.array_equal(coded.read([1], Window(0, 0, 70, 90)), values)
    assert len(small) == 3
    monkeypatch.setattr(block_lru_cache, "_cache", BlockLRUCache(0))
    assert np.array_equal(coded.read([1], Window(0, 0, 70, 90)), values)
    assert not len(block_lru_cache.block_lru_cache())


def test_limit_of_the_memory_is_that_of_gdals_cache(monkeypatch):
    assert BlockLRUCache().limit <= 512_000_000
    with rasterio.Env(GDAL_CACHEMAX=10_000_000):
        assert BlockLRUCache().limit == 10_000_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_an_empty_memory(tmp_path, memory):
    path, values = write(tmp_path / "a.tif", **TILED, **DEFLATE)
    coded = opened(path)
    coded.read([1], Window(0, 0, 16, 32))
    with memory._guard:  # held by another thread while the process forks
        child = os.fork()
        if not child:
            equal = not len(block_lru_cache.block_lru_cache()) and np.array_equal(
                coded.read([1], Window(0, 0, 70, 90))[0], values[0]
            )
            os._exit(0 if equal else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_replaced_file_is_decoded_again(tmp_path):
    for seed in range(3):
        path, values = write(tmp_path / "a.tif", seed=seed, **TILED, **DEFLATE)
        for _ in range(3):
            assert np.array_equal(reader.read(path, [1, 2, 3], Window(0, 0, 70, 90))[0], values)
    version = file_version.file_version(path)
    with rasterio.open(path) as file:
        write(tmp_path / "b.tif", seed=5, **TILED, **DEFLATE)
        (tmp_path / "b.tif").replace(path)
        assert open_compressed(file, path, version) is None  # replaced after it was opened


def test_block_cache_is_filled_without_gdal(tmp_path, counted, memory):
    path, values = write(tmp_path / "a.tif", tiled=True, blockxsize=64, blockysize=64, **DEFLATE, interleave="band")
    cached = Credentials(cache=BlockCache(str(tmp_path / "cache"), 10**9))
    for _ in range(2):
        pixels, _ = reader.read(path, [2, 3], Window(5, 5, 60, 80), credentials=cached)
        assert np.array_equal(pixels, values[1:, 5:65, 5:85])
        close_local_handles()
    assert len(counted) == 8  # whole blocks of two bands, once
    assert not len(memory)  # only on disk
