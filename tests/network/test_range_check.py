"""Servers that respond to range requests with other bytes: an error before uncompressed pixels are read."""

import os
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from rasterio.errors import RasterioIOError
from support.servers import FileServer
from support.wire import Answer

from geoxt.errors import ReadError
from geoxt.pixels import range_check, reader, remote, remote_version
from geoxt.pixels.credentials import Credentials
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

SHAPE = 400, 500
VALUES = np.random.default_rng(0).integers(0, 999, SHAPE).astype("uint16")
WINDOW = Window(150, 200, 40, 50)
KEY = "sesame:open"


class Server(FileServer):
    """Serves a folder; misbehaves for ranges that do not start with the file, or refuses requests."""

    fault = ""
    refusals = ()
    requests = ()
    former = None

    async def answer(self, request):
        self.requests = (*self.requests, request)
        agent = request.headers.get("user-agent", "")
        if self.refusals and "Python" in agent:
            status, *self.refusals = self.refusals
            return Answer(status=status)
        if not self.fault or request.range is None or request.range[0] == 0:
            return await super().answer(request)
        first, last = request.range
        shift = {"shifted": 512, "from the start": -first, "cut": -1}.get(self.fault.split(",")[0], 0)
        if self.fault == "cached":  # of the first request with a range
            self.former = self.former or (first, last)
            shifted = self.former
        else:
            shifted = first + shift, last + shift
        answer = await super().answer(_with_range(request, *shifted))
        headers = dict(answer.headers)
        if self.fault.endswith("lying"):
            headers["content-range"] = f"bytes {first}-{last}/{headers['content-range'].rpartition('/')[2]}"
        elif self.fault.endswith("unnamed"):
            del headers["content-range"]
        elif self.fault == "other size":
            headers["content-range"] = headers["content-range"].rpartition("/")[0] + "/999999"
        return replace(answer, headers=headers)

    def checks(self):
        """Return the requests that GDAL did not make."""
        return [r for r in self.requests if "Python" in r.headers.get("user-agent", "")]


def _with_range(request, first, last):
    return replace(request, headers={**request.headers, "range": f"bytes={first}-{last}"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranges")
    for name, compress in (("plain", None), ("other", None), ("packbits", "packbits"), ("deflate", "deflate")):
        write_cog(folder / f"{name}.tif", VALUES, grid=make_grid(SHAPE), compress=compress, blocksize=128)
        os.utime(folder / f"{name}.tif", (1e9, 1e9))
    return folder


@pytest.fixture
def server(folder):
    """A new server, which no test has checked."""
    with Server(folder) as server:
        yield server


def read(server, name="plain", **options):
    href = f"{server.url}/{name}.tif"
    return reader.read(href, [1], WINDOW, credentials=Credentials(env=tuple(options.items())))[0][0]


def expected():
    return VALUES[WINDOW.row : WINDOW.stop[0], WINDOW.col : WINDOW.stop[1]]


@pytest.mark.parametrize("name", ["plain", "packbits"])
@pytest.mark.parametrize(
    "fault",
    ["shifted", "shifted, lying", "from the start", "from the start, lying", "unnamed", "cut, lying", "other size"],
)
def test_other_bytes_are_an_error(server, name, fault):
    assert reader.read_header(f"{server.url}/{name}.tif").grid.shape == SHAPE  # whose range is right
    server.fault = fault
    with pytest.raises(ReadError, match="range requests are wrong.*local path"):
        read(server, name)


def object_options(server):
    """Return GDAL's options for the objects of a server without a login."""
    connection = f"AccountName=me;BlobEndpoint={server.url};SharedAccessSignature=sv=1&sig=a"
    return {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"), "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES", "CPL_GS_ENDPOINT": f"{server.url}/", "GS_NO_SIGN_REQUEST": "YES",
        "AZURE_STORAGE_CONNECTION_STRING": connection,
    }  # fmt: skip


@pytest.fixture
def bucket(folder, monkeypatch):
    """A new server of objects, and the name of their bucket."""
    monkeypatch.setattr(range_check, "_servers", range_check._Servers())
    with Server(folder.parent) as server:
        yield server, folder.name


def read_object(address, server):
    remote.close_handles(address)  # of a former server
    remote_version._versions.pop(address, None)
    credentials = Credentials(env=tuple(object_options(server).items()))
    with suppress(RasterioIOError):
        credentials.open_at(address, cached=False).close()
    return reader.read(address, [1], WINDOW, credentials=credentials)[0][0]


@pytest.mark.parametrize("scheme", ["s3://", "/vsis3/", "gs://", "/vsigs/", "az://", "/vsiaz/"])
def test_other_bytes_of_objects_are_an_error(bucket, scheme):
    server, name = bucket
    assert np.array_equal(read_object(f"{scheme}{name}/other.tif", server), expected())
    assert len(server.checks()) == 2
    range_check._servers.checked.clear()
    server.fault = "shifted, lying"
    with pytest.raises(ReadError, match="range requests are wrong"):
        read_object(f"{scheme}{name}/plain.tif", server)
    server.fault = ""
    server.requests = ()
    assert np.array_equal(read_object(f"{scheme}{name}/deflate.tif", server), expected())
    assert not server.checks()


def test_a_cache_that_ignores_ranges_is_an_error(server):
    server.fault, server.former = "cached", (70_000, 70_063)
    with pytest.raises(ReadError, match="Content-Range: bytes 70000-70063"):
        read(server)


def test_two_requests_per_server_are_made_for_uncompressed_files_only(server):
    assert np.array_equal(read(server, "deflate"), expected())
    assert not server.checks()
    for name in ("plain", "other", "packbits", "plain"):
        assert np.array_equal(read(server, name), expected())
    assert len(server.checks()) == 2


def test_a_server_that_responds_with_the_range_later_is_read(server):
    server.fault = "shifted"
    with pytest.raises(ReadError, match="range requests are wrong"):
        read(server)
    server.fault = ""
    server.requests = ()
    assert read(server).shape == WINDOW.shape
    assert len(server.checks()) == 2


def test_a_server_that_refuses_the_check_is_read(server):
    server.refusals = [401]
    assert np.array_equal(read(server), expected())
    assert len(server.checks()) == 1


def test_a_busy_server_is_checked_again(server, waits):
    server.refusals = [503]
    assert np.array_equal(read(server), expected())
    assert len(waits) == 1
    assert len(server.checks()) >= 3


def test_headers_and_user_names_of_gdal_are_sent(server):
    options = {"GDAL_HTTP_HEADERS": 'X-Key: 1,"X-Text: a, b"', "GDAL_HTTP_USERPWD": KEY}
    assert np.array_equal(read(server, **options), expected())
    assert len(server.checks()) == 2
    for request in server.requests:
        assert (request.headers["x-key"], request.headers["x-text"]) == ("1", "a, b")
    sent = {r.headers.get("authorization") for r in server.checks()}
    assert sent == {"Basic c2VzYW1lOm9wZW4="}
