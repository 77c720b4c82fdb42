"""Items of a remote catalog may refer to remote files only, unless it is trusted."""

import json
from datetime import UTC, datetime

import pystac
import pytest
from support.wire import Answer, Loopback

from geoxt.errors import InputError
from geoxt.layers import open_stac, open_zarr
from geoxt.layers.cubes.stac_store import store_of
from geoxt.layers.stac.hrefs import require_href
from geoxt.testing import distinct, make_grid, make_item

WHEN = datetime(2022, 5, 17, tzinfo=UTC)
ITEM = "https://a.b/items/one.json"


class Items(Loopback):
    """Serves one item as an item, an ItemCollection, and in a catalog."""

    item = None

    async def answer(self, request):
        link = {"rel": "item", "href": f"{self.url}/item.json"}
        catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "one item", "links": [link]}
        pages = {
            "/item.json": self.item,
            "/catalog.json": catalog,
            "/items.json": {"type": "FeatureCollection", "features": [self.item]},
        }
        return Answer(status=200, body=json.dumps(pages[request.path]).encode())


@pytest.fixture(scope="module")
def server():
    with Items() as server:
        yield server


def item_of(href, self_href=ITEM, media_type=None):
    item = pystac.Item("one", None, None, WHEN, {})
    item.add_asset("red", pystac.Asset(href, media_type=media_type))
    if self_href is not None:
        item.set_self_href(self_href)
    return item


LOCAL = [
    "/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "./red.tif", "../../red.tif", r"C:\data\red.tif",
    "/vsisubfile/0_100,/etc/passwd", "/vsimem/red.tif", "/vsizip/local.zip/red.tif", "/vsizip/{/data/local.zip}/a.tif",
    "/vsitar//vsigzip//data/a.tar.gz/a.tif", "/vsistdin/", "/vsicurl/file:///etc/passwd", "/vsicurl?url=file:///a.tif",
    "/vsicached?file=/etc/passwd", "/vsisparse//etc/a.xml", "/vsicrypt/key=x,file=/a.tif", "zip:///data/a.zip!a.tif",
    "GTIFF_DIR:1:/data/a.tif", 'ZARR:"/data/https://x"', "NETCDF:/data/a.nc:x", "data:image/tiff;base64,AA", "",
    "<GDAL_WMS><Service name='TMS'/></GDAL_WMS>", "/vsisubfile/0_9,/vsizip/https://a.b", " https://a.b/red.tif",
]  # fmt: skip
VRT = [
    ("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>", None),
    ("https://a.b/red.vrt", None), ("https://a.b/red.VRT?x=1", None), ("/vsicurl/https://a.b/red.vrt", None),
    ("vrt://https://a.b/red.tif?bands=1", None), ("/vsizip//vsicurl/https://a.b/z.zip/red.vrt", None),
    ("https://a.b/red", "application/x-gdal-vrt"), ("https://a.b/?<VRTDataset>", None),
]  # fmt: skip
REMOTE = [
    "https://a.b/red.tif", "http://a.b/red.tif?sig=x", "s3://b/red.tif", "gs://b/red.tif", "az://c/red.tif",
    "abfs://c/red.tif", "/vsicurl/https://a.b/red.tif", "/vsis3/b/red.tif", "/vsigs/b/red.tif", "/vsiaz/c/red.tif",
    "/vsizip//vsicurl/https://a.b/z.zip/red.tif", "/vsizip/{/vsis3/b/z.zip}/red.tif", "zip+https://a.b/z.zip!red.tif",
]  # fmt: skip


@pytest.mark.parametrize("href", LOCAL)
@pytest.mark.parametrize("self_href", [ITEM, "s3://bucket/one.json"])
def test_local_files_of_a_remote_item_are_refused(href, self_href):
    with pytest.raises(InputError, match=r"'red' of item 'one' .* is not a remote address. Pass trust=True"):
        require_href(item_of(href, self_href), "red", trust=False)
    require_href(item_of(href, self_href), "red", trust=True)


@pytest.mark.parametrize(("href", "media_type"), VRT)
def test_vrts_of_a_remote_item_are_refused(href, media_type):
    with pytest.raises(InputError, match=r"'red' of item 'one' .* is a VRT, .* Pass trust=True"):
        require_href(item_of(href, media_type=media_type), "red", trust=False)
    require_href(item_of(href, media_type=media_type), "red", trust=True)


@pytest.mark.parametrize("href", REMOTE)
def test_remote_files_are_allowed(href):
    for self_href in (ITEM, "/data/one.json", None):
        require_href(item_of(href, self_href), "red", trust=False)


@pytest.mark.parametrize("href", ["/data/red.tif", "/vsizip//data/z.zip/red.tif", "/data/red.vrt"])
def test_items_of_the_caller_lead_anywhere(href):
    for self_href in ("/data/one.json", None):
        require_href(item_of(href, self_href), "red", trust=False)


def test_queries_stay_secret():
    with pytest.raises(InputError) as raised:
        require_href(item_of("file:///x?sig=secret", f"{ITEM}?sig=secret"), "red", trust=False)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("self_href", [None, "/data/one.json", "file:///data/one.json"])
@pytest.mark.parametrize("file", ["item.json", "items.json", "catalog.json"])
def test_served_items_with_local_self_links_are_refused(file, self_href, server, write):
    """The address that an item was read from counts, not the one that it states."""
    path = write(distinct((20, 20)), make_grid((20, 20)))
    item = make_item("one", {"red": path}, time=WHEN).to_dict(include_self_link=False, transform_hrefs=False)
    item["assets"]["red"]["href"] = f"file://{path}"
    server.item = item | {"links": [] if self_href is None else [{"rel": "self", "href": self_href}]}
    with pytest.raises(
        InputError, match=r"asset 'red' of item 'one' of the remote catalog 'http.* not a remote address"
    ):
        open_stac(f"{server.url}/{file}")
    assert open_stac(f"{server.url}/{file}", trust=True).shape == open_stac(item).shape


@pytest.mark.parametrize(
    ("options", "harmless"),
    [
        (None, True), ({"anon": True}, True), ({"account_name": "a", "credential": "c"}, True),
        ({"token": "anon"}, True),
        ({"anon": True, "client_kwargs": {"endpoint_url": "https://s3.a.b"}}, True),
        ({"client_kwargs": {"endpoint_url": "https://evil.b"}}, False), ({"endpoint_url": "https://evil.b"}, False),
        ({"token": "/home/user/key.json"}, False), ({"profile": "work"}, False), ({"anon": 1, "fo": "/etc"}, False),
        ({"target_protocol": "file"}, False), ("anon", False),
    ],
)  # fmt: skip
def test_options_of_a_remote_item_send_no_credentials_elsewhere(options, harmless):
    item = item_of("s3://b/a.zarr", media_type="application/vnd.zarr")
    item.assets["red"].extra_fields["xarray:storage_options"] = options
    if harmless:
        require_href(item, "red", trust=False)
        assert store_of(item).options == options
        return
    with pytest.raises(InputError, match="storage_options .* may send credentials .* Pass trust=True"):
        require_href(item, "red", trust=False)
    with pytest.raises(InputError, match="may send credentials .*Pass its address and storage_options"):
        store_of(item)


@pytest.mark.parametrize("wrap", [lambda item: item, lambda item: item.to_dict(), lambda item: item.assets["red"]])
def test_local_store_of_a_remote_item_is_refused_by_open_zarr(wrap):
    with pytest.raises(InputError, match=r"'red' of item 'one' .* is not a remote address"):
        open_zarr(wrap(item_of("/data/a.zarr", media_type="application/vnd.zarr")))
    assert store_of(wrap(item_of("/data/a.zarr", "/data/one.json", "application/vnd.zarr"))).store == "/data/a.zarr"
