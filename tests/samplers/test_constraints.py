"""Constraints of all samplers: kinds of regions, units, coverage by footprints and by valid pixels."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geom import BoundingBox, Geometry
from rasterio.features import geometry_mask

from geoxt.errors import InputError, OverlapError
from geoxt.grid import coordinates, grid_of
from geoxt.layers import open_cogs
from geoxt.regions.rasterize import parse_region, rectangles
from geoxt.samplers import GridRegion, GridSampler, PointSampler, RandomSampler, Region, StratifiedSampler
from geoxt.samplers.constraints import size_in_pixels
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((60, 80))
LEFT, TOP = GRID.affine.c, GRID.affine.f


def make_layer(values=None):
    values = np.zeros((60, 80), "float32") if values is None else values
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(GRID))


def mask_of(windows, shape=(60, 80)):
    board = np.zeros(shape, int)
    for w in windows:
        board[w.within(Window(0, 0, *shape))] += 1
    return board


@given(st.lists(st.tuples(st.floats(-10, 90), st.floats(-10, 70)), min_size=3, max_size=9))
def test_rasterized_rectangles_match_gdal(points):
    """The oracle is GDAL's rasterization by pixel centres."""
    area = shapely.convex_hull(shapely.MultiPoint(points))
    counts = mask_of(rectangles(area, GRID))
    assert counts.max(initial=0) <= 1
    if area.area < 1e-3:
        return
    expected = ~geometry_mask([area], (60, 80), transform=GRID.affine.identity())
    centres = shapely.points(*(axis.ravel() + 0.5 for axis in np.mgrid[0:60, 0:80][::-1]))
    with np.errstate(divide="ignore"):
        clear = (shapely.distance(area.boundary, centres) > 1e-4).reshape(60, 80)
    assert ((counts > 0) == expected)[clear].all()


@given(st.lists(st.floats(0, 80), min_size=2, max_size=8), st.floats(0, 3.2))
def test_geometries_that_share_edges_partition_the_pixels(cuts, turn):
    """Any straight cuts of the plane: each pixel goes to one of the pieces."""
    cuts = sorted(cuts)
    edges = [-300, *cuts, 300]
    boxes = [shapely.box(a, -300, b, 300) for a, b in pairwise(edges) if b > a]
    pieces = [shapely.affinity.rotate(p, turn, origin=(40, 30), use_radians=True) for p in boxes]
    assert (sum(mask_of(rectangles(p, GRID)) for p in pieces) == 1).all()


def test_all_kinds_of_regions_give_the_same_pixels():
    gpd = pytest.importorskip("geopandas")
    bounds = (LEFT + 300, TOP - 900, LEFT + 900, TOP - 600)
    box = shapely.box(*bounds)
    frame = gpd.GeoDataFrame(geometry=[box], crs="EPSG:32615")
    expected = (Window(20, 10, 10, 20),)
    for region in (
        GridRegion(GRID, expected),
        Region({"": GridRegion(GRID, expected)}),
        bounds,
        box,
        (box, "EPSG:32615"),
        (bounds, 32615),
        Geometry(box, "EPSG:32615"),
        BoundingBox(*bounds, crs="EPSG:32615"),
        frame,
        frame.geometry,
        frame.to_crs("EPSG:4326"),
        frame.to_crs("EPSG:5070"),
    ):
        parsed = parse_region(region, GRID)
        assert parsed.windows == expected
        assert all(
            Window(20, 10, 10, 20).contains(w) for w in RandomSampler(make_layer(), size=5, length=9, region=region)
        )
    with pytest.raises(InputError, match=r"Cannot take a region from 'here'. Pass region="):
        parse_region("here", GRID)
    with pytest.raises(
        InputError, match=r"from SimpleNamespace\. Pass region= a part of the split, such as split\.train"
    ):
        parse_region(SimpleNamespace(train=1), GRID)
    with pytest.raises(OverlapError, match=r"region given as tuple.*Pass region=\(geometry, crs\)"):
        parse_region((0, 0, 1, 1), GRID)


def test_sizes_in_units_of_the_crs():
    layer = make_layer()
    assert size_in_pixels((300, 250), GRID, "crs") == (10, 8)
    options = {"region": (LEFT, TOP - 1800, LEFT + 1500, TOP), "units": "crs"}
    assert {w.shape for w in RandomSampler(layer, size=240, length=9, **options)} == {(8, 8)}
    assert [w.col for w in GridSampler(layer, size=300, stride=600, **options)][:4] == [0, 20, 40, 0]
    for size, units, message in (
        (5, "crs", r"size=5 in CRS units: a pixel is 30 x 30"),
        (5, "m", r"units='m'. Pass units="),
    ):
        with pytest.raises(InputError, match=message):
            RandomSampler(layer, size=size, length=1, units=units)


def test_min_valid_is_the_least_fraction_of_valid_pixels(tmp_path):
    """A tilted scene in its file's nodata: the footprint is whole, the pixels are not."""
    rows, cols = np.mgrid[0:60, 0:80]
    values = np.where(abs(rows - cols * 0.7) < 18, 7, 0).astype("uint8")
    path = write_cog(tmp_path / "a.tif", values, grid=GRID, nodata=0, tiled=False)
    ds = xr.Dataset({"image": open_cogs(path), "mask": make_layer()})
    marked = (values > 0).astype(float)
    assert min(marked[w.within(Window(0, 0, 60, 80))].mean() for w in RandomSampler(ds, size=12, length=60)) < 0.5
    for sampler in (
        RandomSampler(ds, size=12, length=60, min_valid=0.9),
        GridSampler(ds, size=12, min_valid=0.9),
        StratifiedSampler(ds, size=12, length=20, labels="mask", min_valid=0.9),
    ):
        assert min(marked[w.within(Window(0, 0, 60, 80))].mean() for w in sampler) >= 0.9
    lattice = [w for w in GridSampler(ds, size=12) if marked[w.within(Window(0, 0, 60, 80))].mean() >= 0.9]
    assert list(GridSampler(ds, size=12, min_valid=0.9)) == lattice
    with pytest.raises(OverlapError, match=r"Cannot find 3 windows of 50 x 50.*valid to 0.99"):
        RandomSampler(ds, size=50, length=3, min_valid=0.99)


def test_windows_beyond_the_margin_of_a_split_raise():
    layer = make_layer()
    tight, wide = (GridRegion(GRID, (Window(20, 20, 20, 20),), margin=m) for m in (2, 5))
    with pytest.raises(
        InputError, match=r"extend 5 pixels beyond a part of a split whose buffer is 2.*placement='inside'"
    ):
        RandomSampler(layer, size=10, length=4, region=tight, placement="centred")
    with pytest.raises(InputError, match=r"extend 4 pixels beyond a part of a split whose buffer is 2.*edge='shift'"):
        GridSampler(layer, size=12, region=tight, edge="pad")
    assert len(RandomSampler(layer, size=10, length=4, region=wide, placement="centred")) == 4
    assert len(GridSampler(layer, size=12, region=wide, edge="pad")) == 4
    assert len(PointSampler(layer, points=[(LEFT + 900, TOP - 900)], size=5, region=tight)) == 1


def test_grid_sampler_covers_a_rasterized_geometry():
    layer = make_layer()
    disc = shapely.Point(LEFT + 1200, TOP - 900).buffer(700)
    inside = mask_of(parse_region(disc, GRID)) > 0
    windows = list(GridSampler(layer, size=8, region=disc))
    assert (mask_of(windows) >= inside).all()
    assert all(inside[w.within(Window(0, 0, 60, 80))].any() for w in windows)
    inner_windows = list(GridSampler(layer, size=8, region=disc, edge="drop"))
    assert all(inside[w.within(Window(0, 0, 60, 80))].all() for w in inner_windows)
    assert set(inner_windows) < set(windows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"placement": "over"}, r"placement='over'. Pass placement= 'inside', 'centred' or 'touching'"),
        ({"min_covered": 2}, r"min_covered=2. Pass min_covered= a fraction"),
        ({"min_valid": -1}, r"min_valid=-1. Pass min_valid= a fraction"),
    ],
)
def test_invalid_options_raise(options, message):
    with pytest.raises(InputError, match=message):
        RandomSampler(make_layer(), size=4, length=1, **options)
    assert grid_of(make_layer()) == GRID
