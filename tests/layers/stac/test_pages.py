"""A loopback STAC API that loops, breaks off, asks to wait or is silent: an error within bounded time, never a part."""

import json
import warnings
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import pystac
import pytest
from support.wire import Answer, Loopback

from geoxt import retry
from geoxt.errors import CatalogWarning, ReadError
from geoxt.layers.stac import api, pages, sources
from geoxt.layers.stac.filters import Selection
from geoxt.layers.stac.sources import read_items

CORE = "https://api.stacspec.org/v1.0.0/"
COUNT, PAGE = 50, 10
START = datetime(2022, 5, 17, tzinfo=UTC)


class Api(Loopback):
    """STAC API of 50 items, five pages by GET, whose pages a test can replace."""

    def __init__(self):
        super().__init__()
        self.replaced, self.counts = {}, {}
        self.features = [self.feature(n) for n in range(COUNT)]

    def feature(self, n):
        item = pystac.Item(f"i{n}", None, None, START + timedelta(days=n), {}, collection="a")
        return item.to_dict(include_self_link=False)

    def reset(self):
        self.replaced, self.counts = {}, {}

    def page(self, number, **fields):
        link = {"rel": "next", "href": f"{self.url}/search?number={number + 1}&signature=secret"}
        features = self.features[number * PAGE : (number + 1) * PAGE]
        links = [link] if (number + 1) * PAGE < COUNT else []
        return {"type": "FeatureCollection", "features": features, "links": links, "numberMatched": COUNT} | fields

    async def answer(self, request):
        parts = urlsplit(request.path)
        number = int(dict(parse_qsl(parts.query)).get("number", 0)) if parts.path == "/search" else parts.path
        self.counts[number] = self.counts.get(number, 0) + 1
        answer = self.replaced.get(number, lambda: self.page(number) if parts.path == "/search" else self.root())
        content = answer()
        if content is None or isinstance(content, Answer):
            return content
        return Answer(status=200, headers={"content-type": "application/json"}, body=json.dumps(content).encode())

    def root(self):
        link = {"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json"}
        return {
            "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "many items",
            "conformsTo": [f"{CORE}core", f"{CORE}item-search"],
            "links": [{"rel": r, "href": self.url} for r in ("self", "root")] + [link, {**link, "method": "POST"}],
        }  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with Api() as server:
        yield server


@pytest.fixture
def service(server, monkeypatch):
    server.reset()
    monkeypatch.setattr(api, "PAGE", PAGE)
    return server


@pytest.fixture
def waits(monkeypatch):
    """List of waits in seconds; no test sleeps."""
    seconds = []
    monkeypatch.setattr(retry, "sleep", seconds.append)
    return seconds


@pytest.fixture(params=["api", "client", "pages"])
def source(request, service):
    """The same items by a search, by a client of the caller, and by the URL of the first page."""
    if request.param == "pages":
        return f"{service.url}/search?number=0"
    pystac_client = pytest.importorskip("pystac_client")
    return service.url if request.param == "api" else pystac_client.Client.open(service.url)


def ids(source, **options):
    return [item.id for item in read_items(source, Selection(**options))]


def status(code, **headers):
    return lambda: Answer(status=code, headers={k.replace("_", "-"): v for k, v in headers.items()}, body=b"no")


def test_all_pages_are_listed_by_one_request_each(source, service):
    assert ids(source) == [f"i{n}" for n in range(COUNT)]
    assert [service.counts[n] for n in range(COUNT // PAGE)] == [1] * 5


def test_limit_ends_the_list(source, service):
    assert ids(source, limit=12) == [f"i{n}" for n in range(12)]
    assert 2 not in service.counts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"code": "TooMany", "description": "no more than 20"}, r"is not an ItemCollection.*no more than 20"),
        ([], r"is not (an ItemCollection|a JSON object)"),
        ({"type": "FeatureCollection", "features": None}, "is not an ItemCollection"),
        ({"type": "FeatureCollection", "features": [{"id": "x"}]}, "Cannot read item 'x'"),
        (Answer(status=200, body=b"<html>Log in</html>"), "Cannot read STAC from.*(Expecting value|unexpected)"),
        (Answer(status=200, body=b'{"features": ['), "Cannot read STAC from"),
        (Answer(status=200, body=b"\xff\xfe\x00"), "Cannot (read STAC from|search)"),
        (Answer(status=200, body=b""), "Cannot read STAC from"),
        (Answer(status=200, body=b"[" * 100_000), "Cannot read STAC from.*recursion"),
        ({"features": [], "code": "Timeout", "description": "timed out"}, "the API states an error: timed out"),
        ({"features": [], "numberReturned": 10}, "it states 10 items and holds 0"),
        ({"features": [], "links": ["next"]}, "its (links are|'links' is) not a list of objects"),
        ({"features": [], "links": [{"rel": "next"}]}, "its link has no address"),
    ],
)
def test_page_that_is_no_page_raises_with_its_url(content, message, source, service):
    service.replaced[2] = lambda: content
    with pytest.raises(ReadError, match=message) as raised:
        ids(source)
    assert service.url in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "stated", [{}, {"numberMatched": None, "context": {"matched": COUNT}}, {"numberMatched": str(COUNT)}]
)
def test_list_that_ends_early_raises(stated, source, service):
    service.replaced[0] = lambda: service.page(0, **stated)
    service.replaced[2] = lambda: service.page(2, features=[], links=[], numberMatched=0)
    with pytest.raises(ReadError, match=r"the API states 50 and returned 20. Try again.*limit=20"):
        ids(source)
    assert len(ids(source, limit=20)) == 20


def test_saved_page_of_a_longer_list_warns(service, tmp_path):
    page = service.page(0)
    (tmp_path / "page.json").write_text(json.dumps(page))
    for saved in (page, str(tmp_path / "page.json")):
        with pytest.warns(CatalogWarning, match="holds 10 items and states 50"):
            assert len(ids(saved)) == PAGE
    assert len(ids(page | {"numberMatched": PAGE})) == PAGE


def test_relations_of_links_ignore_case(source, service):
    links = [{"rel": "NEXT", "href": f"{service.url}/search?number=1"}]
    service.replaced[0] = lambda: service.page(0, links=links, numberMatched=None)  # later pages state it
    assert len(ids(source)) == COUNT
    service.replaced[2] = lambda: service.page(2, links=[])
    with pytest.raises(ReadError, match="the API states 50 and returned 30"):
        ids(source)


@pytest.mark.parametrize("page", [{"conformsTo": None, "links": None}, {"conformsTo": 5}, {"links": ["search"]}, [1]])
def test_malformed_landing_page_raises_with_its_url(page, service):
    service.replaced["/"] = lambda: page if isinstance(page, list) else {"type": "Catalog", "id": "api"} | page
    with pytest.raises(ReadError, match=f"Cannot read .*{service.url}"):
        ids(service.url)


def test_list_without_a_stated_number_ends_at_the_last_page(source, service):
    for number in range(3):
        service.replaced[number] = lambda n=number: service.page(n, numberMatched=None)
    service.replaced[2] = lambda: service.page(2, numberMatched=None, links=[])
    assert len(ids(source)) == 30


def test_empty_page_with_a_next_one_is_followed(source, service):
    service.replaced[2] = lambda: service.page(2, features=[], numberMatched=None)
    service.replaced[0] = lambda: service.page(0, numberMatched=40)
    assert len(ids(source)) == 40


def test_endless_empty_pages_raise(source, service):
    for number in range(1, 100):
        service.replaced[number] = lambda n=number: (
            service.page(0) | {"features": [], "links": service.page(n % 3)["links"]}
        )
    with pytest.raises(ReadError, match="Cannot get the page after .*its link was followed before"):
        ids(source)
    for number in range(1, 100):
        next_link = {"rel": "next", "href": f"{service.url}/search?number={number + 1}"}
        service.replaced[number] = lambda x=next_link: service.page(0, features=[], links=[x])
    with pytest.raises(ReadError, match=f"{pages.EMPTY + 1} pages before it are empty"):
        ids(source)


def test_repeated_page_raises(source, service):
    """A token that leads back, with the same link and with a new one each time."""
    service.replaced[2] = lambda: service.page(0)
    with pytest.raises(ReadError, match="repeats items of pages before it"):
        ids(source)
    service.replaced[2] = lambda: service.page(2, features=service.features[:PAGE])
    with pytest.raises(ReadError, match="repeats items of pages before it"):
        ids(source)


def test_item_on_two_pages_is_listed_once(source, service):
    features = service.features
    service.replaced[1] = lambda: service.page(1, features=features[9:20])
    assert ids(source) == [f"i{n}" for n in range(COUNT)]


def test_items_of_one_id_that_differ_are_all_listed_with_a_warning(source, service):
    """On one page, on two, and with the same content and another signature, which is one item."""
    first = service.features[3] | {"assets": {"b": {"href": "https://a.b/x.tif?sig=1"}}}
    signed, moved = (first | {"assets": {"b": {"href": f"https://a.b/{name}"}}} for name in ("x.tif?sig=2", "y.tif"))
    elsewhere = first | {"geometry": {"type": "Point", "coordinates": [1, 2]}}
    for at, item, count in ((1, signed, 1), (1, moved, 2), (0, moved, 2), (1, elsewhere, 2)):
        service.reset()
        for number in (0, 1):
            features = service.features[PAGE * number : PAGE * (number + 1)] + [item] * (number == at)
            features[3:4] = [first] if number == 0 else features[3:4]
            service.replaced[number] = lambda n=number, f=features: service.page(n, features=f)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert ids(source).count("i3") == count
        texts = [str(w.message) for w in caught if w.category is CatalogWarning]
        assert [("'i3' and differ in footprint, dates or files. All" in text) for text in texts] == [True] * (count - 1)


@pytest.mark.parametrize("code", [429, 503])
def test_server_that_asks_to_wait_long_is_not_asked_again(code, source, service, waits):
    service.replaced[2] = status(code, retry_after="3600")
    with pytest.raises(ReadError, match=rf"{service.url}.*{code}.*The server asks to wait 3600 s"):
        ids(source)
    assert (waits, service.counts[2]) == ([], 1)


def test_server_that_asks_to_wait_briefly_is_asked_again(source, service, waits):
    answers = iter([status(429, retry_after="7")(), status(503, retry_after="2")()])
    service.replaced[2] = lambda: next(answers, service.page(2))
    assert len(ids(source)) == COUNT
    assert waits == [7, 2]


def test_waits_of_a_search_are_bounded_together(source, service, waits):
    """Every page of five asks twice for a minute: allowed for one request, not for all."""
    for number in range(1, 5):
        answers = iter([status(503, retry_after="60")()] * 2)
        service.replaced[number] = lambda n=number, a=answers: next(a, service.page(n))
    with pytest.raises(ReadError, match="503"):
        ids(source)
    assert sum(waits) == pages.TOTAL == 300


def test_silent_server_is_asked_once(source, service, waits, monkeypatch):
    monkeypatch.setattr(sources, "SECONDS", 0.1)
    service.replaced[2] = lambda: None
    with pytest.raises(ReadError, match=rf"{service.url}.*timed out"):
        ids(source)
    assert (waits, service.counts[2]) == ([], 1)


def test_files_of_a_static_catalog_are_bounded_too(service, waits, monkeypatch):
    monkeypatch.setattr(sources, "SECONDS", 0.1)
    link = {"rel": "item", "href": f"{service.url}/item.json"}
    catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "one item", "links": [link]}
    service.replaced["/catalog.json"] = lambda: catalog
    service.replaced["/item.json"] = lambda: service.features[3]
    assert ids(f"{service.url}/catalog.json") == ["i3"]
    cases = [
        (lambda: Answer(status=200, body=b"<html>"), "Cannot read STAC from .*item.json.*Expecting value"),
        (lambda: None, "item.json.*timed out"),
        (status(503, retry_after="3600"), "item.json.*The server asks to wait 3600 s"),
    ]
    for answer, message in cases:
        service.replaced["/item.json"] = answer
        with pytest.raises(ReadError, match=message):
            ids(f"{service.url}/catalog.json")
    assert waits == []


@pytest.mark.parametrize("href", ["file:///etc/hostname", "/etc/hostname"])
def test_remote_catalog_does_not_lead_to_local_files(href, service):
    links = [{"rel": "item", "href": href}]
    catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "one item", "links": links}
    service.replaced["/catalog.json"] = lambda: catalog
    with pytest.raises(ReadError, match="Cannot follow a link of a remote catalog|Cannot read STAC from 'http"):
        ids(f"{service.url}/catalog.json")
    service.replaced[1] = lambda: service.page(1, links=[{"rel": "next", "href": href}])
    with pytest.raises(ReadError):
        ids(f"{service.url}/search?number=0")
