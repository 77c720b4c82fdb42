"""A served scene of several bands, and the proxy before it: one of each for all tests here."""

import numpy as np
import pytest
from support.proxy import proxied
from support.servers import serve_files

from geoxt import retry
from geoxt.pixels import remote
from geoxt.testing import distinct, make_grid, write_cog

SHAPE = (512, 512)
GRID = make_grid(SHAPE)


@pytest.fixture(scope="session")
def rasters(tmp_path_factory):
    """Two files, each of 16 blocks of 128 pixels: far more bytes than a header read fetches."""
    folder = tmp_path_factory.mktemp("served")
    for n, name in enumerate(("red", "nir")):
        write_cog(folder / f"{name}.tif", pixels(n), grid=GRID, blocksize=128, nodata=0, overviews=(), tiled=True)
    return folder


def pixels(n):
    return (distinct(SHAPE, dtype="uint32").astype("uint32") + n * 1_000_000).astype("uint32")


@pytest.fixture(scope="session")
def upstream(rasters):
    with serve_files(rasters) as url:
        yield url


@pytest.fixture(scope="session")
def running(upstream):
    with proxied(upstream) as proxy:
        yield proxy


@pytest.fixture
def proxy(running):
    """The proxy, counting from nothing; what GDAL and geoxt knew of files behind it is under other addresses."""
    running.forget()
    return running


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited for before other tries, without waiting for them."""
    seconds = []
    monkeypatch.setattr(retry, "sleep", seconds.append)
    return seconds


@pytest.fixture
def address(proxy, request):
    """Gives addresses that no other test has used."""
    name = request.node.name.replace("[", "-").replace("]", "")

    def at(file):
        return f"{proxy.url}/{file}?test={name}"

    yield at
    for file in ("red.tif", "nir.tif"):
        remote.close_handles(at(file))


@pytest.fixture
def truth():
    return np.stack([pixels(0), pixels(1)])
