"""A STAC API with transient errors, truncated responses and timeouts."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from support.proxy import proxied
from support.wire import Answer, Loopback

from geoxt.errors import ReadError
from geoxt.layers import open_stac
from geoxt.layers.stac import api, sources
from geoxt.retry import RetryPolicy
from geoxt.source import view_of
from geoxt.testing import make_item
from geoxt.windows import Window

CORE = "https://api.stacspec.org/v1.0.0/"


class Api(Loopback):
    """Minimal STAC API: a landing page, and a search that returns one item."""

    item = None

    async def answer(self, request):
        root = f"http://{request.headers['host']}"
        link = {"rel": "search", "href": f"{root}/search", "type": "application/geo+json"}
        page = {
            "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "one item",
            "conformsTo": [f"{CORE}core", f"{CORE}item-search"],
            "links": [{"rel": "self", "href": root}, {"rel": "root", "href": root}, link, {**link, "method": "POST"}],
        }  # fmt: skip
        items = {"type": "FeatureCollection", "features": [self.item], "links": []}
        return Answer(
            status=200,
            headers={"content-type": "application/json"},
            body=json.dumps(items if request.path.startswith("/search") else page).encode(),
        )


@pytest.fixture(scope="module")
def served():
    with Api() as server, proxied(server.url) as proxy:
        yield server, proxy


@pytest.fixture
def catalog(served, rasters, address, monkeypatch):
    server, proxy = served
    item = make_item("one", {"red": rasters / "red.tif"}, time=datetime(2024, 5, 17, tzinfo=UTC))
    item.assets["red"].href = address("red.tif")
    server.item = item.to_dict(include_self_link=False, transform_hrefs=False)
    proxy.forget()
    monkeypatch.setattr(api, "DEFAULT", RetryPolicy(delay=0.001))
    return proxy


@pytest.mark.parametrize(
    ("kind", "options"),
    [("status", {"status": 429, "retry_after": "0"}), ("status", {"status": 503}), ("cut", {})],
)  # fmt: skip
def test_failed_search_is_retried(kind, options, catalog, truth, waits):
    catalog.fail(kind, path="/search", times=2, **options)
    if kind == "status":
        catalog.fail(kind, times=2, **options)
    layer = open_stac(catalog.url, bands="red")
    assert catalog.counts["/search"] == 3
    assert np.array_equal(view_of(layer).read(Window(300, 300, 9, 9))[0][0, 0], truth[0, 300:309, 300:309])


def test_unavailable_api_raises_after_retries(catalog, waits):
    catalog.fail("status", status=503, path="/search", times=1000)
    with pytest.raises(ReadError, match=r"Cannot search http://127.*503"):
        open_stac(catalog.url, bands="red")
    assert catalog.counts["/search"] == api.RETRIES + 1


@pytest.mark.parametrize("path", ["", "/search"])
def test_unresponsive_api_times_out(path, catalog, monkeypatch, waits):
    monkeypatch.setattr(sources, "SECONDS", 0.2)
    monkeypatch.setattr(api, "RETRIES", 1)
    catalog.fail("hang", path=path, times=1000)
    with pytest.raises(ReadError, match="timed out"):
        open_stac(catalog.url, bands="red")
