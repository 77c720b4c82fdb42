"""Samplers over a tree: nodes in proportion to their area, exact covers, whole units, saved and sharded."""

import pickle
from functools import cache

import numpy as np
import pyproj
import pytest
import xarray as xr
from pyproj import Geod

from geoxt.errors import GridError, InputError, OverlapError
from geoxt.grid import coordinates, full_window
from geoxt.regions.geodesic_area import ground_area, pixel_area
from geoxt.regions.region import box
from geoxt.samplers import (
    GridRegion,
    GridSampler,
    PointSampler,
    RandomBatchSampler,
    RandomSampler,
    Region,
    StratifiedSampler,
    TripletSampler,
    WindowSequence,
    time_intervals,
    time_periods,
    time_steps,
)
from geoxt.testing import make_grid
from geoxt.windows import Window

GRIDS = {
    "west": make_grid((40, 50), crs="EPSG:32615", left=748_000, top=4_567_000),
    "east": make_grid((30, 40), crs="EPSG:32616", left=249_000, top=4_567_000),
    "fine": make_grid((40, 50), crs="EPSG:5070", left=495_500, top=2_039_500, resolution=15),
    "tiny": make_grid((4, 90), crs="EPSG:32617", left=300_000, top=4_567_000),
}
OVER = make_grid((50, 60), crs="EPSG:32615", left=748_000, top=4_567_700)  # holds most of "fine"
STEPS = {"west": 3, "east": 5, "fine": 2, "tiny": 2}


def make_child(node, grid, *, timed=False):
    rows, cols = grid.shape
    codes = np.full(grid.shape, 1, "uint8")
    codes[:, cols // 2 :] = 2
    if node == "fine":
        codes[5:7, 5:7] = 7
    data = {
        "image": (("time", "y", "x"), np.ones((STEPS[node], rows, cols), "uint8")),
        "mask": (("y", "x"), codes, {"flag_values": np.array([1, 2, 7], "uint8"), "_FillValue": 0}),
    }
    if not timed:
        data["image"] = (("y", "x"), data["image"][1][0])
    child = xr.Dataset(data, coords=coordinates(grid))
    first = {"west": "2021-01-10", "east": "2021-02-10", "fine": "2021-01-20", "tiny": "2021-01-01"}[node]
    return child.assign_coords(time=xr.date_range(first, periods=STEPS[node], freq="30D")) if timed else child


@cache
def make_tree(*, timed=False, nodes=("west", "east", "fine", "tiny")):
    return xr.DataTree.from_dict({node: make_child(node, GRIDS[node], timed=timed) for node in nodes})


def lonlat(node, rowcol):
    x, y = GRIDS[node].affine @ (rowcol[1] + 0.5, rowcol[0] + 0.5)
    return pyproj.Transformer.from_crs(GRIDS[node].crs.proj, "EPSG:4326", always_xy=True).transform(x, y)


POINTS = np.array([lonlat("west", (20, 10)), lonlat("east", (20, 35)), lonlat("fine", (20, 20)), (10.0, 50.0)])
MAKERS = {
    "random": lambda t, **o: RandomSampler(t, size=8, length=40, **o),
    "batch": lambda t, **o: RandomBatchSampler(t, size=8, length=38, batch_size=4, **o),
    "grid": lambda t, **o: GridSampler(t, size=(16, 8), **o),
    "triplet": lambda t, **o: TripletSampler(t, size=8, length=12, radius=12, **o),
    "stratified": lambda t, **o: StratifiedSampler(t, size=8, length=40, **o),
    "points": lambda t, **o: PointSampler(t, points=(POINTS, "EPSG:4326"), size=9, **o),
    "points drawn": lambda t, **o: PointSampler(t, points=(POINTS, "EPSG:4326"), size=9, length=30, jitter=2, **o),
}
every_sampler = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@pytest.mark.parametrize("node", GRIDS)
def test_ground_area_equals_geodesic_area_of_pixels(node):
    grid = GRIDS[node]
    corners = [(10, 3), (11, 3), (11, 4), (10, 4)]
    lon, lat = pyproj.Transformer.from_crs(grid.crs.proj, "EPSG:4326", always_xy=True).transform(
        *np.array([grid.affine @ corner for corner in corners]).T
    )
    pixel = abs(Geod(ellps="WGS84").polygon_area_perimeter(lon, lat)[0])
    assert pixel_area(grid) == pytest.approx(pixel, rel=1e-4)
    hole = box(Window(0, 0, 4, 30)).difference(box(Window(1, 1, 2, 9)))
    assert ground_area(hole, grid) == pytest.approx(102 * pixel, rel=1e-3)


@every_sampler
@pytest.mark.parametrize("timed", [False, True])
def test_sequences_over_a_tree_repeat_shard_and_save(make, timed, tmp_path):
    tree = make_tree(timed=timed)
    options = {"times": time_steps(tree)} if timed else {}
    sequence = make(tree, **options)
    windows = list(sequence)
    assert len(sequence) == len(windows) > 0
    assert {w.node for w in windows} <= {"west", "east", "fine"}
    assert all(hash(w) == hash(pickle.loads(pickle.dumps(w))) for w in windows[:3])
    assert all(w.time is None or 0 <= w.time[0] < STEPS[w.node] for w in windows)
    assert all((w.time is not None and len(w.time) == 1) == timed for w in windows)
    assert make(tree, **options) == sequence == pickle.loads(pickle.dumps(sequence))
    assert sequence.at(3) == sequence.at(3)
    sequence.save(tmp_path / "windows.npz")
    assert WindowSequence.load(tmp_path / "windows.npz") == sequence
    assert [p.name for p in tmp_path.iterdir()] == ["windows.npz"]
    assert list(sequence.skip(3)) == windows[3:]
    shards = [list(sequence.shard(rank, 2, even=False)) for rank in range(2)]
    assert sorted(map(repr, shards[0] + shards[1])) == sorted(map(repr, windows))
    for node in sequence.grids:
        part = sequence.of(node)
        assert part.grid == GRIDS[node]
        assert list(part) == [_plain(w) for w in windows if w.node == node]
    with pytest.raises(GridError, match=r"nodes \['west', 'east', 'fine'\].*windows\.of\(node\)"):
        _ = sequence.grid


def _plain(window):
    return Window(window.row, window.col, window.height, window.width, window.time)


@every_sampler
def test_each_unit_lies_in_one_node(make):
    sequence = make(make_tree())
    for start in range(0, len(sequence), sequence.unit):
        assert len({w.node for w in sequence[start : start + sequence.unit]}) == 1


def test_nodes_are_drawn_in_proportion_to_their_area():
    sampler = RandomSampler(make_tree(), size=8, length=4000)
    area = np.array([GRIDS[n].shape[0] * GRIDS[n].shape[1] * (15 if n == "fine" else 30) ** 2 for n in sampler.grids])
    assert list(sampler.grids) == ["west", "east", "fine"]
    assert np.bincount(sampler.node_index) / 4000 == pytest.approx(area / area.sum(), abs=2e-3)


def test_weights_of_a_tree_count_by_pixel_area():
    weight = {"west": 1.0, "east": 0.0, "fine": 8.0, "tiny": 1.0}
    layers = {
        n: xr.DataArray(np.full(g.shape, weight[n]), dims=("y", "x"), coords=coordinates(g)) for n, g in GRIDS.items()
    }
    weights = xr.DataTree.from_dict({n: layer.to_dataset(name="w") for n, layer in layers.items()})
    drawn = RandomSampler(make_tree(), size=8, length=400, weights=weights)
    assert list(drawn.grids) == ["west", "fine"]
    assert np.bincount(drawn.node_index) / 400 == pytest.approx([1 / 3, 2 / 3], abs=5e-3)
    with pytest.raises(
        InputError,
        match=r"Cannot take weights of one grid: they are given for the nodes \['west', 'east', 'fine', 'tiny'\]",
    ):
        RandomSampler(make_tree()["west"].to_dataset(), size=8, length=4, weights=weights)
    with pytest.raises(InputError, match=r"weights of node 'west'"):
        RandomSampler(make_tree(), size=8, length=4, weights=layers["west"])


def test_every_pixel_of_every_node_is_drawn():
    sampler = RandomSampler(make_tree(), size=8, length=6000, placement="touching")
    boards = {node: np.zeros(grid.shape, int) for node, grid in sampler.grids.items()}
    for w in sampler:
        outer = full_window(GRIDS[w.node])
        boards[w.node][w.intersect(outer).within(outer)] += 1
    assert all(board.min() > 0 for board in boards.values())


def test_grid_sampler_covers_every_node_exactly():
    tree = make_tree()
    sampler = GridSampler(tree, size=10, edge="pad")
    for node, grid in GRIDS.items():
        assert sampler.of(node) == GridSampler(tree[node].to_dataset(), size=10, edge="pad")
        board = np.zeros(grid.shape, int)
        for w in sampler.of(node):
            board[w.intersect(full_window(grid)).within(full_window(grid))] += 1
        assert (board == 1).all()


def test_classes_are_drawn_over_all_nodes():
    sampler = StratifiedSampler(make_tree(), size=4, length=300)
    assert np.unique(sampler.codes, return_counts=True)[1].tolist() == [100, 100, 100]
    assert sampler.strata.counts.sum() == sum(g.shape[0] * g.shape[1] for g in GRIDS.values())
    for code, w in zip(sampler.codes.tolist(), sampler, strict=True):
        assert code in make_tree()[w.node]["mask"].values[w.within(full_window(GRIDS[w.node]))]
    nodes = {w.node for code, w in zip(sampler.codes.tolist(), sampler, strict=True) if code == 7}
    assert nodes == {"fine"}


def test_points_belong_to_the_first_node_with_a_window():
    sampler = PointSampler(make_tree(), points=(POINTS, "EPSG:4326"), size=9)
    assert sampler.index.tolist() == [0, 1, 2]
    for index, w in zip(sampler.index, sampler, strict=True):
        middle = lonlat(w.node, (w.row + 4, w.col + 4))
        assert np.hypot(*(np.array(middle) - POINTS[index])) < 3e-4
    for nodes in (("fine", "over"), ("over", "fine")):
        tree = xr.DataTree.from_dict(
            {node: make_child("fine", GRIDS["fine"] if node == "fine" else OVER) for node in nodes}
        )
        overlapping = PointSampler(tree, points=(POINTS[2:3], "EPSG:4326"), size=9)
        assert [w.node for w in overlapping] == [nodes[0]]
    weighed = PointSampler(make_tree(), points=(POINTS, "EPSG:4326"), size=9, length=50, weights=[0, 1, 0, 0])
    assert set(weighed.index) == {1}


def test_crs_units_are_converted_to_pixels_of_each_node():
    sampler = GridSampler(make_tree(), size=240, units="crs")
    assert {(w.node, w.shape) for w in sampler} == {("west", (8, 8)), ("east", (8, 8)), ("fine", (16, 16))}


def test_times_belong_to_nodes():
    tree = make_tree(timed=True)
    assert {node: len(times) for node, times in time_steps(tree).items()} == STEPS
    during = ("2021-05-15", "2021-06-30")
    assert set(time_periods(tree, "M", during=during)) == {"east"}
    sampler = RandomSampler(tree, size=8, length=20, times=time_intervals(tree, [during]))
    assert {w.node for w in sampler} == {"east"}
    stamps = tree["east"].time.values
    assert all((stamps[list(w.time)] >= np.datetime64(during[0])).all() for w in sampler)
    with pytest.raises(
        InputError, match=r"time steps of node 'west': they are given for one grid. Pass times= made of the data"
    ):
        RandomSampler(tree, size=8, length=5, times=time_steps(tree["west"].to_dataset()))
    with pytest.raises(InputError, match=r"time steps of one grid: they are given for the nodes"):
        RandomSampler(tree["west"].to_dataset(), size=8, length=5, times=time_steps(tree))
    with pytest.raises(InputError, match="period='X'"):
        time_periods(tree, "X")


def test_regions_of_a_tree_need_a_crs():
    tree = make_tree()
    lon, lat = lonlat("east", (15, 20))
    near = (lon - 0.003, lat - 0.003, lon + 0.003, lat + 0.003)
    sampler = RandomSampler(tree, size=4, length=30, region=(near, "EPSG:4326"))
    for w in sampler:
        x, y = lonlat(w.node, (w.row + 1.5, w.col + 1.5))
        assert near[0] < x < near[2]
        assert near[1] < y < near[3]
    with pytest.raises(InputError, match=r"it states none\. Pass region=\(geometry or bounds, crs\)"):
        RandomSampler(tree, size=4, length=30, region=near)
    only = Region({"west": GridRegion(GRIDS["west"], (Window(0, 0, 10, 10),)), "east": GridRegion(GRIDS["east"], ())})
    assert (len(only), only.pixels) == (1, 100)
    drawn = RandomSampler(tree, size=4, length=30, region=only)
    assert all(w.node == "west" and w.stop[0] <= 10 for w in drawn)
    assert {w.node for w in RandomSampler(tree, size=4, length=9, region=only.nodes["west"])} == {"west"}
    with pytest.raises(OverlapError, match="Cannot sample node 'west'"):
        RandomSampler(tree, size=4, length=30, region=Region({"north": only.nodes["west"]}))


def test_error_of_the_first_node_if_no_window_fits():
    with pytest.raises(OverlapError, match=r"Cannot place a window of 99 x 99 pixels"):
        RandomSampler(make_tree(), size=99, length=4)
    with pytest.raises(InputError, match="size=0"):
        RandomSampler(make_tree(), size=0, length=4)
    with pytest.raises(InputError, match=r"their|they state none|several CRSs"):
        PointSampler(make_tree(), points=POINTS, size=9)
    with pytest.raises(InputError, match=r"labels of node 'west'.*align\(data\)"):
        StratifiedSampler(make_tree(), size=4, length=3, labels=make_tree()["west"]["mask"])
    with pytest.raises(InputError, match=r"Cannot take the windows of node 'north'"):
        RandomSampler(make_tree(), size=8, length=4).of("north")


def test_plot_has_a_panel_for_each_node(tmp_path):
    pytest.importorskip("matplotlib")
    tree = make_tree(nodes=("west", "east"))
    sequence = RandomSampler(tree, size=8, length=20)
    images = tree.map_over_datasets(lambda child: child[["image"]] if "image" in child else child)
    for layer in (None, images):
        figure = sequence.plot(layer)
        assert [axes.get_title() for axes in figure.axes][:2] == ["west", "east"]  # color bars follow
        assert [len(axes.lines) for axes in figure.axes[:2]] == [2 * n for n in np.bincount(sequence.node_index)]
    with pytest.raises(GridError, match="Pass layer= a tree with a layer for each node"):
        sequence.plot(tree["west"]["mask"])
