"""Products: specs are consistent, and identify files, STAC items, bands and pixel values."""

import re
from datetime import datetime

import numpy as np
import pytest

from geoxt.errors import InputError
from geoxt.layers import products
from geoxt.layers.products import Band, Product, find_qa, match_item, match_path, names, qa_tests, resolve_bands
from geoxt.source.quality_mask import not_excluded
from geoxt.template import Template

EXAMPLES = {
    "landsat1": "LM01_L1TP_032030_19730801_20200909_02_T2_B4.TIF",
    "landsat2": "LM02_L1TP_032030_19760801_20200909_02_T2_B4.TIF",
    "landsat3": "LM03_L1TP_032030_19790801_20200909_02_T2_B4.TIF",
    "landsat4mss": "LM04_L1TP_022032_19830801_20200909_02_T2_B1.TIF",
    "landsat4tm": "LT04_L2SP_022032_19830801_20200909_02_T1_SR_B1.TIF",
    "landsat5mss": "LM05_L1TP_022032_19850801_20200909_02_T2_B1.TIF",
    "landsat5tm": "LT05_L2SP_022032_19850801_20200909_02_T1_ST_B6.TIF",
    "landsat7": "LE07_L2SP_044033_20210329_20210424_02_T1_SR_B1.TIF",
    "landsat8": "LC08_L2SP_023032_20210622_20210629_02_T1_SR_B4.TIF",
    "landsat9": "LC09_L2SP_023032_20220622_20230629_02_T1_QA_PIXEL.TIF",
    "sentinel1": "S1A_IW_20221204T161641_DVR_RTC30_G_gpuned_1AE1_VV.tif",
    "sentinel1_grd": "s1a-iw-grd-vv-20170613t165043-20170613t165108-017018-01c5b7-001.tiff",
    "sentinel2": "T26EMU_20220414T110751_B02_10m.jp2",
    "sentinel2_l1c": "T26EMU_20220414T110751_B10.jp2",
    "naip": "m_3807511_ne_18_060_20181104.tif",
    "cdl": "2023_30m_cdls.tif",
    "chesapeake_lc_7": "Baywide_7class_20132014.tif",
    "chesapeake_lc_13": "Baywide_13Class_20132014.tif",
    "chesapeake_lu": None,  # published in STAC catalogs only
    "chesapeake_lulc": "de_lulc_2018_2022-Edition.tif",
    "canadian_building_footprints": "Alberta.geojson",
    "tessera": "grid_0.15_52.05_2024.tiff",
    "alphaearth": "2019/1S/x8qqwcsisbgygl2ry-0000008192-0000000000.tiff",
}


def qa_valid(values, qa, exclude):
    """Return the valid mask of a quality band without excluded flags."""
    return not_excluded(values, qa_tests(qa, exclude))


# --- consistency of the specs


def test_every_product_has_an_example():
    assert set(EXAMPLES) == set(names())


@pytest.mark.parametrize("name", names())
def test_bands_are_unique_and_resolvable(name):
    product = products.get(name)
    all_bands = (*product.bands, *product.extras)
    assert len({band.name for band in all_bands}) == len(all_bands)
    files = [file for band in all_bands for file in band.files]
    assert len(set(files)) == len(files)
    common = [band.common for band in product.bands if band.common]
    assert len(set(common)) == len(common)
    for band in all_bands:
        assert resolve_bands(product, band.name) == (band,)
    for band in product.bands:
        assert band.common is None or resolve_bands(product, band.common) == (band,)
        for file in band.files:
            assert resolve_bands(product, file)[0].name == band.name
    assert len(resolve_bands(product)) == len(product.default_bands or product.bands)
    assert len(resolve_bands(product, product.rgb)) in {0, 3}


@pytest.mark.parametrize("name", names())
def test_product_specs_are_complete(name):
    product = products.get(name)
    assert (product.legend is None) == (product.kind == "image")
    assert bool(product.bands) == (product.kind != "shapes")
    assert product.license
    assert product.cite
    if product.legend:
        assert len(set(product.legend.codes)) == len(product.legend) > 0
        assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in product.legend.colors)
    for qa in product.qa:
        assert resolve_bands(product, qa.band)
        assert len(set(qa.names)) == len(qa.names)
        bits = [bit for flag in qa.flags for bit in range(flag.bit, flag.bit + flag.length)]
        assert len(set(bits)) == len(bits)
        for category in qa.names:
            assert qa_valid(np.array([64 + 128]), qa, category).shape == (1,)
    for collection in product.collections:
        assert collection.url.startswith("https://")
        assert product in match_item(collection.id)


@pytest.mark.parametrize("name", [name for name in names() if EXAMPLES[name]])
def test_product_is_identified_by_file_name(name):
    product, example = products.get(name), EXAMPLES[name]
    named = product.identify(f"https://host/some/folder/{example}?sig=a/b")
    assert product in match_path(example)
    assert named.scene
    assert named.band is None or resolve_bands(product, named.band)
    assert product.identify(f"x{example}") is None
    for template in product.files:
        fields = template.match(example)
        if fields is not None:
            ext = example.rpartition(".")[2]
            assert template.fill(fields | ({"_ext": ext} if "_ext" in template.pattern else {})) == example


def test_other_files_are_compared_with_all_products_at_once(monkeypatch):
    monkeypatch.setattr(Product, "identify", None)
    assert match_path("s3://bucket/S2A/scene_000012.tif?sig=a/b") == ()


def test_a_product_registered_later_is_identified(monkeypatch):
    monkeypatch.setattr(products, "_PRODUCTS", dict(products._PRODUCTS))
    path = "maps/f7/flight_f7_20240102_nir.tif"
    assert match_path(path) == ()
    files = (Template("{flight}/flight_{flight}_{date:%Y%m%d}_{band:red|nir}.tif"),)
    products.register(Product(name="drone", bands=(Band(name="red"), Band(name="nir")), files=files))
    assert match_path(path) == (products.get("drone"),)
    assert match_path(path.replace("flight_f7", "flight_f8")) == ()


def test_band_files_share_a_scene():
    stem = "LC08_L2SP_023032_20210622_20210629_02_T1_"
    red_file, qa_file, level1_file = (
        products.get("landsat8").identify(stem + end) for end in ("SR_B4.TIF", "QA_PIXEL.TIF", "B4.TIF")
    )
    assert red_file.scene == qa_file.scene == level1_file.scene == "LC08_L2SP_023032_20210622_20210629_02_T1"
    assert (red_file.band, red_file.file, qa_file.band, level1_file.file) == ("B4", "SR_B4", "QA_PIXEL", "B4")
    assert (red_file.start, red_file.end) == (datetime(2021, 6, 22), datetime(2021, 6, 22, 23, 59, 59, 999999))  # noqa: DTZ001


def test_times_come_from_names_or_products():
    year = products.get("cdl").identify("2023_30m_cdls.tif")
    assert (year.start.isoformat(), year.end.isoformat()) == ("2023-01-01T00:00:00", "2023-12-31T23:59:59.999999")
    biennial = products.get("chesapeake_lc_7").identify("Baywide_7class_20132014.tif")
    assert (biennial.start.year, biennial.end.year) == (2013, 2014)
    radar = products.get("sentinel1_grd").identify(EXAMPLES["sentinel1_grd"])
    assert (radar.start.second, radar.end.second) == (43, 8)
    assert products.get("canadian_building_footprints").identify("Alberta.geojson").start is None
    assert products.get("canadian_building_footprints").identify("Parks.geojson") is None


def test_baseline_is_read_from_the_safe_name():
    safe = "S2A_MSIL2A_20220412T162841_N0400_R083_T16TFM_20220412T202300.SAFE"
    path = f"{safe}/GRANULE/L2A_T16TFM/IMG_DATA/R10m/T16TFM_20220412T162841_B02_10m.jp2"
    named = products.get("sentinel2").identify(path)
    assert named.fields["baseline"] == "0400"
    assert products.get("sentinel2").radiometry(named.file, baseline=named.fields["baseline"]).offset == -0.1
    assert products.get("sentinel2").scenes[1].match(safe)["tile"] == "16TFM"
    assert named.scene == safe.removesuffix(".SAFE")


# --- names of products and bands


def test_product_name_spellings():
    assert products.get("Landsat-8") is products.get("landsat_8") is products.get("landsat8")
    assert products.get("sentinel_2").name == "sentinel2"
    with pytest.raises(InputError, match="Did you mean landsat8"):
        products.get("landsat88")
    with pytest.raises(InputError, match="Known products: landsat1"):
        products.get("qqqq")


@pytest.mark.parametrize(
    ("product", "band", "expected", "files"),
    [
        ("landsat8", "SR_B4", "B4", ("SR_B4",)),
        ("landsat8", "B4", "B4", ("SR_B4", "B4")),
        ("landsat8", "SR_B4.TIF", "B4", ("SR_B4",)),
        ("landsat8", "red", "B4", ("SR_B4", "B4")),
        ("landsat8", "nir", "B5", ("SR_B5", "B5")),
        ("landsat8", "lwir11", "B10", ("ST_B10", "B10")),
        ("landsat8", "qa_pixel", "QA_PIXEL", ("QA_PIXEL",)),
        ("landsat1", "red", "B5", ("B5",)),
        ("landsat7", "B6_VCID_2", "B6_VCID_2", ("B6_VCID_2",)),
        ("sentinel2", "B4", "B04", ("B04",)),
        ("sentinel2", "b8a", "B8A", ("B8A",)),
        ("sentinel2", "nir", "B08", ("B08",)),
        ("sentinel2", "rededge2", "B06", ("B06",)),
        ("sentinel2", "scl", "SCL", ("SCL",)),
        ("sentinel1", "vh", "VH", ("VH",)),
        ("naip", "NIR", "NIR", ()),
    ],
)
def test_bands_resolve_by_any_name(product, band, expected, files):
    (resolved,) = resolve_bands(products.get(product), [band])
    assert (resolved.name, resolved.files[: len(files)]) == (expected, files)


@pytest.mark.parametrize(
    ("product", "bands", "message"),
    [
        ("sentinel2", ["rededge"], r"may mean B05 \(rededge1\), B06 \(rededge2\), B07 \(rededge3\)"),
        ("landsat8", ["swir"], r"may mean B6 \(swir16\), B7 \(swir22\)"),
        ("naip", ["image"], r"may mean R \(red\), G"),
        ("landsat8", ["SR_B44"], "Did you mean .*SR_B4"),
        ("sentinel2", ["B10"], "Cannot find band 'B10' of sentinel2"),
        ("canadian_building_footprints", ["red"], "it has no bands"),
        ("landsat8", ["red", "B4"], "'red' and 'B4' mean the same"),
    ],
)
def test_ambiguous_and_unknown_bands_raise(product, bands, message):
    with pytest.raises(InputError, match=message):
        resolve_bands(products.get(product), bands)


@pytest.mark.parametrize(
    ("collection", "platform", "instruments", "expected"),
    [
        ("landsat-c2-l2", "landsat-8", ("oli", "tirs"), ["landsat8"]),
        ("landsat-c2l2-sr", "LANDSAT_7", ("ETM",), ["landsat7"]),
        ("landsat-c2l2-sr", None, ("oli", "tirs"), ["landsat8", "landsat9"]),
        ("landsat-c2l1", "landsat-5", ("mss",), ["landsat5mss"]),
        ("landsat-c2-l1", "landsat-5", (), ["landsat5mss"]),
        ("sentinel-2-l2a", "Sentinel-2B", ("msi",), ["sentinel2"]),
        ("sentinel-1-rtc", None, (), ["sentinel1"]),
        ("naip", None, (), ["naip"]),
        ("usda-cdl", None, (), ["cdl"]),
        ("chesapeake-lc-7", None, (), ["chesapeake_lc_7"]),
        ("another", None, (), []),
    ],
)
def test_product_of_a_stac_item(collection, platform, instruments, expected):
    assert [product.name for product in match_item(collection, platform=platform, instruments=instruments)] == expected


def test_collection_serves_files_of_its_level():
    product = products.get("landsat8")
    (red,) = resolve_bands(product, "red")
    assert product.collection("landsat-c2-l2").file(red) == "SR_B4"
    assert product.collection("landsat-c2l1").file(red) == "B4"
    assert product.collection("landsat-c2l2-st").file(red) is None


# --- radiometry and quality


def test_landsat_radiometry():
    product = products.get("landsat8")
    assert (product.radiometry("SR_B4").scale, product.radiometry("SR_B4").offset) == (0.0000275, -0.2)
    assert (product.radiometry("ST_B10").scale, product.radiometry("ST_B10").offset) == (0.00341802, 149.0)
    assert product.radiometry("ST_EMIS").scale == 0.0001
    assert product.radiometry("B4") is None
    assert product.radiometry("QA_PIXEL") is None


@pytest.mark.parametrize(
    ("baseline", "offset"), [("03.01", 0), ("N0301", 0), ("04.00", -0.1), ("0400", -0.1), ("N0510", -0.1)]
)
def test_sentinel2_radiometry_follows_the_baseline(baseline, offset):
    assert products.get("sentinel2").radiometry("B04", baseline=baseline).offset == offset
    assert products.get("sentinel2").radiometry("AOT").scale == 0.001
    assert products.get("sentinel2").radiometry("SCL") is None


@pytest.mark.parametrize("baseline", [None, "N9999", "99.99", "new"])
def test_unknown_baseline_raises(baseline):
    with pytest.raises(InputError, match="depend on the processing baseline"):
        products.get("sentinel2").radiometry("B04", baseline=baseline)


def test_landsat_quality_bits():
    pixel = find_qa(products.get("landsat8").qa, "clouds")
    values = np.array([1, 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 7, 3 << 8, 2 << 8], dtype=np.uint16)
    assert qa_valid(values, pixel, "clouds").tolist() == [
        False,
        True,
        False,
        False,
        False,
        True,
        True,
        True,
        True,
        True,
    ]
    assert qa_valid(values, pixel, ["shadows", "snow"]).tolist() == [False] + [True] * 4 + [False] * 2 + [True] * 3
    assert qa_valid(values, pixel, "cloud_confidence:high").tolist() == [False] + [True] * 7 + [False, True]
    assert qa_valid(values.reshape(2, 5), pixel, "cloud").shape == (2, 5)
    with pytest.raises(InputError, match="it has clouds, shadows"):
        qa_valid(values, pixel, "rain")


def test_quality_classes_per_instrument():
    assert "cirrus" not in find_qa(products.get("landsat5tm").qa, "clouds").names
    confidence = [f"cloud_confidence:{value}" for value in ("not_set", "low", "reserved", "high")]
    assert list(find_qa(products.get("landsat1").qa, "clouds").names) == ["clouds", "fill", "cloud", *confidence]
    with pytest.raises(InputError, match="Cannot exclude shadows in landsat1: it has QA_PIXEL"):
        find_qa(products.get("landsat1").qa, "shadows", product="landsat1")
    assert find_qa(products.get("landsat8").qa, "saturated").band == "QA_RADSAT"
    with pytest.raises(InputError, match="it has no quality band"):
        find_qa(products.get("naip").qa, "clouds")


def test_sentinel2_scene_classes():
    scl = find_qa(products.get("sentinel2").qa, "clouds")
    excluded_codes = {
        category: np.flatnonzero(~qa_valid(np.arange(12), scl, category)).tolist()
        for category in ("clouds", "shadows", "snow")
    }
    assert excluded_codes == {"clouds": [0, 8, 9, 10], "shadows": [0, 3], "snow": [0, 11]}


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (("red", "NIR", "height"), ("red", "nir", "")),
        (("SR_B3", "SR_B4", "SR_B6"), ("green", "red", "swir16")),
        (("SR_B3", "SR_B4"), ("", "")),  # red and near infrared of Landsat 7
        (("B3", "B4", "B8A"), ("green", "red", "nir08")),
        (("B03", "B04"), ("", "")),  # red and near infrared of Himawari
        (("B4", "B5"), ("", "")),
        (("B8A", "B13"), ("", "")),  # no product has both
    ],
)
def test_names_of_one_meaning_have_a_common_name(names, common):
    assert products.common_names(names) == common
