"""The bound of GDAL's block cache."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.transform import from_origin

import geoxt
from geoxt.errors import InputError
from geoxt.pixels import gdal_cache
from geoxt.pixels.handles import close_local_handles

LARGE = 4_000_000_000
"""A bound such as GDAL's default on a machine of 80 GB."""


@pytest.fixture
def path(tmp_path):
    """Return a small GeoTIFF."""
    name = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(name, "w", transform=from_origin(500000, 5000000, 10, 10), **profile) as file:
        file.write(np.ones((1, 8, 8), "uint8"))
    return name


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Give GDAL a large cache that nobody asked for, and restore that of the process afterwards."""
    before = get_gdal_config("GDAL_CACHEMAX")
    set_gdal_config("GDAL_CACHEMAX", LARGE)
    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    monkeypatch.setattr(gdal_cache, "_lowered", False)
    yield
    set_gdal_config("GDAL_CACHEMAX", before)


def test_cache_is_lowered_at_the_first_read(path):
    geoxt.open_cogs(path).compute()
    assert get_gdal_config("GDAL_CACHEMAX") == gdal_cache.MAX_BYTES == 512_000_000


def test_smaller_cache_of_a_small_machine_stays(path):
    set_gdal_config("GDAL_CACHEMAX", 1_000_000)
    geoxt.open_cogs(path).compute()
    assert get_gdal_config("GDAL_CACHEMAX") == 1_000_000


def test_rasterio_env_decides(path):
    with rasterio.Env(GDAL_CACHEMAX=700_000_000):
        layer = geoxt.open_cogs(path)
        assert layer.compute().values.all()
        assert get_gdal_config("GDAL_CACHEMAX") == 700_000_000
    close_local_handles()
    layer.compute()  # the layer has the options that it was opened with
    assert get_gdal_config("GDAL_CACHEMAX") == 700_000_000


def test_cache_is_lowered_after_the_end_of_a_rasterio_env(path):
    with rasterio.Env(GDAL_CACHEMAX=700_000_000):
        geoxt.open_cogs(path).compute()
    close_local_handles()
    geoxt.open_cogs(path, env={"GDAL_NUM_THREADS": "1"}).compute()
    assert get_gdal_config("GDAL_CACHEMAX") == gdal_cache.MAX_BYTES


@pytest.mark.parametrize(("text", "size"), [("64", 64 * 2**20), (64, 64 * 2**20), (200_000_000, 200_000_000)])
def test_env_of_a_layer_decides(path, text, size):
    assert geoxt.open_cogs(path, env={"GDAL_CACHEMAX": text}).compute().values.all()
    assert get_gdal_config("GDAL_CACHEMAX") == size


@pytest.mark.skipif(os.name == "nt", reason="Windows has no sysconf")
def test_percentage_is_that_of_gdal():
    code = "from rasterio.env import get_gdal_config as g; print(g('GDAL_CACHEMAX'))"
    env = os.environ | {"GDAL_CACHEMAX": "3%"}
    gdal = int(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    gdal_cache.limit_gdal_cache("3%")
    assert abs(get_gdal_config("GDAL_CACHEMAX") - gdal) <= 0.01 * gdal


@pytest.mark.parametrize("text", ["many", "-5", "x%", "1e400%", "nan%", ""])
def test_values_that_are_no_size_raise(text):
    with pytest.raises(InputError, match="GDAL_CACHEMAX="):
        gdal_cache.limit_gdal_cache(text)


def test_environment_decides(path, monkeypatch):
    monkeypatch.setenv("GDAL_CACHEMAX", "4000")
    geoxt.open_cogs(path).compute()
    assert get_gdal_config("GDAL_CACHEMAX") == LARGE
