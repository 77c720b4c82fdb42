"""Benchmark samples as tensors equal their layers; they pickle."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.dataset_trees import make_tree

from geoxt.bridge import collate, to_torch
from geoxt.datasets import get, load
from geoxt.errors import InputError
from geoxt.windows import Window


@pytest.fixture
def change(tmp_path):
    tree = make_tree(get("levircd_plus"), tmp_path)
    return load(tree.spec, tmp_path)


def test_tensors_equal_layers(change):
    sample, layers = to_torch(change)[1], change[1]
    assert sample["image"].dtype == torch.float32
    assert sample["mask"].dtype == torch.int64
    np.testing.assert_array_equal(sample["image"].numpy(), layers["image"].values)
    np.testing.assert_array_equal(sample["mask"].numpy(), layers["mask"].values)
    assert sample["image_valid"].shape == (2, 12, 12)
    assert sample["mask_valid"].all()
    assert to_torch(change, dtype="stored")[1]["image"].dtype == torch.uint8


def test_keys_select_assets_and_transform_is_applied(change):
    chosen = to_torch(change, keys=["mask"], transform=lambda sample: {**sample, "more": 1})[0]
    assert set(chosen) == {"mask", "mask_valid", "more"}
    with pytest.raises(InputError, match="Cannot read 'masks'"):
        to_torch(change, keys=["masks"])


def test_sample_dataset_pickles(tmp_path):
    tree = make_tree(get("tropical_cyclone"), tmp_path)
    samples = to_torch(load(tree.spec, tmp_path))
    first = samples[0]
    again = pickle.loads(pickle.dumps(samples))
    assert again.data.reader.tables == {}
    assert again[0]["label"] == first["label"]
    assert first["label"].dtype == torch.float32


def test_masks_lie_within_boxes(tmp_path):
    tree = make_tree(get("vhr10"), tmp_path)
    samples = to_torch(load(tree.spec, tmp_path))
    none, sample = samples[0], samples[len(samples) - 1]
    assert none["boxes"].shape == (0, 4)
    assert none["masks"].shape == (0, *none["image"].shape[-2:])
    for box, mask in zip(sample["boxes"].tolist(), sample["masks"], strict=True):
        rows, cols = torch.nonzero(mask, as_tuple=True)
        assert [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1] == box
    batch = collate([none, sample])
    assert batch["image"].shape == (2, *none["image"].shape)
    assert [len(boxes) for boxes in batch["boxes"]] == [0, len(sample["boxes"])]


def test_boxes_of_numbered_instances(tmp_path):
    tree = make_tree(get("spacenet2"), tmp_path)
    sample = to_torch(load(tree.spec, tmp_path, "train"))[0]
    assert len(sample["boxes"]) == 2  # as many shapes as the tree draws
    np.testing.assert_array_equal(sample["masks"].sum(dim=0) > 0, sample["mask"] == 1)
    assert sample["crs"] == "EPSG:32631"


def test_nodata_is_not_valid(tmp_path):
    spec = get("spacenet2")
    tree = make_tree(spec, tmp_path)
    dataset = load(tree.spec, tmp_path, "train")
    low = int(dataset.read(0)["image"].min())
    image = replace(spec.assets["image"], nodata=low)
    marked = load(replace(tree.spec, assets={**spec.assets, "image": image}), tmp_path, "train")
    sample = to_torch(marked, dtype="stored")[0]
    np.testing.assert_array_equal(~sample["image_valid"], (sample["image"] == low).any(dim=0))
    assert not sample["image_valid"].all()


def test_windows_are_required_for_layers_and_refused_for_datasets(change, ds):
    with pytest.raises(InputError, match="Cannot read windows of the dataset 'levircd_plus'"):
        to_torch(change, [Window(0, 0, 4, 4)])
    with pytest.raises(InputError, match="Cannot read samples of a Dataset: it needs windows"):
        to_torch(ds)
