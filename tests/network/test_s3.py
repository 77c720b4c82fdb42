"""S3 through moto: a bucket, credentials, ranges, and the same patience as for plain HTTP."""

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
def before(bucket):
    with proxied(bucket.url) as proxy:
        yield proxy


def test_a_bucket_is_read_by_its_credentials(bucket, before, rasters, truth):
    hrefs = [bucket.put(rasters / name, f"one/{name}") for name in ("red.tif", "nir.tif")]
    view = view_of(open_cogs(hrefs, env=bucket.through(before.url)))
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, 300:390, 280:380])
    assert all("Credential=testing-key/" in r.headers["authorization"] for r in before.seen)
    assert "testing-secret" not in repr(view.source) + repr(bucket)
    assert max(before.counts.values()) <= 4


def test_a_bucket_that_fails_is_asked_again_and_then_given_up(bucket, before, rasters, truth, waits):
    href = bucket.put(rasters / "red.tif", "two/red.tif")
    view = view_of(open_cogs(href, env=bucket.through(before.url)))
    before.fail("cut", times=4, beyond=65_536)
    assert np.array_equal(view.read(WINDOW)[0][0, 0], truth[0, 300:390, 280:380])
    before.fail("status", times=1000)
    with pytest.raises(ReadError, match=r"s3://rasters/two/red\.tif.*tried 4 times") as caught:
        view.read(Window(0, 300, 90, 90))
    assert "testing-" not in str(caught.value)
    before.forget()


def test_a_key_that_is_not_there(bucket, before, waits):
    with pytest.raises(ReadError, match=r"Cannot open s3://rasters/none\.tif"):
        open_cogs("s3://rasters/none.tif", env=bucket.through(before.url))
