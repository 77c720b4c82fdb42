"""Radiometry: scales per scene from catalogs, products and files; excluded clouds."""

from datetime import UTC, datetime

import numpy as np
import pytest

from geoxt import indices
from geoxt.alignment import align
from geoxt.errors import GridError, InputError
from geoxt.grid import full_window
from geoxt.layers import open_cogs, open_stac
from geoxt.layers.radiometry import baseline_of
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

WHEN = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
GRID = make_grid((40, 50))
LANDSAT = "LC08_L2SP_02303{}_20210622_20210629_02_T1_{}.TIF"
VALUES = distinct((40, 50)) * 20


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def sentinel(path, name="S2A", *, collection="sentinel-2-l2a", stated=None, **properties):
    """Return a Sentinel-2 item of one red band with the metadata that catalogs state."""
    item = make_item(name, {"B04": path}, time=WHEN, collection=collection, instruments=["msi"], **properties)
    item.assets["B04"].extra_fields["raster:bands"] = [stated] if stated else []
    return item


@pytest.fixture(scope="module")
def red(write):
    return write(VALUES, GRID, nodata=0)


@pytest.mark.parametrize(
    ("properties", "stated", "scale", "offset"),
    [
        ({"s2__processing_baseline": "02.12"}, None, 0.0001, 0),
        ({"s2__processing_baseline": "05.10"}, None, 0.0001, -0.1),
        ({"sentinel__product_id": "S2B_MSIL2A_20220107T063239_N0301_R077_T42TUM_20220107T084202"}, None, 0.0001, 0),
        ({"s2__product_uri": "S2B_MSIL2A_20220207T063239_N0400_R077_T42TUM_20220107T084202.SAFE"}, None, 0.0001, -0.1),
        ({"s2__processing_baseline": "05.10", "earthsearch__boa_offset_applied": True}, None, 0.0001, 0),
        ({"s2__processing_baseline": "05.10", "earthsearch__boa_offset_applied": False}, None, 0.0001, -0.1),
        ({"earthsearch__boa_offset_applied": True}, {"scale": 0.0001, "offset": -0.1}, 0.0001, 0),
        ({"earthsearch__boa_offset_applied": False}, {"scale": 0.0001, "offset": -0.1}, 0.0001, -0.1),
        ({"earthsearch__boa_offset_applied": True}, None, 0.0001, 0),
        ({}, {"scale": 0.5, "offset": 7}, 0.5, 7),
        ({"s2__processing_baseline": 5.1}, None, 0.0001, -0.1),
        ({"processing__version": "2.4.1", "title": "S2B_MSIL2A_20220207T063239_N0400_R077_T42TUM"}, None, 0.0001, -0.1),
    ],
)
def test_sentinel2_scale_follows_catalog_then_baseline(red, properties, stated, scale, offset):
    item = sentinel(red, stated=stated, **properties)
    plain, physical = (open_stac(item, rescale=r) for r in (False, True))
    assert plain.dtype == "uint16"
    assert (plain.attrs["scales"], plain.attrs["offsets"]) == ([scale], [offset])
    assert np.array_equal(values_of(plain)[0], VALUES)
    assert physical.dtype == "float32"
    assert np.isnan(physical.attrs["_FillValue"])
    assert physical.attrs["radiometry"].startswith("physical")
    assert np.allclose(values_of(physical)[0], VALUES * scale + offset, rtol=1e-6, atol=1e-6)


def test_rescaled_scenes_of_two_baselines_agree(write):
    grids = [make_grid((40, 50)), make_grid((40, 50), left=601_500)]
    stored = [np.full((40, 50), number, "uint16") for number in (2000, 3000)]
    pairs = zip(("02.12", "04.00"), grids, stored, strict=True)
    items = [sentinel(write(v, g, nodata=0), b, s2__processing_baseline=b) for b, g, v in pairs]
    assert "differ between scenes" in open_stac(items).attrs["radiometry"]
    assert np.allclose(values_of(open_stac(items, rescale=True)), 0.2)


def test_missing_baseline_raises_on_rescale(red):
    item = sentinel(red)
    assert open_stac(item).attrs["radiometry"].endswith("unknown")
    with pytest.raises(
        InputError, match="depend on the processing baseline, which is unknown.*Pass .*baseline='05.09'"
    ):
        open_stac(item, rescale=True)
    for baseline, offset in (("05.09", -0.1), ("N0301", 0)):
        assert np.allclose(values_of(open_stac(item, rescale=True, baseline=baseline))[0], VALUES * 0.0001 + offset)
    for unusable in ("9999", "2.4.1"):  # reprocessed by users, and no baseline
        item = sentinel(red, s2__processing_baseline=unusable)
        assert open_stac(item).attrs["radiometry"].endswith("unknown")
        assert open_stac(item, baseline="05.09").attrs["offsets"] == [-0.1]
    stated = sentinel(red, s2__processing_baseline="02.12")
    assert open_stac(stated, baseline="05.09").attrs["offsets"] == [0]
    with pytest.raises(InputError, match="'5' as a processing baseline"):
        open_stac(item, baseline="5")


def test_rescaled_nodata_is_nan_and_bilinear_is_not_rounded(write):
    values = VALUES.copy()
    values[:10] = 0
    layer = open_stac(sentinel(write(values, GRID, nodata=0), s2__processing_baseline="05.10"), rescale=True)
    assert np.isnan(values_of(layer)[0, :10]).all()
    assert not np.isnan(values_of(layer)[0, 10:]).any()
    shifted = make_grid((39, 49), left=600_010, top=4_549_990)
    rescaled = view_of(align(layer, shifted)).read(full_window(shifted))[0]
    stored = view_of(align(open_cogs(write(values.astype("float32"), GRID, nodata=0)), shifted)).read(
        full_window(shifted)
    )[0]
    assert np.allclose(rescaled[0, 0, 12:], stored[0, 0, 12:] * 0.0001 - 0.1, rtol=1e-5)


def test_scale_and_offset_of_a_file_are_applied(write):
    path = write(VALUES, GRID, nodata=0, scale=0.5, offset=3)
    layer = open_cogs(path, rescale=True)
    assert np.allclose(values_of(layer)[0], VALUES * 0.5 + 3)
    assert open_cogs(path).attrs["scales"] == [0.5]
    assert open_cogs(path).attrs["offsets"] == [3.0]
    assert "radiometry" not in open_cogs(write(VALUES, GRID)).attrs


def landsat(folder, *, clouds=None, rows=(1,)):
    paths = []
    for row in rows:
        names = [folder / LANDSAT.format(row, band) for band in ("SR_B4", "SR_B5")]
        paths += [str(write_cog(name, VALUES, grid=GRID, nodata=0)) for name in names]
        if clouds is not None:
            qa = np.where(clouds, 1 << 3, 1 << 6).astype("uint16")
            paths.append(str(write_cog(folder / LANDSAT.format(row, "QA_PIXEL"), qa, grid=GRID, nodata=1)))
    return paths


def test_landsat_files_are_rescaled_and_masked(tmp_path):
    clouds = np.random.default_rng(1).random((40, 50)) < 0.3
    paths = landsat(tmp_path, clouds=clouds)
    layer = open_cogs(paths, product="landsat8", exclude="clouds", rescale=True)
    assert layer.band.values.tolist() == ["B4", "B5"]
    assert layer.attrs["units"] == "1"
    assert np.array_equal(np.isnan(values_of(layer)[0]), clouds)
    assert np.allclose(values_of(layer)[0][~clouds], VALUES[~clouds] * 0.0000275 - 0.2, atol=1e-6)
    stored = open_cogs(paths, product="landsat8", exclude=["clouds"], bands=["red", "qa_pixel"])
    assert stored.band.values.tolist() == ["B4", "QA_PIXEL"]
    assert np.array_equal(values_of(stored)[0], np.where(clouds, stored.attrs["_FillValue"], VALUES))
    assert open_cogs(paths, product="landsat8").band.values.tolist() == ["B4", "B5", "QA_PIXEL"]


def test_items_are_masked_by_their_quality_band(tmp_path):
    clouds = np.random.default_rng(2).random((40, 50)) < 0.3
    red, _, qa = landsat(tmp_path, clouds=clouds)
    item = make_item(
        "LC08", {"red": red, "qa_pixel": qa}, time=WHEN, collection="landsat-c2-l2", platform="landsat-8",
        instruments=["oli", "tirs"],
    )  # fmt: skip
    item.assets["qa_pixel"].roles = ["cloud"]
    layer = open_stac(item, exclude="clouds")
    assert layer.band.values.tolist() == ["red"]
    assert np.array_equal(values_of(layer)[0], np.where(clouds, 0, VALUES))
    with pytest.raises(InputError, match="Cannot exclude fog in landsat8: it has QA_PIXEL"):
        open_stac(item, exclude="fog")


def test_statistics_of_stored_values_of_two_baselines_raise(tmp_path, write):
    stored = {"0301": 1000, "0400": 2000, "0509": 2200}  # reflectance 0.1, 0.1 and 0.12
    for at, (baseline, value) in enumerate(stored.items()):
        write(np.full((4, 5), value, "uint16"), GRID, f"red_2022010{at + 1}_v{baseline}.tif", tmp_path, nodata=0)
    options = {"product": "sentinel2", "pattern": r"{band}_{date:%Y%m%d}_v{baseline:\d{4}}.tif", "groupby": "MS"}
    for composite in ("median", "mean", "min", "max"):
        with pytest.raises(InputError, match=rf"the {composite} of stored values.*0\.0\).*-0\.1\).*Pass rescale=True"):
            open_cogs(tmp_path, composite=composite, **options)
    layer = open_cogs(tmp_path, composite="max", rescale=True, **options)
    np.testing.assert_allclose(layer.values, 0.12, rtol=1e-5)
    layer = open_cogs(sorted(tmp_path.glob("*_v04*")) + sorted(tmp_path.glob("*_v05*")), composite="max", **options)
    assert (layer.values == 2200).all()


def test_resolution_in_meters_of_a_layer_in_degrees_raises(tmp_path, write):
    path = write(VALUES, GRID)
    with pytest.raises(
        GridError, match=r"pixels of 10 degrees: its files cover .* degrees. Pass resolution= in degrees"
    ):
        open_cogs(path, crs="EPSG:4326", resolution=10)


def test_exclude_without_quality_band_raises(tmp_path, write):
    with pytest.raises(InputError, match="no file of its quality band QA_PIXEL is given. Add its file"):
        open_cogs(landsat(tmp_path), product="landsat8", exclude="clouds")
    path = write(VALUES, GRID)
    with pytest.raises(InputError, match="of no known product. Pass product="):
        open_cogs(path, exclude="clouds")
    item = make_item("LC08", {"red": path}, time=WHEN, collection="landsat-c2-l2", platform="landsat-8")
    with pytest.raises(InputError, match=r"exclude clouds in item 'LC08'. Cannot find band 'QA_PIXEL'.*Pass exclude="):
        open_stac(item, exclude="clouds")
    with pytest.raises(InputError, match="the meaning of its quality bands is unknown. Pass product="):
        open_stac(make_item("one", {"b": path}, time=WHEN), exclude="clouds")


def test_index_of_sentinel2_of_unknown_baseline_raises(tmp_path, write):
    folder = tmp_path / "bands"
    for name, value in (("B04.tif", 1500), ("B08.tif", 3000)):
        write(np.full((40, 50), value, "uint16"), GRID, name, folder)
    stored = open_cogs(folder, product="sentinel2", pattern="{band}.tif")
    with pytest.raises(
        InputError, match="ndvi.*processing baseline or.* unknown. Open the layer with rescale=True or baseline="
    ):
        indices.append(stored, "ndvi")
    for options, expected in (
        ({"baseline": "05.09"}, 0.6),
        ({"baseline": "03.00"}, 1 / 3),
        ({"scale": 1e-4, "offset": 0}, 1 / 3),
    ):
        image = open_cogs(folder, product="sentinel2", pattern="{band}.tif", **options)
        np.testing.assert_allclose(indices.append(image, "ndvi").sel(band="ndvi"), expected, rtol=1e-5)
    np.testing.assert_allclose(indices.append(stored, "ndvi", offset=-1000).sel(band="ndvi"), 0.6, rtol=1e-5)


def bands_of(write, folder, dtype="uint16", names=("B04.tif", "B08.tif")):
    """Return paths of a red and a near-infrared band: NDVI 0.6 with the offset of baseline 04.00, 1 / 3 without."""
    return {
        key: write(np.full((40, 50), value, dtype), GRID, name, folder)
        for key, name, value in zip(("red", "nir"), names, (1500, 3000), strict=True)
    }


def test_index_of_items_of_unknown_scale_raises(tmp_path, write):
    paths = bands_of(write, tmp_path)
    item = make_item("S2A", paths, time=WHEN, collection="sentinel-2-l2a", instruments=["msi"])
    with pytest.raises(InputError, match="ndvi.*processing baseline or.* unknown. Open .*baseline="):
        indices.append(open_stac(item), "ndvi")
    for baseline, ndvi in (("05.09", 0.6), ("03.00", 1 / 3)):
        layer = indices.append(open_stac(item, baseline=baseline), "ndvi")
        np.testing.assert_allclose(layer.sel(band="ndvi"), ndvi, rtol=1e-5)
    folder = tmp_path / "S2A_MSIL2A_20220517T100559_N0509_R022_T33UUU_20220517T163202.SAFE"
    named = make_item("S2A", bands_of(write, folder), time=WHEN, collection="sentinel-2-l2a", instruments=["msi"])
    np.testing.assert_allclose(indices.append(open_stac(named), "ndvi").sel(band="ndvi"), 0.6, rtol=1e-5)


def test_bands_of_unknown_and_known_scales_have_no_scales(write):
    path = write(VALUES, GRID, nodata=0)
    item = make_item("S2A", {"B04": path, "AOT": path}, time=WHEN, collection="sentinel-2-l2a", instruments=["msi"])
    layer = open_stac(item, bands=["B04", "AOT"])
    assert "scales" not in layer.attrs
    assert layer.attrs["radiometry"].endswith("unknown")
    assert open_stac(item, bands=["AOT"]).attrs["scales"] == [0.001]


@pytest.mark.parametrize(
    ("product", "properties"),
    [
        ("landsat8", {"landsat__collection_number": "01"}),
        ("landsat8", {"landsat__collection_number": "02", "level": 1}),
        (None, {"landsat__collection_number": "02"}),  # of a collection that no product has
    ],
)
def test_index_of_landsat_of_unknown_scale_raises(tmp_path, write, product, properties):
    scene = f"LC08_L1TP_023031_20210622_20210629_{properties['landsat__collection_number']}_T1"
    names = [f"{scene}_B4.TIF", f"{scene}_B5.TIF"] if properties.pop("level", 0) else ["red.tif", "nir.tif"]
    paths = bands_of(write, tmp_path, names=names)
    assets = {"red": paths["red"], "nir08": paths["nir"]}
    item = make_item("LC08", assets, time=WHEN, collection="mine", platform="landsat-8", **properties)
    with pytest.raises(InputError, match="Cannot compute ndvi .*unknown"):
        indices.append(open_stac(item, product=product), "ndvi", bands={"nir": "nir08"} if product is None else None)
    if product is not None:
        with pytest.raises(InputError, match="Cannot rescale"):
            open_stac(item, product=product, rescale=True)


def test_scales_of_integers_are_not_those_of_floating_point_files(tmp_path, write):
    for level, folder in (("S2", tmp_path / "S2"), ("LC08", tmp_path / "LC08")):
        product = "sentinel2" if level == "S2" else "landsat8"
        options = {"product": product, "pattern": "{band}.tif"}
        bands_of(write, folder, "float32", ("red.tif", "nir.tif") if level == "S2" else ("SR_B4.tif", "SR_B5.tif"))
        layer = open_cogs(folder, **options)
        with pytest.raises(InputError, match="ndvi.*unknown"):
            indices.append(layer, "ndvi")
        assert indices.append(layer, "ndvi", scale=1).sel(band="ndvi").values[0, 0] == pytest.approx(1 / 3)
        with pytest.raises(InputError, match="it has float32, .* integers. Pass rescale=False"):
            open_cogs(folder, rescale=True, **options)
        assert np.allclose(open_cogs(folder, rescale=True, scale=0.1, offset=0, **options).values[:, 0, 0], (150, 300))


def test_quality_bands_are_never_interpolated(tmp_path):
    qa = landsat(tmp_path, clouds=np.zeros((40, 50), bool))[2]
    item = make_item("LC08", {"qa_pixel": qa}, time=WHEN, collection="landsat-c2-l2", platform="landsat-8")
    layer = open_stac(item, bands=["qa_pixel"])
    assert layer.dims == ("y", "x")
    assert view_of(layer).source.resampling == "nearest"


def test_baseline_is_read_from_properties_or_name():
    assert baseline_of({"s2:processing_baseline": "05.10"}) == "05.10"
    assert baseline_of({}, "S2A_MSIL2A_20220412T162841_N0400_R083_T16TFM_20220412T202300") == "0400"
    assert baseline_of({}) is None
    assert baseline_of({"processing:version": "2.4.1"}) == "2.4.1"
