"""Generated catalogs say of files what the files say of themselves."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio

from geoxt.testing import Band, Category, distinct, make_grid, make_item, write_catalog, write_cog, write_items

RED = Band(name="B4", common_name="red", wavelength=0.65, scale=2.75e-5, offset=-0.2)


@pytest.fixture
def files(tmp_path):
    grid = make_grid((20, 30))
    red = write_cog(tmp_path / "rasters" / "red.tif", distinct((20, 30)), grid=grid, nodata=0)
    cover = write_cog(tmp_path / "rasters" / "cover.tif", distinct((20, 30), "uint8"), grid=grid)
    return {"red": red, "cover": cover}


@pytest.fixture
def item(files):
    return make_item(
        "scene",
        files,
        time=datetime(2019, 7, 1),  # noqa: DTZ001 - taken as UTC, which is what is tested
        collection="things",
        bands={"red": RED},
        categories=[Category(value=1, name="Open Water", color="#4970a3")],
        eo__cloud_cover=3,
    )


def test_item_has_grids_and_bands_of_its_files(item, files):
    assert item.datetime == datetime(2019, 7, 1, tzinfo=UTC)
    assert item.properties["proj:code"] == "EPSG:32615"
    assert item.properties["eo:cloud_cover"] == 3
    red, cover = item.assets["red"], item.assets["cover"]
    with rasterio.open(files["red"]) as file:
        assert red.extra_fields["proj:transform"] == list(file.transform[:6])
        assert red.extra_fields["proj:shape"] == list(file.shape)
    band = {"data_type": "uint16", "nodata": 0, "scale": 2.75e-5, "offset": -0.2}
    assert red.extra_fields["raster:bands"] == [band]
    assert red.extra_fields["eo:bands"][0]["common_name"] == "red"
    assert "classification:classes" not in red.extra_fields
    water = {"value": 1, "name": "Open_Water", "title": "Open Water", "color_hint": "4970a3"}
    assert cover.extra_fields["classification:classes"] == [water]
    assert cover.extra_fields["raster:bands"] == [{"data_type": "uint8"}]


def test_assets_in_several_crs_have_their_crs(tmp_path, files):
    other = make_grid((20, 30), crs="EPSG:5070", left=500_000, top=2_040_000)
    albers = write_cog(tmp_path / "albers.tif", distinct((20, 30)), grid=other)
    item = make_item("two", {"red": files["red"], "albers": albers}, time=datetime(2019, 7, 1, tzinfo=UTC))
    assert "proj:code" not in item.properties
    assert [asset.extra_fields["proj:code"] for asset in item.assets.values()] == ["EPSG:32615", "EPSG:5070"]


def test_catalog_reads_back_and_can_be_moved(tmp_path, item, files):
    write_catalog(tmp_path, [item], titles={"things": "Some things"})
    moved = tmp_path.rename(tmp_path.with_name(tmp_path.name + "-moved"))
    catalog = pystac.Catalog.from_file(str(moved / "catalog.json"))
    assert [child.title for child in catalog.get_children()] == ["Some things"]
    (again,) = catalog.get_items(recursive=True)
    assert again.collection_id == "things"
    for key, asset in again.assets.items():
        assert not Path(asset.href).is_absolute()
        assert Path(asset.get_absolute_href()).resolve() == moved / "rasters" / files[key].name
        assert Path(asset.get_absolute_href()).exists()
    assert again.get_collection().extent.spatial.bboxes[0] == pytest.approx(again.bbox)


def test_catalog_without_collections(tmp_path, files):
    item = make_item("loose", files, time=datetime(2019, 7, 1, tzinfo=UTC))
    path = write_catalog(tmp_path, [item])
    assert [loaded.id for loaded in pystac.Catalog.from_file(str(path)).get_items()] == ["loose"]


@pytest.mark.parametrize("relative", [False, True])
def test_item_collection_reads_back(tmp_path, item, files, relative):
    path = write_items(tmp_path / "items.json", [item], relative=relative)
    (again,) = pystac.ItemCollection.from_file(str(path))
    assert again.id == "scene"
    hrefs = [asset.href for asset in again.assets.values()]
    assert hrefs == ([f"rasters/{key}.tif" for key in files] if relative else [str(path) for path in files.values()])
    assert json.loads(path.read_text())["type"] == "FeatureCollection"


@pytest.mark.parametrize("left", [-180.03, 179.98])
def test_antimeridian_is_cut(tmp_path, left):
    grid = make_grid((40, 50), crs="EPSG:4326", left=left, top=-16, resolution=0.001)
    path = write_cog(tmp_path / "a.tif", distinct((40, 50)), grid=grid)
    item = make_item("fiji", {"a": path}, time=datetime(2019, 7, 1, tzinfo=UTC))
    west, _, east, _ = item.bbox
    assert 179.9 < west <= 180
    assert -180 <= east < -179.9
    assert item.geometry["type"] == "MultiPolygon"
    lons = np.concatenate([np.array(ring)[:, 0] for part in item.geometry["coordinates"] for ring in part])
    assert np.abs(lons).max() <= 180
