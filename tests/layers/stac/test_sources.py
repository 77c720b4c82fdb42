"""Sources of items: a loopback STAC API with pages, and item files; and item filters."""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import numpy as np
import pystac
import pytest
import shapely
import shapely.geometry

from geoxt.errors import InputError, ReadError
from geoxt.layers import open_stac
from geoxt.layers.area import area_of
from geoxt.layers.stac.filters import Selection, interval, parse_times
from geoxt.layers.stac.sources import read_items
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_items

START = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
PAGE = 2


@pytest.fixture(scope="module")
def items(write):
    stac_items = []
    for n in range(5):
        path = write(distinct((20, 20)), make_grid((20, 20), left=600_000 + 600 * n), nodata=0)
        kind = "even" if n % 2 == 0 else "odd"
        when = START + timedelta(days=n)
        stac_items.append(make_item(f"i{n}", {"red": path}, time=when, collection=kind, eo__cloud_cover=n))
    return stac_items


class Api(BaseHTTPRequestHandler):
    """STAC API of a few items that records searches and filters by collection and bounding box."""

    def do_GET(self):
        if self.path.startswith("/denied"):
            self.send_error(403)
            return
        root = self.server.root
        if self.path.startswith("/search?"):
            search_body = dict(parse_qsl(self.path.partition("?")[2]))
            self.server.searches.append(search_body)
            matching = [
                i for i in self.server.items if i["properties"]["eo:cloud_cover"] < int(search_body["filter"][-1])
            ]
            self.answer({"type": "FeatureCollection", "features": matching, "links": []})
            return
        core = "https://api.stacspec.org/v1.0.0/"
        rules = [core + "core", core + "item-search", core + "item-search#filter", "cql2-json", "cql2-text"]
        rules.append("http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/filter")
        links = [{"rel": rel, "href": root} for rel in ("self", "root")]
        search = {"rel": "search", "href": f"{root}/search", "type": "application/geo+json"}
        links += [search | {"method": method} for method in ("POST", "GET")]
        self.answer({
            "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "A few items.", "links": links,
            "conformsTo": rules,
        })  # fmt: skip

    def do_POST(self):
        search_body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.searches.append(search_body)
        matching = [
            i for i in self.server.items if i["collection"] in search_body.get("collections", [i["collection"]])
        ]
        if "bbox" in search_body:
            box = shapely.box(*search_body["bbox"])
            matching = [i for i in matching if shapely.geometry.shape(i["geometry"]).intersects(box)]
        at, count = search_body.get("token", 0), min(PAGE, search_body.get("limit", PAGE))
        links = []
        if at + count < len(matching):
            body = search_body | {"token": at + count}
            links = [{"rel": "next", "href": f"{self.server.root}/search", "method": "POST", "body": body}]
        self.answer({"type": "FeatureCollection", "features": matching[at : at + count], "links": links})

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Silence the request log."""


@pytest.fixture(scope="module")
def api(items):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.root, server.searches = f"http://127.0.0.1:{server.server_port}", []
    server.items = [item.to_dict(include_self_link=False, transform_hrefs=False) | {"links": []} for item in items]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(layer):
    return [s.id for s in view_of(layer).source.scenes]


def test_api_pages_are_followed(api, items):
    pytest.importorskip("pystac_client")
    api.searches.clear()
    layer = open_stac(api.root, trust=True, bands=["red"])
    assert names(layer) == [i.id for i in items]
    assert len(api.searches) == 3
    assert np.array_equal(
        layer.compute(scheduler="synchronous").values, open_stac(items, bands=["red"]).compute(scheduler="synchronous")
    )


def test_search_parameters_reach_the_api(api, items):
    pystac_client = pytest.importorskip("pystac_client")
    api.searches.clear()
    query = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 50]}
    west, south, _, north = items[2].bbox
    layer = open_stac(
        pystac_client.Client.open(api.root), collections="even", bbox=(west, south, west + 1e-3, north), query=query,
        datetime="2022-05-17/2022-05", limit=2, trust=True,
    )  # fmt: skip
    assert names(layer) == ["i2"]
    (search_body,) = api.searches
    assert search_body["collections"] == ["even"]
    assert search_body["filter"] == query
    assert search_body["datetime"] == "2022-05-17T00:00:00.000Z/2022-05-31T23:59:59.999Z"
    assert names(open_stac(api.root, trust=True, limit=3)) == ["i0", "i1", "i2"]
    shape = shapely.box(*items[0].bbox).centroid.buffer(0.001)
    assert open_stac(api.root, trust=True, intersects=shape, limit=1).sizes["x"] < 20
    assert api.searches[-1]["intersects"]["type"] == "Polygon"


def test_cql2_text_filter_is_sent_by_get(api):
    pytest.importorskip("pystac_client")
    api.searches.clear()
    assert names(open_stac(api.root, trust=True, query="eo:cloud_cover < 3")) == ["i0", "i1", "i2"]
    (search_body,) = api.searches
    assert (search_body["filter"], search_body["filter-lang"]) == ("eo:cloud_cover < 3", "cql2-text")


def test_api_errors_raise_with_the_url(api):
    pytest.importorskip("pystac_client")
    with pytest.raises(ReadError, match="Cannot read STAC from 'http://127.*/denied.…': HTTP Error 403"):
        open_stac(f"{api.root}/denied?key=xyz")
    with pytest.raises(ReadError, match="Cannot read STAC from 'http://127.0.0.1:9'"):
        open_stac("http://127.0.0.1:9")
    with pytest.raises(InputError, match="Cannot take 0 items"):
        open_stac(api.root, limit=0)


def test_item_files_are_filtered_locally(items, tmp_path):
    selections = {
        "collections": Selection(collections=("odd",)),
        "times": Selection(times=parse_times("2022-05-18/2022-05-19")),
        "area": Selection(area=area_of(items[0].bbox, None)),
        "limit": Selection(limit=1),
    }
    path = str(write_items(tmp_path / "items.json", items))
    ids = {key: [i.id for i in read_items(path, selection)] for key, selection in selections.items()}
    assert ids["collections"] == ["i1", "i3"]
    assert ids["times"] == ["i1", "i2"]
    assert ids["area"][0] == "i0"
    assert len(ids["area"]) < 5
    assert ids["limit"] == ["i0"]
    with pytest.raises(InputError, match="Cannot filter by .*the source is not a STAC API"):
        open_stac(path, query="eo:cloud_cover < 10")
    with pytest.raises(InputError, match="no matching items"):
        open_stac(path, datetime="2031")


def test_ndjson_items_are_read(items, tmp_path):
    path = tmp_path / "items.ndjson"
    path.write_text("\n".join(json.dumps(i.to_dict(transform_hrefs=False)) for i in items), encoding="utf-8")
    assert names(open_stac(path)) == [i.id for i in items]


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2020-06", "2020-06-01", "2020-06-30T23:59:59.999"),
        ("2020-06-03/..", "2020-06-03", None),
        ("../2020", None, "2020-12-31T23:59:59.999"),
        ("2020-06-03T10:00:00Z", "2020-06-03T10:00", "2020-06-03T10:00"),
        ("2020-06-03T10:00:00+02:00/", "2020-06-03T08:00", None),
        (("2020-01-01", datetime(2020, 2, 1, tzinfo=UTC)), "2020-01-01", "2020-02-01"),
        (datetime(2020, 2, 1, tzinfo=UTC), "2020-02-01", "2020-02-01"),
    ],
)
def test_parse_times(text, first, last):
    actual = [None if t is None else t.astype("datetime64[ms]") for t in parse_times(text)]
    assert actual == [None if t is None else np.datetime64(t, "ms") for t in (first, last)]


@pytest.mark.parametrize("text", ["soon", "2020/2021/2022", "2020-13"])
def test_invalid_times_raise(text):
    with pytest.raises(InputError, match=r"Cannot read an interval of time from .* Pass datetime="):
        parse_times(text)


def test_interval_of_an_item_is_preserved(write):
    path = write(distinct((20, 20)), make_grid((20, 20)))
    item = make_item("year", {"b": path}, time=(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 12, 31, tzinfo=UTC)))
    assert interval(item) == (np.datetime64("2020-01-01", "ns"), np.datetime64("2020-12-31", "ns"))
    assert names(open_stac(item, datetime="2020-06")) == ["year"]
    (scene,) = view_of(open_stac(item, groupby="time")).source.scenes
    assert (scene.start, scene.end) == interval(item)


def test_relative_hrefs_of_a_dict_are_resolved_by_its_self_link(tmp_path):
    item = pystac.Item("a", None, None, datetime(2020, 1, 1, tzinfo=UTC), {}).to_dict()
    item["assets"] = {"b": {"href": "./x.tif"}, "c": {"href": "/y.tif"}}
    item["links"] = [{"rel": "self", "href": str(tmp_path / "item.json")}]
    expected = [str(tmp_path / "x.tif"), "/y.tif"]
    for source in (item, [item], {"type": "FeatureCollection", "features": [item]}):
        assert [asset.href for asset in read_items(source)[0].assets.values()] == expected
    assert item["assets"]["b"]["href"] == "./x.tif"


def test_reading_a_dict_leaves_it_unchanged():
    extension = "https://stac-extensions.github.io/projection/v1.1.0/schema.json"
    item = pystac.Item("one", None, None, START, {"proj:epsg": 32615}, stac_extensions=[extension])
    item.add_asset("b", pystac.Asset("https://example.com/b.tif", extra_fields={"proj:epsg": 32615}))
    content = item.to_dict() | {"stac_version": "1.0.0"}
    before = json.dumps(content)
    (read,) = read_items(content)
    assert read.properties["proj:code"] == read.assets["b"].extra_fields["proj:code"] == "EPSG:32615"
    read.assets["b"].extra_fields["proj:code"] = "EPSG:4326"
    assert json.dumps(content) == before
