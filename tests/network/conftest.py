"""Two served bands of a scene, and the proxy in front of the server; shared by all tests of the folder."""

import os

import numpy as np
import pytest
from support.proxy import proxied
from support.servers import serve_files

from geoxt import retry
from geoxt.pixels import range_check, remote
from geoxt.testing import distinct, make_grid, write_cog

SHAPE = (512, 512)
GRID = make_grid(SHAPE)


@pytest.fixture(scope="session")
def rasters(tmp_path_factory):
    """Folder of two files of 16 blocks of 128 pixels, far larger than a header read."""
    folder = tmp_path_factory.mktemp("served")
    for n, name in enumerate(("red", "nir")):
        write_cog(folder / f"{name}.tif", pixels(n), grid=GRID, blocksize=128, nodata=0, overviews=(), tiled=True)
        os.utime(folder / f"{name}.tif", (1e9, 1e9))  # a file younger than a minute takes another request
    return folder


def pixels(n):
    return (distinct(SHAPE, dtype="uint32").astype("uint32") + n * 1_000_000).astype("uint32")


@pytest.fixture(scope="session")
def upstream(rasters):
    with serve_files(rasters) as url:
        yield url


@pytest.fixture(scope="session")
def session_proxy(upstream):
    with proxied(upstream) as proxy:
        range_check._servers.checked.add(proxy.url)  # else the first test would count two more requests
        yield proxy


@pytest.fixture
def proxy(session_proxy):
    """The proxy with cleared counts; addresses are unique per test, so no cache of GDAL or geoxt applies."""
    session_proxy.forget()
    return session_proxy


@pytest.fixture
def waits(monkeypatch):
    """List of retry delays in seconds; no test sleeps."""
    seconds = []
    monkeypatch.setattr(retry, "sleep", seconds.append)
    return seconds


@pytest.fixture
def address(proxy, request):
    """Function that returns an address unique to the test."""
    name = request.node.name.replace("[", "-").replace("]", "")

    def url_of(file):
        return f"{proxy.url}/{file}?test={name}"

    yield url_of
    for file in ("red.tif", "nir.tif"):
        remote.close_handles(url_of(file))


@pytest.fixture
def truth():
    return np.stack([pixels(0), pixels(1)])
