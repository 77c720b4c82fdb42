"""Layers across the antimeridian, Greenwich and the poles: every pixel equals a pyproj oracle."""

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import geoxt
from geoxt.errors import CRSError
from geoxt.grid import coordinates, full_window, grid_of
from geoxt.pixels.transform import PixelTransform
from geoxt.source import view_of
from geoxt.windows import Window


def degrees(left, right, top, bottom, size, crs="EPSG:4326"):
    shape = round((top - bottom) / size), round((right - left) / size)
    return GeoBox(shape, Affine(size, 0, left, 0, -size, top), crs)


def square(crs, side, size, left=None, top=None):
    left, top = -side * size / 2 if left is None else left, side * size / 2 if top is None else top
    return GeoBox((side, side), Affine(size, 0, left, 0, -size, top), crs)


WORLD, EAST = degrees(-180, 180, 90, -90, 2), degrees(0, 360, 90, -90, 2)
PAIRS = {
    "0..360 to -180..180": (EAST, WORLD),
    "-180..180 to 0..360": (WORLD, EAST),
    "0..360 to -10..10": (EAST, degrees(-10, 10, 10, -10, 0.5)),
    "0..360 to another datum": (EAST, degrees(-180, 180, 90, -90, 2, "EPSG:4258")),
    "pixels centred on Greenwich": (degrees(-1.25, 358.75, 91.25, -91.25, 2.5), degrees(-180, 180, 80, -80, 1.7)),
    "across 180 to the world": (degrees(179, 181, -17, -19, 0.1), degrees(-180, 180, -10, -25, 0.3)),
    "across -180 to the world": (degrees(-181, -178, -17, -19, 0.1), degrees(-180, 180, -10, -25, 0.3)),
    "across 180 to 0..360": (degrees(-181, -178, -17, -19, 0.1), degrees(0, 360, -10, -25, 0.3)),
    "UTM 1S to the world": (square("EPSG:32701", 100, 1200, 99960, 8100040), degrees(-180, 180, -16, -20, 0.1)),
    "UTM 60N to the world": (square("EPSG:32660", 100, 3000, 600000, 8100040), degrees(-180, 180, 80, 60, 0.3)),
    "South Pole to the world": (square("EPSG:3031", 120, 50000), degrees(-180, 180, -40, -90, 0.7)),
    "North Pole to 0..360": (square("EPSG:3413", 120, 30000), degrees(0, 360, 90, 60, 0.7)),
    "world to the South Pole": (degrees(-180, 180, 90, -90, 1), square("EPSG:3031", 90, 66000)),
    "0..360 to Web Mercator": (EAST, square("EPSG:3857", 100, 400750)),
    "beyond the pole": (square("EPSG:3413", 60, 60000), degrees(-180, 180, 95, 65, 0.9)),
}


def brute_force(values, source, target):
    """Return nearest values by pyproj, 0 outside; and pixels too near an edge between source pixels to compare."""
    rows, cols = np.indices(target.shape) + 0.5
    a, inverse = target.affine, ~source.affine
    x, y = a.a * cols + a.b * rows + a.c, a.d * cols + a.e * rows + a.f
    if source.crs != target.crs:
        project = Transformer.from_crs(target.crs.proj, source.crs.proj, always_xy=True)
        x, y = project.transform(x, y)
    out, unsure = np.zeros(target.shape, values.dtype), np.zeros(target.shape, bool)
    x, y = np.where(np.isfinite(x) & np.isfinite(y), (x, y), 1e20)
    for turn in (-360, 0, 360) if source.crs.geographic else (0,):
        col = inverse.a * (x + turn) + inverse.b * y + inverse.c
        row = inverse.d * (x + turn) + inverse.e * y + inverse.f
        inside = (row >= 0) & (row < source.shape[0]) & (col >= 0) & (col < source.shape[1])
        unsure |= (np.minimum(np.abs(row - np.rint(row)), np.abs(col - np.rint(col))) < 1e-3) & (np.abs(x) < 1e19)
        out[inside] = values[row[inside].astype(int), col[inside].astype(int)]
    return out, unsure


def numbered(grid, dtype="int32"):
    return (np.arange(grid.shape[0] * grid.shape[1]).reshape(grid.shape) + 1).astype(dtype)


def write(path, values, grid, nodata=0):
    profile = {"driver": "GTiff", "count": 1, "height": grid.shape[0], "width": grid.shape[1], "dtype": values.dtype}
    with rasterio.open(path, "w", crs=grid.crs.to_wkt(), transform=grid.affine, nodata=nodata, **profile) as file:
        file.write(values, 1)
    return path


def array_layer(values, grid, chunks=None):
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(grid), attrs={"_FillValue": 0}, name="image")
    return layer if chunks is None else layer.chunk(chunks)


@pytest.mark.parametrize("name", PAIRS)
def test_nearest_equals_pyproj_of_each_pixel(tmp_path, name):
    source, target = PAIRS[name]
    values = numbered(source)
    expected, unsure = brute_force(values, source, target)
    assert ((expected > 0) & ~unsure).sum() > 20
    path = write(tmp_path / "a.tif", values, source)
    chunked = array_layer(values, source, {"y": 37, "x": 41})
    layers = {
        "files": geoxt.open_cogs(path, grid=target, resampling="nearest"),
        "array": geoxt.align(array_layer(values, source), target, resampling="nearest"),
        "dask": geoxt.align(chunked, target, resampling="nearest", chunks=50),
    }
    for kind, layer in layers.items():
        actual = layer.squeeze().values
        np.testing.assert_array_equal(actual[~unsure], expected[~unsure], err_msg=kind)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_windows_equal_part_of_whole_and_lie_in_the_footprint(tmp_path, name, method):
    source, target = PAIRS[name]
    path = write(tmp_path / "a.tif", numbered(source, "float32"), source)
    view = view_of(geoxt.open_cogs(path, grid=target, resampling=method))
    full, valid = view.read(full_window(target))
    rows, cols = target.shape
    for window in (Window(rows // 3, cols // 2 - 9, 7, 19), Window(1, 0, 5, 8), Window(rows - 9, cols - 6, 9, 6)):
        part, part_valid = view.read(window)
        at = (..., *window.within(full_window(target)))
        np.testing.assert_array_equal(part_valid, valid[at])
        np.testing.assert_array_equal(part, full[at])
    footprint = view.footprint().buffer(1)
    y, x = np.nonzero(valid[0, 0])
    assert shapely.intersects_xy(footprint, x + 0.5, y + 0.5).all()


def test_coinciding_pixels_of_several_turns_are_copied(tmp_path):
    values = numbered(EAST, "int64") + 2**60
    path = write(tmp_path / "a.tif", values, EAST)
    layer = geoxt.open_cogs(path, grid=WORLD)  # bilinear
    half = EAST.shape[1] // 2
    np.testing.assert_array_equal(layer.values[0], np.concatenate((values[:, half:], values[:, :half]), axis=1))
    parts = PixelTransform(WORLD, EAST).parts
    assert [part.shift for part in parts] == [(0, half), (0, -half)]


@pytest.mark.parametrize("size", [1, 2.5, 6])
def test_coarse_world_grid_of_another_datum_is_not_interpolated_across_its_ends(size):
    source, target = degrees(0, 360, 90, -90, size), degrees(-180, 180, 90, -90, size, "EPSG:4258")
    values = numbered(source)
    actual = geoxt.align(array_layer(values, source), target, resampling="nearest").values
    np.testing.assert_array_equal(actual, np.roll(values, values.shape[1] // 2, axis=1))


@pytest.mark.parametrize(
    ("source", "bbox", "bounds"),
    [
        (EAST, [-10, 40, 10, 44], (-10, 40, 10, 44)),
        (EAST, [350, 40, 370, 44], (-10, 40, 10, 44)),
        (EAST, [-180, -90, 180, 90], (0, -90, 360, 90)),
        (WORLD, [170, 40, -170, 44], (170, 40, 190, 44)),
        (WORLD, [170, 40, 190, 44], (170, 40, 190, 44)),
        (WORLD, [176, 40, 180, 44], (176, 40, 180, 44)),
        (WORLD, [-180, 40, -176, 44], (-180, 40, -176, 44)),
        (degrees(178, 182, -16, -20, 0.5), [-179.5, -18, -179, -17], (180.5, -18, 181, -17)),
    ],
)
def test_bbox_across_the_ends_of_a_grid_is_contiguous(tmp_path, source, bbox, bounds):
    values = numbered(source)
    layer = geoxt.open_cogs(write(tmp_path / "a.tif", values, source), bbox=bbox)
    assert tuple(layer.geoml.grid.boundingbox) == pytest.approx(bounds)
    expected, _ = brute_force(values, source, grid_of(layer))
    np.testing.assert_array_equal(layer.values[0], expected)
    assert (layer.values > 0).all()


@pytest.mark.parametrize(
    "bbox", [[179.4, -17.7, 179.95, -17], [-179.9, -17.7, -179.7, -17.2], [179.6, -17.7, -179.7, -17]]
)
def test_bbox_beside_180_finds_a_scene_across_it(tmp_path, bbox):
    path = write(tmp_path / "a.tif", numbered(PAIRS["UTM 1S to the world"][0]), PAIRS["UTM 1S to the world"][0])
    layer = geoxt.open_cogs(path, bbox=bbox)
    assert (layer.values > 0).mean() > 0.9
    again = geoxt.open_cogs(path, bbox=bbox, crs="EPSG:4326", resolution=0.02)
    assert (again.values > 0).mean() > 0.9


def test_intersection_reaches_across_greenwich():
    image = degrees(-5, 5, 45, 35, 0.1)
    era = array_layer(numbered(EAST), EAST)
    ds = geoxt.intersection(image=array_layer(numbered(image), image), era=era, resampling="nearest")
    assert ds.sizes == {"y": 100, "x": 100}
    np.testing.assert_array_equal(ds["era"], brute_force(numbered(EAST), EAST, image)[0])


POLAR = square("EPSG:3031", 200, 33332.5)


@pytest.mark.parametrize("resolution", [None, 0.5])
def test_polar_raster_in_degrees_covers_the_cap(tmp_path, resolution):
    path = write(tmp_path / "a.tif", numbered(POLAR), POLAR)
    layer = geoxt.open_cogs(path, crs="EPSG:4326", resolution=resolution, resampling="nearest")
    left, bottom, right, top = layer.geoml.grid.boundingbox
    assert (left, bottom, right, top) == pytest.approx((-180, -90, 180, -48.3), abs=0.4)
    assert abs(layer.geoml.grid.affine.a) == pytest.approx(resolution or 0.3, rel=0.02)
    expected, unsure = brute_force(numbered(POLAR), POLAR, grid_of(layer))
    np.testing.assert_array_equal(layer.values[0][~unsure], expected[~unsure])
    assert (layer.values[0, -40:-1] > 0).all()


@pytest.mark.parametrize("crs", ["EPSG:6933", "EPSG:3035", "ESRI:54030"])
def test_world_in_another_crs_is_covered(tmp_path, crs):
    source = degrees(-1, 359, 91, -91, 2)  # pixels centred on the poles
    path = write(tmp_path / "a.tif", np.ones(source.shape, "uint8"), source)
    layer = geoxt.open_cogs(path, crs=crs)
    longitude, latitude = (g.ravel() for g in np.meshgrid(np.arange(-179, 180, 7.3), np.arange(-89, 90, 5.7)))
    points = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    cols, rows = ~layer.geoml.grid.affine @ points
    assert min(cols.min(), rows.min()) >= 0
    assert (cols <= layer.sizes["x"]).all()
    assert (rows <= layer.sizes["y"]).all()


def test_world_in_web_mercator_needs_an_area(tmp_path):
    world = degrees(-180, 180, 90, -90, 1)
    path = write(tmp_path / "a.tif", numbered(world), world)
    with pytest.raises(CRSError, match="points fall outside"):
        geoxt.open_cogs(path, crs="EPSG:3857")
    layer = geoxt.open_cogs(path, crs="EPSG:3857", bbox=[-60, -80, 60, 80], resampling="nearest")
    expected, unsure = brute_force(numbered(world), world, grid_of(layer))
    np.testing.assert_array_equal(layer.values[0][~unsure], expected[~unsure])
    assert abs(layer.geoml.grid.affine.a) == pytest.approx(111_320, rel=0.1)


@pytest.mark.parametrize(
    ("first", "second", "bounds"),
    [
        (degrees(178, 180, 10, 0, 1), degrees(-180, -178, 10, 0, 1), (178, 0, 182, 10)),
        (WORLD, degrees(180, 184, 10, 0, 2), (-180, -90, 180, 90)),
        (EAST, WORLD, (0, -90, 360, 90)),
        (degrees(0, 20, -60, -80, 1), POLAR, (-180, -90, 180, -48)),
    ],
)
def test_union_covers_both_within_one_turn(first, second, bounds):
    united = geoxt.union(array_layer(numbered(first), first), array_layer(numbered(second), second))
    assert tuple(united.odc.geobox.boundingbox) == pytest.approx(bounds, abs=1)
    expected, _ = brute_force(numbered(first), first, united.odc.geobox)
    inside = expected > 0
    np.testing.assert_array_equal(united.values[inside], expected[inside])
    assert (united.values > 0).sum() > inside.sum() or second is WORLD or first is WORLD
