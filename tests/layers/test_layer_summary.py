"""Summaries of layers, and `geoxt describe`."""

import numpy as np
import pytest
import xarray as xr

from geoxt.cli import FAILED, main
from geoxt.grid import coordinates
from geoxt.layers import describe, open_cogs
from geoxt.pixels import reader
from geoxt.testing import distinct, make_grid

GRID = make_grid((8, 6))


@pytest.fixture(autouse=True)
def _no_pixel(monkeypatch):
    def fail(*args, **options):
        raise AssertionError((args, options))

    monkeypatch.setattr(reader, "start_read", fail)


@pytest.fixture
def scene(tmp_path, write):
    """Landsat files of two dates: red and near infrared."""
    for date in ("20210622", "20210708"):
        for band in ("SR_B4", "SR_B5"):
            name = f"LC08_L2SP_023032_{date}_20210629_02_T1_{band}.TIF"
            write(distinct((8, 6), "uint16"), GRID, name, tmp_path)
    return tmp_path


def test_known_product(scene):
    table = describe(open_cogs(scene, groupby="day"))
    assert table.loc["product", "value"].startswith("landsat8")
    assert "SR_B4.TIF' have its form" in table.loc["product", "reason"]
    assert table.loc["bands"].tolist() == ["B4 (red), B5 (nir08)", "bands of landsat8"]
    assert table.loc["dates", "value"] == "2 steps, 2021-06-22T00:00:00 to 2021-07-08T00:00:00"
    assert table.loc["CRS"].tolist() == ["EPSG:32615", "that of all files"]
    assert table.loc["nodata"].tolist() == ["0", "of landsat8: the files state none"]
    assert table.loc["categorical"].tolist() == ["no", "landsat8 holds measurements"]
    assert table.loc["scale", "value"] == "* 2.75e-05 + -0.2"
    mosaic = describe(open_cogs(scene))
    assert "groupby=" in mosaic.loc["dates", "reason"]


def test_files_of_no_known_product(tmp_path, write):
    path = write(distinct((2, 8, 6), "uint8"), GRID, "photo.tif", tmp_path, nodata=7, bands=["red", "height"])
    table = describe(open_cogs(path))
    assert table.loc["product", "value"] == "unknown"
    assert table.loc["bands"].tolist() == ["red, height", "descriptions of the bands, or names in the catalog"]
    assert table.loc["nodata"].tolist() == ["7", "stated by the files"]
    assert table.loc["dates", "value"] == "none"


def test_file_of_a_known_product_that_was_not_asked_for(scene):
    path = next(scene.glob("*SR_B4.TIF"))
    assert "pass product='landsat8'" in describe(open_cogs(path)).loc["product", "reason"]


def test_class_codes_by_colors(tmp_path, write):
    path = write(distinct((8, 6)) % 3, GRID, "cover.tif", tmp_path, colors={0: "#ff0000", 1: "#00ff00", 2: "#0000ff"})
    table = describe(open_cogs(path))
    assert table.loc["categorical"].tolist() == ["yes, 3 classes", "color table or class names of the file"]
    assert table.loc["bands", "value"] == "1"


def test_computed_layers():
    table = describe(xr.DataArray(np.zeros((8, 6)), dims=("y", "x"), coords=coordinates(GRID)))
    assert table.loc["grid", "reason"] == "the layer's coordinates"
    assert table.loc["dtype"].tolist() == ["float64", "the layer's array"]


def test_accessor(scene):
    layer = open_cogs(scene)
    assert layer.geoml.describe().equals(describe(layer))


def test_command(tmp_path, write, capsys):
    for band, size in (("B02", 8), ("B11", 4)):
        grid = make_grid((size, size), resolution=160.0 / size)
        write(distinct((size, size), "uint16"), grid, f"{band}.tif", tmp_path)
    options = [str(tmp_path), "--product", "sentinel2", "--pattern", "{band}.tif"]
    assert main(["describe", *options]) == 0
    out = capsys.readouterr().out
    assert "resolution=20" in out
    assert "B02 (blue), B11 (swir16)" in out
    assert "baseline=" in out
    assert main(["describe", *options, "--resolution", "40", "--bands", "B11"]) == 0
    assert "4 x 4 pixels of 40 x 40" in capsys.readouterr().out
    assert main(["describe", str(tmp_path)]) == FAILED
    assert "--product" in capsys.readouterr().err


def test_command_shows_a_layer_for_each_crs(tmp_path, write, capsys):
    paths = [
        write(distinct((8, 6)), make_grid((8, 6), crs=f"EPSG:{code}"), f"{code}.tif", tmp_path)
        for code in (32615, 32616)
    ]
    assert main(["describe", *paths]) == 0
    out = capsys.readouterr().out
    assert "EPSG:32615" in out
    assert "epsg_32616:" in out
