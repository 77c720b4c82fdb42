"""Zarr stores behind logins: signed URLs that expire, URLs with queries, S3 with keys and anonymous."""

import pickle

import numpy as np
import pytest
from support.servers import FileServer, has_moto, serve_s3
from support.wire import Answer

import geoxt
from geoxt.errors import ReadError
from geoxt.source import view_of
from geoxt.testing import distinct
from geoxt.windows import Window

from .test_open_zarr import write_store
from .test_stac_zarr import band, make_item

zarr = pytest.importorskip("zarr")
pytest.importorskip("obstore")
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")

VALUES = distinct((60, 70), "int32")


def write(path, values=VALUES):
    write_store(path, {"b": (("y", "x"), values, {})}, chunks=(32, 32))
    zarr.consolidate_metadata(str(path))


class SignedServer(FileServer):
    """Answers requests with the last signature alone."""

    valid = "sig=a%2Fb%3D0"

    async def answer(self, request):
        signed = request.path.endswith(f"?{self.valid}")
        return await super().answer(request) if signed else Answer(status=403, body=b"expired")


class VersionServer(FileServer):
    """Serves the folder of the version that the query states."""

    async def answer(self, request):
        path, _, query = request.path.partition("?")
        request = type(request)(method=request.method, path=f"/{query}{path}", headers=request.headers)
        return await super().answer(request)


def test_signed_urls_expire(tmp_path):
    write(tmp_path / "a.zarr")
    with SignedServer(tmp_path) as server:
        url = f"{server.url}/a.zarr"
        layer = geoxt.open_zarr(url, sign=lambda address: f"{address}?{server.valid}")
        assert np.array_equal(view_of(layer).read(Window(0, 0, 9, 9))[0][0, 0], VALUES[:9, :9])
        server.valid = "sig=a%2Fb%3D1"
        assert np.array_equal(view_of(layer).read(Window(40, 40, 9, 9))[0][0, 0], VALUES[40:49, 40:49])
        item = make_item(url, b=("b", band("b")))
        layer = geoxt.open_stac(item, bands=["b"], sign=lambda address: f"{address}?{server.valid}")
        assert np.array_equal(layer.compute(scheduler="synchronous").values[0], VALUES)
        layer = geoxt.open_zarr(f"{url}?{server.valid}")
        server.valid = "sig=2"
        with pytest.raises(ReadError, match="Cannot read .*403") as caught:
            view_of(layer).read(Window(0, 0, 9, 9))
        assert "sig=" not in str(caught.value)
        with pytest.raises(ReadError, match="Cannot open .*403") as caught:
            geoxt.open_zarr(url, sign=lambda address: f"{address}?sig=wrong")
        assert "sig=" not in str(caught.value)
    with pytest.raises(ReadError, match=r"Cannot sign .*ZeroDivisionError.* Pass another sign="):
        geoxt.open_zarr(str(tmp_path / "a.zarr"), sign=lambda _: str(1 / 0))


def test_queries_lead_to_different_stores(tmp_path):
    """Stores whose URLs differ in the query alone, with equal metadata, share no decoded chunk."""
    for version in (0, 1):
        write(tmp_path / f"v={version}" / "a.zarr", VALUES + version)
    with VersionServer(tmp_path) as server:
        layers = [geoxt.open_zarr(f"{server.url}/a.zarr?v={version}") for version in (0, 1)]
        for version, layer in enumerate(layers):
            assert np.array_equal(view_of(layer).read(Window(0, 0, 60, 70))[0][0, 0], VALUES + version)
        names = [view_of(layer).source.scenes[0].assets[0].array.address for layer in layers]
    assert repr(names[0]) != repr(names[1])


@pytest.mark.skipif(not has_moto(), reason="moto is not installed")
def test_keys_and_anonymous_access_to_s3(tmp_path):
    write(tmp_path / "a.zarr")
    with serve_s3() as bucket:
        for file in sorted(path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()):
            bucket.put(file, str(file.relative_to(tmp_path)))
        layer = geoxt.open_zarr("s3://rasters/a.zarr", env=bucket.settings)
        assert bucket.settings["AWS_SECRET_ACCESS_KEY"] not in repr(layer.__dask_graph__())
        view = pickle.loads(pickle.dumps(view_of(layer)))
        assert np.array_equal(view.read(Window(0, 0, 60, 70))[0][0, 0], VALUES)
        public = {key: value for key, value in bucket.settings.items() if "KEY" not in key}
        public["AWS_NO_SIGN_REQUEST"] = "YES"
        with pytest.raises(ReadError, match="403|Forbidden|privileges"):
            geoxt.open_zarr("s3://rasters/a.zarr", env=public)
        client = bucket.client()
        for entry in client.list_objects(Bucket="rasters")["Contents"]:
            client.put_object_acl(Bucket="rasters", Key=entry["Key"], ACL="public-read")
        layer = geoxt.open_zarr("s3://rasters/a.zarr", env=public)
        assert np.array_equal(view_of(layer).read(Window(3, 5, 20, 30))[0][0, 0], VALUES[3:23, 5:35])
        item = make_item("s3://rasters/a.zarr", b=("b", band("b")))
        layer = geoxt.open_stac(item, bands=["b"], env=bucket.settings)
        assert np.array_equal(view_of(layer).read(Window(3, 5, 20, 30))[0][0, 0], VALUES[3:23, 5:35])
