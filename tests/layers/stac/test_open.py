"""Opening STAC: the layer of a catalog is the layer of its files, from metadata alone."""

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr

from geoxt.errors import CRSError, InputError, ReadError
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_cogs, open_stac
from geoxt.pixels import reader
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, make_world, write_catalog, write_items

WHEN = datetime(2020, 5, 17, 10, 30, tzinfo=UTC)
GRID = make_grid((60, 70))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), size=96, scenes=3, blocksize=64)


def same_pixels(a, b):
    first, second = (layer.compute(scheduler="synchronous").values for layer in (a, b))
    return np.array_equal(first, second)


@pytest.mark.parametrize("form", ["catalog", "items", "pystac", "collection", "dict", "list"])
def test_catalog_equals_its_files(world, form):
    sources = {
        "catalog": world.catalog,
        "items": str(world.items),
        "pystac": lambda: pystac.Catalog.from_file(str(world.catalog)),
        "collection": lambda: pystac.ItemCollection.from_file(str(world.items)),
        "dict": lambda: pystac.ItemCollection.from_file(str(world.items)).to_dict(),
        "list": lambda: list(pystac.Catalog.from_file(str(world.catalog)).get_items(recursive=True)),
    }
    source = sources[form]() if callable(sources[form]) else sources[form]
    layer = open_stac(source, collections="landsat-c2-l2", crs="EPSG:32615")
    files = open_cogs(world.images, product="landsat8", crs="EPSG:32615")
    assert grid_of(layer) == grid_of(files)
    assert layer.common_name.values.tolist() == list(world.bands)
    assert layer.attrs["_FillValue"] == files.attrs["_FillValue"]
    by_name = {s.id: s for s in view_of(layer).source.scenes}
    for scene in view_of(files).source.scenes:
        assert [a.href for a in by_name[scene.id].assets] == [a.href for a in scene.assets]
    order = [list(by_name).index(s.id) for s in view_of(files).source.scenes]
    if order == sorted(order):
        assert same_pixels(layer, files)


def test_complete_metadata_need_no_header(world, monkeypatch):
    def raise_on_open(*_, **__):
        msg = "a file was opened"
        raise AssertionError(msg)

    monkeypatch.setattr(rasterio, "open", raise_on_open)
    monkeypatch.setattr(reader, "start_read", raise_on_open)
    layer = open_stac(world.catalog, collections=["landsat-c2-l2"], crs="EPSG:32616")
    assert layer.shape[0] == 6
    assert open_stac(world.catalog, collections="usda-cdl").dims == ("y", "x")


def test_labels_have_a_legend(world):
    layer = open_stac(world.catalog, collections="usda-cdl")
    legend = layer.geoml.legend
    assert legend.codes == world.codes
    assert legend.names == world.names
    assert legend.colors == world.colors
    assert same_pixels(layer, open_cogs(world.labels, product="cdl"))


def test_bands_are_selected_by_key_or_common_name(world):
    options = {"collections": "landsat-c2-l2", "crs": "EPSG:32615"}
    both = [open_stac(world.catalog, bands=b, **options) for b in (["red", "blue"], ["SR_B4", "SR_B2"])]
    assert both[0].common_name.values.tolist() == ["red", "blue"]
    assert same_pixels(*both)
    with pytest.raises(InputError, match=r"Cannot find band 'tir' in item '.*': it has \[.*Pass bands="):
        open_stac(world.catalog, bands=["tir"], **options)


def test_items_are_grouped_by_day(world):
    layer = open_stac(world.catalog, collections="landsat-c2-l2", crs="EPSG:32615", groupby="day")
    days = np.array(["2019-07-01", "2019-07-08"], "datetime64[D]")
    assert np.array_equal(layer.time.values.astype("datetime64[D]"), days)


def test_several_crs_raise(world):
    with pytest.raises(CRSError, match=r"EPSG:32615.*EPSG:32616.*Pass crs="):
        open_stac(world.catalog, collections="landsat-c2-l2")


def test_unknown_collection_raises(world):
    with pytest.raises(InputError, match=r"collections \['sentinel'\]: there are \[.*usda-cdl.*Pass collections="):
        open_stac(world.catalog, collections="sentinel")


def test_relocated_catalog_opens(tmp_path, write):
    path = write(distinct((60, 70)), GRID, folder=tmp_path / "before" / "data")
    write_catalog(tmp_path / "before", [make_item("one", {"b": path}, time=WHEN)])
    (tmp_path / "before").rename(tmp_path / "after")
    layer = open_stac(tmp_path / "after" / "catalog.json")
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], distinct((60, 70)))


def test_missing_projection_is_read_from_the_header(tmp_path, write):
    item = make_item("one", {"b": write(distinct((60, 70)), GRID, nodata=0)}, time=WHEN)
    for metadata in (item.properties, item.assets["b"].extra_fields):
        for key in [k for k in metadata if k.startswith("proj:")]:
            del metadata[key]
    layer = open_stac(write_items(tmp_path / "items.json", [item]))
    assert grid_of(layer) == GRID
    assert layer.attrs["_FillValue"] == 0


def test_one_header_is_read_per_collection(write, monkeypatch):
    unknown_items = []
    for n in range(3):
        path = write(distinct((60, 70), "int16"), make_grid((60, 70), left=600_000 + 2100 * n), nodata=-1, scale=0.5)
        unknown_items.append(make_item(f"i{n}", {"b": path}, time=WHEN, collection="unknown"))
        del unknown_items[-1].assets["b"].extra_fields["raster:bands"]
    opened, real = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda href, **options: (opened.append(href), real(href, **options))[1])
    layer = open_stac(unknown_items)
    assert opened == [unknown_items[0].assets["b"].href]
    assert (layer.dtype, layer.attrs["_FillValue"], layer.attrs["scales"]) == (np.dtype("int16"), -1, [0.5])
    assert open_stac(unknown_items, dtype="int16", nodata=-1).attrs["_FillValue"] == -1
    assert len(opened) == 1


@pytest.mark.parametrize(("stated", "expected"), [(-9999, None), ("nan", None), (241, 241)])
def test_nodata_outside_the_dtype_is_ignored(write, stated, expected):
    values = distinct((60, 70), "uint8")
    item = make_item("one", {"b": write(values, GRID)}, time=WHEN)
    item.assets["b"].extra_fields["raster:bands"][0]["nodata"] = stated
    layer = open_stac(item)
    assert layer.attrs.get("_FillValue") == expected
    assert (~view_of(layer).read(full_window(GRID))[1]).sum() == (0 if expected is None else (values == expected).sum())


def test_opening_leaves_the_item_unchanged(write):
    item = make_item("one", {"b": write(distinct((60, 70)), GRID)}, time=WHEN)
    before = item.to_dict()
    open_stac(item)
    assert item.to_dict() == before


def test_multiband_assets_are_opened(write):
    item = make_item("one", {"data": write(distinct((3, 60, 70)), GRID)}, time=WHEN)
    layer = open_stac(item)
    assert layer.sizes["band"] == 3
    assert np.array_equal(layer.compute(scheduler="synchronous").values, distinct((3, 60, 70)))


def test_thumbnails_and_text_assets_are_skipped(write):
    item = make_item("one", {"b": write(distinct((60, 70)), GRID)}, time=WHEN)
    item.add_asset("thumbnail", pystac.Asset("/x.tif", roles=["thumbnail"], media_type=pystac.MediaType.COG))
    item.add_asset("index", pystac.Asset("/x.html", media_type="text/html"))
    assert open_stac(item).band.values.tolist() == ["b"]


def test_unresolvable_relative_href_raises(write):
    item = make_item("one", {"b": write(distinct((60, 70)), GRID)}, time=WHEN)
    item.assets["b"].href = "b.tif"
    with pytest.raises(InputError, match=r"item 'one'.*b\.tif"):
        open_stac(item)


def test_items_across_the_antimeridian_are_adjacent(write):
    grids = [make_grid((20, 20), crs="EPSG:4326", left=left, top=50, resolution=0.1) for left in (178, -180)]
    unknown_items = [
        make_item(f"i{n}", {"b": write(distinct((20, 20)) + n, g)}, time=WHEN) for n, g in enumerate(grids)
    ]
    layer = open_stac(unknown_items)
    assert layer.shape == (1, 20, 40)
    assert view_of(layer).read(full_window(grid_of(layer)))[1].all()


def test_invalid_sources_raise(tmp_path):
    with pytest.raises(ReadError, match=r"Cannot read STAC from '.*gone.json'.*Pass"):
        open_stac(tmp_path / "gone.json")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"type": "Topology"}')
    with pytest.raises(InputError, match=r"its type is 'Topology'. Pass a catalog"):
        open_stac(wrong)
    with pytest.raises(InputError, match="no matching items"):
        open_stac({"type": "FeatureCollection", "features": []})
    with pytest.raises(InputError, match="Cannot open STAC from a int"):
        open_stac(3)


def test_layer_of_one_item_is_a_dataarray(world):
    layer = open_stac(world.catalog, collections="usda-cdl", chunks=64, name="classes")
    assert isinstance(layer, xr.DataArray)
    assert layer.name == "classes"
    assert layer.chunks is not None
