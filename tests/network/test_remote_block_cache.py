"""The block cache of files over HTTP: one request for the version, none for cached blocks, and never a former file."""

import os
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime

import numpy as np
import pytest
import rasterio
from support.servers import FileServer
from support.wire import Answer

from geoxt.errors import GeoxtWarning
from geoxt.pixels import reader, remote, remote_version
from geoxt.pixels.block_cache import BlockCache, entries_of
from geoxt.pixels.credentials import Credentials
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

SHAPE = 600, 500
WINDOW = Window(100, 50, 400, 300)


class Server(FileServer):
    """Serves a folder, with ETags and times of modification as configured; counts requests."""

    etags = times = conditions = True
    count = 0
    ranges = ()

    async def answer(self, request):
        self.count += 1
        self.ranges = (*self.ranges, request.range)
        answer = await super().answer(request)
        path = self._folder / request.path.split("?")[0].strip("/")
        if not path.is_file():
            return answer
        status = path.stat()
        headers = {"etag": f'"{status.st_mtime_ns:x}-{status.st_size}"'} if self.etags else {}
        headers |= {"last-modified": formatdate(status.st_mtime, usegmt=True)} if self.times else {}
        since, match = request.headers.get("if-unmodified-since"), request.headers.get("if-match")
        changed = since is not None and parsedate_to_datetime(since).timestamp() < int(status.st_mtime)
        if self.conditions and (changed or match not in {None, headers.get("etag")}):
            return Answer(status=412)
        return replace(answer, headers=answer.headers | headers)


@pytest.fixture(scope="module")
def module_server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("blocks")) as server:
        yield server


@pytest.fixture
def server(module_server):
    module_server.etags = module_server.times = module_server.conditions = True
    return module_server


@pytest.fixture
def url(server, request):
    name = f"{abs(hash(request.node.name))}.tif"
    publish(server, name, seed=0)
    return f"{server.url}/{name}"


def publish(server, name, *, seed, age=1e6):
    values = np.random.default_rng(seed).integers(0, 999, SHAPE).astype("uint16")
    path = server._folder / name
    write_cog(path.with_name("new.tif"), values, grid=make_grid(SHAPE), compress="deflate", blocksize=128)
    time = path.with_name("new.tif").stat().st_mtime - age
    os.utime(path.with_name("new.tif"), (time, time))
    path.with_name("new.tif").replace(path)


def forget(url):
    """Close the handles and forget the version, as in a new process."""
    remote.close_handles(url)
    remote_version._versions.pop(url, None)
    with suppress(rasterio.errors.RasterioIOError):
        Credentials().open_at(url, cached=False).close()  # GDAL's own cache


def read(url, folder, window=WINDOW, sign=None):
    return reader.read(url, [1], window, credentials=Credentials(cache=BlockCache(str(folder)), sign=sign))[0][0]


def expected(server, url, window=WINDOW):
    with rasterio.open(server._folder / url.rsplit("/", 1)[1].split("?")[0]) as file:
        return file.read(1)[window.row : window.stop[0], window.col : window.stop[1]]


@pytest.mark.parametrize(("etags", "times"), [(True, True), (False, True), (True, False)])
def test_files_with_a_known_version_are_cached(url, server, tmp_path, monkeypatch, etags, times):
    server.etags, server.times = etags, times
    assert np.array_equal(read(url, tmp_path), expected(server, url))
    assert len(list(entries_of(tmp_path))) == 1
    before = server.count
    monkeypatch.setattr(remote, "submit", None)  # stored blocks are read in the calling thread
    assert np.array_equal(read(url, tmp_path), expected(server, url))
    assert server.count == before


def test_a_server_that_states_no_version_is_named_once(url, server, tmp_path):
    server.etags = server.times = False
    sign = "{}?sig=secret".format
    with pytest.warns(GeoxtWarning, match=f"Files of {server.url} are read without the block cache") as caught:
        assert np.array_equal(read(url, tmp_path, sign=sign), expected(server, url))
    assert len(caught) == 1
    assert "secret" not in str(caught[0].message)
    assert not list(entries_of(tmp_path))
    forget(url)
    assert np.array_equal(read(url, tmp_path, sign=sign), expected(server, url))


@pytest.mark.parametrize("part", [WINDOW, Window(0, 0, 20, 20)])
def test_mask_and_values_of_stored_blocks(url, server, tmp_path, part):
    path = server._folder / url.rsplit("/", 1)[1]
    values = np.arange(SHAPE[0] * SHAPE[1], dtype="uint32").reshape(SHAPE)
    write_cog(path, values, grid=make_grid(SHAPE), compress="deflate", blocksize=128, mask=values % 7 > 0)
    credentials = Credentials(cache=BlockCache(str(tmp_path)))
    for window in (WINDOW, part, Window(0, 0, *SHAPE), part):
        stored, valid = reader.read(url, [1], window, credentials=credentials, masks=True)
        rows, columns = (slice(a, b) for a, b in zip((window.row, window.col), window.stop, strict=True))
        assert np.array_equal(stored[0], values[rows, columns])
        assert np.array_equal(valid[0], values[rows, columns] % 7 > 0)


def test_another_process_asks_for_the_version_only(url, server, tmp_path):
    read(url, tmp_path, Window(0, 0, *SHAPE))
    forget(url)
    before = server.count
    assert np.array_equal(read(url, tmp_path), expected(server, url))
    # the version and the header of the file; clearing GDAL's cache may reach a server on loopback within its 1 ms
    assert server.count - before <= 6
    assert not [r for r in server.ranges[before:] if r is not None and r[0] > 32768]


def test_a_replaced_file_is_not_served_from_its_former_entry(url, server, tmp_path):
    former = read(url, tmp_path)
    publish(server, url.rsplit("/", 1)[1], seed=1, age=5e5)
    forget(url)
    values = read(url, tmp_path)
    assert np.array_equal(values, expected(server, url))
    assert not np.array_equal(values, former)


@pytest.mark.parametrize("etags", [True, False])
def test_a_file_replaced_within_a_process_is_read_again(url, server, tmp_path, etags, waits):
    server.etags = etags
    part, remainder = Window(0, 0, 100, 100), Window(400, 300, 150, 150)
    header = reader.read_header(url)  # without a cache: the version is not known by its ETag yet
    assert header.grid.shape == SHAPE
    former = read(url, tmp_path, part)
    publish(server, url.rsplit("/", 1)[1], seed=1, age=-120)
    assert np.array_equal(read(url, tmp_path, remainder), expected(server, url, remainder))
    values = read(url, tmp_path, part)
    assert np.array_equal(values, expected(server, url, part))
    assert not np.array_equal(values, former)


@pytest.mark.parametrize("conditions", [True, False])
def test_a_file_replaced_before_its_version_is_known_is_read_again(url, server, tmp_path, waits, conditions):
    server.conditions = conditions
    reader.read(url, [1], WINDOW)  # into GDAL's cache
    publish(server, url.rsplit("/", 1)[1], seed=1, age=-120)
    assert np.array_equal(read(url, tmp_path), expected(server, url))
    forget(url)
    assert np.array_equal(read(url, tmp_path), expected(server, url))


def test_signatures_share_an_entry(url, server, tmp_path):
    for number in range(2):
        forget(url)
        assert np.array_equal(
            read(url, tmp_path, sign=lambda href, number=number: f"{href}?sig={number}"), expected(server, url)
        )
    assert len(list(entries_of(tmp_path))) == 1
    (entry,) = entries_of(tmp_path)
    assert "sig" not in entry.source
