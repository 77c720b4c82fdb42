"""Raster files for the tests of openers."""

import itertools

import pytest

from geoxt.testing import write_cog


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """Write an array as a raster file, in a new folder unless one is given; returns its path."""
    root, count = tmp_path_factory.mktemp("layers"), itertools.count()

    def write_one(values, grid, name="raster.tif", folder=None, **options):
        path = (folder or root / str(next(count))) / name
        return str(write_cog(path, values, grid=grid, **{"tiled": False, **options}))

    return write_one
