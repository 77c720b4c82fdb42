"""Network faults: errors and warnings per kind of fault; pixels are never lost or invented."""

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
SLICES = np.s_[300:390, 280:380]
SHORT_TIMEOUTS = {"GDAL_HTTP_TIMEOUT": "1", "GDAL_HTTP_CONNECTTIMEOUT": "1"}
DETECTED = ("status", "cut", "truncated")
ALL_FAULTS = (*DETECTED, "length")  # a Content-Length that is too large: all bytes arrive, and GDAL accepts them
ALWAYS = 1000


def opened(address, **options):
    return view_of(open_cogs([address("red.tif"), address("nir.tif")], **options))


@pytest.mark.parametrize("kind", ALL_FAULTS)
@pytest.mark.parametrize("stage", ["open", "read"])
def test_transient_failure_is_retried(kind, stage, proxy, address, truth, waits):
    if stage == "open":
        proxy.fail(kind, method="GET")
        proxy.fail(kind, method="HEAD")
    view = opened(address)
    if stage == "read":
        proxy.fail(kind, times=3, beyond=65_536)
    values, valid = view.read(WINDOW)
    assert np.array_equal(values[0], truth[:, *SLICES])
    assert valid.all()
    assert len(waits) <= 2 * DEFAULT.retries


@pytest.mark.parametrize("kind", DETECTED)
def test_permanent_failure_raises_and_never_returns_wrong_pixels(kind, proxy, address, waits, truth):
    view = opened(address)
    proxy.fail(kind, times=ALWAYS, path="nir", beyond=65_536)
    with pytest.raises(ReadError, match=r"nir\.tif\?…, rows \(300, 390\).*tried 4 times.*scene 'red'") as caught:
        view.read(WINDOW)
    assert len(waits) == DEFAULT.retries
    assert "test=" not in str(caught.value)
    assert "GDAL_HTTP_MAX_RETRY" in str(caught.value)
    proxy.forget()
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *SLICES])  # no failed block is cached


@pytest.mark.parametrize("kind", DETECTED)
def test_permanent_failure_becomes_nodata_on_request(kind, proxy, address, waits):
    view = opened(address, errors="nodata")
    proxy.fail(kind, times=ALWAYS, path="nir", beyond=65_536)
    with pytest.warns(ReadWarning, match="scene 'red'|nir"):
        values, valid = view.read(WINDOW)
    assert not valid.any()
    assert (values == 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one warning per scene
        assert not view.read(WINDOW)[1].any()


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_respected(status, proxy, address, waits, truth):
    view = opened(address)
    proxy.fail("status", status=status, retry_after="7", times=3, beyond=65_536, path="red")
    proxy.fail("status", status=status, retry_after="7", times=6, path="red")
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *SLICES])
    assert waits
    assert waits[0] == 7


def test_long_retry_after_raises_without_retry(proxy, address, waits):
    proxy.fail("status", status=429, retry_after="3600", times=ALWAYS)
    with pytest.raises(ReadError, match=r"tried once.*HTTP 429 with Retry-After: 3600 s.*Try again later"):
        read_header(address("red.tif"))
    assert not waits


def test_backoff_is_exponential(proxy, address, waits):
    proxy.fail("status", times=ALWAYS)
    with pytest.raises(ReadError, match="tried 4 times, last error: HTTP 503"):
        read_header(address("red.tif"))
    for wait, expected in zip(waits, (0.5, 1, 2), strict=True):
        assert 0.75 * expected <= wait <= 1.25 * expected


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_client_errors_are_not_retried(status, proxy, address, waits):
    proxy.fail("status", status=status, times=ALWAYS)
    with pytest.raises(ReadError, match=rf"Cannot open .*red\.tif.*tried once.*{status}.*Check the address"):
        read_header(address("red.tif"))
    assert not waits
    assert sum(proxy.counts.values()) <= 2


def test_env_sets_retries_and_delay(proxy, address, waits):
    proxy.fail("status", times=ALWAYS)
    with pytest.raises(ReadError, match="tried 2 times"):
        open_cogs(address("red.tif"), env={"GDAL_HTTP_MAX_RETRY": 1, "GDAL_HTTP_RETRY_DELAY": 10})
    assert len(waits) == 1
    assert 7.5 <= waits[0] <= 12.5


def test_unresponsive_server_times_out(proxy, address, waits):
    proxy.fail("hang", times=ALWAYS)
    env = SHORT_TIMEOUTS | {"GDAL_HTTP_MAX_RETRY": "0"}
    with pytest.raises(ReadError, match=r"red\.tif.*tried once.*timed out"):
        open_cogs(address("red.tif"), env=env)


def test_threads_share_the_timeout_of_one_address(proxy, address):
    proxy.fail("hang", times=ALWAYS)
    credentials = Credentials(env=tuple({**SHORT_TIMEOUTS, "GDAL_HTTP_MAX_RETRY": "0"}.items()))
    barrier = threading.Barrier(8)

    def header(_):
        barrier.wait()
        with pytest.raises(ReadError, match="tried once"):
            read_header(address("red.tif"), credentials=credentials)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(header, range(8)))
    assert len(proxy.requests) < 8  # in sequence, each thread would send two requests of one second


def test_window_read_is_retried_after_a_timeout(proxy, address, waits, truth):
    view = opened(address, env=SHORT_TIMEOUTS)
    proxy.fail("hang", times=1, beyond=65_536)
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *SLICES])


class Signer:
    """Append the current signature."""

    valid = "sig=first"

    def __call__(self, href):
        return f"{href}&{Signer.valid}"


def test_expired_signature_is_renewed_and_never_logged(proxy, address, waits, truth, monkeypatch, caplog):
    proxy.set(require="sig=first")
    view = opened(address, sign=Signer())
    assert np.array_equal(view.read(WINDOW)[0][0], truth[:, *SLICES])
    proxy.set(require="sig=second")  # earlier signatures get a 403 from here on
    monkeypatch.setattr(Signer, "valid", "sig=second")
    assert np.array_equal(view.read(Window(0, 0, 200, 200))[0][0], truth[:, :200, :200])
    proxy.set(require="sig=third")
    with pytest.raises(ReadError, match=r"tried 2 times|tried 4 times") as caught:
        view.read(Window(400, 400, 100, 100))
    texts = [repr(view.source), str(pickle.dumps(view.source)), caplog.text]
    error = caught.value
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert not any("sig=" in text for text in texts)
