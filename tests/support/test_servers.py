"""The servers and the proxy that network tests stand on."""

import http.client
from urllib.request import Request, urlopen

import pytest

from support.proxy import proxied
from support.servers import serve_files

CONTENT = bytes(range(256)) * 8


@pytest.fixture(scope="module", params=["as it is", "own"])
def before(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.bin").write_bytes(CONTENT)
    with serve_files(folder, nginx=False if request.param == "own" else None) as url, proxied(url) as proxy:
        yield proxy


@pytest.fixture
def proxy(before):
    before.forget()
    return before


def get(proxy, span=None, method="GET", path="/a.bin"):
    headers = {} if span is None else {"Range": f"bytes={span}"}
    with urlopen(Request(proxy.url + path, headers=headers, method=method), timeout=10) as answer:  # noqa: S310
        return answer.status, answer.headers, answer.read()


def test_ranges_are_served_and_counted(proxy):
    assert get(proxy)[2] == CONTENT
    status, headers, body = get(proxy, "10-19")
    assert (status, body, headers["content-range"]) == (206, CONTENT[10:20], "bytes 10-19/2048")
    assert get(proxy, "2000-")[2] == CONTENT[2000:]
    assert int(get(proxy, method="HEAD")[1]["content-length"]) == 2048
    assert proxy.counts == {"/a.bin": 4}
    assert proxy.ranges == {("/a.bin", None): 2, ("/a.bin", (10, 19)): 1, ("/a.bin", (2000, None)): 1}
    for span, path, code in (("5000-", "/a.bin", 416), (None, "/none", 404), (None, "/../a.bin", 400)):
        with pytest.raises(OSError, match=f"{code}|404"):
            get(proxy, span, path=path)


def test_faults_apply_to_the_requested_answers(proxy):
    proxy.fail("status", status=429, retry_after="3", skip=1)
    proxy.fail("cut", beyond=100)
    proxy.fail("truncated", keep=0.1)
    assert len(get(proxy, "0-9")[2]) == 1  # the first of the third fault; the first one lets one more pass
    with pytest.raises(OSError, match="429") as caught:
        get(proxy, "0-9")
    assert caught.value.headers["retry-after"] == "3"
    caught.value.close()
    with pytest.raises(http.client.IncompleteRead):
        get(proxy, "100-199")
    assert get(proxy, "100-199")[2] == CONTENT[100:200]
    proxy.fail("length")
    with pytest.raises(http.client.IncompleteRead) as read:
        get(proxy)
    assert read.value.partial == CONTENT


def test_a_path_can_be_required(proxy):
    proxy.set(require="sig=1")
    assert get(proxy, path="/a.bin?sig=1")[2] == CONTENT
    with pytest.raises(OSError, match="403"):
        get(proxy, path="/a.bin?sig=0")
