"""Access: signed when a file is opened, settings restored in workers, and nothing secret told."""

import logging
import pickle
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import rasterio
from dask.base import tokenize
from rasterio.env import getenv

from geoxt import retry
from geoxt.errors import ReadError
from geoxt.layers import open_cogs, open_stac
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials, make_credentials, redact_url
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item
from geoxt.windows import Window

GRID = make_grid((40, 50))
WHEN = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
WINDOW = Window(0, 0, 5, 5)
signed_hrefs: list[str] = []


def sign(href):
    """As services do: the address is another, and of no use without what is added."""
    signed_hrefs.append(href)
    return href.replace("unsigned-", "")


@pytest.fixture
def item(write):
    signed_hrefs.clear()
    path = write(distinct((40, 50)), GRID, nodata=0)
    made = make_item("one", {"b": path}, time=WHEN)
    made.assets["b"].href = str(Path(path).with_name(f"unsigned-{Path(path).name}"))
    return made


def test_a_file_is_signed_when_it_is_opened_and_once(item):
    layer = open_stac(item, sign=sign)
    assert not signed_hrefs
    view = view_of(layer)
    assert np.array_equal(view.read(WINDOW)[0][0, 0], distinct((40, 50))[:5, :5])
    view.read(Window(9, 9, 5, 5))
    assert signed_hrefs == [item.assets["b"].href]
    assert "unsigned" in item.assets["b"].href


def test_what_expired_is_signed_again(item, monkeypatch):
    view = view_of(open_stac(item, sign=sign))
    view.read(WINDOW)
    dropped = []
    monkeypatch.setattr(retry, "sleep", dropped.append)

    class Expired:
        """A file whose signature ran out."""

        name = item.assets["b"].href

        def read(self, *_, **__):
            msg = "HTTP response code: 403"
            raise rasterio.errors.RasterioIOError(msg)

        def close(self):
            dropped.append(self)

    (handle,) = next(found for key, found in remote._pool._idle.items() if key[0] == item.assets["b"].href)
    handle.full, handle.file = False, Expired()
    values, _ = view.read(WINDOW)
    assert np.array_equal(values[0, 0], distinct((40, 50))[:5, :5])
    assert len(signed_hrefs) == 2
    assert dropped


def test_a_layer_goes_to_another_process(item):
    layer = open_stac(item, sign=sign, env={"GDAL_HTTP_TIMEOUT": 5})
    again = pickle.loads(pickle.dumps(layer))
    assert view_of(again).source.credentials == view_of(layer).source.credentials
    assert np.array_equal(again.compute(scheduler="synchronous").values, layer.compute(scheduler="synchronous").values)


def test_a_signature_is_no_part_of_the_token(item):
    plain_layer, signed = open_stac(item), open_stac(item, sign=sign)
    assert tokenize(view_of(plain_layer).source) == tokenize(view_of(signed).source)
    assert signed.data.name == plain_layer.data.name


def test_settings_are_in_place_when_a_file_is_opened(item, monkeypatch):
    seen = []
    real = rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda *a, **k: (seen.append(getenv()), real(*a, **k))[1])
    with rasterio.Env(GDAL_HTTP_MAX_RETRY="3", GDAL_HTTP_TIMEOUT="1"):
        layer = open_stac(item, sign=sign, env={"AWS_REQUEST_PAYER": "requester", "gdal_http_timeout": 9})
    view_of(layer).read(WINDOW)
    assert seen[0]["AWS_REQUEST_PAYER"] == "requester"
    assert seen[0]["GDAL_HTTP_MAX_RETRY"] == "3"
    assert seen[0]["GDAL_HTTP_TIMEOUT"] == "9"


def test_keys_given_are_set_and_those_around_are_not_captured():
    given = make_credentials(None, {"AWS_SECRET_ACCESS_KEY": "xyz", "GDAL_DISABLE_READDIR_ON_OPEN": True})
    assert dict(given.env) == {"AWS_SECRET_ACCESS_KEY": "xyz", "GDAL_DISABLE_READDIR_ON_OPEN": "YES"}
    with rasterio.Env(GDAL_HTTP_USERPWD="me:xyz", GDAL_HTTP_BEARER="t", CPL_CURL_VERBOSE="NO"):
        assert "USERPWD" not in str(make_credentials(None, None).env)
        assert b"me:xyz" not in pickle.dumps(make_credentials(sign, {}))
    assert make_credentials(None, None) is None


def test_secrets_are_not_told(item):
    layer = open_stac(item, sign=sign, env={"AWS_SECRET_ACCESS_KEY": "xyz"})
    assert "xyz" not in repr(view_of(layer).source)
    assert redact_url("GET https://me:pw@a.b/c.tif?sig=xyz&x=1 failed") == "GET https://a.b/c.tif?… failed"
    assert redact_url("'/vsicurl/https://a.b/c.tif?sig=xyz': 403") == "'/vsicurl/https://a.b/c.tif?…': 403"
    assert redact_url("/data/what?.tif") == "/data/what?.tif"


def bad(href):
    msg = f"no token for {href}?sig=xyz"
    raise RuntimeError(msg)


def to_nowhere(href):
    return "http://127.0.0.1:9/none.tif?sig=" + quote("xyz")


@pytest.mark.parametrize(
    ("signer", "says"), [(bad, "Cannot sign .*RuntimeError"), (to_nowhere, "Cannot read .*unsigned")]
)
def test_errors_name_the_file_and_no_signature(item, signer, says):
    with pytest.raises(ReadError, match=says) as caught:
        view_of(open_stac(item, sign=signer, env={"GDAL_HTTP_MAX_RETRY": 0})).read(WINDOW)
    error = caught.value
    while error is not None:
        assert "xyz" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_files_are_signed_too(item):
    layer = open_cogs("https://a.b/none.tif", sign=lambda _: item.assets["b"].href.replace("unsigned-", ""))
    assert view_of(layer).source.scenes[0].assets[0].href == "https://a.b/none.tif"
    assert view_of(layer).read(WINDOW)[1].all()


def test_repr_of_credentials_hides_options():
    assert repr(Credentials(env=(("A", "xyz"),))) == "Credentials(sign=None)"


def test_what_rasterio_logs_is_plain(caplog):
    logging.getLogger("rasterio._env").warning("CPLE in %s", "https://me:pw@a.b/c.tif?sig=xyz: 0")
    assert caplog.messages == ["CPLE in https://a.b/c.tif?… 0"]
