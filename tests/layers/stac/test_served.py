"""Sample items of real catalogs open from metadata alone; skipped if the samples are missing."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoxt.errors import GridError
from geoxt.layers import open_stac
from geoxt.source import view_of

ROOT = Path(__file__).parents[4] / "shared" / "data" / "stac"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="the samples of real catalogs are missing")
EARTH, PLANETARY = "earth-search/", "planetary-computer/"
V0 = EARTH + "S2B_42TUM_20220107_0_L2A.json"
C1 = EARTH + "S2B_T37MGP_20240710T073012_L2A_C1.json"
WRAPPING = EARTH + "world-wrapping.stac-item.json"
LANDSAT8 = PLANETARY + "LC08_L2SP_028030_20200114_20200824_02_T1_SR.json"
LANDSAT7 = PLANETARY + "LE07_L2SP_044033_20210329_20210424_02_T1_SR.json"
SENTINEL2 = PLANETARY + "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json"
USGS = "usgs/LC08_L2SR_081119_20200101_20200823_02_T2.json"
NAIP = PLANETARY + "naip-items.ndjson"


@pytest.fixture(autouse=True)
def no_files_opened(monkeypatch):
    """Fail if a file is opened."""

    def fail(href, **_):
        pytest.fail(f"{href} was opened")

    monkeypatch.setattr(rasterio, "open", fail)


def scales(layer):
    return {(a.scale, a.offset) for s in view_of(layer).source.scenes for a in s.assets}


@pytest.mark.parametrize(
    ("path", "options", "bands", "dtype", "nodata", "scale"),
    [
        (V0, {"bands": ["red", "B08"]}, ["B04", "B08"], "uint16", 0, (0.0001, 0)),
        (V0, {"resolution": 10}, 12, "uint16", 0, (0.0001, 0)),
        (C1, {"bands": ["red", "B08"]}, ["red", "nir"], "uint16", 0, (0.0001, -0.1)),
        (C1, {"bands": ["B02", "B03"]}, ["blue", "green"], "uint16", 0, (0.0001, -0.1)),
        (C1, {"resolution": 20}, 12, "uint16", 0, (0.0001, -0.1)),
        (C1.replace(".json", "_rel_links.json"), {"bands": ["rededge1"]}, ["rededge1"], "uint16", 0, (0.0001, -0.1)),
        (LANDSAT8, {}, 7, "uint16", 0, (0.0000275, -0.2)),
        (LANDSAT8, {"bands": ["SR_B4", "nir"]}, ["red", "nir08"], "uint16", 0, (0.0000275, -0.2)),
        (LANDSAT7, {}, 6, "uint16", 0, (0.0000275, -0.2)),
        (LANDSAT7, {"bands": ["SR_B4"]}, ["nir08"], "uint16", 0, (0.0000275, -0.2)),
        (SENTINEL2, {"bands": ["red", "B8A"], "resolution": 10}, ["B04", "B8A"], "uint16", 0, (0.0001, 0)),
        (USGS, {"bands": ["red", "B5"]}, ["SR_B4.TIF", "SR_B5.TIF"], "uint16", 0, (0.0000275, -0.2)),
        (WRAPPING, {"bands": ["red"], "dtype": "uint16"}, ["red"], "uint16", None, (1, 0)),
        (NAIP, {"crs": "EPSG:26916", "resolution": 10}, ["Red", "Green", "Blue", "NIR"], "int16", -1, (1, 0)),
    ],
)
def test_item_opens_from_its_metadata(path, options, bands, dtype, nodata, scale):
    layer = open_stac(str(ROOT / path), **options)
    names = layer.band.values.tolist()
    assert (names == bands) if isinstance(bands, list) else (len(names) == bands)
    assert (layer.dtype, layer.attrs.get("_FillValue")) == (np.dtype(dtype), nodata)
    assert scales(layer) == {scale}
    assert open_stac(str(ROOT / path), rescale=True, **options).dtype == "float32"


@pytest.mark.parametrize(("path", "band"), [(V0, "SCL"), (C1, "scl"), (SENTINEL2, "SCL")])
def test_scene_classification_has_a_legend(path, band):
    layer = open_stac(str(ROOT / path), bands=[band])
    assert layer.geoml.legend.name(9) == "cloud high probability"


@pytest.mark.parametrize("path", [V0, C1, LANDSAT8, LANDSAT7, SENTINEL2, USGS])
def test_clouds_are_excluded(path):
    layer = open_stac(str(ROOT / path), bands=["red"], exclude=["clouds", "shadows"])
    (scene,) = view_of(layer).source.scenes
    assert [q.asset.dtype for q in scene.quality] == ["uint8" if "S2B" in path else "uint16"]


def test_item_across_the_antimeridian_is_cropped():
    layer = open_stac(
        str(ROOT / WRAPPING), bands=["red"], dtype="uint16", bbox=(179.9, -18.3, -179.95, -18.2), groupby="time"
    )
    assert layer.geoml.grid.crs.epsg == 3832
    assert 300 < layer.sizes["x"] < 400
    (scene,) = view_of(layer).source.scenes
    assert scene.end - scene.start > np.timedelta64(360, "D")


def test_several_resolutions_raise():
    with pytest.raises(GridError, match=r"Pass resolution="):
        open_stac(str(ROOT / SENTINEL2))


def test_naip_items_are_grouped_by_year():
    layer = open_stac(str(ROOT / NAIP), bands=["nir"], crs="EPSG:26916", resolution=10, groupby="YS")
    assert layer.sizes["time"] > 1
    assert np.array_equal(np.unique(layer.time.dt.month), [1])


def test_stac_geoparquet_of_a_catalog_opens():
    pytest.importorskip("pyarrow")
    path = str(ROOT / "100-sentinel-2-items.parquet")
    layer = open_stac(path, bands=["red"], crs="EPSG:3857", resolution=100, groupby="solar_day", exclude="clouds")
    assert layer.sizes["time"] == 99
    assert len(open_stac(path, bands=["red"], crs="EPSG:3857", resolution=100, groupby="MS").time) == 10
