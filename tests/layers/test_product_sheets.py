"""Products equal the fact sheets: classes, bands, scales, quality bits, collections, file names."""

import re
from pathlib import Path

import pytest
import yaml

from geoxt.layers import products
from geoxt.layers.products import match_item, names, resolve_bands

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "datasets"
facts = pytest.mark.skipif(not FACTS.is_dir(), reason="the fact sheets are missing")
LANDSAT_SHEET = {name: "landsat" for name in names() if name.startswith("landsat")}


def sheet(name):
    return yaml.safe_load((FACTS / f"{name}.yaml").read_text(encoding="utf-8"))


def landsat_product(number):
    """Return a Landsat product of the sheet, merged with the product of its `same_as` entry."""
    rows_by_id = {row["id"]: row for row in sheet("landsat")["products"]}
    row = rows_by_id[number]
    return rows_by_id[row["same_as"]] | row if "same_as" in row else row


def rows(legend):
    return list(zip(legend.codes, legend.names, legend.colors, strict=True))


def classes_of_sheet(items):
    return [(item["id"], item["name"].replace("_", " "), item["color"]) for item in items]


@facts
def test_classes_equal_the_fact_sheets():
    cdl = sheet("cdl")["classes"]
    assert rows(products.get("cdl").legend) == classes_of_sheet(cdl["items"])
    assert len(products.get("cdl").legend) == cdl["count"] == 134
    bay = sheet("chesapeake_land_cover")["classes"]
    assert rows(products.get("chesapeake_lc_7").legend) == classes_of_sheet(bay["items"])
    assert rows(products.get("chesapeake_lc_13").legend) == classes_of_sheet(bay["lc_13"])
    assert rows(products.get("chesapeake_lu").legend) == classes_of_sheet(bay["lu_2013"])
    edition = products.get("chesapeake_lulc").legend
    assert dict(zip(edition.codes, edition.colors, strict=True)) == bay["lulc_2022_palette"]
    assert rows(products.get("sentinel2").qa[0].legend) == classes_of_sheet(sheet("sentinel_2")["qa"][0]["classes"])
    buildings = sheet("canadian_building_footprints")
    canada = products.get("canadian_building_footprints")
    assert canada.legend.names == ("building",)
    assert canada.files[0].choices("province") == tuple(buildings["samples"]["per_file"])


@facts
@pytest.mark.parametrize("name", LANDSAT_SHEET)
def test_landsat_bands_equal_the_fact_sheet(name):
    known, row = products.get(name), landsat_product(name)
    for band, fact in zip(known.bands, row["bands"], strict=True):
        assert (band.name, band.common, list(band.limits)) == (fact["name"], fact["common_name"], fact["range_um"])
        assert band.wavelength == pytest.approx(fact["wavelength_um"], abs=1e-9)
        assert band.resolution == fact["native_gsd_m"]
    assert list(known.default_bands) == row["default_bands"]
    assert list(known.rgb) == row["rgb"]
    assert list(known.mission) == row["mission"]
    assert known.resolution == row["pixel_m"]


@facts
def test_landsat_quality_bits_equal_the_fact_sheet():
    carried = {"OLI/TIRS": "landsat8", "OLI": "landsat8", "TM": "landsat5tm", "ETM+": "landsat7", "MSS": "landsat1"}
    compared = 0
    for fact in sheet("landsat")["qa"]:
        for sensor in fact["sensor"].split(", "):
            qa = next(qa for qa in products.get(carried[sensor]).qa if qa.band == fact["band"])
            assert [(flag.name, flag.bit, flag.length) for flag in qa.flags] == [
                (bit["name"], bit["bit"], bit["length"]) for bit in fact["bits"]
            ]
            for flag, bit in zip(qa.flags, fact["bits"], strict=True):
                assert flag.length == 1 or list(flag.values) == list(bit["values"].values())
            compared += 1
    assert compared == 10


@facts
def test_landsat_scales_equal_the_fact_sheet():
    scales, known = sheet("landsat")["scale_offset"], products.get("landsat7")
    assert known.radiometry("SR_B1").scale == scales["SR_B*"]["scale"]
    assert known.radiometry("SR_B1").offset == scales["SR_B*"]["offset"]
    assert known.radiometry("SR_ATMOS_OPACITY").scale == scales["SR_ATMOS_OPACITY (L4-7)"]["scale"]
    for fact in scales["ST ancillary"]:
        assert known.radiometry(fact["band"]).scale == fact["scale"]
        assert resolve_bands(known, fact["band"])[0].nodata == fact["nodata"]


@facts
def test_sentinel_bands_equal_the_fact_sheets():
    optical, radar = sheet("sentinel_2"), sheet("sentinel_1")
    for band, fact in zip(products.get("sentinel2_l1c").bands, optical["bands"], strict=True):
        assert (band.name, band.common, band.wavelength) == (fact["name"], fact["common_name"], fact["wavelength_um"])
        assert band.resolution == fact["native_gsd_m"]
        assert (band in products.get("sentinel2").bands) == fact["in_l2a"]
    for band, fact in zip(products.get("sentinel1").bands, radar["bands"], strict=True):
        assert (band.name, band.common, band.resolution) == (fact["name"], fact["common_name"], fact["native_gsd_m"])
        assert band.wavelength == pytest.approx(299_792.458 / fact["frequency_ghz"], abs=1)  # the rounded 55500
    known = [(band.name, band.common, band.index) for band in products.get("naip").bands]
    assert known == [(fact["name"], fact["common_name"], fact["index"]) for fact in sheet("naip")["bands"]]


@facts
@pytest.mark.parametrize(
    ("name", "facts_of"),
    [
        *LANDSAT_SHEET.items(),
        ("sentinel1", "sentinel_1"),
        ("sentinel1_grd", "sentinel_1"),
        ("sentinel2", "sentinel_2"),
        ("sentinel2_l1c", "sentinel_2"),
        ("naip", "naip"),
        ("cdl", "cdl"),
        ("chesapeake_lulc", "chesapeake_land_cover"),
        ("canadian_building_footprints", "canadian_building_footprints"),
    ],
)
def test_collections_and_file_names_equal_the_fact_sheets(name, facts_of):
    known, facts_sheet = products.get(name), sheet(facts_of)
    served = {
        (entry["url"], collection)
        for entry in facts_sheet["stac"]
        for collection in [*entry.get("collections", ()), *([entry["collection"]] if "collection" in entry else ())]
    }
    assert {(collection.url, collection.id) for collection in known.collections} <= served
    for naming in facts_sheet["file_naming"]:
        example = naming.get("example", "")
        for template in (*known.files, *known.scenes):
            fields = template.match(example)
            if fields is None:
                continue
            groups = re.match(naming["regex"], example).groupdict()
            for group, text in groups.items():
                value = fields.get({"pol": "band", "start": "date"}.get(group, group))
                if isinstance(value, str):
                    assert value == text
                elif isinstance(value, int):
                    assert value == int(text)


@facts
def test_example_file_names_of_the_fact_sheets_are_matched():
    for name_of_sheet in ("landsat", "sentinel_1", "sentinel_2", "naip", "cdl", "chesapeake_land_cover"):
        for naming in sheet(name_of_sheet)["file_naming"]:
            if "example" in naming:
                templates = [
                    template for name in names() for template in (*products.get(name).files, *products.get(name).scenes)
                ]
                assert any(template.match(naming["example"]) for template in templates), naming["example"]


@facts
def test_collections_of_the_fact_sheets_are_matched():
    for name_of_sheet in ("landsat", "sentinel_1", "sentinel_2", "naip", "cdl", "chesapeake_land_cover"):
        for entry in sheet(name_of_sheet)["stac"]:
            for collection in [
                *entry.get("collections", ()),
                *([entry["collection"]] if "collection" in entry else ()),
            ]:
                assert match_item(collection), collection


@facts
@pytest.mark.parametrize(
    ("name_of_sheet", "name"), [("sentinel_2", "sentinel2"), ("landsat", "landsat8"), ("landsat", "landsat7")]
)
def test_asset_keys_of_the_fact_sheets_resolve_to_bands(name_of_sheet, name):
    known, resolved = products.get(name), set()
    for entry in sheet(name_of_sheet)["stac"]:
        if known.collection(entry.get("collection", "")) is None or entry["url"] not in {
            c.url for c in known.collections
        }:
            continue
        assets = entry["assets"] if isinstance(entry["assets"], dict) else {}
        for key in [*assets.get("bands", ()), *assets.get("reflectance", ()), *assets.get("ancillary", ())]:
            if key in {"coastal", "atmos_opacity"} and name.startswith("landsat"):
                continue  # exists for one instrument only
            assert len(resolve_bands(known, key)) == 1
            resolved.add(key)
    assert len(resolved) > 10
