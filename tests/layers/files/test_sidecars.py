"""Landsat Level 1: reflectance and radiance by the coefficients of the metadata file of each scene."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest

from geoxt.errors import InputError, ReadError
from geoxt.layers import open_cogs, open_stac
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

STEM = "LC08_L1TP_224077_20200518_20200527_02_T1"
WHEN = datetime(2020, 5, 18, 13, 30, tzinfo=UTC)
SUN = 35.25
GRID = make_grid((40, 50))
BANDS = ("B4", "B10")


def mtl_groups(*, sun=SUN, collection=2):
    """Return the MTL groups of Level 1, and a Level 2 group with equal keys."""
    level1 = {
        "RADIANCE_MULT_BAND_4": "9.7E-03", "RADIANCE_ADD_BAND_4": "-48.6", "RADIANCE_MULT_BAND_10": "3.3420E-04",
        "RADIANCE_ADD_BAND_10": "0.10000", "REFLECTANCE_MULT_BAND_4": "2.0000E-05",
        "REFLECTANCE_ADD_BAND_4": "-0.100000",
    }  # fmt: skip
    level2 = {"REFLECTANCE_MULT_BAND_4": "2.75e-05", "REFLECTANCE_ADD_BAND_4": "-0.2"}
    groups = {"PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": STEM}, "IMAGE_ATTRIBUTES": {"SUN_ELEVATION": str(sun)}}
    if collection == 1:
        return groups | {"RADIOMETRIC_RESCALING": level1}
    return groups | {"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": level2, "LEVEL1_RADIOMETRIC_RESCALING": level1}


def as_text(groups):
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for name, group in groups.items():
        pairs = [f'    {key} = "{v}"' if key.endswith("ID") else f"    {key} = {v}" for key, v in group.items()]
        lines += [f"  GROUP = {name}", *pairs, f"  END_GROUP = {name}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def write_scene(folder, stem=STEM, *, form="json", **options):
    for n, band in enumerate(BANDS):
        write_cog(folder / f"{stem}_{band}.TIF", distinct((40, 50)) + 9000 * n, grid=GRID, nodata=0, tiled=False)
    groups = mtl_groups(**options)
    if form == "json":
        (folder / f"{stem}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}), encoding="utf-8")
    if form == "txt":
        (folder / f"{stem}_MTL.txt").write_text(as_text(groups), encoding="utf-8")
    return folder


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def expected(sun=SUN):
    red, thermal = distinct((40, 50)).astype("float64"), distinct((40, 50)) + 9000.0
    return [(red * 2e-5 - 0.1) / math.sin(math.radians(sun)), thermal * 3.342e-4 + 0.1]


@pytest.mark.parametrize(("form", "collection"), [("json", 2), ("txt", 2), ("txt", 1)])
def test_level1_is_rescaled_to_reflectance_and_radiance(tmp_path, form, collection):
    write_scene(tmp_path, form=form, collection=collection)
    layer = open_cogs(tmp_path, bands=["B4", "B10"], rescale=True)
    assert layer.dtype == "float32"
    assert "units" not in layer.attrs
    assert np.allclose(values_of(layer), expected(), rtol=1e-6)
    red = open_cogs(tmp_path / f"{STEM}_B4.TIF", product="landsat8", rescale=True)
    assert red.attrs["units"] == "1"
    assert np.allclose(values_of(red)[0], expected()[0], rtol=1e-6)
    stored = open_cogs(tmp_path, bands=["B4"])
    assert np.allclose(stored.attrs["scales"], 2e-5 / math.sin(math.radians(SUN)))


def test_coefficients_are_read_per_scene(tmp_path):
    other = STEM.replace("20200518", "20200603")
    write_scene(tmp_path), write_scene(tmp_path, other, sun=60, form="txt")
    layer = open_cogs(tmp_path, bands=["B4", "B10"], rescale=True, groupby="day")
    assert np.allclose(values_of(layer), [expected(), expected(60)], rtol=1e-6)


def test_missing_coefficients_raise_on_rescale(tmp_path):
    write_scene(tmp_path, form=None)
    assert open_cogs(tmp_path, bands=["B4"]).attrs["radiometry"].endswith("unknown")
    message = rf"Cannot rescale band B4 of scene '{STEM}': '{STEM}_MTL.json' or '.*txt' beside it is missing.*Put"
    with pytest.raises(InputError, match=message):
        open_cogs(tmp_path, bands=["B4"], rescale=True)
    write_scene(tmp_path, sun=-3)  # at night
    with pytest.raises(InputError, match="missing or lacks its scale"):
        open_cogs(tmp_path, bands=["B4"], rescale=True)
    assert np.allclose(values_of(open_cogs(tmp_path, bands=["B10"], rescale=True))[0], expected()[1])


def test_broken_metadata_file_raises(tmp_path):
    write_scene(tmp_path)
    (tmp_path / f"{STEM}_MTL.json").write_text('{"LANDSAT_METADATA_FILE": {}}', encoding="utf-8")
    with pytest.raises(ReadError, match=f"Cannot read scales from '.*{STEM}_MTL.json': KeyError"):
        open_cogs(tmp_path, bands=["B4"])


def test_level1_items_are_rescaled_by_their_metadata_asset(tmp_path):
    write_scene(tmp_path)
    files = {"red": tmp_path / f"{STEM}_B4.TIF", "lwir11": tmp_path / f"{STEM}_B10.TIF"}
    properties = {"collection": "landsat-c2l1", "platform": "LANDSAT_8", "instruments": ["OLI_TIRS"]}
    item = make_item(STEM, files, time=WHEN, **properties)
    with pytest.raises(InputError, match=f"Cannot rescale band B4 of scene '{STEM}'"):
        open_stac(item, product="landsat8", rescale=True)
    item.assets["MTL.json"] = type(item.assets["red"])(href=str(tmp_path / f"{STEM}_MTL.json"), roles=["metadata"])
    layer = open_stac(item, product="landsat8", rescale=True, bands=["red", "lwir11"])
    assert np.allclose(values_of(layer), expected(), rtol=1e-6)
    assert view_of(open_stac(item, product="landsat8", bands=["red"])).source.scenes[0].assets[0].scale == 1
