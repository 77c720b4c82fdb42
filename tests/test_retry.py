"""The HTTP retry policy: transient errors, waiting times, limits."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from http.client import IncompleteRead
from urllib.error import HTTPError, URLError

import pytest

from geoxt import retry
from geoxt.retry import RetryPolicy, is_transient, parse_retry_after

URL = "https://example.org"


def http_error(status, **headers):
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HTTPError(URL, status, "", message, None)


@pytest.fixture
def waits(monkeypatch):
    seconds = []
    monkeypatch.setattr(retry, "sleep", seconds.append)
    return seconds


def failing(*errors, result="body"):
    """Return a call that raises the errors one after another, and then returns the result."""
    remaining = list(errors)

    def call():
        if remaining:
            raise remaining.pop(0)
        return result

    return call


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (http_error(503), True),
        (http_error(429), True),
        (http_error(404), False),
        (http_error(403), False),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (IncompleteRead(b""), True),
        (URLError(socket.gaierror()), True),
        (URLError(ssl.SSLCertVerificationError()), False),
        (URLError("unknown url type"), False),
        (FileNotFoundError(), False),
        (OSError(28, "No space left on device"), False),
        (ValueError(), False),
    ],
)
def test_transient_errors(error, expected):
    assert is_transient(error) is expected


def test_retry_after_is_a_number_or_a_date():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    seconds = parse_retry_after(soon)
    assert seconds is not None
    assert 40 < seconds <= 50
    assert parse_retry_after("2") == 2
    assert parse_retry_after("-2") == 0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None


def test_waits_grow_up_to_the_limit():
    policy = RetryPolicy(retries=9, delay=1.0, max_wait=20.0)
    for attempt in range(1, 10):
        wait = policy.wait(attempt)
        assert wait is not None
        assert min(0.75 * 2 ** (attempt - 1), 20) <= wait <= min(1.25 * 2 ** (attempt - 1), 20)
    assert policy.wait(10) is None


def test_retry_returns_the_first_result(waits):
    assert retry.retry(failing(http_error(503), ConnectionResetError())) == "body"
    assert len(waits) == 2


def test_retry_waits_as_long_as_the_server_asks(waits):
    assert retry.retry(failing(http_error(429, Retry_After="7"))) == "body"
    assert waits == [7.0]


@pytest.mark.parametrize("error", [http_error(404), http_error(503, Retry_After="3600"), ValueError()])
def test_final_errors_are_not_repeated(error, waits):
    with pytest.raises(type(error)):
        retry.retry(failing(error))
    assert waits == []


def test_retry_gives_up_after_the_last_attempt(waits):
    with pytest.raises(ConnectionResetError):
        retry.retry(failing(*[ConnectionResetError()] * 9), policy=RetryPolicy(retries=2))
    assert len(waits) == 2
