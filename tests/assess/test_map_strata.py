"""Pixels and areas of the classes of a map."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from shapely import box

from geoxt.assess import map_strata
from geoxt.regions.geodesic_area import cell_areas, cell_shape, ground_area, pixel_hectares, point_areas
from geoxt.testing import make_grid
from geoxt.windows import Window

from .test_design import LEGEND, make_map


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(map_strata, "BLOCK", 32)


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:4326", "EPSG:3857", "EPSG:3031"])
def test_pixel_areas_are_those_on_the_ellipsoid(crs):
    origin = {"EPSG:32616": (300_000, 5_000_000, 500), "EPSG:4326": (10, 60, 0.02), "EPSG:3857": (1e6, 8e6, 1_000)}
    left, top, size = origin.get(crs, (-2e5, 3e5, 3_000))
    grid = GeoBox.from_bbox((left, top - 64 * size, left + 64 * size, top), crs, shape=(64, 64))
    extent = cell_areas(grid, Window(0, 0, 64, 64), (1, 1)).sum()
    assert extent == pytest.approx(ground_area(box(0, 0, 64, 64), grid), rel=2e-5)
    pixel = point_areas(grid, np.array([20.5]), np.array([40.5]))[0]
    assert pixel == pytest.approx(ground_area(box(40, 20, 41, 21), grid), rel=1e-4)


@pytest.mark.parametrize(
    ("crs", "bounds", "cell"),
    [
        ("EPSG:4326", (0, 20, 66, 86), (1, 66)),
        ("EPSG:3857", (0, 0, 2e7, 1.9e7), (1, 66)),
        ("EPSG:6933", (-17e6, -7e6, 17e6, 7e6), (1, 66)),
        ("EPSG:3413", (-3.85e6, -5.35e6, 3.75e6, 5.85e6), (1, 1)),
        ("EPSG:32616", (3e5, 4e6, 3.02e5, 4.002e6), (1024, 1024)),
        ("EPSG:32616", (3e5, 4e6, 4e5, 4.1e6), (70, 70)),
    ],
)
def test_areas_of_coarse_grids_are_right_by_pixel(crs, bounds, cell):
    grid = GeoBox.from_bbox(bounds, crs, shape=(66, 66))
    window = Window(0, 0, 66, 66)
    assert cell_shape(grid, window) == cell
    expected = cell_areas(grid, window, (1, 1)) / 1e4
    assert_allclose(pixel_hectares(grid, window), expected, rtol=5e-4)
    layer = wrap_xr(np.indices((66, 66)).sum(0).astype("uint8") % 3 + 1, grid)  # classes of all rows
    strata = map_strata.count_strata(layer, map_strata.class_codes(layer, "map"), LEGEND)
    assert_allclose(strata.areas, [expected[layer.values == code].sum() for code in strata.codes], rtol=5e-4)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64"])
@pytest.mark.parametrize("frequent", [[], [3, 1], [1, 2, 3, 4, 5, 0, -7], list(range(40))])
@pytest.mark.parametrize("cell", [(64, 64), (1024, 1024), (1, 90)])
def test_counts_and_areas_of_a_block_equal_brute_force(monkeypatch, dtype, frequent, cell):
    """With and without codes to expect, which may be absent, incomplete or too many."""
    rng = np.random.default_rng(0)
    values = rng.choice([0, 1, 3, 5, 100, -7] if dtype[0] == "i" else [0, 1, 3, 5, 100, 249], (130, 90)).astype(dtype)
    areas = rng.uniform(800, 900, (-(-130 // cell[0]), -(-90 // cell[1])))
    by_pixel = np.repeat(np.repeat(areas, cell[0], 0), cell[1], 1)[:130, :90]
    for valid in (np.ones((130, 90), bool), rng.random((130, 90)) < 0.9):
        for table in (2**22, 0):  # by a table of cells and codes, and by the area of each pixel
            monkeypatch.setattr(map_strata, "_MAX_TABLE", table)
            counts = map_strata._counts_of(values, valid, areas, cell, frequent)
            assert sorted(counts) == np.unique(values[valid]).tolist()
            for code, (pixels, area) in counts.items():
                assert pixels == ((values == code) & valid).sum()
                assert_allclose(area, by_pixel[(values == code) & valid].sum())


def test_codes_that_appear_in_later_blocks_are_counted():
    codes = np.ones((90, 110), "uint8")
    codes[70:, 80:] = 2
    codes[85:, 100:] = 5
    layer = wrap_xr(codes, make_grid((90, 110))).assign_attrs(LEGEND.attrs())
    strata = map_strata.count_strata(layer, map_strata.class_codes(layer, "map"), LEGEND)
    assert strata.sizes.tolist() == [(codes == code).sum() for code in LEGEND.codes]


def test_errors_of_reading_are_raised():
    layer = make_map()

    def fail(window):
        if window.row:
            raise OSError("damaged")
        return layer.values[:32, :32], np.ones((32, 32), bool)

    with pytest.raises(OSError, match="damaged"):
        map_strata.count_strata(layer, fail, LEGEND)


def test_counts_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(map_strata, "BLOCK", 20)
    layer = make_map(grid=make_grid((90, 110), crs="EPSG:4326", resolution=0.01))
    read = map_strata.class_codes(layer, "map")
    counted = []
    for threads in (1, 3):
        monkeypatch.setattr(map_strata, "_THREADS", threads)
        counted.append(map_strata.count_strata(layer, read, None))
    assert counted[0].areas.tolist() == counted[1].areas.tolist()
    assert np.array_equal(counted[0].counts, counted[1].counts)
    codes = layer.to_numpy()
    assert counted[0].sizes.tolist() == [(codes == code).sum() for code in (1, 2, 5)]
