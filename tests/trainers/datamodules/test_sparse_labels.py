"""Sparse polygons and points: no labelled pixel is lost between file and loss, and rare classes have weights."""

import geopandas
import numpy as np
import pytest
import shapely
import torch
import xarray as xr

import geoxt
from geoxt.errors import LabelWarning, OverlapError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.samplers import RandomSampler
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, Task, WindowDataModule, evaluate, fit, legend_of_labels

GRID = make_grid((160, 176))


@pytest.fixture(scope="module")
def image():
    values = np.random.default_rng(0).random((2, *GRID.shape), "float32")
    dims, coords = ("band", "y", "x"), {"band": ["a", "b"], **coordinates(GRID)}
    return xr.DataArray(values, dims=dims, coords=coords, name="image")


def write(path, geometries, classes):
    """Write geometries given in pixels of the grid."""
    a = GRID.affine
    placed = shapely.transform(np.array(geometries), lambda p: p @ np.array([[a.a, a.d], [a.b, a.e]]) + [a.c, a.f])
    geopandas.GeoDataFrame({"cover": classes}, geometry=placed, crs=GRID.crs.to_wkt()).to_file(path)
    return path


@pytest.fixture(scope="module", params=["polygons", "points"])
def data(request, image, tmp_path_factory):
    """Features of three classes, one at each of 24 positions, which cover about 1 % or 0.1 % of the pixels."""
    rng = np.random.default_rng(1)
    corners = [(row * 40 + rng.integers(2, 30), col * 28 + rng.integers(2, 20)) for row in range(4) for col in range(6)]
    if request.param == "points":
        shapes = [shapely.Point(col + 0.5, row + 0.5) for row, col in corners]
    else:
        shapes = [shapely.box(col, row, col + 4, row + 3) for row, col in corners]
    path = write(tmp_path_factory.mktemp("labels") / "train.gpkg", shapes, [f"class {i % 3}" for i in range(24)])
    labels = geoxt.open_vector(path, like=image, column="cover", nodata=0)
    return geoxt.intersection(image=image, mask=labels, grid="image")


def labelled(data, region):
    mask = data["mask"].to_numpy()
    return sum(int((mask[w.row : w.stop[0], w.col : w.stop[1]] > 0).sum()) for w in region)


@pytest.mark.parametrize("stratified", [False, True])
def test_split_keeps_every_labelled_pixel(data, stratified):
    split = by_block(data, size=32, seed=0, labels=data["mask"] if stratified else None)
    total = int((data["mask"].to_numpy() > 0).sum())
    assert total in {24, 24 * 12}
    assert sum(labelled(data, region) for region in split.parts.values()) == total


def test_sampled_windows_hold_features(data):
    windows = RandomSampler(data, size=24, length=200, seed=0)
    assert all(labelled(data, [window]) for window in windows)
    drawn = np.zeros(GRID.shape, bool)
    for window in RandomSampler(data, size=24, length=2000, seed=0):
        drawn[window.row : window.stop[0], window.col : window.stop[1]] = True
    assert drawn[data["mask"].to_numpy() > 0].all()


def test_defaults_make_a_map(data, tmp_path):
    module = WindowDataModule(data, by_block(data, size=32, seed=0), size=32, length=16, batch_size=8)
    task = Task(module.card(model="test_unet"), Recipe(class_weights="balanced"))
    history = fit(task, module, epochs=1, progress="none", accelerator="cpu", checkpoint=tmp_path / "model.ckpt")
    assert np.isfinite(list(history[0].values())).all()
    assert np.isfinite(evaluate(task, module)["accuracy"])
    made = geoxt.predict(data["image"], tmp_path / "model.ckpt", size=64)
    assert set(np.unique(made)) <= {1, 2, 3}


def test_class_counts_are_those_of_the_whole_part(data):
    split = by_block(data, size=32, seed=0)
    module = WindowDataModule(data, split, size=16, length=8, batch_size=8)
    mask = data["mask"].to_numpy()
    expected = np.zeros(4, int)
    for w in split.train:
        expected += np.bincount(mask[w.row : w.stop[0], w.col : w.stop[1]].ravel(), minlength=4)
    counts = module.class_counts("mask", Legend((3, 1, 2), ("c", "a", "b")))
    assert counts.tolist() == expected[[3, 1, 2]].tolist()


def test_class_absent_from_training_is_warned_of_and_harmless(data):
    split = by_block(data, size=32, seed=0)
    module = WindowDataModule(data, split, size=16, length=16, batch_size=8)
    card = module.card(model="test_unet", legend=Legend((1, 2, 3, 9), ("a", "b", "c", "absent")))
    task = Task(card, Recipe(class_weights="balanced"))
    with pytest.warns(LabelWarning, match="no labels of the classes absent: the model cannot learn them"):
        history = fit(task, module, epochs=1, progress="none", accelerator="cpu")
    assert np.isfinite(list(history[0].values())).all()
    assert task.class_weights[3] == 1
    assert float(task.class_weights.min()) > 0


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "bce", "dice", "jaccard", "cross_entropy+dice"])
def test_class_of_weight_zero_has_no_loss(loss):
    from geoxt.trainers.tasks.losses import LOSSES

    logits, target = torch.randn(2, 3, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, dtype=torch.int64)
    value = LOSSES["softmax"][loss](logits, target, 0.1, torch.tensor([0.0, 1.0, 2.0]))
    value.backward()
    assert bool(value.isfinite())
    assert bool(logits.grad.isfinite().all())


def test_background_of_training_polygons_is_warned_of(image, tmp_path):
    path = write(tmp_path / "train.gpkg", [shapely.box(3, 3, 20, 20), shapely.box(60, 60, 70, 70)], ["a", "b"])
    labels = geoxt.open_vector(path, like=image, column="cover", name="labels")
    with pytest.warns(LabelWarning, match=r"98\.6% of the pixels of 'labels' lie in no feature, .*nodata=0"):
        assert legend_of_labels(labels).codes == (0, 1, 2)
    assert legend_of_labels(geoxt.open_vector(path, like=image, column="cover", nodata=0)).codes == (1, 2)


def test_error_names_arguments_of_the_data_module(data):
    split = by_block(data, size=32, seed=0)
    with pytest.raises(OverlapError, match="Cannot place a window of 40 x 40 pixels.*Pass a smaller size=. Or split"):
        WindowDataModule(data, split, size=40)
