"""Band metadata of STAC items: parsed by odc-stac once per layout, completed from the item and the product."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import odc.stac
import pytest

from geoxt.errors import InputError
from geoxt.layers import open_stac
from geoxt.layers.stac import layouts
from geoxt.layers.stac.layouts import layouts_of
from geoxt.layers.stac.match_products import match_products
from geoxt.layers.stac.projection import grid_of_asset
from geoxt.layers.stac.sources import read_items
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

CATALOGS = Path(__file__).parents[4] / "shared" / "data" / "stac"
WHEN = datetime(2020, 5, 17, tzinfo=UTC)


@pytest.fixture
def item(tmp_path):
    path = write_cog(tmp_path / "a.tif", distinct((20, 30)), grid=make_grid((20, 30)), nodata=3)
    return make_item("one", {"B1": path, "B2": path}, time=WHEN, collection="made")


def stripped(item):
    """Return a copy of an item that states no data type and no nodata."""
    copy = item.clone()
    for asset in copy.assets.values():
        del asset.extra_fields["raster:bands"]
    return copy


def test_items_of_equal_metadata_are_parsed_once(item, monkeypatch):
    parsed = []
    parse = layouts.extract_collection_metadata
    monkeypatch.setattr(layouts, "extract_collection_metadata", lambda *a: parsed.append(a) or parse(*a))
    other, regridded = item.clone(), item.clone()
    other.assets["B1"].extra_fields["raster:bands"] = [{"data_type": "uint16", "nodata": 9}]
    regridded.assets["B1"].extra_fields |= {"proj:transform": [1, 0, 0, 0, -1, 0], "file:size": 3}
    first, second, third = layouts_of([item, other, regridded], [None] * 3)
    assert first is third
    assert [band.nodata for band in first.bands + second.bands] == [3, 3, 9, 3]
    assert len(parsed) == 2


@pytest.mark.parametrize("complete", [True, False])
def test_stac_cfg_completes_missing_metadata(item, complete):
    made = {
        "assets": {"*": {"data_type": "uint16"}, "B2": {"nodata": 7, "data_type": "uint16"}},
        "aliases": {"red": "B2"},
    }
    config = made if complete else {"made": made, "other": {"assets": {"B2": {"nodata": 1}}}}
    first, second = layouts_of([stripped(item)], [None], config)[0].bands
    assert [(b.dtype, b.nodata) for b in (first, second)] == [("uint16", None), ("uint16", 7)]
    layer = open_stac(stripped(item), bands=["red"], stac_cfg=config)
    (asset,) = view_of(layer).source.scenes[0].assets
    assert (layer.band.item(), asset.nodata, asset.dtype) == ("B2", 7, "uint16")
    red = odc.stac.load([stripped(item)], bands=["red"], stac_cfg=config).red[0]
    assert np.array_equal(red, layer[0].where(layer[0] != 3, 7))  # odc-stac also masks the header's nodata


def test_missing_data_type_is_read_from_the_header(item):
    (layout,) = layouts_of([stripped(item)], [None])
    assert [(band.dtype, band.nodata) for band in layout.bands] == [(None, None)] * 2
    assert open_stac(stripped(item)).dtype == "uint16"


@pytest.mark.parametrize("config", [{"made": "B1"}, {"assets": {"B1": {"dims": 3}}}])
def test_malformed_stac_cfg_raises(item, config):
    with pytest.raises(InputError, match="stac_cfg"):
        open_stac(item, stac_cfg=config)


@pytest.mark.skipif(not CATALOGS.is_dir(), reason="the samples of real catalogs are missing")
@pytest.mark.parametrize(
    "path",
    ["earth-search/S2B_42TUM_20220107_0_L2A.json", "earth-search/S2B_T37MGP_20240710T073012_L2A_C1.json",
     "earth-search/world-wrapping.stac-item.json", "100-sentinel-2-items.parquet",
     "planetary-computer/naip-items.ndjson",
     "planetary-computer/LC08_L2SP_028030_20200114_20200824_02_T1_SR.json"],
)  # fmt: skip
def test_metadata_of_real_catalogs_equal_odc_stac(path):
    if path.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    items = read_items(str(CATALOGS / path))[:20]
    parsed = odc.stac.parse_items(items, {"*": {"assets": {"*": {"data_type": None}}}})
    for item, layout, other in zip(items, layouts_of(items, match_products(items)), parsed, strict=True):
        bands = {(band.key, band.index): band for band in layout.bands}
        assert set(other.bands) <= set(bands)  # odc-stac has one band of an asset with eo:bands alone
        for key, source in other.bands.items():
            nodata = None if source.meta.nodata is None else float(source.meta.nodata)
            assert grid_of_asset(item, item.assets[key[0]]) == source.geobox
            assert (bands[key].dtype, bands[key].nodata) == (source.meta.data_type, nodata)
            assert item.assets[key[0]].get_absolute_href() == source.uri
        for alias, keys in other.collection.meta.aliases.items():
            assert all(alias in bands[key].names for key in keys if key in bands)
