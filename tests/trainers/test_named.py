"""Data modules that a configuration names: raster files, and datasets of the catalogue; a step of each is learnt."""

import numpy as np
import pytest
import rasterio
import torch

from geoxt import datasets
from geoxt.errors import InputError
from geoxt.testing import make_grid
from geoxt.testing.trees import make_tree
from geoxt.trainers import Files, Named, Task, fit


def weights(task):
    return torch.cat([one.detach().flatten() for one in task.network.parameters()])


def learnt(module, **card):
    """Train for one epoch; return the task and its scores, having asserted that finite weights moved."""
    task = Task(module.card(**card))
    before = weights(task)
    scores = fit(task, module, epochs=1, progress="none")
    after = weights(task)
    assert not torch.equal(before, after)
    assert torch.isfinite(after).all()
    return task, scores[0]


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes the tree of a dataset."""

    def write(name):
        return make_tree(datasets.info(name), tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("name", "task", "model", "splits"),
    [
        ("ucmerced", "classification", "test_classifier", ("train", "val", "test")),
        ("landcoverai", "segmentation", "test_unet", ("train", "val", "test")),
        ("vhr10", "detection", "test_faster_rcnn", ("train", "val")),
    ],
)
def test_a_dataset_is_learnt_by_its_own_splits(tree, name, task, model, splits):
    made = tree(name)
    module = Named(name, str(made.root), splits=splits, batch_size=4)
    parts = (module.train, module.val, module.test)
    for split, part in zip(splits, parts, strict=False):
        assert len(part) == len(datasets.load(name, made.root, split))
    assert (module.test is None) is ("test" not in splits)
    own, scores = learnt(module, model=model, task=task)
    assert (own.card.codes, own.card.names) == (made.spec.classes.codes, made.spec.classes.names)
    assert own.card.bands == ("red", "green", "blue")
    assert np.isfinite(scores["train/loss"])


def test_codes_without_label_are_no_class_to_learn(tree):
    made = tree("chesapeake_cvpr")
    module = Named("chesapeake_cvpr", str(made.root), batch_size=2)
    own, scores = learnt(module, model="test_unet", task="segmentation")
    assert own.card.codes == (1, 2, 3, 4, 5, 6)
    assert "val/iou/no data" not in scores


def test_bands_are_chosen_by_name(tree):
    module = Named("eurosat", str(tree("eurosat").root), bands=["nir", "red"])
    card = module.card(model="test_classifier")
    assert card.bands == ("B08", "B04")
    pixels = torch.stack([module.train[at]["image"] for at in range(len(module.train))]).double()
    np.testing.assert_allclose(card.mean, pixels.mean(dim=(0, 2, 3)), rtol=1e-6)


def test_a_split_that_is_not_there(tree):
    with pytest.raises(InputError, match="split 'val' of 'levircd_plus': it has train, test"):
        Named("levircd_plus", str(tree("levircd_plus").root))


def write(path, values):
    count, height, width = values.shape
    grid = make_grid((height, width))
    profile = {"driver": "GTiff", "count": count, "dtype": values.dtype, "crs": str(grid.crs)}
    with rasterio.open(path, "w", height=height, width=width, transform=grid.affine, **profile) as file:
        file.write(values)


@pytest.mark.parametrize("target", ["mask", "target"])
def test_files_are_split_by_blocks_and_learnt(tmp_path, target):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 3, (1, 6, 6)), np.ones((1, 16, 16), int))
    labels = labels.astype("uint8" if target == "mask" else "float32")
    write(tmp_path / "image.tif", (labels * 100 + rng.normal(0, 5, (2, 96, 96))).astype("float32"))
    write(tmp_path / "labels.tif", labels)
    module = Files(
        [str(tmp_path / "image.tif")], str(tmp_path / "labels.tif"), target=target, block=16, size=16, eval_size=16,
        batch_size=4, length=8,
    )  # fmt: skip
    kind = "segmentation" if target == "mask" else "pixelwise-regression"
    own, scores = learnt(module, model="test_unet", task=kind)
    assert len(own.card.bands) == 2
    assert own.card.codes == ((1, 2) if target == "mask" else (0,))
    assert np.isfinite(scores["val/loss"])
