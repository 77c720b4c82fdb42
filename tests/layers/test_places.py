"""Item geometries limit the footprint of a layer, and never exclude a valid pixel."""

from datetime import UTC, datetime

import numpy as np
import pytest
import shapely
import shapely.affinity
import shapely.geometry
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.crs import parse_crs, transformer
from geoxt.footprints import RELATIVE_BUFFER
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_stac
from geoxt.samplers import RandomSampler
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

WHEN = datetime(2022, 5, 17, 10, 30, tzinfo=UTC)
SIDE = 400
GRID = make_grid((SIDE, SIDE))
TILTED = np.array([(0.25, 0.02), (0.98, 0.2), (0.75, 0.98), (0.02, 0.8)])
"""Corners of the valid area as fractions of the raster; a quarter of the raster is nodata."""
DATELINE = {"crs": "EPSG:32660", "left": 570_000, "top": 7_500_000, "resolution": 300}


def degrees(corners, grid, jitter=0.0, digits=None):
    """Return corners as a GeoJSON polygon in degrees, shifted by a fraction of the raster side."""
    x, y = grid.affine @ ((np.asarray(corners) + jitter) * grid.shape[::-1]).T
    points = np.stack(transformer(grid.crs, parse_crs("EPSG:4326")).transform(x, y), axis=1)
    return {"type": "Polygon", "coordinates": [np.round(points, digits or 12)[[0, 1, 2, 3, 0]].tolist()]}


def inside(corners, grid):
    rows, cols = np.indices(grid.shape) + 0.5
    polygon = shapely.polygons(np.asarray(corners) * grid.shape[::-1])
    return shapely.contains_xy(polygon, cols, rows)


def tilted(write, *, grid=GRID, geometry=None, nodata=0, name="tilted", **options):
    values = np.where(inside(TILTED, grid), np.maximum(distinct(grid.shape), 1), 0).astype("uint16")
    item = make_item(name, {"b": write(values, grid, nodata=nodata)}, time=WHEN)
    item.geometry = geometry or degrees(TILTED, grid)
    return open_stac(item, **options)


def hidden_pixel_count(layer):
    """Return the number of valid pixels outside the footprint."""
    view = view_of(layer)
    _, valid = view.read(full_window(grid_of(layer)))
    rows, cols = np.nonzero(valid[0, 0])
    return int((~shapely.intersects_xy(view.footprint(), cols + 0.5, rows + 0.5)).sum())


def footprint_fraction(layer):
    return view_of(layer).footprint().area / (layer.sizes["y"] * layer.sizes["x"])


@pytest.mark.parametrize(
    "options", [{}, {"crs": "EPSG:5070", "resolution": 30}, {"crs": "EPSG:4326", "resolution": 4e-4}]
)
def test_footprint_excludes_corners_without_data(write, options):
    layer = tilted(write, **options)
    full = shapely.Polygon(TILTED).area
    assert hidden_pixel_count(layer) == 0
    if not options:
        assert full < footprint_fraction(layer) < full + 4 * 0.8 * (RELATIVE_BUFFER + 9 / SIDE)
    assert footprint_fraction(layer) < 0.85


def test_samplers_draw_inside_the_footprint(write):
    sampler = RandomSampler(tilted(write), size=32, length=200, seed=1)
    unlimited_sampler = RandomSampler(tilted(write, nodata=None), size=32, length=200, seed=1)
    data = inside(TILTED, GRID)
    empty = [
        sum(not data[w.row : w.row + 32, w.col : w.col + 32].any() for w in windows)
        for windows in (sampler, unlimited_sampler)
    ]
    assert empty[0] == 0
    assert empty[1] > 20


@settings(max_examples=10, deadline=None)
@given(
    jitter=st.lists(st.floats(-1, 1), min_size=8, max_size=8), crs=st.sampled_from([32615, 32632, 5070, 3413]),
    digits=st.sampled_from([3, 5]),
)  # fmt: skip
def test_inaccurate_item_geometry_hides_no_valid_pixel(crs, jitter, digits, tmp_path_factory):
    left, top = (-200_000, -1_500_000) if crs == 3413 else (600_000, 4_550_000) if crs != 5070 else (0, 2_000_000)
    grid = make_grid(
        (SIDE, SIDE), crs=f"EPSG:{crs}", left=left, top=top, resolution=300.0
    )  # edges curve by several pixels

    def write_raster(values, grid, nodata):
        return str(write_cog(tmp_path_factory.mktemp("p") / "a.tif", values, grid=grid, nodata=nodata, tiled=False))

    geometry = degrees(TILTED, grid, np.reshape(jitter, (4, 2)) * RELATIVE_BUFFER, digits)
    layer = tilted(write_raster, grid=grid, geometry=geometry)
    assert hidden_pixel_count(layer) == 0
    assert footprint_fraction(layer) < 0.85


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {"type": "Point", "coordinates": [-93, 41]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[10, 50], [11, 50.2], [10.5, 51], [10, 50]]]},  # disjoint
        {"type": "Polygon", "coordinates": [[[-120, 20], [-70, 20.5], [-71, 60], [-119, 59], [-120, 20]]]},
        {"type": "LineString", "coordinates": [[-93, 41], [-92, 41]]},
    ],
)
def test_unusable_item_geometry_leaves_the_full_outline(write, geometry):
    layer = tilted(write)
    item = make_item("one", {"b": view_of(layer).source.scenes[0].assets[0].href}, time=WHEN)
    item.geometry = geometry
    assert footprint_fraction(open_stac(item)) == pytest.approx(1)


def test_files_without_nodata_have_the_full_footprint(write):
    layer = tilted(write, nodata=None)
    assert footprint_fraction(layer) == pytest.approx(1)
    assert hidden_pixel_count(layer) == 0
    assert footprint_fraction(tilted(write, nodata=0)) < 0.85


def test_item_geometry_across_the_antimeridian(write):
    grid = make_grid((SIDE, SIDE), **DATELINE)
    whole_geometry = shapely.geometry.shape(degrees(TILTED, grid))
    points = shapely.get_coordinates(whole_geometry)
    assert points[:, 0].min() < 0 < points[:, 0].max()
    wrapped = shapely.Polygon(np.c_[points[:, 0] % 360, points[:, 1]])
    east = shapely.intersection(wrapped, shapely.box(0, -90, 180, 90))
    west = shapely.affinity.translate(shapely.intersection(wrapped, shapely.box(180, -90, 360, 90)), -360)
    for shape in (shapely.MultiPolygon([east, west]), whole_geometry):
        layer = tilted(write, grid=grid, geometry=shapely.geometry.mapping(shape))
        assert hidden_pixel_count(layer) == 0
    halves = shapely.geometry.mapping(shapely.MultiPolygon([east, west]))
    assert footprint_fraction(tilted(write, grid=grid, geometry=halves)) < 0.9
    assert hidden_pixel_count(tilted(write, grid=grid, geometry=halves, crs="EPSG:4326", resolution=0.004)) == 0


def test_item_geometry_changes_no_pixel_and_follows_slices(write):
    layer = tilted(write)
    (scene,) = view_of(layer).source.scenes
    assert shapely.from_wkb(scene.geometry).equals(shapely.geometry.shape(degrees(TILTED, GRID)))
    part = layer.isel(x=slice(100, 200), y=slice(0, 50))
    ring = view_of(part).footprint()
    shifted = shapely.transform(view_of(layer).footprint(), lambda p: p - (100, 0))
    assert ring.equals(shapely.intersection(shifted, shapely.box(0, 0, 100, 50)))
    outlined = open_stac(make_item("box", {"b": scene.assets[0].href}, time=WHEN))
    assert np.array_equal(outlined.compute(scheduler="synchronous"), layer.compute(scheduler="synchronous"))
