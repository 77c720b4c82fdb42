"""Two writers of one output at once: the second ends with an error, and the file of the first is complete."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt.errors import OutputError
from geoxt.writers import to_cog, to_zarr
from geoxt.writers.vrt import SaveGeoTIFF

GRID = GeoBox((32, 32), Affine(10, 0, 0, 0, -10, 320), "EPSG:32633")


def layer_of(compute):
    values = da.ones((32, 32), "uint8", chunks=16).map_blocks(compute, dtype="uint8", meta=np.empty((0, 0), "uint8"))
    return xr.DataArray(values, coords=xr_coords(GRID), dims=("y", "x"), name="map")


@pytest.mark.parametrize("same_layer", [True, False])
@pytest.mark.parametrize(("write", "name"), [(to_cog, "a.tif"), (to_zarr, "a.zarr")])
def test_second_writer_raises_and_the_first_succeeds(tmp_path, write, name, same_layer):
    started, go_on = threading.Event(), threading.Event()

    def compute(block):
        started.set()
        assert go_on.wait(30)
        return block * np.uint8(7)

    first = layer_of(compute)
    pool = ThreadPoolExecutor(1)
    writing = pool.submit(write, first, tmp_path / name)
    assert started.wait(30)
    with pytest.raises(OutputError, match="another process or thread is writing it"):
        write(first if same_layer else layer_of(lambda block: block), tmp_path / name)
    go_on.set()
    assert writing.result(30) == tmp_path / name
    if write is to_cog:
        with rasterio.open(tmp_path / name) as file:
            assert (file.read() == 7).all()
    else:
        assert (xr.open_zarr(tmp_path / name)["map"] == 7).all()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write(layer_of(lambda block: block), tmp_path / name)  # the lock is free again


def test_threads_that_write_blocks_at_once_need_no_filters_of_warnings(tmp_path, monkeypatch):
    """Filters belong to the process: one thread restored them while another one relied on them."""

    def raise_error(*_, **__):
        raise AssertionError("threads cannot ignore warnings")

    monkeypatch.setattr(warnings, "catch_warnings", raise_error)
    SaveGeoTIFF(folder=tmp_path)(np.ones((16, 16), "float32"), 0)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
