"""Masks and alpha bands of files whose items state a data type without nodata: never lost by computing."""

from datetime import UTC, datetime

import numpy as np
import pytest

from geoxt.errors import ReadError
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_cogs, open_stac
from geoxt.source import view_of
from geoxt.testing import make_grid, make_item, write_cog
from geoxt.writers import to_cog

SHAPE = (60, 80)


@pytest.fixture(params=["mask", "alpha"])
def masked(request, tmp_path):
    """An item of uint8 without nodata, and the valid mask of its file; all numbers of the type are valid ones."""
    rng = np.random.default_rng(0)
    values, valid = rng.integers(0, 256, SHAPE).astype("uint8"), rng.random(SHAPE) > 0.3
    option = {"mask": valid} if request.param == "mask" else {"alpha": (valid * 255).astype("uint8")}
    path = write_cog(tmp_path / "scene.tif", values, grid=make_grid(SHAPE), **option)
    item = make_item("scene", {"b": path}, time=datetime(2020, 1, 1, tzinfo=UTC), collection="c")
    item.assets["b"].extra_fields["raster:bands"] = [{"data_type": "uint8"}]
    return item, values, valid


def read(layer):
    values, valid = view_of(layer).read(full_window(grid_of(layer)))
    return values.reshape(SHAPE), valid.reshape(SHAPE)


def test_windows_know_the_mask(masked):
    item, values, valid = masked
    actual, actual_valid = read(open_stac(item))
    assert (actual_valid == valid).all()
    assert (actual[valid] == values[valid]).all()


@pytest.mark.filterwarnings("ignore:Band 2 of .* is tagged as alpha")
def test_headers_give_a_number_to_missing_pixels(masked, tmp_path):
    item, values, valid = masked
    layer = open_stac(item, headers="all")
    written = open_cogs(to_cog(layer, tmp_path / "written.tif"))
    for stored in (layer.compute(), layer.chunk(x=30, y=30).persist(), written):
        actual, actual_valid = read(stored)
        assert (actual_valid == valid).all()
        assert (actual[valid] == values[valid]).all()


@pytest.mark.parametrize(
    "store", [lambda x: x.compute(), lambda x: (x + 1).compute(), lambda x: x.astype("float32").compute()]
)
def test_a_mask_without_a_number_is_an_error(masked, store):
    item, _, valid = masked
    with pytest.raises(ReadError, match=rf"{(~valid).sum()} pixels are invalid by a mask .*headers='all'"):
        store(open_stac(item))


def test_a_given_nodata_is_the_number(masked):
    item, values, valid = masked
    _, actual_valid = read(open_stac(item, nodata=0).compute())
    assert (actual_valid == (valid & (values > 0))).all()
