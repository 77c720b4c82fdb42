"""Items that contradict their files: an error that names both at the first read, or nodata and mask of the file."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint

from geoxt.errors import CatalogError, InputError, ReadError
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_cogs, open_stac
from geoxt.pixels import file_version
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item

WHEN = datetime(2020, 5, 17, 10, 30, tzinfo=UTC)
GRID = make_grid((60, 80))


def item_of(path, key="b", *, name="one", raster=None, bands=None, **fields):
    item = make_item(name, {key: path}, time=WHEN, collection="some")
    item.assets[key].extra_fields |= {f"proj:{name}": value for name, value in fields.items()}
    if raster is not None:
        item.assets[key].extra_fields["raster:bands"] = raster
    if bands is not None:
        item.assets[key].extra_fields["eo:bands"] = bands
    return item


def valid_of(layer):
    return view_of(layer).read(full_window(grid_of(layer)))[1][0]


def moved(cols, rows, flip=1):
    return list((GRID.affine @ Affine.translation(cols, rows) @ Affine.scale(1, flip))[:6])


CONTRADICTIONS = {
    "one row more": ({"shape": [61, 80]}, "states 61 x 80 pixels, the file has 60 x 80 pixels"),
    "swapped": ({"shape": [80, 60]}, "states 80 x 60 pixels"),
    "half the size": ({"shape": [30, 40]}, "states 30 x 40 pixels"),
    "half a pixel": (
        {"transform": (GRID.affine @ Affine.translation(0.5, 0.5))[:6]},
        "states.*up to 0.5 pixels apart",
    ),
    "1 km": ({"transform": moved(33, 0)}, "states.*up to 33 pixels apart"),
    "small pixels": ({"transform": (GRID.affine @ Affine.scale(0.1))[:6]}, "states the transform"),
    "mirrored": (
        {"transform": (GRID.affine @ Affine.translation(0, 60) @ Affine.scale(1, -1))[:6]},
        "states.*up to 60 pixels apart",
    ),
    "another datum": ({"code": "EPSG:26915"}, "states EPSG:26915, the file has EPSG:32615"),
    "another type": ({"raster": [{"data_type": "uint8"}]}, "states pixels of uint8, the file has uint16"),
    "signed type": ({"raster": [{"data_type": "int16"}]}, "states pixels of int16, the file has uint16"),
    "more bands": ({"raster": [{"data_type": "uint16"}] * 2}, "states a band 2, the file has 1 bands"),
}


@pytest.mark.parametrize("errors", ["raise", "nodata"])
@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradiction_raises_at_the_first_read(write, case, errors):
    fields, message = CONTRADICTIONS[case]
    layer = open_stac(item_of(write(distinct((60, 80)), GRID, nodata=0), **fields), errors=errors)
    with pytest.raises(CatalogError, match=rf"Cannot read .*raster\.tif: its catalog {message}.*\(scene 'one'\)"):
        layer.compute(scheduler="synchronous")
    with pytest.raises(ReadError, match=r"Pass headers='all' to take"):
        view_of(layer).read(full_window(grid_of(layer)))


def test_grid_that_contradicts_the_bounding_box_of_its_item_comes_from_the_file(write):
    pixels = distinct((60, 80))
    layer = open_stac(item_of(write(pixels, GRID, nodata=0), code="EPSG:32616"))
    assert grid_of(layer) == GRID
    assert np.array_equal(layer[0], pixels)


@pytest.mark.parametrize("case", [case for case in CONTRADICTIONS if case != "more bands"])
def test_headers_replace_a_wrong_catalog(write, case):
    path = write(distinct((60, 80)), GRID, nodata=0)
    layer = open_stac(item_of(path, **CONTRADICTIONS[case][0]), headers="all")
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], distinct((60, 80)))


def test_overviews_are_compared_too(tmp_path, write):
    path = write(distinct((256, 256)), make_grid((256, 256)), nodata=0)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    layer = open_stac(item_of(path, shape=[250, 256]), resolution=120, errors="nodata")
    with pytest.raises(CatalogError, match="states 250 x 256 pixels"):
        layer.compute(scheduler="synchronous")


def test_rounded_transforms_are_accepted(write):
    grid = make_grid((60, 80), crs="EPSG:4326", left=10, top=50, resolution=1 / 3600)
    rounded = [round(n, 9) for n in grid.affine[:6]]
    assert rounded != list(grid.affine[:6])
    layer = open_stac(item_of(write(distinct((60, 80)), grid), transform=rounded))
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], distinct((60, 80)))


def test_wider_type_is_accepted(write):
    path = write(distinct((60, 80), "uint8"), GRID)
    layer = open_stac(item_of(path, raster=[{"data_type": "uint16", "nodata": 65535}]))
    assert layer.dtype == "uint16"
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], distinct((60, 80), "uint8"))
    assert valid_of(layer).all()  # 65535 cast to uint8 is 255


def test_crs_written_otherwise_is_accepted(tmp_path, write):
    path = write(distinct((60, 80)), GRID)
    item = item_of(path)
    del item.properties["proj:code"]
    item.properties.pop("proj:epsg", None)
    item.properties["proj:wkt2"] = (
        rasterio.crs.CRS.from_epsg(32615).to_wkt(version="WKT2_2019").replace("WGS 84 / UTM zone 15N", "unnamed")
    )
    item.assets["b"].extra_fields.pop("proj:code", None)
    assert open_stac(item).compute(scheduler="synchronous").shape == (1, 60, 80)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_file_without_georeference_is_placed_by_its_item(tmp_path):
    path, values = tmp_path / "plain.tif", distinct((60, 80))
    with rasterio.open(path, "w", driver="GTiff", count=1, height=60, width=80, dtype="uint16") as file:
        file.write(values, 1)
    item = item_of(write_placed(tmp_path, values))
    item.assets["b"].href = str(path)
    layer = open_stac(item)
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], values)


def write_placed(folder, values):
    with rasterio.open(
        folder / "placed.tif", "w", driver="GTiff", count=1, height=60, width=80, dtype="uint16",
        crs="EPSG:32615", transform=GRID.affine,
    ) as file:  # fmt: skip
        file.write(values, 1)
    return folder / "placed.tif"


def test_file_with_control_points_contradicts_a_transform(tmp_path):
    path, values = tmp_path / "points.tif", distinct((60, 80))
    points = [GroundControlPoint(r, c, 500_000 + 30 * c, 4_500_000 - 31 * r) for r in (0, 60) for c in (0, 80)]
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=60, width=80, dtype="uint16", gcps=points, crs="EPSG:32615"
    ) as file:
        file.write(values, 1)
    item = item_of(write_placed(tmp_path, values))
    item.assets["b"].href = str(path)
    with pytest.raises(CatalogError, match="an affine transform, the file has only ground control points"):
        open_stac(item).compute(scheduler="synchronous")


def masked_file(folder, **creation):
    mask = np.full((60, 80), 255, "uint8")
    mask[:, :20] = 0
    path = folder / "masked.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=creation.pop("internal", True)), rasterio.open(
        path, "w", driver="GTiff", count=creation.pop("count", 1), height=60, width=80, dtype="uint8",
        crs="EPSG:32615", transform=GRID.affine, **creation,
    ) as file:  # fmt: skip
        for band in range(1, file.count + 1):
            file.write(mask if band == 4 else np.full((60, 80), 7, "uint8"), band)
        if file.count == 1:
            file.write_mask(mask)
    return path, mask != 0


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("raster", [None, [], [{"data_type": "uint8"}]])
def test_internal_masks_and_mask_files_are_read(tmp_path, raster, internal):
    path, expected = masked_file(tmp_path, internal=internal)
    valid = valid_of(open_stac(item_of(path, raster=raster)))
    assert np.array_equal(valid[0], expected)


@pytest.mark.parametrize("count", [3, 4])
def test_alpha_band_of_items_is_a_mask(tmp_path, count):
    path, expected = masked_file(tmp_path, count=4, photometric="RGB", alpha="YES")
    valid = valid_of(open_stac(item_of(path, raster=[{"data_type": "uint8"}] * count)))
    assert np.array_equal(valid, np.broadcast_to(expected, (count, 60, 80)))


def test_fourth_band_that_the_catalog_names_is_data(tmp_path):
    path, _ = masked_file(tmp_path, count=4, photometric="RGB", alpha="YES")
    bands = [{"name": name, "common_name": name} for name in ("red", "green", "blue", "nir")]
    item = item_of(path, raster=[{"data_type": "uint8"}] * 4, bands=bands)
    assert valid_of(open_stac(item)).all()
    bands[3] = {"name": "alpha"}
    assert not valid_of(open_stac(item_of(path, raster=[{"data_type": "uint8"}] * 4, bands=bands))).all()


@pytest.mark.parametrize("way", ["item", "stac_cfg"])
def test_nodata_of_file_and_catalog_are_both_invalid(write, way):
    values = distinct((60, 80))
    path = write(values, GRID, nodata=7)
    stated = {"data_type": "uint16", "nodata": 9}
    item = item_of(path, raster=[stated if way == "item" else {}])
    config = {"some": {"assets": {"b": stated}}} if way == "stac_cfg" else None
    layer = open_stac(item, stac_cfg=config)
    assert layer.attrs["_FillValue"] == 9
    assert np.array_equal(valid_of(layer)[0], (values != 7) & (values != 9))


def test_nodata_of_another_file_does_not_hold_for_this_one(write):
    values = distinct((60, 80))
    items = []
    for n, nodata in enumerate((7, None, 9)):
        grid = make_grid((60, 80), left=600_000 + 2400 * n)
        items.append(item_of(write(values, grid, nodata=nodata), name=f"i{n}", raster=[]))
    valid = valid_of(open_stac(items))[0]
    assert np.array_equal(valid, np.hstack([values != 7, values >= 0, values != 9]))


@pytest.mark.parametrize(("second", "message"), [
    ({"dtype": "int32"}, "pixels of int16, the file has int32"),
    ({"scale": 0.25}, r"has \(0.5, 0.0\), the file has \(0.25, 0.0\)"),
])  # fmt: skip
def test_other_files_of_a_collection_differ_from_its_first(write, second, message):
    items = []
    for n, options in enumerate(({}, second)):
        values = distinct((60, 80), options.pop("dtype", "int16"))
        path = write(values, make_grid((60, 80), left=600_000 + 2400 * n), **{"scale": 0.5, **options})
        items.append(item_of(path, name=f"i{n}", raster=[]))
    with pytest.raises(CatalogError, match=message):
        open_stac(items).compute(scheduler="synchronous")
    if "scale" in second:
        layer = open_stac(items, headers="all", rescale=True).compute(scheduler="synchronous")
        assert np.array_equal(layer.values[0, :, 80:], np.float32(0.25) * distinct((60, 80), "int16"))


def test_scale_that_only_the_file_states_is_never_ignored(write):
    values = distinct((2, 60, 80), "int16")
    path = write(values, GRID)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5, 0.25), (0, -3)
    item = item_of(path, raster=[{"data_type": "int16"}] * 2)
    assert np.array_equal(open_stac(item), values)
    with pytest.raises(CatalogError, match=r"no scale and offset, the file has \(0.\d+, .*Pass headers='all'"):
        open_stac(item, rescale=True).compute(scheduler="synchronous")
    layer = open_stac(item, rescale=True, headers="all")
    assert np.array_equal(layer, values * np.float32([[[0.5]], [[0.25]]]) - np.float32([[[0]], [[3]]]))


@pytest.mark.parametrize("field", ["name", "common_name"])
def test_bands_in_another_order_than_the_file_raise(write, field):
    values = distinct((2, 60, 80))
    path = write(values, GRID)
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("Red", "NIR")

    def opened(*names):
        bands = [{"name": f"B{n}", field: name} for n, name in enumerate(names)]
        return open_stac(item_of(path, raster=[{"data_type": "uint16"}] * 2, bands=bands))

    with pytest.raises(CatalogError, match=r"states the bands \['nir', 'red'\], .* order \['Red', 'NIR'\]"):
        opened("nir", "red").compute(scheduler="synchronous")
    for names in (("red", "nir"), ("red", "swir"), ("nir", "nir")):  # equal, other names, not distinct
        assert np.array_equal(opened(*names), values)


def test_no_file_is_opened_for_the_comparison(write, monkeypatch):
    item, opened, real = item_of(write(distinct((60, 80)), GRID, nodata=0)), [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda href, **options: (opened.append(href), real(href, **options))[1])
    monkeypatch.setattr(file_version, "TICK", 0)  # files of the last 50 ms are opened again
    layer = open_stac(item)
    layer.compute(scheduler="synchronous")
    layer.compute(scheduler="synchronous")
    assert opened == [item.assets["b"].href]


def test_quality_band_of_items_is_compared(write):
    # a scene classification whose item states another place excludes other pixels
    grid, coarse = make_grid((60, 80), resolution=10), make_grid((30, 40), resolution=20)
    files = {"red": write(distinct((60, 80)), grid), "scl": write(np.full((30, 40), 8, "uint8"), coarse)}
    item = make_item("one", files, time=WHEN, collection="sentinel-2-l2a", s2__processing_baseline="05.00")
    item.assets["scl"].extra_fields["proj:transform"] = list((coarse.affine @ Affine.translation(5, 0))[:6])
    layer = open_stac(item, product="sentinel2", bands=["red"], exclude="clouds")
    with pytest.raises(CatalogError, match="up to 5 pixels apart"):
        layer.compute(scheduler="synchronous")


def test_unknown_choice_of_headers_raises(write):
    with pytest.raises(InputError, match="Cannot read the headers 'some'. Pass headers='missing' or 'all'"):
        open_stac(item_of(write(distinct((60, 80)), GRID)), headers="some")


def test_files_opened_by_their_headers_are_not_compared(write):
    path = write(distinct((60, 80)), GRID)
    scenes = view_of(open_cogs(path)).source.scenes
    assert not any(asset.stated for scene in scenes for asset in scene.assets)


HUGE = 10**6
LIES = {
    "shape": {"shape": [HUGE, HUGE]},
    "shape beyond GDAL's": {"shape": [2**40, 2**40]},
    "large pixels": {"transform": (GRID.affine @ Affine.scale(1e4))[:6]},
    "small pixels": {"transform": (GRID.affine @ Affine.scale(1e-4))[:6]},
    "small pixels in GDAL's order": {"transform": (GRID.affine @ Affine.scale(1e-4)).to_gdal()},
    "projected bounds": {"transform": None, "bbox": [600_000, 4_548_000, 602_400_000, 4_550_000]},
    "small projected bounds": {"transform": None, "bbox": [600_000, 4_549_999.9, 600_000.1, 4_550_000]},
}


@pytest.mark.parametrize("case", LIES)
@pytest.mark.parametrize("crs", [None, "EPSG:3857"])
def test_layer_is_never_larger_than_its_files(write, case, crs):
    pixels = distinct((60, 80))
    true = item_of(write(pixels, GRID, nodata=0), name="true")
    wrong = item_of(write(pixels, GRID, nodata=0), **LIES[case])
    for items in ([wrong], [wrong, true], [true, wrong]):
        layer = open_stac(items, crs=crs)
        assert max(layer.shape) <= 110
        assert np.isin(layer.compute(scheduler="synchronous"), [0, *pixels.flat]).mean() > (0.99 if crs is None else 0)


@pytest.mark.parametrize("resolution", [1e-5, (1e-8, 30)])
def test_layer_of_absurd_resolution_raises(write, resolution):
    with pytest.raises(InputError, match=r"Cannot open a layer of \d+ x \d+ pixels.*Pass resolution= or grid="):
        open_stac(item_of(write(distinct((60, 80)), GRID)), resolution=resolution)
