"""Raster files for the tests of the pixel engine."""

import itertools

import pytest

from geoxt.testing import write_cog


@pytest.fixture(scope="session")
def write(tmp_path_factory):
    """Write an array as a raster file of a new name; returns its path."""
    folder, count = tmp_path_factory.mktemp("pixels"), itertools.count()

    def write_one(values, grid, **options):
        return str(write_cog(folder / f"{next(count)}.tif", values, grid=grid, **{"tiled": False, **options}))

    return write_one
