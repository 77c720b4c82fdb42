"""Validity of opened layers: kept by values, also where masks, several nodata values or gaps state it."""

import itertools

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.grid import full_window, grid_of
from geoxt.source import view_of
from geoxt.source.fill import free_fill
from geoxt.testing import make_grid, write_cog

GRID = make_grid((20, 30))
EAST = GeoBox((20, 30), GRID.affine @ Affine.translation(30, 0), GRID.crs)
APART = GeoBox((20, 30), GRID.affine @ Affine.translation(40, 0), GRID.crs)
ROWS = np.arange(600).reshape(1, 20, 30) % 200


@pytest.fixture
def write(tmp_path):
    count = itertools.count()
    return lambda values, grid=GRID, **options: str(
        write_cog(tmp_path / f"{next(count)}.tif", values, grid=grid, **{"tiled": False, **options})
    )


def with_missing(value, dtype):
    values = np.where(np.arange(30) < 10, value, ROWS + 1).astype(dtype)
    values[0, 5:9, 20:25] = 0
    return values


def internal_mask(write):
    mask = np.broadcast_to(np.arange(30) >= 10, (20, 30))
    return geoxt.open_cogs(write(ROWS.astype("uint8"), mask=mask)), mask[None]


def bands_of_several_nodata(write):
    first, second = with_missing(0, "uint8"), with_missing(255, "uint8")
    layer = geoxt.open_cogs([write(first, nodata=0), write(second, nodata=255)])
    return layer, np.concatenate([first != 0, second != 255])


def scenes_of_several_nodata(write):
    first, second = with_missing(0, "uint8"), with_missing(-9999, "int16")
    layer = geoxt.open_cogs([write(first, nodata=0), write(second, EAST, nodata=-9999)])
    return layer, np.concatenate([first != 0, second != -9999], axis=2)


def gap_between_scenes(write):
    layer = geoxt.open_cogs([write(ROWS.astype("int8")), write(ROWS.astype("int8"), APART)])
    return layer, np.broadcast_to((np.arange(70) < 30) | (np.arange(70) >= 40), (1, 20, 70))


def floats_of_several_nodata(write):
    first, second = with_missing(-1, "float32"), with_missing(-9999, "float32")
    layer = geoxt.open_cogs([write(first, nodata=-1), write(second, nodata=-9999)])
    return layer, np.concatenate([first != -1, second != -9999])


CASES = [internal_mask, bands_of_several_nodata, scenes_of_several_nodata, gap_between_scenes, floats_of_several_nodata]


def valid_of(layer):
    valid = view_of(layer).read(full_window(grid_of(layer)))[1]
    return valid[0]


@pytest.mark.parametrize("case", CASES)
def test_validity_survives_computing_and_storing(write, tmp_path, case):
    layer, expected = case(write)
    geoxt.to_cog(layer, tmp_path / "out.tif", progress=False)
    geoxt.to_zarr(layer, tmp_path / "out.zarr", progress=False)
    stored = xr.open_zarr(tmp_path / "out.zarr", mask_and_scale=False, decode_coords="all")
    layers = {
        "layer": layer,
        "computed": layer.compute(),
        "persisted": layer.persist(),
        "chunked": layer.chunk({"y": 7, "x": 11}),
        "cog": geoxt.open_cogs(str(tmp_path / "out.tif")),
        "zarr": next(iter(stored.data_vars.values())),
    }
    for name, variant in layers.items():
        assert np.array_equal(valid_of(variant), expected), name
    with rasterio.open(tmp_path / "out.tif") as file:
        assert np.array_equal(file.read_masks() > 0, expected) or layer.dtype.kind == "f"


@pytest.mark.parametrize("case", CASES)
def test_valid_values_are_those_of_the_files(write, case):
    layer, expected = case(write)
    values = layer.values.astype("float64")
    fill = layer.attrs["_FillValue"]
    assert not (values[expected] == fill).any()
    assert (np.isnan(values[~expected]) if np.isnan(fill) else values[~expected] == fill).all()


def test_validity_survives_a_union_with_a_larger_grid(write):
    layer, expected = internal_mask(write)
    united = geoxt.union(layer, geoxt.open_cogs(write(ROWS.astype("uint8"), APART)))
    gap = np.zeros((1, 20, 10), bool)
    for variant in (united, united.compute()):
        assert np.array_equal(valid_of(variant), np.concatenate([expected, gap, np.ones((1, 20, 30), bool)], axis=2))


@pytest.mark.parametrize("hold", [lambda a: a, xr.DataArray.compute, xr.DataArray.persist, lambda a: a * 1])
def test_pixels_beyond_a_layer_without_nodata_stay_invalid(write, hold):
    layer = hold(geoxt.open_cogs(write(ROWS.astype("uint8"))))
    aligned = layer.geoml.align(GRID.pad(5))
    expected = np.pad(np.ones((1, 20, 30), bool), ((0, 0), (5, 5), (5, 5)))
    for variant in (aligned, aligned.compute()):
        assert np.array_equal(valid_of(variant), expected)
        assert np.array_equal(variant.values[expected], ROWS.ravel())
    assert layer.geoml.align(GRID[3:9, 4:8]).dtype == np.uint8


def test_one_nodata_value_keeps_the_stored_type(write):
    layer = geoxt.open_cogs(
        [write(with_missing(0, "uint8"), nodata=0), write(with_missing(0, "uint8"), APART, nodata=0)]
    )
    assert layer.dtype == np.uint8
    assert layer.attrs["_FillValue"] == 0
    adjacent = geoxt.open_cogs([write(ROWS.astype("uint8")), write(ROWS.astype("uint8"), EAST)])
    assert adjacent.dtype == np.uint8
    assert "_FillValue" not in adjacent.attrs


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
def test_free_fill_lies_beyond_the_stored_range(dtype):
    wider, fill = free_fill(np.dtype(dtype))
    limits = np.iinfo(dtype)
    assert not limits.min <= fill <= limits.max
    assert all(int(wider.type(n)) == n for n in (fill, limits.min, limits.max))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_average_equal_to_nodata_stays_valid(write, dtype):
    checks = np.where(np.indices((20, 30)).sum(0) % 2, 127, 129).astype(dtype)[None]
    layer = geoxt.open_cogs(write(checks, nodata=128))
    target = GeoBox((20, 29), GRID.affine @ Affine.translation(0.5, 0), GRID.crs)
    for variant in (layer, layer.compute(), layer.persist()):
        aligned = variant.geoml.align(target)
        assert valid_of(aligned).all()
        assert valid_of(aligned.compute()).all()
        assert np.allclose(aligned.values, 128, atol=1)
        assert (aligned.values != 128).all()


@pytest.mark.parametrize("composite", ["mean", "median"])
def test_composite_equal_to_nodata_stays_valid(write, composite):
    shifted = GeoBox((20, 30), GRID.affine @ Affine.translation(10, 0), GRID.crs)
    files = [write(np.full((1, 20, 30), v, "uint8"), g, nodata=128) for v, g in ((127, GRID), (129, shifted))]
    layer = geoxt.open_cogs(files, composite=composite)
    assert valid_of(layer).all()
    assert valid_of(layer.compute()).all()


def test_64_bit_integers_that_use_their_fill_value_raise_at_the_read(write):
    mask = np.broadcast_to(np.arange(30) >= 10, (20, 30))
    values = ROWS.astype("int64")
    path = write(values, mask=mask)
    np.testing.assert_array_equal(geoxt.open_cogs(path).values[mask[None]], values[mask[None]])
    values[0, 3, 20] = np.iinfo("int64").min
    path = write(values, mask=mask)
    with pytest.raises(geoxt.errors.ReadError, match="fill value -9223372036854775808"):
        geoxt.open_cogs(path).compute()
    layer = geoxt.open_cogs(path, nodata=-7)
    np.testing.assert_array_equal(layer.values, np.where(mask, values, -7))


@pytest.mark.parametrize("flips", [(-1, 1), (1, -1), (-1, -1)])
def test_mirrored_files_keep_their_type(write, flips):
    rows, cols = GRID.shape
    mirror = Affine(flips[1], 0, cols * (flips[1] < 0), 0, flips[0], rows * (flips[0] < 0))
    values = ROWS.astype("uint8")
    path = write(values, GeoBox(GRID.shape, GRID.affine @ mirror, GRID.crs))
    layer = geoxt.open_cogs(path)
    assert layer.dtype == "uint8"
    assert "_FillValue" not in layer.attrs
    expected = values[:, :: flips[0], :: flips[1]]
    aligned = geoxt.open_cogs(path, grid=GRID)
    assert aligned.dtype == "uint8"
    np.testing.assert_array_equal(aligned.values, expected)
    half = GeoBox((rows, cols // 2), GRID.affine, GRID.crs)
    assert geoxt.open_cogs(path, grid=half).dtype == "uint8"
    shifted = GeoBox(GRID.shape, GRID.affine @ Affine.translation(1, 0), GRID.crs)
    assert geoxt.open_cogs(path, grid=shifted).dtype == "int16"
