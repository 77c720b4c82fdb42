"""Files replaced on the server, and servers that send other files: whole new files or errors, never a mixture."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime

import numpy as np
import pytest
from support.servers import FileServer, serve_files
from support.wire import Answer

from geoxt.errors import ReadError
from geoxt.pixels import gdal_retry, reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.remote import SETTINGS
from geoxt.pixels.remote_version import add_header
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

SHAPE = (512, 512)
PIXELS = distinct(SHAPE, dtype="uint32").astype("uint32")
NEW = PIXELS + np.uint32(1_000_000)
START, LATER = Window(0, 0, 100, 100), Window(300, 300, 200, 200)
OLD_TIME = 1e9


class Server(FileServer):
    """Serves a folder with conditional requests (RFC 9110, section 13), or responds as misconfigured servers do."""

    fault = ""
    etags = True
    requests = ()

    async def answer(self, request):
        """Return a response, changed for requests of bytes from 60,000 on."""
        self.requests = (*self.requests, request)
        later = request.range is not None and request.range[0] >= 60_000
        if self.fault.isdigit() and later:
            return Answer(status=int(self.fault))
        if self.fault == "page":
            page = b"<html>Please log in</html>" * 99
            return Answer(status=200, headers={"content-type": "text/html; charset=utf-8"}, body=page)
        if self.fault == "no ranges":
            request = replace(request, headers={k: v for k, v in request.headers.items() if k != "range"})
        return self.conditional(request) or await super().answer(request)

    def conditional(self, request):
        """Return 412 for a file that does not fulfil the condition of a request."""
        status = (self._folder / request.path.split("?")[0].strip("/")).stat()
        since, etag = request.headers.get("if-unmodified-since"), request.headers.get("if-match")
        changed = since is not None and parsedate_to_datetime(since).timestamp() < int(status.st_mtime)
        return Answer(status=412) if changed or etag not in {None, f'"{status.st_mtime_ns:x}"'} else None

    def _headers(self, path):
        status = path.stat()
        headers = {"last-modified": formatdate(status.st_mtime, usegmt=True)}
        return headers | ({"etag": f'"{status.st_mtime_ns:x}"'} if self.etags else {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("versions")


@pytest.fixture(scope="module")
def module_server(folder):
    with Server(folder) as server:
        yield server


@pytest.fixture
def server(module_server):
    module_server.fault, module_server.etags, module_server.requests = "", True, ()
    return module_server


@pytest.fixture
def url(server, folder, request):
    """Address of a file of a new name with the first pixels, unchanged for years."""
    name = f"{abs(hash(request.node.name))}.tif"
    publish(folder / name, PIXELS, OLD_TIME)
    return f"{server.url}/{name}"


def publish(path, values, time=None, **options):
    temporary = path.with_name(f"new-{path.name}")
    options = {"tiled": True, "blocksize": 128, "overviews": (), "compress": "none"} | options
    write_cog(temporary, values, grid=make_grid(values.shape), **options)
    if time is not None:
        os.utime(temporary, (time, time))
    temporary.replace(path)


def path_of(url, folder):
    return folder / url.rsplit("/", 1)[1]


def read(url, window):
    return reader.read(url, [1], window)[0][0]


def part(values, window):
    return values[window.row : window.stop[0], window.col : window.stop[1]]


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("compress", ["none", "deflate"])
def test_replaced_file_is_opened_again_as_a_whole(compress, etags, url, server, folder, waits):
    server.etags = etags
    publish(path_of(url, folder), PIXELS, OLD_TIME, compress=compress)
    assert np.array_equal(read(url, START), part(PIXELS, START))
    publish(path_of(url, folder), NEW, compress=compress)
    window = Window(0, 0, 400, 400)  # partly in GDAL's cache
    assert np.array_equal(read(url, window), part(NEW, window))
    assert np.array_equal(read(url, START), part(NEW, START))
    assert not waits


def test_no_request_is_added_for_the_version(url, server):
    read(url, START)
    assert [r.method for r in server.requests[:2]] == ["HEAD", "GET"]
    assert all("if-unmodified-since" in r.headers for r in server.requests)
    assert len(server.requests) <= 3


def test_file_younger_than_a_minute_is_read(url, server, folder, waits):
    publish(path_of(url, folder), NEW)
    assert np.array_equal(read(url, LATER), part(NEW, LATER))
    assert "if-match" in server.requests[-1].headers
    assert not waits


def test_file_that_changes_all_the_time_raises(url, server, waits, monkeypatch):
    read(url, START)
    monkeypatch.setattr(server, "conditional", lambda request: Answer(status=412))
    with pytest.raises(ReadError, match=r"Cannot read .*rows \(300, 500\).*HTTP 412"):
        read(url, LATER)


def test_threads_read_one_version_each(folder, waits):
    """The server is another process: rasterio holds Python's lock in some requests, which a thread could not answer."""
    publish(folder / "threads.tif", PIXELS, OLD_TIME)
    window = Window(0, 0, 512, 512)
    with serve_files(folder, nginx=False) as address, ThreadPoolExecutor(4) as pool:
        url = f"{address}/threads.tif"
        first = list(pool.map(lambda _: read(url, START), range(8)))
        publish(folder / "threads.tif", NEW)
        second = list(pool.map(lambda _: read(url, window), range(8)))
    assert all(np.array_equal(values, part(PIXELS, START)) for values in first)
    assert all(np.array_equal(values, NEW) for values in second)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("page", r"the server sends text/html instead of a raster\. Check the address"),
        ("no ranges", r"does not support range requests\. Download the file"),
    ],
)
def test_server_without_the_file_or_ranges_is_asked_once(fault, message, url, server, waits):
    server.fault = fault
    with pytest.raises(ReadError, match=rf"Cannot open {url}: tried once, .*{message}"):
        reader.read_header(url)
    assert not waits
    assert len(server.requests) <= 6  # clearing the cache of GDAL may take some


@pytest.mark.parametrize("window", [LATER, Window(300, 300, 9, 9)], ids=["several ranges", "one range"])
@pytest.mark.parametrize("status", [401, 404, 500])
def test_errors_of_later_bytes_have_their_status(status, window, url, server, waits):
    reader.read_header(url)
    server.fault = str(status)
    with pytest.raises(ReadError, match=rf"HTTP {status}") as error:
        read(url, window)
    assert ("tried once" in str(error.value)) == (status < 500)
    assert len(waits) == (0 if status < 500 else 3)


@pytest.mark.parametrize(("step", "tries"), [(12, "tried 3 times"), (25, "tried once.* after 25 s")])
def test_no_attempt_starts_after_a_long_time(url, server, waits, monkeypatch, step, tries):
    reader.read_header(url)
    server.fault = "500"
    server.requests = ()
    times = iter(range(0, 1000, step))  # three for each attempt
    monkeypatch.setattr(gdal_retry, "clock", lambda: next(times))
    with pytest.raises(ReadError, match=tries):
        read(url, LATER)
    status_requests = [r for r in server.requests if r.range is not None and r.range[0] == r.range[1]]
    assert bool(status_requests) == (step == 12)  # a slow server is not asked for its status
    assert int(SETTINGS["GDAL_HTTP_LOW_SPEED_LIMIT"]) >= 256  # so that a trickle is no progress


def test_headers_of_the_caller_are_sent_with_the_condition(url, server):
    credentials = Credentials(env=(("GDAL_HTTP_HEADERS", "X-One: 1"),))
    reader.read(url, [1], START, credentials=credentials)
    assert all(r.headers["x-one"] == "1" and "if-unmodified-since" in r.headers for r in server.requests)
    assert add_header(None, 'If-Match: "a"') == r'"If-Match: \"a\""'
