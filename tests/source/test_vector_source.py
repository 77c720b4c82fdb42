"""Vector sources: windows, chunks and processes burn equal pixels; edges bend in another CRS."""

from __future__ import annotations

import itertools
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoxt.errors import CRSError, ReadError
from geoxt.pixels.vector_file import read_vector_header
from geoxt.source import VectorSource, to_layer, view_of
from geoxt.source import feature_index as module
from geoxt.source.project_geometries import bounds_in_crs
from geoxt.windows import Window

UTM = GeoBox((150, 170), Affine(30, 0, 500_000, 0, -30, 4_650_000), "EPSG:32615")


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write geometries, and attributes by name, as a vector file; returns its path."""
    folder, count = tmp_path_factory.mktemp("shapes"), itertools.count()

    def write_one(geometries, crs="EPSG:32615", **columns):
        path = str(folder / f"{next(count)}.gpkg")
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array(geometries, object)), list(map(np.asarray, columns.values())),
            list(columns), crs=crs, geometry_type="Unknown", driver="GPKG",
        )  # fmt: skip
        return path

    return write_one


def source(path, grid=UTM, **options):
    options = {"dtype": np.dtype("uint8"), **options}
    return VectorSource(file=read_vector_header(path), grid=grid, **options)


def pixels(shapes, window=None):
    return shapes.read(window or Window(0, 0, *shapes.grid.shape))[0][0, 0]


def pixels_to_crs(grid, crs):
    """Return the function from pixel positions of a grid to coordinates of a CRS."""
    project = pyproj.Transformer.from_crs(str(grid.crs), crs, always_xy=True)
    return lambda p: np.column_stack(project.transform(*(grid.affine @ (p[:, 0], p[:, 1]))))


def scattered(count, seed=0, shape=UTM.shape):
    """Return triangles and tilted boxes, in pixels, that overlap each other and the edges of the grid."""
    rng = np.random.default_rng(seed)
    return [
        shapely.convex_hull(shapely.MultiPoint(rng.uniform(-20, 20, (4, 2)) + rng.uniform(0, shape[::-1])))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def polygons(write):
    """A file of 60 overlapping polygons in degrees, with classes 1 to 6."""
    projected = [shapely.transform(p, pixels_to_crs(UTM, "EPSG:4326")) for p in scattered(60)]
    return write(projected, "EPSG:4326", kind=np.arange(60, dtype="int32") % 6 + 1)


KINDS = {"column": "kind", "classes": tuple((n, n) for n in range(1, 7))}


@pytest.mark.parametrize("options", [{}, {"all_touched": True}, {"instances": True}])
def test_chunks_and_windows_equal_part_of_whole(polygons, options):
    shapes = source(polygons, **KINDS, **options)
    full = pixels(shapes)
    assert len(np.unique(full)) > 6
    for chunks in (17, 64, {"y": 150, "x": 5}):
        layer = to_layer(shapes, dims=["y", "x"], coords={}, attrs={"flag_values": np.arange(7)}, chunks=chunks)
        np.testing.assert_array_equal(layer.to_numpy(), full)
    view = view_of(layer[13:90, 20:77])
    assert view.direct
    np.testing.assert_array_equal(view.read(Window(0, 0, 77, 57))[0][0, 0], full[13:90, 20:77])


@given(st.integers(-40, 160), st.integers(-40, 180), st.integers(1, 80), st.integers(1, 80), st.booleans())
def test_window_equals_part_of_whole(polygons, row, col, height, width, all_touched):
    shapes = source(polygons, **KINDS, all_touched=all_touched, background=9, nodata=77)
    window, frame = Window(row, col, height, width), Window(-60, -60, 400, 400)
    full, inside = shapes.read(frame)
    values, valid = shapes.read(window, dtype=np.dtype("int64"))
    assert values.dtype == "int64"
    np.testing.assert_array_equal(values[0, 0], full[0, 0][window.within(frame)])
    np.testing.assert_array_equal(valid[0, 0], inside[0, 0][window.within(frame)])
    assert (full[~inside] == 77).all()
    assert inside.sum() == 150 * 170


ROTATED = GeoBox(UTM.shape, UTM.affine @ Affine.rotation(17) @ Affine.scale(0.9, -0.7), UTM.crs)


@pytest.mark.parametrize("grid", [UTM, ROTATED, UTM.zoom_out(3.7), UTM.to_crs("EPSG:5070"), UTM.to_crs("EPSG:4326")])
def test_pixels_are_burned_by_centre(polygons, grid):
    rows, cols = np.indices(grid.shape)
    x, y = pixels_to_crs(grid, "EPSG:4326")(np.c_[cols.ravel() + 0.5, rows.ravel() + 0.5]).T
    geometries = shapely.from_wkb(pyogrio.raw.read(polygons)[2])
    lines = shapely.union_all(shapely.boundary(geometries))
    shapely.prepare(lines)
    near = shapely.dwithin(lines, shapely.points(x, y), 1e-6).reshape(grid.shape)  # a 250th of a pixel
    expected = np.zeros(grid.shape, int)
    for position, geometry in enumerate(geometries):
        expected[shapely.contains_xy(geometry, x, y).reshape(grid.shape)] = position % 6 + 1
    burned = pixels(source(polygons, grid, **KINDS))
    assert len(np.unique(burned)) > 4
    np.testing.assert_array_equal(burned[~near], expected[~near])
    assert near.mean() < 0.005


def test_long_edges_are_densified(write):
    """A parallel of latitude is straight in degrees; on a grid of metres it is an arc, 60 pixels deep here."""
    grid = GeoBox((400, 400), Affine(1000, 0, -200_000, 0, -1000, 200_000), "+proj=laea +lat_0=60 +lon_0=10")
    path = write([shapely.box(-20, 60, 40, 75)], "EPSG:4326")
    rows, cols = np.indices(grid.shape)
    _, lat = pixels_to_crs(grid, "EPSG:4326")(np.c_[cols.ravel() + 0.5, rows.ravel() + 0.5]).T
    np.testing.assert_array_equal(pixels(source(path, grid)).ravel() == 1, lat > 60)


def test_reprojected_adjacent_polygons_have_no_gap_and_no_overlap(write):
    points = np.random.default_rng(3).uniform((-94, 40), (-92, 42), (40, 2))
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(points)))
    grid = GeoBox((300, 300), Affine(700, 0, 390_000, 0, -700, 4_660_000), "EPSG:32615")
    reoriented = [shapely.reverse(t) if n % 2 else t for n, t in enumerate(triangles)]
    cover_counts = sum(pixels(source(write([t], "EPSG:4326"), grid)).astype(int) for t in reoriented)
    rows, cols = np.indices(grid.shape)
    lon, lat = pixels_to_crs(grid, "EPSG:4326")(np.c_[cols.ravel() + 0.5, rows.ravel() + 0.5]).T
    hull = shapely.union_all(triangles)
    inside = shapely.contains_xy(hull.buffer(-1e-3), lon, lat).reshape(grid.shape)
    outside = ~shapely.contains_xy(hull.buffer(1e-3), lon, lat).reshape(grid.shape)
    assert (cover_counts[inside] == 1).all()
    assert (cover_counts[outside] == 0).all()
    assert inside.sum() > 10_000


@pytest.mark.parametrize("west", [-181, 179])
def test_polygons_on_both_sides_of_the_antimeridian(write, west):
    path = write([shapely.box(179.5, 0, 180, 1), shapely.box(-180, 0, -179.75, 1)], "EPSG:4326")
    grid = GeoBox((8, 16), Affine(0.125, 0, west, 0, -0.125, 1), "EPSG:4326")
    np.testing.assert_array_equal(pixels(source(path, grid)), np.repeat([[0] * 4 + [1] * 6 + [0] * 6], 8, axis=0))
    utm = GeoBox((20, 40), Affine(5000, 0, 160_000, 0, -5000, 105_000), "EPSG:32601")
    rows, cols = np.indices(utm.shape)
    lon, lat = pixels_to_crs(utm, "EPSG:4326")(np.c_[cols.ravel() + 0.5, rows.ravel() + 0.5]).T
    inside = ((lon > 179.5) | (lon < -179.75)) & (lat > 0) & (lat < 1)
    np.testing.assert_array_equal(pixels(source(path, utm)).ravel() == 1, inside)


def test_projected_polygon_across_the_antimeridian_is_burned_in_degrees(write):
    to_utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True)
    box = shapely.transform(shapely.box(179.5, 1, 180.5, 2), lambda p: np.column_stack(to_utm.transform(*p.T)))
    path = write([box], "EPSG:32601")
    for west in (179, -181):
        grid = GeoBox((8, 16), Affine(0.125, 0, west, 0, -0.125, 2), "EPSG:4326")
        assert (pixels(source(path, grid))[1:-1] == [0] * 4 + [1] * 8 + [0] * 4).all()


def test_global_and_polar_polygons_are_burned_on_projected_grids(write):
    path = write([shapely.box(-180, -90, 180, 90)], "EPSG:4326")
    assert (pixels(source(path)) == 1).all()
    cap = write([shapely.box(-180, 80, 180, 90)], "EPSG:4326")
    polar = GeoBox((60, 60), Affine(50_000, 0, -1_500_000, 0, -50_000, 1_500_000), "EPSG:3413")
    rows, cols = np.indices(polar.shape)
    _, lat = pixels_to_crs(polar, "EPSG:4326")(np.c_[cols.ravel() + 0.5, rows.ravel() + 0.5]).T
    np.testing.assert_array_equal(pixels(source(cap, polar)).ravel() == 1, lat > 80)
    assert bounds_in_crs(polar, source(cap).file.crs)[:3:2] == (-360, 360)


def test_feature_outside_the_domain_of_the_crs_raises(write, monkeypatch):
    path = write([shapely.box(500_000, 4_649_000, 501_000, 4_650_000)])
    monkeypatch.setattr(
        "geoxt.source.project_geometries._transform", lambda project, points: np.full_like(points, np.inf)
    )
    with pytest.raises(CRSError, match="feature 1 of"):
        source(path, GeoBox((9, 9), Affine(0.001, 0, -93, 0, -0.001, 42), "EPSG:4326")).index  # noqa: B018


def boxes(*bounds):
    """Return boxes given in pixels of the grid, in its CRS."""
    return [shapely.transform(shapely.box(*b), lambda p: np.column_stack(UTM.affine @ (p[:, 0], p[:, 1])))
            for b in bounds]  # fmt: skip


def test_later_feature_or_largest_value_wins(write):
    path = write(boxes((0, 0, 4, 4), (2, 0, 6, 4), (3, 0, 5, 4)), kind=[1, 2, 3], size=[5.0, np.nan, 5.0])
    classes = ((1, 1), (2, 2), (3, 3))
    row = pixels(source(path, column="kind", classes=classes))[1, :7]
    assert row.tolist() == [1, 1, 2, 3, 3, 2, 0]
    row = pixels(source(path, column="kind", classes=classes, by="size"))[1, :7]
    assert row.tolist() == [1, 1, 1, 3, 3, 2, 0]
    row = pixels(source(path, column="kind", classes=((3, 7), (2, 4))))[1, :7]
    assert row.tolist() == [0, 0, 4, 7, 7, 4, 0]


@pytest.mark.parametrize("max_exact", [0, 10])
def test_nodata_limits_the_valid_mask_and_footprint(write, monkeypatch, max_exact):
    monkeypatch.setattr("geoxt.source.vector_source.MAX_EXACT", max_exact)
    path = write(boxes((10, 10, 30, 20), (100, 100, 101, 101)))
    plain = source(path)
    assert plain.read(Window(0, 0, 150, 170))[1].all()
    assert plain.footprint().equals(shapely.box(0, 0, 170, 150))
    sparse = source(path, nodata=0)
    values, valid = sparse.read(Window(-5, -5, 160, 180))
    np.testing.assert_array_equal(valid, values == 1)
    assert valid.sum() == 201
    footprint = sparse.footprint()
    rows, cols = np.nonzero(valid[0, 0])
    assert shapely.contains_xy(footprint, cols - 4.5, rows - 4.5).all()
    assert footprint.area == 201 if max_exact else 201 < footprint.area < 150 * 170 / 2


def test_clip_limits_the_valid_mask(write):
    path = write(boxes((0, 0, 100, 100)))
    clipped = source(path, nodata=255).clip(UTM[10:20, 30:50])
    values, valid = clipped.read(Window(0, 0, 150, 170))
    assert valid.sum() == 200
    assert valid[0, 0, 10:20, 30:50].all()
    assert (values[~valid] == 255).all()
    assert clipped.clip(UTM[10:20, 30:50]) is clipped
    assert clipped.footprint().area == pytest.approx(200)


def test_onto_burns_on_the_new_grid(polygons):
    shapes, finer = source(polygons, **KINDS), UTM.zoom_out(0.25)
    regridded = shapes.onto(finer)
    np.testing.assert_array_equal(pixels(regridded), pixels(source(polygons, finer, **KINDS)))
    part = UTM[20:60, 33:99]
    np.testing.assert_array_equal(pixels(shapes.onto(part)), pixels(shapes)[20:60, 33:99])


def test_pickle_holds_no_feature_and_options_change_the_token(polygons):
    shapes = source(polygons, **KINDS)
    expected, size = pixels(shapes), len(pickle.dumps(source(polygons, **KINDS)))
    packed = pickle.dumps(shapes)
    assert len(packed) == size < 3000
    unpickled = pickle.loads(packed)
    assert tokenize(unpickled) == tokenize(shapes)
    np.testing.assert_array_equal(pixels(unpickled), expected)
    others = [shapes.onto(UTM[1:]), source(polygons), source(polygons, **KINDS, by="kind"), shapes.clip(UTM[2:])]
    others += [
        source(polygons, **KINDS, **{k: v}) for k, v in (("all_touched", True), ("instances", True), ("nodata", 0))
    ]
    assert len({tokenize(o) for o in (shapes, *others)}) == 8


def test_file_is_read_once_per_process_until_it_changes(write, monkeypatch):
    reads, read = [], module.read_features
    monkeypatch.setattr(module, "read_features", lambda *a, **k: reads.append(k["bounds"]) or read(*a, **k))
    path = write(boxes((0, 0, 9, 9), (1000, 0, 1009, 9)))
    shapes = [source(path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert len({pixels.tobytes() for pixels in pool.map(pixels, shapes)}) == 1
    assert len(reads) == 1
    assert len(shapes[0].index.ids) == 1  # the second box lies outside the grid
    os.utime(path, ns=(1, 1))
    pixels(source(path))
    assert len(reads) == 2


def test_changed_shapefile_attributes_are_read_again_and_change_the_token(tmp_path):
    path, other = tmp_path / "a.shp", tmp_path / "b.shp"
    for kind, name in ((1, path), (2, other)):
        wkb = np.array(shapely.to_wkb(boxes((0, 0, 9, 9))))
        pyogrio.raw.write(name, wkb, [np.array([kind])], ["kind"], geometry_type="Polygon", crs=UTM.crs.to_wkt())
    first = source(path, column="kind", classes=((1, 5), (2, 7)))
    assert pixels(first).max() == 5
    shutil.copyfile(other.with_suffix(".dbf"), path.with_suffix(".dbf"))  # the .shp is unchanged
    second = source(path, column="kind", classes=((1, 5), (2, 7)))
    assert pixels(second).max() == 7
    assert tokenize(first) != tokenize(second)


def test_number_of_cached_indexes_is_bounded(write):
    path = write(boxes((0, 0, 9, 9)))
    for shift in range(module.MAX_CACHED + 3):
        pixels(source(path, UTM[shift:]))
    assert len(module._indexes) == module.MAX_CACHED


def test_forked_process_reads_under_a_lock_of_the_parent(write):
    path = write(boxes((0, 0, 4, 4)))
    with module._lock:
        module._unlock()
        assert (pixels(source(path))[:4, :4] == 1).all()


def test_deleted_file_raises(write):
    path = write(boxes((0, 0, 9, 9)))
    shapes = source(path)
    Path(path).unlink()
    with pytest.raises(ReadError, match=path):
        shapes.read(Window(0, 0, 9, 9))


def test_features_of_a_window_match_instance_pixels(polygons):
    shapes = source(polygons, **KINDS, instances=True, dtype=np.dtype("int64"))
    window = Window(40, 50, 64, 64)
    features = shapes.features(window)
    visible_ids = np.setdiff1d(pixels(shapes, window), [0])
    assert set(visible_ids) <= set(features.ids.tolist())
    np.testing.assert_array_equal(features.codes, (features.ids - 2) % 6 + 1)  # ids are FIDs plus 1, which begin at 1
    assert (features.boxes[:, :2] >= 0).all()
    assert (features.boxes[:, 2:] <= 64).all()
    np.testing.assert_array_equal(shapely.bounds(features.geometry), features.boxes)
    for number in visible_ids:
        rows, cols = np.nonzero(pixels(shapes, window) == number)
        left, top, right, bottom = features.boxes[features.ids == number][0]
        assert left <= cols.min() + 0.5 <= cols.max() + 0.5 <= right
        assert top <= rows.min() + 0.5 <= rows.max() + 0.5 <= bottom
    empty = shapes.features(Window(-900, 0, 5, 5))
    assert empty.boxes.shape == (0, 4)


def test_multipart_line_and_point_features_have_one_id_each(write):
    multipolygon = shapely.MultiPolygon(boxes((1, 1, 3, 3), (7, 5, 9, 6)))
    (line,) = (b.exterior for b in boxes((0, 0, 12, 8)))
    (dot,) = (shapely.Point(b.exterior.coords[0]) for b in boxes((2, 2, 4, 4)))
    features = source(write([multipolygon, line, dot]), instances=True).features(Window(0, 0, 10, 10))
    assert features.ids.tolist() == [2, 3, 4]
    assert features.boxes.tolist() == [[1, 1, 9, 6], [0, 0, 10, 8], [4, 2, 4, 2]]


def test_requested_steps_and_bands_set_the_shape(write):
    shapes = source(write(boxes((0, 0, 9, 9))))
    assert shapes.shape == (1, 1, 150, 170)
    values, valid = shapes.read(Window(0, 0, 5, 6), times=[0, 0], bands=[])
    assert values.shape == valid.shape == (2, 0, 5, 6)


@pytest.mark.parametrize(
    ("values", "codes", "distinct"),
    [
        (np.array([3.0, np.nan, 1.0]), [1, -1, 0], [1, 3]),
        (np.array(["b", None, "a", " "], object), [1, -1, 0, -1], ["a", "b"]),
        (np.array([0.5, 2.0]), [0, 1], [0.5, 2]),
        (np.array([True, False]), [1, 0], [False, True]),
        (np.empty(0, object), [], []),
    ],
)
def test_factorize_returns_codes_and_values(values, codes, distinct):
    actual = module.factorize(values)
    assert (actual[0].tolist(), actual[1]) == (codes, distinct)
