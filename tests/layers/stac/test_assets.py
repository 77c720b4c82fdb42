"""Choice of bands: assets of any media type by key, all bands of assets without band tables, equal names of bands."""

from datetime import UTC, datetime

import numpy as np
import pystac
import pytest
import rasterio

from geoxt.errors import CatalogError, CRSError, GeoxtWarning, InputError
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_stac
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item

WHEN = datetime(2020, 5, 17, 10, 30, tzinfo=UTC)
GRID = make_grid((12, 15))
PIXELS = distinct((4, 12, 15))


def item_of(files, *, table=None, name="one", collection="some"):
    """Return an item whose assets have the band tables `table`, and no other metadata of bands."""
    item = make_item(name, files, time=WHEN, collection=collection)
    for asset in item.assets.values():
        del asset.extra_fields["raster:bands"]
        asset.extra_fields |= table or {}
    return item


def pixels(layer):
    return layer.compute(scheduler="synchronous").values


@pytest.mark.parametrize(
    "media_type", ["application/geotiff", "application/octet-stream", "application/x-geotiff", None]
)
@pytest.mark.parametrize("roles", [None, ["data"], ["metadata", "cloud"], ["thumbnail"], ["overview"]])
def test_named_asset_of_any_type_and_roles_is_opened(write, media_type, roles):
    path = write(PIXELS[0], GRID)
    item = item_of({"a": path, "b": path})
    item.assets["b"].media_type, item.assets["b"].roles = media_type, roles
    item.assets["b"].href = path
    layer = open_stac(item, bands="b")
    assert layer.band.values.tolist() == ["b"]
    assert np.array_equal(pixels(layer)[0], PIXELS[0])
    assert open_stac(item).band.values.tolist() == (
        ["a", "b"] if (media_type, roles) in [(None, None), (None, ["data"])] else ["a"]
    )


def test_asset_of_another_type_is_no_other_asset_by_common_name(write):
    item = item_of({"a": write(PIXELS[0], GRID)}, table={"eo:bands": [{"name": "B1", "common_name": "red"}]})
    thumbnail = pystac.Asset("/none.png", roles=["thumbnail"], media_type="image/png")
    thumbnail.extra_fields["eo:bands"] = [{"name": "t", "common_name": "red"}]
    item.add_asset("thumbnail", thumbnail)
    assert open_stac(item, bands="red").band.values.tolist() == ["a"]


def test_items_without_raster_assets_list_all_keys(write):
    item = item_of({"a": write(PIXELS[0], GRID)})
    item.assets["a"].media_type = "application/geotiff"
    with pytest.raises(InputError, match=r"Pass bands=, some of \['a'\]"):
        open_stac(item)


def test_all_bands_of_a_file_without_band_table_are_opened(write):
    item = item_of({"image": write(PIXELS, GRID)})
    layer = open_stac(item)
    assert layer.band.values.tolist() == ["image_1", "image_2", "image_3", "image_4"]
    assert np.array_equal(pixels(layer), PIXELS)
    assert np.array_equal(pixels(open_stac(item, bands="image")), PIXELS)
    assert np.array_equal(pixels(open_stac(item, bands=["image_4", "image_2"])), PIXELS[[3, 1]])
    with pytest.raises(InputError, match=r"Cannot open band 'image_5'.* has 4 bands"):
        open_stac(item, bands=["image_5"])


def test_bands_of_a_file_are_named_by_its_descriptions(write):
    path = write(PIXELS[:2], GRID)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("blue", "green")
    layer = open_stac(item_of({"image": path}))
    assert layer.band.values.tolist() == ["blue", "green"]


def test_each_file_without_band_table_is_read_once(write, monkeypatch):
    paths = [write(PIXELS, make_grid((12, 15), left=600_000 + 450 * n)) for n in range(3)]
    items = [item_of({"image": path}, name=f"i{n}") for n, path in enumerate(paths)]
    opened, real = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda href, **options: (opened.append(href), real(href, **options))[1])
    assert open_stac(items).shape == (4, 12, 45)
    assert opened == [str(paths[0])]


@pytest.mark.parametrize("table", [{"raster:bands": [{"data_type": "uint16"}]}, {"data_type": "uint16"}])
def test_file_with_more_bands_than_its_item_raises_at_the_first_read(write, table):
    item = item_of({"image": write(PIXELS, GRID)}, table=table)
    layer = open_stac(item)
    with pytest.raises(CatalogError, match=r"names no bands, the file has 4.*Pass headers='all'"):
        pixels(layer)
    assert np.array_equal(pixels(open_stac(item, headers="all")), PIXELS)
    assert np.array_equal(pixels(open_stac(item, bands=["image_1", "image_3"])), PIXELS[[0, 2]])


def test_named_band_of_a_larger_file_is_read(write):
    table = {"raster:bands": [{"data_type": "uint16"}], "eo:bands": [{"name": "B1"}]}
    assert np.array_equal(pixels(open_stac(item_of({"image": write(PIXELS, GRID)}, table=table))), PIXELS[:1])


def test_alpha_band_of_a_file_without_band_table_is_its_mask(tmp_path):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=4, dtype="uint8", height=12, width=15, crs=GRID.crs.to_wkt(),
        transform=GRID.affine, photometric="RGB", alpha="YES",
    ) as file:  # fmt: skip
        alpha = np.where(np.arange(180).reshape(12, 15) % 3, 255, 0)
        file.write(np.stack([*distinct((3, 12, 15), "uint8"), alpha.astype("uint8")]))
    item = item_of({"image": tmp_path / "a.tif"})
    with pytest.warns(GeoxtWarning, match=r"Band 4 of .*a.tif is tagged as alpha.*'image_3', 'image_4'"):
        layer = open_stac(item)
    assert layer.band.values.tolist() == ["image_1", "image_2", "image_3"]
    valid = view_of(layer).read(full_window(grid_of(layer)))[1][0]
    assert np.array_equal(valid, np.broadcast_to(alpha > 0, (3, 12, 15)))
    layer = open_stac(item, bands=[f"image_{n}" for n in range(1, 5)])
    assert np.array_equal(pixels(layer)[3], alpha)
    assert view_of(layer).read(full_window(grid_of(layer)))[1].all()


def test_bands_of_one_name_are_chosen_by_asset_key_and_number(write):
    files = {"pan": write(PIXELS[:1], GRID), "ms": write(PIXELS[1:], GRID)}
    item = item_of(files)
    for key, count in (("pan", 1), ("ms", 3)):
        item.assets[key].extra_fields["eo:bands"] = [{"name": "MAXAR"}] * count
        item.assets[key].extra_fields["raster:bands"] = [{"data_type": "uint16"}] * count
    for bands, expected in ((None, PIXELS), ("ms", PIXELS[1:]), (["ms_3", "pan"], PIXELS[[3, 0]])):
        layer = open_stac(item, bands=bands)
        assert len(set(layer.band.values)) == len(expected)
        assert np.array_equal(pixels(layer), expected)
    with pytest.raises(InputError, match=r"may be any of \['ms_1', 'ms_2', 'ms_3'\]"):
        open_stac(item, bands="MAXAR")


def test_equal_names_of_two_assets_stay_in_their_columns(write):
    paths = write(PIXELS[:2], GRID), write(PIXELS[2:], GRID)
    items = [
        item_of(dict(zip(keys, paths, strict=True)), name=str(n)) for n, keys in enumerate((("a", "b"), ("a", "b")))
    ]
    for item in items:
        for asset in item.assets.values():
            asset.extra_fields["eo:bands"] = [{"name": "red"}, {"name": "nir"}]
    items[1].assets["a"].extra_fields["raster:bands"] = [{"data_type": "uint16"}] * 2  # another layout
    layer = open_stac(items, groupby=None)
    assert layer.band.values.tolist() == ["a_1", "a_2", "b_1", "b_2"]
    assert np.array_equal(pixels(layer), np.stack([PIXELS, PIXELS]))


def test_layouts_of_different_numbers_of_bands_raise(write):
    items = [
        item_of({"image": write(PIXELS[:n], GRID)}, name=f"i{n}", table={"raster:bands": [{"nodata": 0}] * n})
        for n in (2, 3)
    ]
    with pytest.raises(InputError, match=r"\['image'\]: they are 2 bands of item 'i2', 3 of item 'i3'"):
        open_stac(items, bands="image")


def test_source_crs_is_that_of_files_and_items_without_one(write, tmp_path):
    named, item = item_of({"b": write(PIXELS[0], GRID)}, name="named"), item_of({"b": write(PIXELS[0], GRID)})
    with rasterio.open(
        tmp_path / "b.tif", "w", driver="GTiff", count=1, dtype="uint16", height=12, width=15, transform=GRID.affine
    ) as file:
        file.write(PIXELS[:1])
    item.assets["b"].href = str(tmp_path / "b.tif")
    del item.properties["proj:code"]
    with pytest.raises(CRSError, match=r"b\.tif: the file has no CRS. Pass source_crs='EPSG:…' if you know it"):
        open_stac(item)
    layer = open_stac(item, source_crs="EPSG:32616")
    assert grid_of(layer) == make_grid((12, 15), crs="EPSG:32616")
    assert np.array_equal(pixels(layer)[0], PIXELS[0])
    assert grid_of(open_stac([named, item], source_crs="EPSG:32615")) == GRID
    for source in (named, item):
        source.assets["b"].extra_fields["proj:code"] = "EPSG:32615"
        assert grid_of(open_stac(source, source_crs="EPSG:32616")) == GRID
