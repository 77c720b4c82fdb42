"""Batches of a tree: pixels of each node, one shape per batch, for any number of workers."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import geoxt
from geoxt.bridge import WindowBatchSampler, loader, to_torch
from geoxt.bridge.batch_sampler import batch_indices
from geoxt.errors import GridError
from geoxt.grid import grid_of
from geoxt.samplers import GridSampler, RandomBatchSampler, RandomSampler, WindowSequence
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_world, write_cog
from geoxt.trees import nodes_of
from geoxt.windows import Window


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Scenes in two zones beside land cover."""
    world = make_world(tmp_path_factory.mktemp("world"), size=128, blocksize=128)
    image = geoxt.open_cogs(world.images, product="landsat8", crs="native", name="image")
    return geoxt.intersection(image=image, mask=geoxt.open_cogs(world.labels, product="cdl"))


def equal(first, other):
    return first.keys() == other.keys() and all(
        torch.equal(v, other[k]) if isinstance(v, torch.Tensor) else v == other[k] for k, v in first.items()
    )


def test_batch_equals_the_pixels_of_each_node(pair):
    sampler = RandomSampler(pair, size=24, length=14, seed=3)
    batches = list(pair.geoml.loader(sampler, batch_size=4))
    assert [len(batch["crs"]) for batch in batches] == [4, 4, 4, 2]
    windows = iter(sampler)
    mixed = 0
    for batch in batches:
        mixed += len(set(batch["crs"])) > 1
        for index in range(len(batch["crs"])):
            window = next(windows)
            child = pair[window.node].to_dataset()
            values, valid = view_of(child.image).read(window)
            assert batch["crs"][index] == str(grid_of(child).crs)
            assert np.array_equal(batch["image"][index], values[0].astype("float32"))
            assert np.array_equal(batch["image_valid"][index], valid[0].all(0))
            assert np.array_equal(batch["mask"][index], view_of(child["mask"]).read(window)[0][0, 0])
            a = grid_of(child).affine
            assert tuple(batch["transform"][index][[2, 5]].tolist()) == a @ (window.col, window.row)
    assert mixed


@pytest.mark.parametrize("options", [{"num_workers": 2}, {"threads": 3}])
def test_batches_do_not_depend_on_workers_or_threads(pair, options):
    sampler = RandomSampler(pair, size=16, length=10)
    plain = list(loader(pair, sampler, batch_size=4, threads=1))
    assert all(equal(a, b) for a, b in zip(plain, loader(pair, sampler, batch_size=4, **options), strict=True))


def test_batch_of_a_batch_sampler_has_one_node(pair):
    sampler = RandomBatchSampler(pair, size=16, length=24, batch_size=4)
    batches = list(loader(pair, sampler, batch_size=4))
    assert all(len(set(batch["crs"])) == 1 for batch in batches)
    assert {batch["crs"][0] for batch in batches} == {"EPSG:32615", "EPSG:32616"}


def test_tree_dataset_is_map_style_and_pickles(pair):
    windows = list(RandomSampler(pair, size=16, length=5))
    samples = to_torch(pair, windows)
    again = pickle.loads(pickle.dumps(samples))
    sample = samples.__getitems__([3, 0])
    assert equal(again[3], sample[0])
    assert equal(samples[windows[0]], sample[1])
    doubled = to_torch(pair, windows, transform=lambda s: s | {"image": 2 * s["image"]})
    assert torch.equal(doubled[1]["image"], 2 * samples[1]["image"])


def test_windows_of_other_data_raise(pair):
    with pytest.raises(GridError, match=r"it names no node, and the nodes of the data are \['epsg_3261"):
        to_torch(pair, [Window(0, 0, 8, 8)])[0]
    with pytest.raises(GridError, match=r"it is of node 'north'"):
        to_torch(pair, [Window(0, 0, 8, 8, node="north")])[0]
    sampler = RandomSampler(pair, size=8, length=3)
    child = pair["epsg_32615"].to_dataset()
    with pytest.raises(GridError, match=r"of node 'epsg_3261[56]' from data on one grid.*sampler\.of\(node\)"):
        to_torch(child, sampler)
    with pytest.raises(GridError, match="of data on one grid from a tree of the nodes .* sampler from the same data"):
        to_torch(pair, RandomSampler(child, size=8, length=3))
    assert len(to_torch(child, sampler.of("epsg_32615"))) == sum(w.node == "epsg_32615" for w in sampler)
    differ = xr.DataTree.from_dict({"a": child, "b": child[["image"]]})
    with pytest.raises(GridError, match=r"'a' has the layers \['image', 'mask'\], 'b' \['image'\]"):
        to_torch(differ, sampler)


def test_tree_of_one_node_gives_the_batches_of_its_dataset(pair):
    child = pair["epsg_32615"].to_dataset()
    tree = xr.DataTree.from_dict({"west": child})
    windows = list(RandomSampler(child, size=16, length=6, seed=1))
    plain = list(loader(child, windows, batch_size=4))
    of_tree = list(loader(tree, [replace(window, node="west") for window in windows], batch_size=4))
    assert all(equal(a, b) for a, b in zip(plain, of_tree, strict=True))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Children of two pixel sizes."""
    folder = tmp_path_factory.mktemp("uneven")
    paths = []
    for n, size in enumerate((30, 15)):
        grid = make_grid((80, 80), crs=f"EPSG:{32615 + n}", left=500_000, resolution=size)
        paths.append(str(write_cog(folder / f"{n}.tif", distinct((80, 80)) + n, grid=grid, tiled=False)))
    return geoxt.open_cogs(paths, crs="native")


def test_windows_of_several_shapes_are_grouped(uneven):
    sampler = RandomSampler(uneven, size=240, units="crs", length=21)
    lazy = loader(uneven, sampler, batch_size=4)
    batches = list(lazy)
    shapes = [tuple(batch["image"].shape) for batch in batches]
    assert len(batches) == len(lazy)
    assert {shape[-2:] for shape in shapes} == {(8, 8), (16, 16)}
    assert sum(shape[0] for shape in shapes) == 21
    assert len(list(loader(uneven, sampler, batch_size=4, drop_last=True))) == sum(shape[0] == 4 for shape in shapes)
    windows = [w for batch in lazy.sampler for w in batch]
    assert sorted(windows, key=repr) == sorted(sampler, key=repr)
    with pytest.raises(GridError, match="Cannot stack windows of several sizes"):
        to_torch(uneven, sampler).read(list(sampler))
    assert len(to_torch(uneven, sampler).__getitems__(list(range(21)))) == 21


def test_set_epoch_draws_the_windows_of_the_sampler(uneven):
    sampler = RandomSampler(uneven, size=240, units="crs", length=21)
    plan = loader(uneven, sampler, batch_size=4).sampler
    assert isinstance(plan, WindowBatchSampler)
    plan.set_epoch(2)
    assert sorted((w for b in plan for w in b), key=repr) == sorted(sampler.at(2), key=repr)
    assert len(plan) == len(list(plan))


def test_epoch_of_a_tree_resumes(uneven):
    sampler = RandomSampler(uneven, size=240, units="crs", length=21)
    through, resumed = (loader(uneven, sampler, batch_size=4, drop_last=True).sampler for _ in range(2))
    through.set_epoch(3)
    resumed.resume(3, 2)
    assert list(resumed) == list(through)[2:]
    assert len(resumed) == len(through) - 2
    for plan in (through, resumed):
        plan.set_epoch(4)
    assert list(resumed) == list(through)
    assert len(resumed) == len(through)


def test_batches_keep_order_unless_kinds_differ():
    plain = batch_indices(np.zeros(10, int), 4)
    assert [b.tolist() for b in plain] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    grouped = batch_indices(np.array([0, 1, 0, 1, 1, 0, 0]), 2)
    assert [b.tolist() for b in grouped] == [[0, 2], [1, 3], [5, 6], [4]]


def test_grid_sampler_reads_every_pixel_of_a_tree_once(pair):
    sampler = GridSampler(pair, size=50, edge="pad")
    read_pixels = {node: np.zeros(grid_of(child).shape, "float32") for node, child in nodes_of(pair).items()}
    order = iter(sampler)
    for batch in loader(pair, sampler, batch_size=5):
        for index in range(len(batch["crs"])):
            window = next(order)
            outer = Window(0, 0, *read_pixels[window.node].shape)
            inner = window.intersect(outer)
            read_pixels[window.node][inner.within(outer)] += batch["image"][index, 2].numpy()[inner.within(window)]
    for node, child in nodes_of(pair).items():
        assert np.array_equal(read_pixels[node], child.image[2].compute())
    assert isinstance(sampler, WindowSequence)
