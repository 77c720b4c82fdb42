"""Training on a tree of layers in several CRSs: accuracy as on one grid, and scores that count each pixel once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt.bridge import statistics
from geoxt.errors import InputError
from geoxt.grid import coordinates, grid_of
from geoxt.legend import Legend
from geoxt.samplers import RandomSampler
from geoxt.source import view_of
from geoxt.splits import by_block, by_time
from geoxt.testing import make_grid
from geoxt.trainers import (
    Task,
    TrainingConfig,
    UnlabeledDataModule,
    WindowDataModule,
    build,
    evaluate,
    fit,
    legend_of_labels,
)
from geoxt.trees import nodes_of

ZONES = {"west": ("EPSG:32615", 700_000), "east": ("EPSG:32616", 300_000)}


def zone(name, seed, *, codes=(3, 11), shift=0):
    """Two bands, the first of which determines the class; a strip without labels and one without image."""
    rng = np.random.default_rng(seed)
    crs, left = ZONES[name]
    field = np.kron(rng.random((8, 8)) < 0.5, np.ones((8, 8), bool))
    image = np.stack([np.where(field, 900, 100), np.full(field.shape, 50)]) + rng.normal(0, 20, (2, *field.shape))
    mask = np.where(field, codes[1], codes[0]).astype("uint8")
    image[:, :, :4], mask[:4] = -1, 0
    legend = Legend(codes, tuple(f"class {code}" for code in codes))
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), (image + shift).astype("float32"), {"_FillValue": -1.0}),
            "mask": (("y", "x"), mask, {"_FillValue": 0, **legend.attrs()}),
        },
        coords={"band": ["nir", "red"], **coordinates(make_grid(field.shape, crs=crs, left=left))},
    )


@pytest.fixture(scope="module")
def tree():
    return xr.DataTree.from_dict({"west": zone("west", 0), "east": zone("east", 1)})


@pytest.fixture(scope="module")
def module(tree):
    return WindowDataModule(tree, by_block(tree, size=16, seed=1), size=16, eval_size=12, length=32, batch_size=8)


def brute_force(task, data, module, part):
    """Return accuracy and number of labelled pixels, computed from whole arrays."""
    correct = count = 0
    for node, ds in nodes_of(data).items():
        inside = np.zeros(grid_of(ds).shape, bool)
        for window in module.split.parts[part].nodes[node]:
            assert not inside[window.row : window.stop[0], window.col : window.stop[1]].any()
            inside[window.row : window.stop[0], window.col : window.stop[1]] = True
            block = ds.isel(y=slice(window.row, window.stop[0]), x=slice(window.col, window.stop[1]))
            image, mask = (torch.from_numpy(block[name].to_numpy()) for name in ("image", "mask"))
            valid = (image != -1).all(0)
            with torch.no_grad():
                predicted = torch.tensor(task.card.codes)[task(image[None], valid[None]).argmax(1)[0]]
            known = valid & (mask != 0)
            correct, count = correct + int((predicted == mask)[known].sum()), count + int(known.sum())
    return correct / count, count


def test_tree_is_learned_like_one_grid_and_scored_on_all_nodes(tree, module):
    west = tree["west"].to_dataset()
    west_module = WindowDataModule(west, by_block(west, size=16, seed=1), size=16, length=32, batch_size=8)
    west_task = Task(west_module.card(model="test_unet"))
    assert max(epoch["val/accuracy"] for epoch in fit(west_task, west_module, epochs=4, progress="none")) > 0.9

    task = Task(module.card(model="test_unet"))
    history = fit(task, module, epochs=4, progress="none")
    assert max(epoch["val/accuracy"] for epoch in history) > 0.9
    module.eval_size = (64, 64)  # whole blocks: the model is given what brute force gives it
    expected, count = brute_force(task, tree, module, "test")
    assert evaluate(task, module)["accuracy"] == pytest.approx(expected)
    assert expected > 0.8
    task.test.reset()
    for batch in module.test_dataloader():
        task.test.update(torch.zeros(batch["mask"].shape, dtype=torch.int64), task.target(batch))
    assert task.test.compute().sum() == count


def test_validation_windows_cover_every_pixel_of_a_node_once(tree, module):
    module.eval_size = (12, 7)
    counts = {node: np.zeros(grid_of(ds).shape, int) for node, ds in nodes_of(tree).items()}
    by_crs = {str(grid_of(ds).crs): node for node, ds in nodes_of(tree).items()}
    for batch in module.val_dataloader():
        node = by_crs[batch["crs"][0]]
        left, top = (float(batch["transform"][0][at]) for at in (2, 5))
        col, row = (round(coordinate) for coordinate in ~grid_of(tree[node].to_dataset()).affine @ (left, top))
        height, width = batch["mask"].shape[-2:]
        counts[node][row : row + height, col : col + width] += 1
    for node, region in module.split.val.nodes.items():
        expected = np.zeros_like(counts[node])
        for window in region:
            expected[window.row : window.stop[0], window.col : window.stop[1]] = 1
        np.testing.assert_array_equal(counts[node], expected)
    assert sum(count.sum() for count in counts.values()) == module.split.val.pixels > 0


def test_card_holds_statistics_and_classes_of_all_nodes(tree, module):
    card = module.card(model="test_unet")
    assert (card.bands, card.codes, card.nodata) == (("nir", "red"), (3, 11), 0)
    pixels = [[], []]
    for window in list(module.windows)[:256]:
        values, valid = view_of(tree[window.node]["image"]).read(window)
        for band in range(2):
            pixels[band].append(values[0, band][valid[0, band]].astype("float64"))
    assert {window.node for window in module.windows} == {"west", "east"}
    np.testing.assert_allclose(card.mean, [np.concatenate(band_pixels).mean() for band_pixels in pixels])
    np.testing.assert_allclose(card.std, [np.concatenate(band_pixels).std() for band_pixels in pixels])
    other = xr.DataTree.from_dict({"west": zone("west", 0), "east": zone("east", 1, codes=(3, 5))})
    legend = legend_of_labels(xr.DataTree.from_dict({node: ds[["mask"]] for node, ds in nodes_of(other).items()}))
    assert (legend.codes, legend.names) == ((3, 11, 5), ("class 3", "class 11", "class 5"))


def test_inconsistent_nodes_raise(tree):
    east = zone("east", 1)
    with pytest.raises(InputError, match="split of the nodes"):
        WindowDataModule(tree, by_block(east, size=16), size=16)
    odd = xr.DataTree.from_dict({"west": zone("west", 0), "east": east.assign_coords(band=["red", "nir"])})
    with pytest.raises(InputError, match="nodes with different bands"):
        WindowDataModule(odd, by_block(odd, size=16), size=16).card()
    fewer = xr.DataTree.from_dict({"west": zone("west", 0)[["image"]], "east": east.isel(band=[0])[["image"]]})
    with pytest.raises(InputError, match="different numbers of bands: {'west': 2, 'east': 1}"):
        statistics(fewer, [])
    other = xr.DataTree.from_dict({node: ds.rename(mask="labels") for node, ds in nodes_of(tree).items()})
    with pytest.raises(InputError, match="the layer 'mask' of node 'west': the layers are"):
        WindowDataModule(other, by_block(other, size=16), size=16).card()
    late = xr.DataTree.from_dict({"west": zone("west", 0), "east": east.expand_dims(time=2)})
    with pytest.raises(InputError, match="the 2 time steps of node 'east' as on one image"):
        WindowDataModule(late, by_block(late, size=16), size=16)


def test_tree_without_labels_trains_self_supervised(tree):
    data = UnlabeledDataModule(tree, RandomSampler(tree, size=16, length=8), batch_size=4)
    task = build(TrainingConfig(task="simclr", model="test_classifier"), data)
    history = fit(task, data, epochs=1, progress="none")
    assert np.isfinite(history[0]["train/loss"])


def test_validation_windows_hold_the_time_steps_of_their_part():
    west = zone("west", 0)
    times = np.array(
        ["2020-01-01", "2020-02-01", "2020-07-01", "2020-08-01", "2020-11-01", "2020-12-01"], "datetime64[ns]"
    )
    image = xr.concat([west["image"] + at for at in range(6)], xr.DataArray(times, dims="time"))
    data = xr.Dataset({"image": image.assign_attrs(west["image"].attrs), "mask": west["mask"]})
    split = by_time(data, train=("2020-01", "2020-02"), val=("2020-07", "2020-08"), test=("2020-11", "2020-12"))
    module = WindowDataModule(data, split, size=16, eval_size=64, times=True, batch_size=2, length=2)
    batch = next(iter(module.val_dataloader()))
    assert batch["image"].shape == (1, 2, 2, 64, 64)
    np.testing.assert_array_equal(batch["image"][0], image.isel(time=[2, 3]))
    assert module.card(task="change").model == "fc_siam_diff"
    assert module.card(task="time-series").model == "utae"
    for task, model, dates in (("change", "unet", "one date"), ("segmentation", "fc_ef", "several dates")):
        message = rf"'{model}' for {task}: it takes images of {dates}\. Pass model='\w+', or another of \w+"
        with pytest.raises(InputError, match=message):
            Task(replace(module.card(task="change"), task=task, model=model))
    with pytest.raises(InputError, match=r"segmentation on windows of 6 dates\. Pass task='change' or 'time-series'"):
        module.card(model="fc_ef")
    with pytest.raises(InputError, match=r"2020-02-01T00:00:00 comes before 2020-01-01T00:00:00\. Sort it by sortby"):
        WindowDataModule(data.isel(time=[1, 0, 2, 3, 4, 5]), split, size=16, times=True)
