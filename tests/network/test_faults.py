"""Each way in which a network fails: what the user sees, and that nothing is lost or made up."""

import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from geoxt.errors import ReadError, ReadWarning
from geoxt.layers import open_cogs
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import read_header
from geoxt.retry import DEFAULT
from geoxt.source import view_of
from geoxt.windows import Window

WINDOW = Window(300, 280, 90, 100)
HERE = np.s_[300:390, 280:380]
QUICK = {"GDAL_HTTP_TIMEOUT": "1", "GDAL_HTTP_CONNECTTIMEOUT": "1"}
LOST = ("status", "cut", "truncated")
SPOILT = (*LOST, "length")  # a length that is too large: all bytes came, and GDAL takes them
FOREVER = 1000


def opened(address, **options):
    return view_of(open_cogs([address("red.tif"), address("nir.tif")], **options))


@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("when", ["open", "read"])
def test_what_fails_once_is_read_after_all(kind, when, proxy, address, truth, waits):
    if when == "open":
        proxy.fail(kind, method="GET")
        proxy.fail(kind, method="HEAD")
    view = opened(address)
    if when == "read":
        proxy.fail(kind, times=3, beyond=65_536)
    values, valid = view.read(WINDOW)
    assert np.array_equal(values[0], truth[:, *HERE])
    assert valid.all()
    assert len(waits) <= 2 * DEFAULT.retries


@pytest.mark.parametrize("kind", LOST)
def test_what_fails_for_good_is_an_error_and_never_wrong_pixels(kind, proxy, address, waits, truth):
    view = opened(address)
    proxy.fail(kind, times=FOREVER, path="nir", beyond=65_536)
    with pytest.raises(ReadError, match=r"nir\.tif\?…, rows \(300, 390\).*tried 4 times.*scene 'red'") as caught:
        view.read(WINDOW)
    assert len(waits) == DEFAULT.retries
    assert "test=" not in str(caught.value)
    assert "GDAL_HTTP_MAX_RETRY" in str(caught.value)
    proxy.forget()
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *HERE])  # nothing bad is remembered


@pytest.mark.parametrize("kind", LOST)
def test_a_scene_that_fails_for_good_can_be_nodata(kind, proxy, address, waits):
    view = opened(address, errors="nodata")
    proxy.fail(kind, times=FOREVER, path="nir", beyond=65_536)
    with pytest.warns(ReadWarning, match="scene 'red'|nir"):
        values, valid = view.read(WINDOW)
    assert not valid.any()
    assert (values == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once for a scene
        assert not view.read(WINDOW)[1].any()


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_left_alone_for_as_long_as_it_asks(status, proxy, address, waits, truth):
    view = opened(address)
    proxy.fail("status", status=status, retry_after="7", times=3, beyond=65_536, path="red")
    proxy.fail("status", status=status, retry_after="7", times=6, path="red")
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *HERE])
    assert waits
    assert waits[0] == 7


def test_a_server_that_asks_for_too_long_is_not_asked_again(proxy, address, waits):
    proxy.fail("status", status=429, retry_after="3600", times=FOREVER)
    with pytest.raises(ReadError, match=r"tried once.*HTTP 429 with Retry-After: 3600 s.*Try again later"):
        read_header(address("red.tif"))
    assert not waits


def test_waits_grow(proxy, address, waits):
    proxy.fail("status", times=FOREVER)
    with pytest.raises(ReadError, match="tried 4 times, last error: HTTP 503"):
        read_header(address("red.tif"))
    for wait, expected in zip(waits, (0.5, 1, 2), strict=True):
        assert 0.75 * expected <= wait <= 1.25 * expected


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_final_refusal_is_not_repeated(status, proxy, address, waits):
    proxy.fail("status", status=status, times=FOREVER)
    with pytest.raises(ReadError, match=rf"Cannot open .*red\.tif.*tried once.*{status}.*Check the address"):
        read_header(address("red.tif"))
    assert not waits
    assert sum(proxy.counts.values()) <= 2


def test_the_caller_chooses_how_often(proxy, address, waits):
    proxy.fail("status", times=FOREVER)
    with pytest.raises(ReadError, match="tried 2 times"):
        open_cogs(address("red.tif"), env={"GDAL_HTTP_MAX_RETRY": 1, "GDAL_HTTP_RETRY_DELAY": 10})
    assert len(waits) == 1
    assert 7.5 <= waits[0] <= 12.5


def test_a_server_that_never_answers_is_given_up(proxy, address, waits):
    proxy.fail("hang", times=FOREVER)
    env = QUICK | {"GDAL_HTTP_MAX_RETRY": "0"}
    with pytest.raises(ReadError, match=r"red\.tif.*tried once.*timed out"):
        open_cogs(address("red.tif"), env=env)


def test_threads_that_wait_for_one_address_give_up_together(proxy, address):
    proxy.fail("hang", times=FOREVER)
    credentials = Credentials(env=tuple({**QUICK, "GDAL_HTTP_MAX_RETRY": "0"}.items()))
    together = threading.Barrier(8)

    def header(_):
        together.wait()
        with pytest.raises(ReadError, match="tried once"):
            read_header(address("red.tif"), credentials=credentials)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(header, range(8)))
    assert len(proxy.seen) < 8  # one after the other, each would have asked twice, a second each time


def test_a_window_that_hangs_once_arrives(proxy, address, waits, truth):
    view = opened(address, env=QUICK)
    proxy.fail("hang", times=1, beyond=65_536)
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *HERE])


class Signer:
    """Signs with what is valid now."""

    valid = "sig=first"

    def __call__(self, href):
        return f"{href}&{Signer.valid}"


def test_an_expired_signature_is_renewed_and_never_told(proxy, address, waits, truth, monkeypatch, caplog):
    proxy.set(require="sig=first")
    view = opened(address, sign=Signer())
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *HERE])
    proxy.set(require="sig=second")  # what was signed before is refused with 403 from here on
    monkeypatch.setattr(Signer, "valid", "sig=second")
    assert np.array_equal(view.read(Window(0, 0, 200, 200))[0][0], truth[:, :200, :200])
    proxy.set(require="sig=third")
    with pytest.raises(ReadError, match=r"tried 2 times|tried 4 times") as caught:
        view.read(Window(400, 400, 100, 100))
    told = [repr(view.source), str(pickle.dumps(view.source)), caplog.text]
    error = caught.value
    while error is not None:
        told.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any("sig=" in text for text in told)
