"""Generated Sentinel-2 scenes have the names, grids and numbers of the product, and clouds where SCL states them."""

import numpy as np
import pytest
import rasterio

import geoxt
from geoxt.errors import InputError
from geoxt.testing import make_sentinel2


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_sentinel2(tmp_path_factory.mktemp("s2"), size=96, dates=("20230712", "20230801"), clouds=0.3)


def read(scene, name):
    (path,) = scene.rglob(f"*_{name}_*.tif")
    with rasterio.open(path) as file:
        return file.read(1), file.transform


def test_bands_of_all_sizes_cover_the_same_bounds(scenes):
    sizes = {}
    for path in scenes[0].rglob("*.tif"):
        with rasterio.open(path) as file:
            sizes[path.stem.split("_")[2]] = (file.width, file.res[0])
            assert tuple(file.bounds) == (499_520, 4_561_520, 500_480, 4_562_480)
    assert sizes["B02"] == (96, 10)
    assert sizes["B11"] == sizes["SCL"] == (48, 20)
    assert sizes["B09"] == (16, 60)


def test_coarse_bands_are_means_of_the_pixels(scenes):
    blue, coastal = read(scenes[0], "B02")[0], read(scenes[0], "B01")[0]
    np.testing.assert_allclose(coastal, blue.reshape(16, 6, 16, 6).mean((1, 3)), atol=1)


def test_scenes_open_as_the_product_and_clouds_are_bright(scenes):
    layer = geoxt.open_cogs(scenes[1], bands=["blue"], rescale=True).squeeze("band", drop=True).values[::2, ::2]
    scl, _ = read(scenes[1], "SCL")
    assert 0.1 < np.isin(scl, (8, 9)).mean() < 0.6
    assert layer[scl == 9].min() > layer[scl == 4].max()
    clear = geoxt.open_cogs(scenes[1], bands=["blue"], exclude=("clouds", "shadows"), rescale=True)
    np.testing.assert_array_equal(np.isnan(clear.values[0, ::2, ::2]), np.isin(scl, (3, 8, 9, 10)))


def test_a_size_without_whole_pixels_of_60_m_raises(tmp_path):
    with pytest.raises(InputError, match="multiple of 6"):
        make_sentinel2(tmp_path, size=100)
