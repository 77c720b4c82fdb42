"""Objects of Google Cloud Storage and Azure behind GDAL's endpoints: pixels, the block cache, and errors."""

import os
from contextlib import suppress

import numpy as np
import pytest
import rasterio
from support.servers import FileServer
from support.wire import Answer

from geoxt.errors import InputError, ReadError
from geoxt.layers import open_cogs
from geoxt.pixels import reader, remote, remote_version
from geoxt.pixels.block_cache import BlockCache, entries_of
from geoxt.pixels.credentials import Credentials
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

SHAPE = 300, 400
VALUES = np.random.default_rng(0).integers(0, 999, SHAPE).astype("uint16")
WINDOW = Window(100, 120, 150, 200)
SIGNATURE = "dG9wLXNlY3JldA=="
ADDRESSES = ["gs://box/a.tif", "/vsigs/box/a.tif", "az://box/a.tif", "/vsiaz/box/a.tif"]


class Store(FileServer):
    """Serves objects with ETags below "/box" and "/me/box"; or responds with a status."""

    status = 0
    requests = ()

    async def answer(self, request):
        self.requests = (*self.requests, request)
        return Answer(status=self.status) if self.status else await super().answer(request)

    def _headers(self, path):
        return {"etag": f'"{path.stat().st_mtime_ns:x}"', "last-modified": "Mon, 06 May 2024 07:08:09 GMT"}


@pytest.fixture
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for parent in ("box", "me/box"):
        (folder / parent).mkdir(parents=True)
        write_cog(folder / parent / "a.tif", VALUES, grid=make_grid(SHAPE), compress="deflate", blocksize=128)
        os.utime(folder / parent / "a.tif", (1e9, 1e9))
    with Store(folder) as store:
        yield store


def options(store):
    connection = f"AccountName=me;BlobEndpoint={store.url}/me;SharedAccessSignature=sv=1&sig={SIGNATURE}"
    return {
        "CPL_GS_ENDPOINT": f"{store.url}/", "GS_NO_SIGN_REQUEST": "YES", "AZURE_STORAGE_CONNECTION_STRING": connection,
    }  # fmt: skip


def forget(href, env):
    remote.close_handles(href)
    remote_version._versions.pop(href, None)
    with suppress(rasterio.errors.RasterioIOError):
        Credentials(env=tuple(env.items())).open_at(href, cached=False).close()


@pytest.mark.parametrize("href", ADDRESSES)
def test_pixels_are_equal_and_cached(store, tmp_path, href):
    env = options(store)
    credentials = Credentials(env=tuple(env.items()), cache=BlockCache(str(tmp_path)))
    for _ in range(2):
        forget(href, env)
        store.requests = ()
        values = reader.read(href, [1], WINDOW, credentials=credentials)[0][0]
        assert np.array_equal(values, VALUES[100:250, 120:320])
    assert len(list(entries_of(tmp_path))) == 1
    assert not [r for r in store.requests if r.range is not None and r.range[0] > 32_768]
    assert all(SIGNATURE not in entry.source for entry in entries_of(tmp_path))


@pytest.mark.parametrize("href", ADDRESSES)
@pytest.mark.parametrize(("status", "remedy"), [(404, "access rights"), (403, "access rights"), (503, "Try again")])
def test_errors_name_the_status_and_no_secret(store, waits, href, status, remedy):
    store.status = status
    with pytest.raises(ReadError, match=rf"{href}.*HTTP {status}.*{remedy}") as caught:
        open_cogs(href, env=options(store))
    assert SIGNATURE not in str(caught.value)
    assert len(waits) == (3 if status == 503 else 0)


@pytest.mark.parametrize(
    ("href", "env"),
    [
        ("gs://box/a.tif", {}),
        ("az://box/a.tif", {}),
        ("az://box/a.tif", {"AZURE_STORAGE_ACCESS_KEY": SIGNATURE}),
        ("/vsiaz/box/a.tif", {}),
    ],
)
def test_missing_credentials_are_named(waits, href, env, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("AZURE_", "GS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(ReadError, match=r"tried once, last error: no credentials: .*_NO_SIGN_REQUEST") as caught:
        open_cogs(href, env=env)
    assert SIGNATURE not in str(caught.value)
    assert not waits


def test_account_of_public_containers_is_that_of_the_options(store, waits):
    """rasterio 1.4 replaces an account without a key by "None"."""
    host = store.url.removeprefix("http://")
    env = {"AZURE_STORAGE_ACCOUNT": "me", "AZURE_NO_SIGN_REQUEST": "YES", "GDAL_HTTP_PROXY": host}
    with pytest.raises(ReadError) as caught:
        open_cogs("az://box/a.tif", env=env)
    assert "None" not in str(caught.value)
    assert {r.headers["host"].partition(":")[0] for r in store.requests} == {"me.blob.core.windows.net"}


@pytest.mark.parametrize(("scheme", "known"), [("gcs", "gs"), ("abfs", "az"), ("abfss", "az"), ("s3a", "s3")])
def test_schemes_of_other_libraries_are_refused_by_name(scheme, known):
    with pytest.raises(InputError, match=rf"does not read the scheme {scheme}://\. Pass {known}://"):
        open_cogs(f"{scheme}://box/a.tif")
