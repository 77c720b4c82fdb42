"""Credentials: signing on open, options restored in workers, secrets redacted."""

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
from geoxt.errors import InputError, ReadError
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
    """Return the signed address; the unsigned address does not exist."""
    signed_hrefs.append(href)
    return href.replace("unsigned-", "")


@pytest.fixture
def item(write):
    signed_hrefs.clear()
    path = write(distinct((40, 50)), GRID, nodata=0)
    stac_item = make_item("one", {"b": path}, time=WHEN)
    stac_item.assets["b"].href = str(Path(path).with_name(f"unsigned-{Path(path).name}"))
    return stac_item


def test_file_is_signed_once_on_open(item):
    layer = open_stac(item, sign=sign)
    assert not signed_hrefs
    view = view_of(layer)
    assert np.array_equal(view.read(WINDOW)[0][0, 0], distinct((40, 50))[:5, :5])
    view.read(Window(9, 9, 5, 5))
    assert signed_hrefs == [item.assets["b"].href]
    assert "unsigned" in item.assets["b"].href


def test_expired_signature_is_renewed(item, monkeypatch):
    view = view_of(open_stac(item, sign=sign))
    view.read(WINDOW)
    dropped = []
    monkeypatch.setattr(retry, "sleep", dropped.append)

    class Expired:
        """A file with an expired signature."""

        name = item.assets["b"].href

        def read(self, *_, **__):
            msg = "HTTP response code: 403"
            raise rasterio.errors.RasterioIOError(msg)

        def close(self):
            dropped.append(self)

    ((handle, _),) = next(
        handles for key, handles in remote._pool.idle._idle.items() if key[0] == item.assets["b"].href
    )
    handle.full, handle.file = False, Expired()
    values, _ = view.read(WINDOW)
    assert np.array_equal(values[0, 0], distinct((40, 50))[:5, :5])
    assert len(signed_hrefs) == 2
    assert dropped


def test_layer_with_credentials_pickles(item):
    layer = open_stac(item, sign=sign, env={"GDAL_HTTP_TIMEOUT": 5})
    unpickled = pickle.loads(pickle.dumps(layer))
    assert view_of(unpickled).source.credentials == view_of(layer).source.credentials
    assert np.array_equal(
        unpickled.compute(scheduler="synchronous").values, layer.compute(scheduler="synchronous").values
    )


def test_signature_is_excluded_from_the_token(item):
    plain_layer, signed = open_stac(item), open_stac(item, sign=sign)
    assert tokenize(view_of(plain_layer).source) == tokenize(view_of(signed).source)
    assert signed.data.name == plain_layer.data.name


def test_env_is_set_on_open(item, monkeypatch):
    environments = []
    real = rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda *a, **k: (environments.append(getenv()), real(*a, **k))[1])
    with rasterio.Env(GDAL_HTTP_MAX_RETRY="3", GDAL_HTTP_TIMEOUT="1"):
        layer = open_stac(item, sign=sign, env={"AWS_REQUEST_PAYER": "requester", "gdal_http_timeout": 9})
    view_of(layer).read(WINDOW)
    assert environments[0]["AWS_REQUEST_PAYER"] == "requester"
    assert environments[0]["GDAL_HTTP_MAX_RETRY"] == "3"
    assert environments[0]["GDAL_HTTP_TIMEOUT"] == "9"


def test_passed_keys_are_set_and_ambient_secrets_are_not_captured():
    credentials = make_credentials(None, {"AWS_SECRET_ACCESS_KEY": "xyz", "GDAL_DISABLE_READDIR_ON_OPEN": True})
    assert dict(credentials.env) == {"AWS_SECRET_ACCESS_KEY": "xyz", "GDAL_DISABLE_READDIR_ON_OPEN": "YES"}
    with rasterio.Env(GDAL_HTTP_USERPWD="me:xyz", GDAL_HTTP_BEARER="t", CPL_CURL_VERBOSE="NO"):
        assert "USERPWD" not in str(make_credentials(None, None).env)
        assert b"me:xyz" not in pickle.dumps(make_credentials(sign, {}))
    assert make_credentials(None, None) is None


def test_secrets_are_redacted(item):
    layer = open_stac(item, sign=sign, env={"AWS_SECRET_ACCESS_KEY": "xyz"})
    assert "xyz" not in repr(view_of(layer).source)
    assert redact_url("GET https://me:pw@a.b/c.tif?sig=xyz&x=1 failed") == "GET https://a.b/c.tif?… failed"
    assert redact_url("'/vsicurl/https://a.b/c.tif?sig=xyz': 403") == "'/vsicurl/https://a.b/c.tif?…': 403"
    assert redact_url("GET https://me:p@ss@a.b/c@2x.tif failed") == "GET https://a.b/c@2x.tif failed"
    assert redact_url("GET https://a.b/c.tif?AQoDYXdz failed") == "GET https://a.b/c.tif?… failed"
    assert redact_url("Is it at https://a.b/c.tif? Try again?") == "Is it at https://a.b/c.tif? Try again?"
    assert redact_url("/data/what?.tif") == "/data/what?.tif"


def failing_signer(href):
    msg = f"no token for {href}?sig=xyz"
    raise RuntimeError(msg)


def unreachable_signer(href):
    return "http://127.0.0.1:9/none.tif?sig=" + quote("xyz")


@pytest.mark.parametrize(
    ("signer", "message"),
    [(failing_signer, "Cannot sign .*RuntimeError"), (unreachable_signer, "Cannot read .*unsigned")],
)
def test_errors_contain_the_file_but_no_signature(item, signer, message):
    with pytest.raises(ReadError, match=message) as caught:
        view_of(open_stac(item, sign=signer, env={"GDAL_HTTP_MAX_RETRY": 0})).read(WINDOW)
    error = caught.value
    while error is not None:
        assert "xyz" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_cog_paths_are_signed(item):
    layer = open_cogs("https://a.b/none.tif", sign=lambda _: item.assets["b"].href.replace("unsigned-", ""))
    assert view_of(layer).source.scenes[0].assets[0].href == "https://a.b/none.tif"
    assert view_of(layer).read(WINDOW)[1].all()


def test_repr_of_credentials_hides_options():
    assert repr(Credentials(env=(("A", "xyz"),))) == "Credentials(sign=None, georeferenced=True, cache=None)"


@pytest.mark.parametrize("query", ["sig=xyz", "xyz", "a&b=xyz"])
def test_log_of_rasterio_is_redacted(caplog, query):
    """Opening and reading logs at INFO and DEBUG; the server does not exist."""
    caplog.set_level(logging.DEBUG, "rasterio")
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("rasterio")]:
        logging.getLogger(name).log(logging.INFO, "CPLE in %s", f"https://me:pw@a.b/c.tif?{query}: 0")
    with rasterio.Env(GDAL_HTTP_CONNECTTIMEOUT="1"), pytest.raises(rasterio.errors.RasterioIOError):
        rasterio.open(f"/vsicurl/http://127.0.0.1:9/c.tif?{query}")
    assert "CPLE in https://a.b/c.tif?… 0" in caplog.messages
    assert not [message for message in caplog.messages if "xyz" in message or "pw@" in message]


@pytest.mark.parametrize("sign", ["planetary_computer", True])
def test_signer_that_is_no_function_raises(sign):
    with pytest.raises(
        InputError, match=f"Cannot sign URLs by a {type(sign).__name__}: it is not a function. Pass sign="
    ):
        make_credentials(sign, None)


def test_signer_without_a_result_raises():
    with pytest.raises(ReadError, match="Cannot sign http://host/a.tif: the function returned NoneType. Pass sign="):
        Credentials(sign=lambda href: None).address("http://host/a.tif")
