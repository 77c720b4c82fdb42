"""Layers and files of users as masks of `exclude=`."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates
from geoxt.layers import open_cogs, open_stac
from geoxt.testing import distinct, make_grid, make_item

GRID = make_grid((8, 6))
VALUES = distinct((8, 6), "uint8") + 1
MASK = (VALUES % 3 == 0).astype("uint8")


@pytest.fixture
def files(tmp_path, write):
    return write(VALUES, GRID, "image.tif", tmp_path), write(MASK * 255, GRID, "clouds.tif", tmp_path)


def layer_of(values, grid=GRID, **attrs):
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(grid), attrs=attrs, name="clouds")


@pytest.mark.parametrize("kind", ["text", "path", "lazy", "bool", "float", "dask"])
def test_every_kind_of_mask(files, kind):
    image, clouds = files
    mask = {
        "text": lambda: clouds,
        "path": lambda: Path(clouds),
        "lazy": lambda: open_cogs(clouds),
        "bool": lambda: layer_of(MASK.astype(bool)),
        "float": lambda: layer_of(np.where(MASK, 0.5, np.nan)),
        "dask": lambda: layer_of(MASK).chunk(3),
    }[kind]()
    layer = open_cogs(image, exclude=mask)
    fill = layer.attrs["_FillValue"]
    assert fill not in VALUES
    assert np.array_equal(layer.values[0], np.where(MASK, fill, VALUES))


def test_excluded_pixels_do_not_enter_their_neighbours(files):
    image, clouds = files
    half = GRID.zoom_out(2)
    layer = open_cogs(image, exclude=clouds, grid=half, rescale=True, resampling="average")
    clear = np.where(MASK, np.nan, VALUES).reshape(4, 2, 3, 2)
    assert np.array_equal(layer.values[0], np.nanmean(clear, axis=(1, 3)))


def test_pixels_outside_or_without_value_stay(files):
    image, _ = files
    part = layer_of(np.full((2, 6), 7, "uint8"), GRID[2:4, :])
    layer = open_cogs(image, exclude=part, rescale=True)
    expected = VALUES.astype("float32")
    expected[2:4] = np.nan
    np.testing.assert_array_equal(layer.values[0], expected)
    nodata = layer_of(np.where(VALUES < 20, 7, 1).astype("uint8"), _FillValue=np.uint8(7))
    layer = open_cogs(image, exclude=nodata, rescale=True)
    np.testing.assert_array_equal(layer.values[0], np.where(VALUES < 20, VALUES, np.nan))


def test_flags_and_masks_together(tmp_path, write):
    write(VALUES.astype("uint16"), GRID, "B02.tif", tmp_path)
    write(np.where(VALUES > 30, 9, 4).astype("uint8"), GRID, "SCL.tif", tmp_path)
    options = {"product": "sentinel2", "pattern": "{band}.tif"}
    layer = open_cogs(tmp_path, exclude=("clouds", layer_of(MASK)), **options)
    assert np.array_equal(layer.values[0], np.where((VALUES > 30) | (MASK > 0), 0, VALUES))


def test_items(files):
    image, clouds = files
    item = make_item("a", {"data": image}, time=datetime(2024, 5, 3, tzinfo=UTC))
    values = open_stac([item], exclude=clouds, rescale=True).values.squeeze()
    np.testing.assert_array_equal(values, np.where(MASK, np.nan, VALUES))


def test_errors(files, write, tmp_path):
    image, _ = files
    with pytest.raises(OverlapError, match="overlaps no scene"):
        open_cogs(image, exclude=layer_of(MASK, GRID.translate_pix(100, 0)))
    with pytest.raises(InputError, match="2 bands"):
        open_cogs(image, exclude=write(np.stack([MASK, MASK]), GRID, "two.tif", tmp_path))
    with pytest.raises(InputError, match="time"):
        open_cogs(image, exclude=layer_of(MASK).expand_dims(time=[0, 1]))
