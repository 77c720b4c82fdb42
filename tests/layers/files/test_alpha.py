"""Bands tagged as alpha: data if named by the product or the caller, else valid masks, which a warning states."""

import numpy as np
import pytest
import rasterio
from affine import Affine

import geoxt
from geoxt.errors import GeoxtWarning, InputError
from geoxt.samplers import GridSampler

NAIP = "m_3412039_nw_10_h_20160616.tif"


def write(path, *, alpha=True, mask=None, names=()):
    values = np.stack(
        [np.full((40, 40), n, "uint8") for n in (10, 20, 30)] + [np.tile(np.arange(40, dtype="uint8"), (40, 1))]
    )
    profile = {"driver": "GTiff", "count": 4, "height": 40, "width": 40, "dtype": "uint8", "photometric": "RGB"}
    profile |= {"crs": "EPSG:32615", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "alpha": "YES" if alpha else "NO"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return str(path), values


def valid_share(layer):
    (batch,) = layer.geoml.loader(GridSampler(layer, size=40), batch_size=1)
    return float(batch["image_valid"].float().mean())


@pytest.mark.parametrize("bands", [None, ["nir"], ["red", "nir"]])
def test_band_of_the_product_is_data(tmp_path, bands):
    path, values = write(tmp_path / NAIP)
    layer = geoxt.open_cogs(path, product="naip", bands=bands)
    index = {None: [0, 1, 2, 3], 1: [3], 2: [0, 3]}[bands and len(bands)]
    assert np.array_equal(layer.values, values[index])
    assert valid_share(layer) == 1


def test_band_named_by_the_caller_is_data(tmp_path):
    path, values = write(tmp_path / "a.tif")
    layer = geoxt.open_cogs(path, bands=["band_4", "band_1"])
    assert np.array_equal(layer.values, values[[3, 0]])
    assert valid_share(layer) == 1


def test_bands_behind_an_alpha_band_keep_their_numbers(tmp_path):
    values = np.arange(1, 6, dtype="uint8")[:, None, None] * np.ones((1, 8, 8), "uint8")
    profile = {"driver": "GTiff", "count": 5, "height": 8, "width": 8, "dtype": "uint8", "photometric": "RGB"}
    profile |= {"crs": "EPSG:32615", "transform": Affine(10, 0, 5e5, 0, -10, 4e6), "alpha": "YES"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(values)
    with pytest.warns(GeoxtWarning, match="Band 4 of .* is tagged as alpha"):
        layer = geoxt.open_cogs(tmp_path / "a.tif")
    assert layer.band.values.tolist() == ["band_1", "band_2", "band_3", "band_5"]
    assert np.array_equal(layer.sel(band="band_5"), values[4])


def test_band_named_by_its_description_is_data(tmp_path):
    path, values = write(tmp_path / "a.tif", names=["red", "green", "blue", "nir"])
    layer = geoxt.open_cogs(path, bands=["nir"])
    assert np.array_equal(layer.values, values[[3]])


def test_other_files_warn_that_the_band_is_the_valid_mask(tmp_path):
    paths = [write(tmp_path / f"{name}.tif")[0] for name in "ab"]
    with pytest.warns(
        GeoxtWarning, match=r"Band 4 of .*a\.tif is tagged as alpha.*pass bands=\['band_1', .*'band_4'\]"
    ):
        layer = geoxt.open_cogs(paths[0])
    assert layer.band.values.tolist() == ["band_1", "band_2", "band_3"]
    assert valid_share(layer) == pytest.approx(39 / 40)
    with pytest.warns(GeoxtWarning, match="1 more files"):
        geoxt.open_cogs(paths)


def test_a_mask_beside_a_band_that_is_data_is_an_error(tmp_path):
    path, _ = write(tmp_path / NAIP, mask=np.eye(40, dtype=bool))
    with pytest.raises(InputError, match="tagged as alpha, beside a mask"):
        geoxt.open_cogs(path, product="naip")
