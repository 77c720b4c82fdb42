"""A small Dataset on files, for the tests of the way to tensors."""

import numpy as np
import pytest

from geoxt.alignment import intersection
from geoxt.layers import open_cogs
from geoxt.pixels import file_version
from geoxt.testing import distinct, make_grid, write_cog


@pytest.fixture(scope="session")
def ds(tmp_path_factory):
    """Three bands in UTM with a gap, and class codes in Albers."""
    folder = tmp_path_factory.mktemp("bridge")
    values = distinct((3, 150, 160))
    values[1, 40:50, 30:60] = 0
    image = write_cog(folder / "image.tif", values, grid=make_grid((150, 160)), nodata=0, tiled=False)
    codes = np.random.default_rng(0).choice(np.array([0, 1, 5, 250], "uint8"), (220, 220), p=[0.1, 0.4, 0.3, 0.2])
    grid = make_grid((220, 220), crs="EPSG:5070", left=348_000, top=2_019_000)
    colors = {1: "#ff0000", 5: "#00ff00", 250: "#0000ff"}
    mask = write_cog(folder / "mask.tif", codes, grid=grid, nodata=0, colors=colors, tiled=False)
    return intersection(image=open_cogs(image), mask=open_cogs(mask))


@pytest.fixture(scope="module")
def settled():
    """Let files just written count as complete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_version, "TICK", -1)
        yield


@pytest.fixture
def path(tmp_path):
    """A file of two bands with gaps."""
    values = np.random.default_rng(0).integers(1, 1000, (2, 80, 90)).astype("uint16")
    values[:, 20:40, 30:50] = 0
    values[1, 50:55] = 0
    return str(write_cog(tmp_path / "a.tif", values, grid=make_grid((80, 90)), nodata=0, tiled=False, overviews=()))
