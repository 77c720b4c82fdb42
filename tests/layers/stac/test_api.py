"""A real STAC API on loopback (rustac): searches, pages, and URLs of the API, a collection or a search."""

import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely

from geoxt.errors import InputError, ReadError
from geoxt.layers import open_stac
from geoxt.layers.stac import api as client
from geoxt.layers.stac import sources
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_items

RUSTAC = shutil.which("rustac", path=str(Path(sys.executable).parent)) or shutil.which("rustac")
pytestmark = pytest.mark.skipif(RUSTAC is None, reason="rustac is not installed")
START = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
COUNT = 7


@pytest.fixture(scope="module")
def items(write):
    stac_items = []
    for n in range(COUNT):
        path = write(distinct((20, 20)) + n, make_grid((20, 20), left=600_000 + 600 * n), nodata=0)
        when = START + timedelta(days=n)
        stac_items.append(make_item(f"i{n}", {"red": path}, time=when, collection="even" if n % 2 == 0 else "odd"))
    return stac_items


def listens(port):
    with socket.socket() as client_socket:
        return client_socket.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def server(items, tmp_path_factory):
    pytest.importorskip("pystac_client")
    path = write_items(tmp_path_factory.mktemp("api") / "items.json", items)
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    command = [
        RUSTAC,
        "serve",
        "--use-duckdb",
        "false",
        "--create-collections",
        "--addr",
        f"127.0.0.1:{port}",
        str(path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert any("Serving" in line for line in process.stdout), "rustac ended"
            assert any(listens(port) for _ in range(100_000))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(client, "PAGE", 3)


def names(layer):
    return [s.id for s in view_of(layer).source.scenes]


def test_all_pages_are_opened(server, items):
    layer = open_stac(server, trust=True, bands=["red"], groupby="day")
    assert sorted(names(layer)) == [i.id for i in items]
    expected = open_stac(items, bands=["red"], groupby="day")
    assert np.array_equal(layer.compute(scheduler="synchronous"), expected.compute(scheduler="synchronous"))


def test_search_by_collection_area_time_and_limit(server, items):
    west, south, east, north = items[3].bbox
    inner = (west + 1e-4, south, east - 1e-4, north)
    area = shapely.box(*inner).centroid.buffer(0.0005)
    assert names(open_stac(server, trust=True, collections="odd")) == ["i1", "i3", "i5"]
    assert len(names(open_stac(server, trust=True, collections=["odd", "even"], limit=4))) == 4
    assert names(open_stac(server, trust=True, bbox=inner)) == ["i3"]
    assert open_stac(server, trust=True, bbox=inner).sizes["x"] <= 20
    assert names(open_stac(server, trust=True, intersects=area)) == ["i3"]
    assert sorted(names(open_stac(server, trust=True, datetime="2022-05-18/2022-05-20"))) == ["i1", "i2", "i3"]
    assert names(open_stac(server, trust=True, datetime="2022-05-22/..", collections="odd")) == ["i5"]
    assert open_stac(server, trust=True, groupby="day").sizes["time"] == COUNT
    with pytest.raises(InputError, match="no matching items"):
        open_stac(server, trust=True, datetime="2031")


@pytest.mark.parametrize("ending", ["", "?f=json"])
def test_collection_url_is_searched(server, items, ending):
    url = f"{server}/collections/odd{ending}"
    west, south, east, north = items[3].bbox
    assert names(open_stac(url, trust=True)) == ["i1", "i3", "i5"]
    assert names(open_stac(url, trust=True, bbox=(west + 1e-4, south, east - 1e-4, north))) == ["i3"]
    assert names(open_stac(url, trust=True, collections="odd", limit=2)) == ["i1", "i3"]
    with pytest.raises(InputError, match=r"Cannot search collection 'odd' for items of \['even'\]. Leave collections="):
        open_stac(url, trust=True, collections="even")


@pytest.mark.parametrize(("path", "count"), [("collections/even/items?limit=1", 4), ("search?limit=2", COUNT)])
def test_result_pages_are_followed_to_the_last(server, path, count, monkeypatch):
    requests, real = [], sources._fetch
    monkeypatch.setattr(sources, "_fetch", lambda url, *_: requests.append(url) or real(url))
    assert len(set(names(open_stac(f"{server}/{path}", trust=True)))) == count
    pages = len(requests)
    assert pages >= 4
    requests.clear()
    assert len(names(open_stac(f"{server}/{path}", trust=True, limit=1))) == 1
    assert len(requests) < pages


def test_page_that_cannot_be_followed_raises(items, monkeypatch):
    features = [item.to_dict(include_self_link=False, transform_hrefs=False) for item in items[:2]]
    page = {"type": "FeatureCollection", "features": features}
    link = {"rel": "next", "href": "https://a.b/search", "method": "POST", "body": {"token": "x"}}
    monkeypatch.setattr(sources, "_fetch", lambda url, *_: page | {"links": [link]})
    with pytest.raises(ReadError, match="Cannot get the page after 'https://a.b/search'.*Pass the URL of the API"):
        open_stac("https://a.b/search")
    link["method"] = "GET"
    with pytest.raises(ReadError, match="repeats items of pages before it"):  # it would loop
        open_stac("https://a.b/search")


def test_unknown_collection_raises(server):
    with pytest.raises(ReadError, match="Cannot read STAC from 'http://127.*/collections/none'"):
        open_stac(f"{server}/collections/none")


def test_unsupported_filter_raises(server):
    with pytest.raises(
        InputError, match="Cannot filter by .* at http://127.*: the API has no filter extension. Leave query= out"
    ):
        open_stac(server, query="eo:cloud_cover < 10")
