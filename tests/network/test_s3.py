"""S3 through moto: credentials, range requests, and the retry policy of plain HTTP."""

import numpy as np
import pytest
from support.proxy import proxied
from support.servers import has_moto, serve_s3

from geoxt.errors import ReadError
from geoxt.layers import open_cogs
from geoxt.source import view_of
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
    assert max(s3_proxy.counts.values()) <= 8  # 4 for objects older than a minute


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
