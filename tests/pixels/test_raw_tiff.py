"""Raw reads of uncompressed GeoTIFFs: block offsets and pixels equal GDAL's; encoded files are rejected."""

import os
import struct

import numpy as np
import pytest
import rasterio

from geoxt.pixels.raw_tiff import block_offsets, open_raw
from geoxt.pixels.tiff_directory import ORDER
from geoxt.windows import Window

SHAPE = (3, 70, 90)
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}
PLAIN = [
    TILED,
    TILED | {"interleave": "band"},
    TILED | {"interleave": "pixel"},
    {"interleave": "band"},
    {"interleave": "pixel", "blockysize": 7},
    {"blockysize": 70, "interleave": "band"},
    {"blockysize": 16, "interleave": "band"},  # the last strip is shorter
    TILED | {"bigtiff": "yes", "interleave": "band"},
    {"count": 1, "blockysize": 70},
    {"count": 1, "bigtiff": "yes", "blockysize": 70},
]


def write(path, **options):
    profile = {"driver": "GTiff", "width": 90, "height": 70, "count": 3, "dtype": "uint16"} | options
    shape = profile["count"], *SHAPE[1:]
    values = np.arange(np.prod(shape)).reshape(shape).astype(profile["dtype"])
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    return values


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("options", PLAIN, ids=str)
def test_block_offsets_and_pixels_equal_gdal(tmp_path, options):
    path = str(tmp_path / "a.tif")
    values = write(path, **options)
    with rasterio.open(path) as file:
        raw = open_raw(file, path)
        assert raw is not None
        for plane, rows in enumerate(raw._offsets):
            for down, row in enumerate(rows):
                for across, start in enumerate(row):
                    expected_offset = file.get_tag_item(f"BLOCK_OFFSET_{across}_{down}", "TIFF", bidx=plane + 1)
                    assert start == int(expected_offset)
        rng = np.random.default_rng(0)
        for _ in range(20):
            top, left = int(rng.integers(0, 69)), int(rng.integers(0, 89))
            window = Window(top, left, int(rng.integers(1, 71 - top)), int(rng.integers(1, 91 - left)))
            bands = rng.permutation(len(values))[: rng.integers(1, len(values) + 1)] + 1
            expected = values[bands - 1, top : window.stop[0], left : window.stop[1]]
            assert np.array_equal(raw.read(bands.tolist(), window), expected)
            out = np.empty(expected.shape, "uint16")
            assert raw.read(bands.tolist(), window, out) is out
            assert np.array_equal(out, expected)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"compress": "deflate"},
        {"endianness": "big"},
        {"nbits": 12},
        {"dtype": "complex64"},
        {"dtype": "uint8", "photometric": "cielab"},
        {"dtype": "uint8", "photometric": "cmyk", "count": 4},
    ],
    ids=str,
)
def test_encoded_files_are_left_to_gdal(tmp_path, options):
    path = str(tmp_path / "a.tif")
    write(path, **options)
    with rasterio.open(path) as file:
        assert open_raw(file, path) is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_sparse_block_is_left_to_gdal(tmp_path):
    path = str(tmp_path / "a.tif")
    profile = {"driver": "GTiff", "width": 90, "height": 70, "count": 1, "dtype": "uint16", "sparse_ok": True, **TILED}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.ones((1, 16, 32), "uint16"), window=((0, 16), (0, 32)))
    with rasterio.open(path) as file:
        raw = open_raw(file, path)
        assert raw.read([1], Window(0, 0, 16, 32)).all()
        assert raw.read([1], Window(0, 30, 16, 32)) is None


@pytest.mark.parametrize(("tag", "value", "plain"), [(262, 1, True), (262, 5, False), (266, 1, True), (266, 2, False)])
def test_converted_colors_and_bit_order_are_left_to_gdal(tmp_path, tag, value, plain):
    path = tmp_path / "a.tif"
    entries = struct.pack("=HHIHH", tag, 3, 1, value, 0) + struct.pack("=HHII", 273, 4, 1, 99)
    path.write_bytes({"<": b"II", ">": b"MM"}[ORDER] + struct.pack("=HIH", 42, 8, 2) + entries + bytes(4))
    descriptor = os.open(path, os.O_RDONLY)
    offsets = block_offsets(descriptor)
    os.close(descriptor)
    assert (offsets is not None and offsets.tolist() == [99]) is plain
    assert (offsets is None) is not plain


@pytest.mark.parametrize("content", [b"", b"II*\0", b"II*\0\xff\xff\xff\x7f" + bytes(8), b"no raster at all, but text"])
def test_other_files_have_no_block_offsets(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    assert block_offsets(descriptor) is None
    os.close(descriptor)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_read_past_the_end_of_a_truncated_file_is_left_to_gdal(tmp_path):
    path = str(tmp_path / "a.tif")
    write(path, **TILED, interleave="band")
    with rasterio.open(path) as file:
        raw = open_raw(file, path)
        os.truncate(path, raw._offsets[2][4][2] + 5)
        assert raw.read([3], Window(0, 0, 70, 90)) is None
    with rasterio.open(path) as file:
        raw = open_raw(file, path)
        rows, cols = file.block_shapes[0]
        of_block = Window(4 * rows, 2 * cols, 1, 1)  # its first row is complete but for GDAL, which reads whole blocks
        assert raw.read([3], of_block) is None
        with pytest.raises(rasterio.errors.RasterioIOError):
            file.read(3, window=((of_block.row, of_block.row + 1), (of_block.col, of_block.col + 1)))
        before = Window(4 * rows, cols, 1, 1)
        assert raw.read([3], before) == file.read(3, window=((4 * rows, 4 * rows + 1), (cols, cols + 1)))
