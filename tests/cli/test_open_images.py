"""Images of commands: raster files, or one data cube."""

import numpy as np
import pytest

from geoxt.cli.open_images import open_images
from geoxt.errors import InputError
from geoxt.testing import distinct, make_grid, write_cog

zarr = pytest.importorskip("zarr")
GRID = make_grid((20, 30))


def test_images_are_files_or_a_store(tmp_path):
    values = distinct((20, 30))
    path = str(write_cog(tmp_path / "a.tif", values[None], grid=GRID))
    attrs = {"proj:code": "EPSG:32615", "spatial:transform": list(GRID.affine[:6])}
    group = zarr.open_group(str(tmp_path / "store"), mode="w", attributes=attrs)
    group.create_array("b", data=values, dimension_names=("y", "x"))
    for image in (path, str(tmp_path / "store"), str(tmp_path / "store" / "b")):
        layer = open_images([image], product=None, crs=None)
        assert np.array_equal(layer.values[0], values)
    with pytest.raises(InputError, match="with 1 more images"):
        open_images([str(tmp_path / "store"), path])
