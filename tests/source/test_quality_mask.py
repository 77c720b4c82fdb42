"""Quality bands: excluded pixels are removed before resampling, and any window equals that part of the whole."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from dask.base import tokenize

from geoxt.grid import full_window
from geoxt.layers import open_cogs, products
from geoxt.layers.products import find_qa, qa_tests
from geoxt.source import Mosaic, QualityBand, view_of
from geoxt.source.quality_mask import not_excluded
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

GRID = make_grid((60, 70), resolution=20)
FINE = make_grid((120, 140), resolution=10)
ALBERS = GRID.to_crs("EPSG:5070", resolution=23)


def masked(layer, path, out):
    """Return the source of a layer with a quality band in each scene."""
    source = view_of(layer).source
    asset = view_of(open_cogs(path)).source.scenes[0].assets[0]
    scenes = tuple(replace(s, quality=(QualityBand(asset=asset, excluded=out),)) for s in source.scenes)
    return replace(source, scenes=scenes)


@pytest.mark.parametrize("name", ["landsat8", "landsat7", "landsat1", "sentinel2"])
def test_bit_tests_equal_product_qa(name):
    for qa in products.get(name).qa:
        numbers = np.arange(1 << 16, dtype="uint16")
        wide = numbers.astype("int64")
        for category in qa.names:
            tests = qa_tests(qa, category)
            expected = ~np.any([(wide >> bit) & mask == value for bit, mask, value in tests], axis=0)
            assert np.array_equal(not_excluded(numbers, tests), expected)
    small = np.arange(12, dtype="uint8").reshape(3, 4)
    assert np.array_equal(not_excluded(small, ((0, 0xFF, 3),)), small != 3)
    assert np.array_equal(not_excluded(small.astype("int32") - 5, ((0, 1, 1),)), (small - 5) % 2 == 0)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "cubic"])
def test_excluded_pixels_equal_nodata_in_the_file(write, method):
    """The oracle: the same file with the clouds burned in as nodata."""
    rng = np.random.default_rng(3)
    values = distinct((1, 60, 70)) + 100
    clouds = rng.random((60, 70)) < 0.2
    bright = np.where(clouds, 60_000, values).astype("uint16")
    qa = write(np.where(clouds, 8, 64).astype("uint16"), GRID)
    source = masked(open_cogs(write(bright, GRID, nodata=0), grid=ALBERS, resampling=method), qa, ((3, 1, 1),))
    burned = open_cogs(
        write(np.where(clouds, 0, values).astype("uint16"), GRID, nodata=0), grid=ALBERS, resampling=method
    )
    exact, valid = view_of(burned).read(full_window(ALBERS))
    pixels, valid_mask = source.read(full_window(ALBERS))
    assert 0 < valid_mask.sum() < valid.size
    assert np.array_equal(valid_mask, valid)
    assert np.array_equal(pixels, exact)


def test_coarser_quality_band_is_upsampled_to_the_bands(write):
    values = distinct((1, 120, 140))
    classes = np.random.default_rng(4).integers(4, 11, (60, 70)).astype("uint8")
    out = qa_tests(find_qa(products.get("sentinel2").qa, "clouds"), "clouds")
    source = masked(open_cogs(write(values, FINE, nodata=0)), write(classes, GRID, nodata=0), out)
    pixels, valid_mask = source.read(full_window(FINE))
    clear = (classes < 8).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(valid_mask[0, 0], clear)
    assert np.array_equal(pixels[0], np.where(clear, values, 0))


def test_pixels_beyond_the_quality_band_are_invalid(write):
    values = distinct((1, 60, 70))
    half = make_grid((60, 35), resolution=20)
    source = masked(open_cogs(write(values, GRID, nodata=0)), write(np.zeros((60, 35), "uint16"), half), ((3, 1, 1),))
    valid_mask = source.read(full_window(GRID))[1][0, 0]
    assert valid_mask[:, :35].all()
    assert not valid_mask[:, 35:].any()
    assert not source.read(Window(0, 40, 10, 10))[1].any()


def test_masked_window_equals_part_of_whole(write):
    classes = np.random.default_rng(6).integers(0, 12, (60, 70)).astype("uint8")
    out = qa_tests(find_qa(products.get("sentinel2").qa, "clouds"), ["clouds", "shadows"])
    layer = open_cogs(write(distinct((2, 120, 140)), FINE, nodata=0), grid=ALBERS)
    source = masked(layer, write(classes, GRID), out)
    values, valid = source.read(full_window(ALBERS))
    for window in (Window(0, 0, 17, 50), Window(13, 29, 16, 8), Window(31, 25, 1, 1)):
        part, valid_mask = source.read(window)
        rows, cols = window.within(full_window(ALBERS))
        assert np.array_equal(part, values[:, :, rows, cols])
        assert np.array_equal(valid_mask, valid[:, :, rows, cols])


def test_masked_read_uses_no_overview(write):
    """Overviews average clouds into clear pixels."""
    clouds = np.zeros((256, 256), bool)
    clouds[::2, ::2] = True
    grid = make_grid((256, 256))
    values = np.where(clouds, 50_000, 100).astype("uint16")
    path = write(values, grid, nodata=0, tiled=True, overviews=[2, 4], resampling="average")
    coarse = make_grid((64, 64), resolution=120)
    plain = open_cogs(path, grid=coarse)
    assert view_of(plain).read(full_window(coarse))[0].max() > 100
    pixels, valid_mask = masked(plain, write(clouds.astype("uint8"), grid), ((0, 1, 1),)).read(full_window(coarse))
    assert valid_mask.all()
    assert (pixels == 100).all()


def test_masked_source_pickles_and_changes_the_token(write):
    path, qa = write(distinct((1, 60, 70)), GRID), write(np.zeros((60, 70), "uint8"), GRID)
    source, other_source = (masked(open_cogs(path), qa, ((bit, 1, 1),)) for bit in (3, 4))
    source.read(full_window(GRID))
    unpickled = pickle.loads(pickle.dumps(source))
    assert isinstance(unpickled, Mosaic)
    assert tokenize(unpickled) == tokenize(source) != tokenize(other_source)
    assert np.array_equal(unpickled.read(full_window(GRID))[0], source.read(full_window(GRID))[0])
