"""S3 through moto: credentials, range requests, and the retry policy of plain HTTP."""

from contextlib import suppress

import numpy as np
import pytest
import rasterio
from support.proxy import proxied
from support.servers import has_moto, serve_s3

from geoxt.errors import GeoxtWarning, ReadError
from geoxt.layers import open_cogs
from geoxt.pixels import range_requests, reader, remote, remote_version
from geoxt.pixels.block_cache import BlockCache, entries_of
from geoxt.pixels.credentials import Credentials
from geoxt.source import view_of
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

pytestmark = pytest.mark.skipif(not has_moto(), reason="needs moto[s3,server]")
WINDOW = Window(300, 280, 90, 100)


@pytest.fixture(scope="module")
def bucket():
    with serve_s3() as bucket:
        yield bucket


@pytest.fixture(scope="module")
def s3_proxy(bucket):
    with proxied(bucket.url) as s3_proxy:
        yield s3_proxy


def test_bucket_is_read_with_credentials(bucket, s3_proxy, rasters, truth):
    hrefs = [bucket.put(rasters / name, f"one/{name}") for name in ("red.tif", "nir.tif")]
    view = view_of(open_cogs(hrefs, env=bucket.through(s3_proxy.url)))
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, 300:390, 280:380])
    assert all("Credential=testing-key/" in r.headers["authorization"] for r in s3_proxy.requests)
    assert "testing-secret" not in repr(view.source) + repr(bucket)
    assert max(s3_proxy.counts.values()) <= 10  # 4 for objects older than a minute; GDAL splits some ranges


def test_s3_failure_is_retried_then_raises(bucket, s3_proxy, rasters, truth, waits):
    href = bucket.put(rasters / "red.tif", "two/red.tif")
    view = view_of(open_cogs(href, env=bucket.through(s3_proxy.url)))
    s3_proxy.fail("cut", times=4, beyond=65_536)
    assert np.array_equal(view.read(WINDOW)[0][0, 0], truth[0, 300:390, 280:380])
    s3_proxy.fail("status", times=1000)
    with pytest.raises(ReadError, match=r"s3://rasters/two/red\.tif.*tried 4 times") as caught:
        view.read(Window(0, 300, 90, 90))
    assert "testing-" not in str(caught.value)
    s3_proxy.forget()


def test_missing_key_raises(bucket, s3_proxy, waits):
    with pytest.raises(ReadError, match=r"Cannot open s3://rasters/none\.tif"):
        open_cogs("s3://rasters/none.tif", env=bucket.through(s3_proxy.url))


def forget(href, env):
    """Close the handles and forget the version, as in a new process."""
    remote.close_handles(href)
    remote_version._versions.pop(href, None)
    with suppress(rasterio.errors.RasterioIOError):
        Credentials(env=tuple(env.items())).open_at(href, cached=False).close()  # GDAL's own cache


@pytest.mark.parametrize("scheme", ["s3://", "/vsis3/"])
def test_objects_are_cached_by_their_version(bucket, s3_proxy, tmp_path, scheme):
    env = bucket.through(s3_proxy.url)
    cache = BlockCache(str(tmp_path / "blocks"))
    credentials = Credentials(env=tuple(sorted(env.items())), cache=cache)
    for seed in (0, 1, 0):  # the last is the first version again
        values = np.random.default_rng(seed).integers(0, 99, (400, 300)).astype("uint8")
        path = write_cog(tmp_path / "a.tif", values, grid=make_grid(values.shape), compress="deflate", blocksize=128)
        bucket.client().put_object(Bucket=bucket.name, Key=f"cached{len(scheme)}/a.tif", Body=path.read_bytes())
        href = f"{scheme}{bucket.name}/cached{len(scheme)}/a.tif"
        for _ in range(2):
            forget(href, env)
            s3_proxy.forget()
            read = reader.read(href, [1], Window(50, 60, 300, 200), credentials=credentials)[0][0]
            assert np.array_equal(read, values[50:350, 60:260])
        # of blocks in the cache: the header of the file and its version
        assert sum(s3_proxy.counts.values()) <= 8
        assert not [r for r in s3_proxy.requests if r.range is not None and r.range[0] > 32_768]
    assert len(list(entries_of(cache.folder))) >= 2


def test_objects_without_a_known_login_are_read_without_the_cache(bucket, s3_proxy, tmp_path, rasters, monkeypatch):
    monkeypatch.setattr(range_requests, "object_request", lambda *_: None)
    href = bucket.put(rasters / "red.tif", "unknown/red.tif")
    credentials = Credentials(env=tuple(bucket.through(s3_proxy.url).items()), cache=BlockCache(str(tmp_path)))
    monkeypatch.setattr("geoxt.pixels.raster_handle._uncached_servers", set())
    with pytest.warns(GeoxtWarning, match="Files of s3://rasters are read without the block cache"):
        assert reader.read(href, [1], WINDOW, credentials=credentials)[0].shape == (1, 90, 100)
    assert not list(entries_of(tmp_path))
