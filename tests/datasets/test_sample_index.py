"""The sample index: listed folders, cached tables, joined assets, and random splits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from support.dataset_trees import make_tree

from geoxt.datasets import FieldSplit, ListSplit, RandomSplit, cache, get, load
from geoxt.datasets.entries import Entry
from geoxt.datasets.sample_index import build
from geoxt.datasets.splits import assign
from geoxt.errors import ReadError

NAME = "S2A_MSIL2A_20170613T101031_{}_{}"

pytestmark = pytest.mark.filterwarnings("ignore:.*but the release has:geoxt.errors.DatasetWarning")


@pytest.fixture
def patches(tmp_path, monkeypatch):
    """Return a root with many empty patch folders, and a separate cache."""
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "root"
    for row in range(40):
        for col in range(30):
            (root / "BigEarthNet-v1.0" / NAME.format(row, col)).mkdir(parents=True)
    return root


def test_folders_of_samples_are_not_listed(patches):
    listed = []
    entries, _ = build(get("bigearthnet"), patches, listed=listed.append)
    assert len(entries) == 1200
    assert set(listed) == {"BigEarthNet-v1.0/"}  # neither the patches nor what is not there
    files = entries[0].paths("image", get("bigearthnet").first_asset)
    assert len(files) == 12
    assert files[None, "B8A"] == f"BigEarthNet-v1.0/{NAME.format(0, 0)}/{NAME.format(0, 0)}_B8A.tif"


def test_index_is_cached_until_a_folder_changes(patches, monkeypatch):
    first = load("bigearthnet", patches)
    with monkeypatch.context() as patch:
        patch.setattr("geoxt.datasets.cache.build", None)  # would fail if it were called
        again = load("bigearthnet", patches)
    assert again.entries == first.entries
    (patches / "BigEarthNet-v1.0" / NAME.format(99, 99)).mkdir()
    assert len(load("bigearthnet", patches)) == 1201
    lists = patches / "bigearthnet-train.csv"
    lists.write_text(f"{NAME.format(99, 99)},S1A_IW_GRDH_1SDV_20170613T165043_33UUP_99_99\n")
    assert load("bigearthnet", patches, "train").fields(0)["patch"] == NAME.format(99, 99)


def test_broken_index_is_rebuilt(patches, tmp_path):
    load("bigearthnet", patches)
    cache_file = next((tmp_path / "cache" / "datasets").iterdir())
    empty = {"watched": [], "stamps": []}
    for content in ("[" * 100_000, json.dumps(empty), json.dumps({**empty, "names": 1, "assets": [], "entries": [1]})):
        cache_file.write_text(content)
        assert cache._load(cache_file) is None
    cache_file.write_text(json.dumps({"watched": []}))
    assert len(load("bigearthnet", patches)) == 1200


def test_times_survive_the_index_cache(tree, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("geoxt.datasets.cache.MIN_SAMPLES", 1)
    tree = make_tree(get("levircd_plus"), tmp_path / "levir")
    first = load(tree.spec, tree.root)
    again = load(tree.spec, tree.root)
    assert list((tmp_path / "cache" / "datasets").iterdir())
    assert again.entries == first.entries
    assert list(again[0]["image"].time.values) == ["A", "B"]


def test_two_files_for_one_sample_raise(ponds, tmp_path):
    tree = make_tree(ponds, tmp_path)
    mask = replace(ponds.assets["mask"], path="ponds/{split:train|test}/mask/{place}{version:|_v2}.png")
    spec = replace(ponds, assets={**ponds.assets, "mask": mask})
    assert len(load(spec, tmp_path)) == len(tree.samples)
    (tmp_path / "ponds/test/mask/s001_v2.png").write_bytes((tmp_path / "ponds/test/mask/s001.png").read_bytes())
    with pytest.raises(OSError, match="may both belong to one sample"):
        load(spec, tmp_path)


def entries(labels, groups=None):
    fields = [{"label": label, "n": at} for at, label in enumerate(labels)]
    if groups:
        fields = [{**field, "group": group} for field, group in zip(fields, groups, strict=True)]
    return [Entry(fields=field, files={}) for field in fields]


@given(counts=st.lists(st.integers(5, 40), min_size=1, max_size=4), seed=st.integers(0, 5))
def test_random_split_preserves_class_fractions(counts, seed):
    spec = replace(get("advance"), splits=RandomSplit(seed=seed))
    index_entries = entries([f"c{k}" for k, count in enumerate(counts) for _ in range(count)])
    of = assign(spec, index_entries)
    for k, count in enumerate(counts):
        class_splits = [
            split for entry, split in zip(index_entries, of, strict=True) if entry.fields["label"] == f"c{k}"
        ]
        for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(class_splits.count(name) - share * count) <= 1
    shuffled = np.random.default_rng(seed).permutation(len(index_entries))
    assert [assign(spec, [index_entries[i] for i in shuffled])[at] for at in range(len(index_entries))] == [
        of[i] for i in shuffled
    ]


def test_random_split_keeps_groups_together():
    spec = replace(get("advance"), splits=RandomSplit(group=("group",)))
    index_entries = entries(["a", "b"] * 60, [f"g{at // 6}" for at in range(120)])
    of = {}
    for entry, split in zip(index_entries, assign(spec, index_entries), strict=True):
        of.setdefault(entry.fields["group"], set()).add(split)
    assert all(len(splits) == 1 for splits in of.values())
    assert {split for splits in of.values() for split in splits} == {"train", "val", "test"}


def test_random_split_keeps_blocks_together(tmp_path):
    spec = replace(get("eurosat"), splits=RandomSplit(block=5000), samples=None)
    tree = make_tree(spec, tmp_path)
    parts = {split: load(tree.spec, tmp_path, split) for split in spec.split_names}
    assert sum(map(len, parts.values())) == len(tree.samples)
    blocks = [
        {
            int(part[at]["image"].odc.geobox.extent.to_crs("EPSG:6933").centroid.coords[0][0] // 5000)
            for at in range(len(part))
        }
        for part in parts.values()
    ]
    assert not blocks[0] & blocks[1]
    assert not blocks[0] & blocks[2]


def test_field_split_by_sample_names(tmp_path):
    named = FieldSplit(field="n", values={"train": (1, 2, 3), "test": (4,)})
    spec = replace(get("vhr10"), splits=named)
    tree = make_tree(spec, tmp_path)
    assert {split: len(load(tree.spec, tmp_path, split)) for split in ("train", "test")} == dict(tree.splits)


def test_split_lists_name_their_splits():
    assert get("bigearthnet_v2").split_names == ("train", "val", "test")
    assert isinstance(get("eurosat").splits, ListSplit)
    assert Path(get("eurosat").splits.path).suffix == ".txt"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_fixed_times_follow_the_order_of_the_spec(tmp_path):
    spec = get("xview2")
    make_tree(spec, tmp_path)
    dataset = load(spec, tmp_path)
    image = dataset[0]["image"]
    assert list(image.time.values) == ["pre", "post"]  # the alphabet has them the other way
    for at, time in enumerate(("pre", "post")):
        with rasterio.open(tmp_path / spec.first_asset.templates[0].fill({**dataset.fields(0), "time": time})) as file:
            np.testing.assert_array_equal(image.values[at], file.read())


def test_missing_fixed_time_raises(tmp_path):
    spec = get("xview2")
    tree = make_tree(spec, tmp_path)
    next(tmp_path.rglob("train/images/*_post_disaster.png")).unlink()
    with pytest.raises(ReadError, match="no post of image"):
        load(spec, tmp_path)
    dataset = load(spec, tmp_path, missing="skip")
    assert len(dataset) == tree.spec.samples - 1
