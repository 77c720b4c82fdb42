"""Generated GeoTIFFs have the requested pixels and metadata when read by rasterio."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Interleaving, MaskFlags

from geoxt.testing import distinct, make_grid, write_bands, write_cog

SHAPE = (70, 90)
LAYOUTS = {
    "cog": {"blocksize": 32},
    "tiled": {"blocksize": 32, "overviews": ()},
    "striped": {"tiled": False},
    "deflate": {"compress": "deflate", "predictor": 2},
    "zstd": {"compress": "zstd", "predictor": 2},
    "striped zstd": {"tiled": False, "compress": "zstd", "predictor": 2},
    "lzw, by pixel": {"compress": "lzw", "interleave": "pixel", "overviews": (2,)},
}
GRIDS = {
    "north-up": make_grid(SHAPE),
    "south-up": make_grid(SHAPE, south_up=True),
    "rotated": make_grid(SHAPE, degrees=25),
    "degrees": make_grid(SHAPE, crs="EPSG:4326", left=-90, top=41, resolution=0.0003),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_every_layout_reads_back(tmp_path, layout, dtype):
    values = distinct((2, *SHAPE), dtype)
    options = LAYOUTS[layout]
    if dtype == "float32" and options.get("predictor"):
        options = options | {"predictor": 3}
    path = write_cog(tmp_path / "a.tif", values, grid=make_grid(SHAPE), nodata=0, **options)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)
        assert (file.nodata, file.crs.to_epsg()) == (0, 32615)
        assert (file.block_shapes[0][1] == SHAPE[1]) == ("striped" in layout)
        cog = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
    assert cog == (layout in ("cog", "deflate", "zstd"))


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("point", [False, True])
@pytest.mark.parametrize("tiled", [False, True])
def test_every_grid_reads_back(tmp_path, name, point, tiled):
    grid, values = GRIDS[name], distinct(SHAPE)
    with rasterio.open(write_cog(tmp_path / "a.tif", values, grid=grid, point=point, tiled=tiled)) as file:
        assert file.transform.almost_equals(grid.affine, precision=1e-6)
        assert file.crs.to_epsg() == grid.crs.epsg
        assert file.tags()["AREA_OR_POINT"] == ("Point" if point else "Area")
        np.testing.assert_array_equal(file.read(1), values)


@pytest.mark.parametrize("tiled", [False, True])
def test_raster_without_crs(tmp_path, tiled):
    grid = make_grid(SHAPE, crs=None)
    with rasterio.open(write_cog(tmp_path / "a.tif", distinct(SHAPE), grid=grid, tiled=tiled)) as file:
        assert file.crs is None
        assert file.transform == grid.affine


def test_affine_of_south_up_and_rotated_grids():
    north, south, turned = (GRIDS[name] for name in ("north-up", "south-up", "rotated"))
    assert south.boundingbox.bbox == north.boundingbox.bbox
    assert (south.affine.e, north.affine.e) == (30, -30)
    assert (turned.affine.c, turned.affine.f) == (north.affine.c, north.affine.f)
    assert turned.affine.d > 0, "counter-clockwise: columns go up"


def test_classes_and_palette(tmp_path):
    names, colors = {1: "Corn", 5: "Open Water"}, {1: "#ffd300", 5: "#4970a3"}
    values = np.where(distinct(SHAPE, "uint16") % 2, 1, 5).astype("uint8")
    path = write_cog(tmp_path / "a.tif", values, grid=make_grid(SHAPE), nodata=0, names=names, colors=colors)
    with rasterio.open(path) as file:
        assert file.colorinterp == (ColorInterp.palette,)
        assert {code: file.colormap(1)[code] for code in colors} == {1: (255, 211, 0, 255), 5: (73, 112, 163, 255)}
        tags = file.tags(1)
    assert tags["flag_values"] == "1 5"
    assert tags["flag_meanings"] == "Corn Open_Water"
    assert tags["flag_colors"] == "#ffd300 #4970a3"
    text = (tmp_path / "a.tif.aux.xml").read_text()
    assert text.count("<Category>") == 6
    assert "<Category>Open Water</Category>" in text


@pytest.mark.parametrize("tiled", [False, True])
def test_internal_mask(tmp_path, tiled):
    mask = distinct(SHAPE) % 3 > 0
    path = write_cog(tmp_path / "a.tif", distinct(SHAPE), grid=make_grid(SHAPE), mask=mask, tiled=tiled)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(path) as file:
        assert file.mask_flag_enums == ([MaskFlags.per_dataset],)
        np.testing.assert_array_equal(file.read_masks(1) > 0, mask)


def test_alpha(tmp_path):
    alpha = (distinct(SHAPE) % 3 > 0) * 255
    path = write_cog(tmp_path / "a.tif", distinct((3, *SHAPE), "uint8"), grid=make_grid(SHAPE), alpha=alpha)
    with rasterio.open(path) as file:
        assert (file.count, file.colorinterp[-1]) == (4, ColorInterp.alpha)
        np.testing.assert_array_equal(file.dataset_mask(), alpha)


def test_scale_offset_and_band_names(tmp_path):
    options = {"scale": 2.75e-5, "offset": -0.2, "bands": ("red", "nir08")}
    path = write_cog(tmp_path / "a.tif", distinct((2, *SHAPE)), grid=make_grid(SHAPE), **options)
    with rasterio.open(path) as file:
        assert (file.scales, file.offsets) == ((2.75e-5,) * 2, (-0.2,) * 2)
        assert file.descriptions == ("red", "nir08")


def test_internal_and_external_overviews(tmp_path):
    values, grid = distinct(SHAPE), make_grid(SHAPE)
    inside = write_cog(tmp_path / "in.tif", values, grid=grid, blocksize=16, overviews=(2, 4))
    beside = write_cog(tmp_path / "out.tif", values, grid=grid, blocksize=16, overviews=(2, 4), external=True)
    internal = write_cog(tmp_path / "cog.tif", values, grid=grid, blocksize=32)
    assert (tmp_path / "out.tif.ovr").exists()
    assert not (tmp_path / "in.tif.ovr").exists()
    for path in (inside, beside):
        with rasterio.open(path) as file:
            assert file.overviews(1) == [2, 4]
    with rasterio.open(internal) as file:
        assert file.overviews(1)


def test_write_bands_writes_one_file_per_band(tmp_path):
    values = distinct((3, *SHAPE))
    names = ["B2.TIF", "B3.TIF", "B4.TIF"]
    paths = write_bands(tmp_path / "new", values, names=names, grid=make_grid(SHAPE), nodata=0)
    assert [path.name for path in paths] == names
    for path, band in zip(paths, values, strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(), band[np.newaxis])


def test_interleaving(tmp_path):
    options = {"grid": make_grid(SHAPE), "overviews": (), "interleave": "band"}
    with rasterio.open(write_cog(tmp_path / "a.tif", distinct((2, *SHAPE)), **options)) as file:
        assert file.interleaving == Interleaving.band


def test_complex_dtype_is_written(tmp_path):
    values = (distinct(SHAPE) * (1 + 1j)).astype("complex64")
    with rasterio.open(write_cog(tmp_path / "a.tif", values, grid=make_grid(SHAPE), overviews=())) as file:
        assert file.dtypes == ("complex64",)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32", "float64"])
def test_distinct_values_are_unique(dtype):
    values = distinct((3, 50, 60), dtype)
    assert values.dtype == dtype
    assert np.unique(values).size == values.size
    assert values.min() == 1


def test_distinct_bytes_differ_within_7_pixels():
    values = distinct((2, 60, 80), "uint8").astype(int)
    assert values.min() == 1
    for down in range(8):
        for right in range(-7, 8):
            if (down, right) != (0, 0):
                moved = np.roll(values, (-down, -right), (1, 2))[:, : 60 - down, 7:-7]
                assert (moved != values[:, : 60 - down, 7:-7]).all(), (down, right)
