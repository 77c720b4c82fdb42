"""Files with names of the user, opened as a known product; products that users register."""

import numpy as np
import pytest

from geoxt.errors import InputError
from geoxt.layers import Product, open_cogs, products
from geoxt.layers.products import Band, Flag, Qa, Radiometry
from geoxt.source import view_of
from geoxt.template import Template
from geoxt.testing import distinct, make_grid

GRID = make_grid((6, 8))
VALUES = {band: distinct((6, 8), "uint16") + 100 * n for n, band in enumerate(("B02", "B03", "B04", "B08"), start=1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write):
    """Files B02.tif, B03.tif, B04.tif and B08.tif, a scene classification, and a preview."""
    root = tmp_path_factory.mktemp("own")
    for band, values in VALUES.items():
        write(values, GRID, f"{band}.tif", root)
    write(np.where(VALUES["B02"] % 2, 9, 4).astype("uint8"), GRID, "SCL.tif", root)
    write(VALUES["B02"], GRID, "preview.tif", root)
    return root


def test_files_named_by_bands(folder):
    layer = open_cogs(folder, product="sentinel2", pattern="{band}.tif")
    assert list(layer.band.values) == list(VALUES)
    assert list(layer.common_name.values) == ["blue", "green", "red", "nir"]
    assert layer.attrs["_FillValue"] == 0
    assert np.array_equal(layer.values, list(VALUES.values()))


def test_quality_band(folder):
    layer = open_cogs(folder, product="sentinel2", pattern="{band}.tif", bands="red", exclude="clouds")
    assert np.array_equal(layer.values[0], np.where(VALUES["B02"] % 2, 0, VALUES["B04"]))


@pytest.mark.parametrize(
    ("options", "scale", "offset"),
    [
        ({"baseline": "05.09"}, 1e-4, -0.1),
        ({"baseline": "N0301"}, 1e-4, 0.0),
        ({"scale": 2e-4, "offset": 0}, 2e-4, 0.0),
        ({"scale": 1e-3, "offset": -0.5, "baseline": "0509"}, 1e-3, -0.5),
    ],
)
def test_scale_and_baseline_of_the_user(folder, options, scale, offset):
    options = {"product": "sentinel2", "pattern": "{band}.tif", "rescale": True, **options}
    layer = open_cogs(folder, **options)
    expected = np.stack(list(VALUES.values())) * scale + offset
    np.testing.assert_allclose(layer.values, expected, rtol=1e-5)
    quality = open_cogs(folder, bands="SCL", **options)
    assert set(np.unique(quality.values)) == {4, 9}


def test_dates_without_a_format_and_names_of_another_form_raise(folder):
    with pytest.raises(
        InputError, match=r"'{date}/{band}\.tif': {date} has no format, such as {date:%Y-%m-%d}\. Pass pattern="
    ):
        open_cogs(folder, product="sentinel2", pattern="{date}/{band}.tif")
    forms = r"no name has the form '{date:%d-%m-%Y}/{band}\.tif'; it holds \d+ files: 'B02\.tif'"
    with pytest.raises(InputError, match=forms):
        open_cogs(folder, product="sentinel2", pattern="{date:%d-%m-%Y}/{band}.tif")


def test_scale_without_a_baseline_is_an_error(folder):
    options = {"product": "sentinel2", "pattern": "{band}.tif", "rescale": True}
    with pytest.raises(InputError, match=r"baseline='05.09'"):
        open_cogs(folder, **options)
    for single in ({"scale": 1e-4}, {"offset": -0.1}, {"offset": -1000}):
        with pytest.raises(InputError, match="without (offset|scale): value = stored .* Pass both"):
            open_cogs(folder, **options, **single)
    for baseline in (4.0, 400, "4"):
        with pytest.raises(InputError, match=r"as a processing baseline. Pass baseline='05.09'"):
            open_cogs(folder, **options, baseline=baseline)


def test_scale_of_the_file_comes_first(tmp_path, write):
    path = write(VALUES["B02"], GRID, "B02.tif", tmp_path, scale=0.5, offset=1.0)
    for options in ({"product": "sentinel2", "pattern": "{band}.tif"}, {}):
        layer = open_cogs(path, rescale=True, scale=3.0, offset=0.0, **options)
        np.testing.assert_allclose(layer.values[0], VALUES["B02"] * 0.5 + 1)


def test_scale_of_files_of_no_product(folder):
    layer = open_cogs(folder / "B02.tif", rescale=True, scale=0.01, offset=-1)
    np.testing.assert_allclose(layer.values[0], VALUES["B02"] * 0.01 - 1, rtol=1e-6)


def test_dates_scenes_and_baselines_of_names(tmp_path, write):
    for tile, day, baseline in (("a", 1, "0301"), ("a", 3, "0500"), ("b", 3, "0500")):
        write(VALUES["B04"], GRID, f"red_202206{day:02d}_v{baseline}.tif", tmp_path / tile)
    pattern = Template(r"{tile}/{band}_{date:%Y%m%d}_v{baseline:\d{4}}.tif")
    layer = open_cogs(tmp_path, product="sentinel2", pattern=pattern, groupby="day", rescale=True)
    assert list(layer.time.values) == [np.datetime64("2022-06-01"), np.datetime64("2022-06-03")]
    np.testing.assert_allclose(layer.values[:, 0], [VALUES["B04"] * 1e-4, VALUES["B04"] * 1e-4 - 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("product", "text", "band", "file"),
    [
        ("sentinel2", "b2", "B02", "B02"),
        ("sentinel2", "Blue", "B02", "B02"),
        ("sentinel2", "b8a", "B8A", "B8A"),
        ("sentinel2", "B10", "B10", "B10"),  # an unknown band of L2A
        ("landsat8", "sr_b4", "B4", "SR_B4"),
        ("landsat8", "b4", "B4", "B4"),
        ("landsat8", "red", "B4", "red"),
        ("landsat8", "QA_PIXEL", "QA_PIXEL", "QA_PIXEL"),
    ],
)
def test_names_of_bands(product, text, band, file):
    fields = Product(name="x", bands=products.get(product).bands, files=(Template("{band}.tif"),)).identify(
        f"{text}.tif"
    )
    assert (fields.band, fields.file) == (band, file)


def test_common_name_of_two_levels_has_no_scale(tmp_path, write):
    path = write(VALUES["B04"], GRID, "red.tif", tmp_path)
    options = {"product": "landsat8", "pattern": "{band}.tif"}
    with pytest.raises(InputError, match="may mean SR_B4 or B4"):
        open_cogs(path, rescale=True, **options)
    np.testing.assert_allclose(
        open_cogs(path, rescale=True, scale=0.5, offset=0, **options).values[0], VALUES["B04"] * 0.5
    )
    assert np.array_equal(open_cogs(path, **options).values[0], VALUES["B04"])


def test_scenes_in_folders_need_a_field(tmp_path, write):
    for name in "ab":
        write(VALUES["B02"], GRID, "B02.tif", tmp_path / name)
    with pytest.raises(InputError, match="pattern="):
        open_cogs(tmp_path, product="sentinel2", pattern="{band}.tif")
    layer = open_cogs(tmp_path, product="sentinel2", pattern="{scene}/{band}.tif")
    assert [scene.id for scene in view_of(layer).source.scenes] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pattern": "{band}.tif"}, "without a product"),
        ({"baseline": "05.09"}, "without a product"),
        ({"product": "sentinel2", "pattern": "{scene}.tif"}, "Cannot tell the bands"),
        ({"product": "sentinel2", "pattern": "{band}.jp2"}, "no name has the form '{band}.jp2'"),
        ({"product": "sentinel2", "pattern": "{band}.tif", "baseline": "5"}, "processing baseline"),
        ({"product": "landsat8", "pattern": "{band}.tif", "baseline": "05.09"}, "no scale of it depends"),
        ({"scale": 0}, "scale of 0"),
        ({"offset": float("nan")}, "offset of nan"),
    ],
)
def test_errors(folder, options, match):
    with pytest.raises(InputError, match=match):
        open_cogs(folder, **options)


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(products, "_PRODUCTS", dict(products._PRODUCTS))


def test_registered_product(registry, tmp_path, write):
    drone = Product(
        name="my drone",
        bands=(Band(name="red", common="red", index=1), Band(name="nir", common="nir", index=2)),
        extras=(Band(name="MASK"),),
        files=(Template("{date:%Y%m%d}_{band:MASK}.tif"), Template("{date:%Y%m%d}.tif")),
        nodata=0,
        rules=(Radiometry(scale=0.01, files=("red", "nir")),),
        qa=(Qa(band="MASK", flags=(Flag(name="clouds", bit=0),)),),
    )
    products.register(drone)
    assert "my drone" in products.names()
    values, clouds = distinct((2, 6, 8), "uint16"), (VALUES["B02"] % 3 == 0).astype("uint8")
    for day, shift in ((1, 0), (2, 50)):
        write(values + shift, GRID, f"2024050{day}.tif", tmp_path)
        write(clouds, GRID, f"2024050{day}_MASK.tif", tmp_path)
    layer = open_cogs(tmp_path, product="My-Drone", groupby="day", exclude="clouds", rescale=True, bands=["nir", "red"])
    expected = np.where(clouds, np.nan, np.stack([values[::-1], values[::-1] + 50]) * 0.01)
    np.testing.assert_allclose(layer.values, expected, rtol=1e-6)
    assert list(layer.time.values) == [np.datetime64("2024-05-01"), np.datetime64("2024-05-02")]
    assert open_cogs(tmp_path).attrs["long_name"] == "my drone", "a folder is opened by its file names"


def test_registered_names_are_unique(registry):
    with pytest.raises(InputError, match="force=True"):
        products.register(Product(name="Sentinel-2"))
    products.register(Product(name="Sentinel-2"), force=True)
    assert products.get("sentinel2").bands == ()
    assert "sentinel2" not in products.names()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"bands": (Band(name="a"), Band(name="a"))}, "several bands named 'a'"),
        ({"bands": (Band(name="a"), Band(name="b")), "files": (Template("{id}.tif"),)}, "Cannot tell the bands"),
    ],
)
def test_invalid_products(options, match):
    with pytest.raises(InputError, match=match):
        Product(name="x", **options)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_physical_averages_are_not_rounded_to_stored_integers(write, tmp_path, dtype, scale):
    values = np.random.default_rng(0).integers(1, 100, (8, 8)).astype(dtype)
    path = write(values, make_grid((8, 8), resolution=10), "a.tif", tmp_path)
    coarse = make_grid((4, 4), resolution=20)
    layer = open_cogs(path, grid=coarse, resampling="average", rescale=True, scale=scale)
    expected = values.reshape(4, 2, 4, 2).mean((1, 3)) * (scale or 1)
    np.testing.assert_allclose(layer.values.squeeze(), expected, rtol=1e-6)
