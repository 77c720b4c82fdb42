"""Splits of a tree: parts share no ground within or across nodes; saved, loaded and drawn."""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.crs import transformer
from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import coordinates, full_window
from geoxt.samplers import GridRegion, GridSampler, RandomSampler, Region
from geoxt.splits import Split, by_block, by_column, by_region, by_time, check, folds
from geoxt.testing import make_grid

GRIDS = {
    "west": make_grid((70, 80), crs="EPSG:32615", left=748_000, top=4_567_000),
    "east": make_grid((60, 90), crs="EPSG:32616", left=246_000, top=4_567_000),
    "fine": make_grid((90, 90), crs="EPSG:5070", left=496_500, top=2_038_000, resolution=20),
}
ZONES = [((-90.3, 40, -90.03, 42), "EPSG:4326"), ((-90.03, 40, -89.5, 42), "EPSG:4326")]


@cache
def make_tree(nodes=tuple(GRIDS), *, timed=False):
    datasets = {}
    for n, node in enumerate(nodes):
        grid = GRIDS[node]
        codes = np.ones(grid.shape, "uint8")
        codes[:, grid.shape[1] // 2 :] = 2
        child = xr.Dataset({"mask": (("y", "x"), codes, {"flag_values": [1, 2]})}, coords=coordinates(grid))
        if timed:
            child["image"] = ("time", "y", "x"), np.zeros((4, *grid.shape), "uint8")
            child["time"] = xr.date_range(f"2021-01-{1 + 10 * n:02d}", periods=4, freq="30D")
        datasets[node] = child
    return xr.DataTree.from_dict(datasets)


def pixel_polygons(region, grow=0):
    """Return every pixel of a region as a polygon in Albers, enlarged by a fraction of its size."""
    polygons = []
    for node, rectangles in region.nodes.items():
        grid, pixels = (
            GRIDS[node],
            [(w.row + r, w.col + c) for w in rectangles for r in range(w.height) for c in range(w.width)],
        )
        if pixels:
            row, col = np.array(pixels).T
            low, far = np.array([-grow, 1 + grow])
            x = np.stack([col + low, col + far, col + far, col + low], 1)
            y = np.stack([row + low, row + low, row + far, row + far], 1)
            a = grid.affine
            x, y = transformer(grid.crs, GRIDS["fine"].crs).transform(a.a * x + a.c, a.e * y + a.f)
            polygons += list(shapely.polygons(np.stack([x, y], -1)))
    return polygons


def shared(first, other):
    """Return the largest area that a pixel of one region shares with a pixel of another, square metres."""
    a, b = np.array(first), np.array(other)
    if not len(a) or not len(b):
        return 0.0
    i, j = shapely.STRtree(b).query(a)
    return float(shapely.area(shapely.intersection(a[i], b[j])).max(initial=0))


@settings(max_examples=6, deadline=None)
@given(size=st.integers(12, 40), buffer=st.integers(0, 3), seed=st.integers(0, 9), first=st.sampled_from(sorted(GRIDS)))
def test_blocks_of_two_parts_share_no_ground(size, buffer, seed, first):
    nodes = (first, *(n for n in GRIDS if n != first))
    split = by_block(make_tree(nodes), size=size, buffer=buffer, seed=seed)
    polygons = {name: pixel_polygons(region, grow=0.4 * buffer) for name, region in split.parts.items()}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert shared(polygons[a], polygons[b]) < 1e-3


def test_blocks_cover_most_pixels():
    split = by_block(make_tree(), size=30)
    assert split == by_block(make_tree(), size=30)
    total = sum(g.shape[0] * g.shape[1] for g in GRIDS.values())
    assert sum(region.pixels for region in split.parts.values()) > 0.85 * total
    assert split.of("west").train.pixels % 10 == 0  # whole blocks of the first child's own pixels


def test_classes_are_balanced_over_all_nodes():
    tree = make_tree()
    random, balanced = by_block(tree, size=16, seed=3), by_block(tree, size=16, seed=3, labels=tree)
    deviations = []
    for split in (random, balanced):
        counts = np.zeros((3, 2))
        for row, region in enumerate(split.parts.values()):
            for node, rectangles in region.nodes.items():
                codes = make_tree()[node]["mask"].values
                area = GRIDS[node].resolution.x ** 2
                for w in rectangles:
                    block = codes[w.row : w.stop[0], w.col : w.stop[1]]
                    counts[row] += [(block == 1).sum() * area, (block == 2).sum() * area]
        deviations.append(abs(counts / counts.sum(0) - np.array([[0.6], [0.2], [0.2]])).max())
    assert deviations[1] < 0.04
    assert deviations[1] <= deviations[0]


def test_each_block_of_a_tree_is_in_test_once():
    splits = folds(make_tree(), size=20, n_splits=3)
    boards = {node: np.zeros(grid.shape, int) for node, grid in GRIDS.items()}
    for split in splits:
        for node, rectangles in split.test.nodes.items():
            for w in rectangles:
                boards[node][w.row : w.stop[0], w.col : w.stop[1]] += 1
    assert all(board.max() == 1 and board.mean() > 0.8 for board in boards.values())


def test_adjacent_regions_share_no_ground():
    geopandas = pytest.importorskip("geopandas")
    split = by_region(make_tree(), train=ZONES[0], test=ZONES[1])
    assert shared(pixel_polygons(split.train), pixel_polygons(split.test)) < 1e-3
    assert split.train.pixels > 2000
    assert split.test.pixels > 2000
    assert not len(split.val)
    boxes = [shapely.box(*bounds) for bounds, _ in ZONES]
    frame = geopandas.GeoDataFrame({"part": ["train", "test"]}, geometry=boxes, crs="EPSG:4326")
    assert by_column(make_tree(), frame, "part") == split
    apart = by_region(make_tree(), train=ZONES[0], test=ZONES[1], buffer=2)
    assert shared(pixel_polygons(apart.train, grow=2), pixel_polygons(apart.test, grow=2)) < 1e-3
    with pytest.raises(InputError, match=r"region for train in a tree.*Pass train=\(geometry or bounds, crs\)"):
        by_region(make_tree(), train=(0, 0, 9, 9))
    with pytest.raises(OverlapError, match=r"region for val holds no pixel of the nodes"):
        by_region(make_tree(), train=ZONES[0], val=((0, 0, 1, 1), "EPSG:4326"))


@pytest.mark.parametrize(("first", "other"), list(permutations(GRIDS, 2)))
def test_check_detects_ground_shared_by_nodes(first, other):
    """Training in one node and test in another, both over whole grids that overlap on the ground."""
    regions = {node: GridRegion(grid, (full_window(grid),)) for node, grid in GRIDS.items()}
    with pytest.raises(InputError, match=rf"train in {first} and test in {other} share the area of"):
        check(Region({first: regions[first]}), test=Region({other: regions[other]}))


def test_margins_count_across_nodes():
    split = by_region(make_tree(), train=ZONES[0], test=ZONES[1])
    check(split)
    wide = {
        name: Region({n: GridRegion(r.grid, r.windows, margin=2) for n, r in region.nodes.items()})
        for name, region in split.parts.items()
    }
    with pytest.raises(InputError, match="share the area of .*with their buffers of 2 and 2|less than their buffers"):
        check(wide["train"], test=wide["test"])


def test_split_by_time_shares_no_step_across_nodes():
    tree = make_tree(timed=True)
    split = by_time(tree, train=("2021-01", "2021-02"), test=("2021-03", "2021-06"), gap="15D")
    train, test = (
        np.concatenate([np.array(r.times, "M8[ns]") for r in part.nodes.values()]) for part in (split.train, split.test)
    )
    assert len(train)
    assert len(test)
    assert np.abs(test[:, None] - train).min() >= np.timedelta64(15, "D")
    windows = RandomSampler(tree, size=8, length=20, region=split.train)
    for w in windows:
        stamps = tree[w.node].time.values[list(w.time)]
        assert np.isin(stamps, train).all()
    late = by_time(tree, train=("2021-01-01", "2021-01-05"), test=("2021-03", "2021-06"))
    assert {n: len(r) for n, r in late.train.nodes.items()} == {"west": 1, "east": 0, "fine": 0}
    with pytest.raises(InputError, match="shares 3 time steps"):
        by_time(tree, train=("2021-01", "2021-03"), test=("2021-03", "2021-06"))


@pytest.mark.parametrize(
    "make", [lambda t: by_block(t, size=20, buffer=1), lambda t: by_region(t, train=ZONES[0], test=ZONES[1])]
)
def test_saved_split_of_a_tree_equals_loaded(make, tmp_path):
    split = make(make_tree())
    split.save(tmp_path / "split.geojson")
    assert Split.load(tmp_path / "split.geojson") == split
    assert [p.name for p in tmp_path.iterdir()] == ["split.geojson"]
    frame = split.to_geodataframe()
    assert set(frame.node) == set(GRIDS)
    assert split.of("west").grids == {"": GRIDS["west"]}
    with pytest.raises(GridError, match=r"one grid of a split of the nodes .* split.of\(node\)"):
        _ = split.grid
    with pytest.raises(InputError, match=r"split of node 'north': it is of \['west'"):
        split.of("north")


def test_samplers_stay_in_a_part():
    split = by_block(make_tree(), size=24, buffer=1)
    for sampler in (
        RandomSampler(make_tree(), size=6, length=60, region=split.test),
        GridSampler(make_tree(), size=6, region=split.test),
    ):
        assert len({w.node for w in sampler}) == 3
        windows = Region({n: GridRegion(GRIDS[n], tuple(sampler.of(n))) for n in sampler.grids})
        assert shared(pixel_polygons(windows), pixel_polygons(split.train)) < 1e-3


def test_plot_has_a_panel_for_each_node():
    pytest.importorskip("matplotlib")
    split = by_block(make_tree(), size=24)
    images = make_tree()
    for layer in (None, images):
        assert [axes.get_title() for axes in split.plot(layer).figure.axes] == list(GRIDS)
