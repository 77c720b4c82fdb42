"""Zarr stores behind an HTTP server, and stores that `to_zarr` writes."""

import shutil

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from support.servers import serve_files

import geoxt
from geoxt.errors import ReadError
from geoxt.grid import coordinates, grid_of
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

from .test_open_zarr import write_store

zarr = pytest.importorskip("zarr")
GRID = make_grid((60, 70))


@pytest.fixture
def served(tmp_path):
    """Return the folder of a server, its address, and a function that writes a store."""

    def write(values, name="a.zarr"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        write_store(tmp_path / name, {"b": (("y", "x"), values, {})}, chunks=(16, 24))
        zarr.consolidate_metadata(str(tmp_path / name))

    with serve_files(tmp_path, nginx=False) as url:
        yield tmp_path, url, write


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("options", [None, {}], ids=["obstore", "fsspec"])
def test_store_behind_http(served, options):
    pytest.importorskip("obstore" if options is None else "aiohttp")
    folder, url, write = served
    values = distinct((60, 70), "int32")
    write(values)
    layer = geoxt.open_zarr(f"{url}/a.zarr", storage_options=options)
    assert view_of(layer).remote
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], values)
    assert np.array_equal(view_of(layer).read(Window(9, 20, 30, 31))[0][0, 0], values[9:39, 20:51])
    write(values + 1)
    again = geoxt.open_zarr(f"{url}/a.zarr", storage_options=options)
    assert np.array_equal(again.compute(scheduler="synchronous").values[0], values + 1)
    (folder / "a.zarr" / "b" / "c" / "0" / "0").write_bytes(b"cut")
    layer = geoxt.open_zarr(f"{url}/a.zarr", storage_options=options)
    with pytest.raises(ReadError, match="Cannot read http"):
        view_of(layer).read(Window(0, 0, 5, 5))
    with pytest.raises(ReadError, match="Cannot open the Zarr store"):
        geoxt.open_zarr(f"{url}/b.zarr", storage_options=options)


def test_stores_of_to_zarr(tmp_path, write):
    path = write(distinct((2, 60, 70), "uint16"), GRID, nodata=5)
    layer = geoxt.open_cogs(path)
    geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)
    again = geoxt.open_zarr(tmp_path / "a.zarr")
    assert np.array_equal(again.values, layer.values)
    assert again.attrs["_FillValue"] == 5
    assert again.band.values.tolist() == layer.band.values.tolist()
    assert again.odc.geobox == layer.odc.geobox
    attrs = zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs
    assert attrs["proj:code"] == "EPSG:32615"
    assert attrs["spatial:transform"] == list(GRID.affine[:6])
    assert [c["name"] for c in attrs["zarr_conventions"]] == ["proj:", "spatial:"]


@pytest.mark.parametrize("rows", [slice(None), slice(7, 50)])
def test_rotated_grids_of_to_zarr(tmp_path, rows):
    rotated = GeoBox(
        (60, 70), Affine.translation(600_000, 4_550_000) * Affine.rotation(20) * Affine.scale(30, -30), 32615
    )
    layer = xr.DataArray(distinct((60, 70)), dims=("y", "x"), coords=coordinates(rotated), name="b")[rows]
    geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)
    again = geoxt.open_zarr(tmp_path / "a.zarr", grid=grid_of(layer))
    assert np.array_equal(again.values[0], layer.values)
