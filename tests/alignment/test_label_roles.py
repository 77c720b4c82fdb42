"""Integers in the roles of labels: class codes, which are never interpolated."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.errors import InputError
from geoxt.source import is_categorical
from geoxt.testing import make_grid, write_cog

GRID = make_grid((12, 16))
SHIFTED = GeoBox((12, 16), GRID.affine @ Affine.translation(0.5, 0.5), GRID.crs)
CODES = np.where(np.indices((12, 16)).sum(0) % 2, 1, 5)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "image.tif"
    return geoxt.open_cogs(str(write_cog(path, np.ones((2, 12, 16), "uint16"), grid=SHIFTED, tiled=False)))


@pytest.mark.parametrize("key", ["mask", "label"])
@pytest.mark.parametrize("hold", [lambda a: a, xr.DataArray.compute, lambda a: a * 1])
def test_integers_in_the_role_of_labels_are_never_interpolated(image, tmp_path, key, hold):
    path = write_cog(tmp_path / "codes.tif", CODES[None].astype("uint8"), grid=GRID, tiled=False)
    ds = geoxt.intersection(image=image, **{key: hold(geoxt.open_cogs(str(path)))}, grid="image")
    assert set(np.unique(ds[key])) <= {-1, 1, 5}
    assert is_categorical(ds[key])
    assert ds[key].dims == ("y", "x")


def test_measurements_in_the_role_of_labels_are_interpolated(image, tmp_path):
    path = write_cog(tmp_path / "height.tif", CODES[None].astype("float32"), grid=GRID, tiled=False)
    ds = geoxt.intersection(image=image, mask=geoxt.open_cogs(str(path)), grid="image")
    assert (ds.mask == 3).any()


def test_several_bands_of_integers_in_the_role_of_labels_raise(image):
    with pytest.raises(InputError, match="class codes or quantities") as error:
        geoxt.intersection(image=image, mask=image)
    assert "categorical=True" in str(error.value)
