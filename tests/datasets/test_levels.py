"""Further classes of the same masks, and extra splits."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from support.dataset_trees import make_tree
from support.sample_files import write_image

from geoxt.datasets import fetch, get, load, names
from geoxt.errors import InputError, LabelError, ReadError
from geoxt.source import nodata_of

LEVELS = [(name, level) for name in names() for level in get(name).levels]
PARTS = ["train", "test", "hold", "tier3"]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_level_maps_the_same_masks_to_other_classes(trees, name, level):
    tree = trees(name)
    chosen = tree.spec.levels[level]
    standard, dataset = load(tree.spec, tree.root), load(tree.spec, tree.root, level=level)
    assert dataset.classes is chosen.classes
    stored = stored_mask(standard, chosen)
    expected = np.zeros_like(stored)
    for code in np.unique(stored):
        expected[stored == code] = chosen.codes.get(int(code), 0) if chosen.codes else code * (code != 255)
    sample = dataset[0]["mask"]
    np.testing.assert_array_equal(dataset.read(0)["mask"], expected)
    np.testing.assert_array_equal(sample.values, expected)
    assert sample.dtype == sample.values.dtype
    assert sample.attrs["flag_values"].tolist() == list(chosen.classes.codes)
    assert nodata_of(sample) == 0
    np.testing.assert_array_equal(dataset.read(0)["image"], standard.read(0)["image"])


def stored_mask(standard, chosen):
    """Return the stored values of the first sample's mask, in the band of a level."""
    if standard.spec.name == "zuericrop":
        return standard.read(0)["mask"].astype(int)
    path = next(iter(standard.entries[0].paths("mask", standard.spec.assets["mask"]).values()))
    with rasterio.open(standard.root / path) as file:
        return file.read(chosen.channel).astype(int)


def test_layer_has_the_codes_of_the_level(trees):
    tree = trees("sen12ms")
    dataset = load(tree.spec, tree.root, level="lccs_land_use")
    layer, sample = dataset[:1].layer("mask"), dataset[0]["mask"]
    there = layer.values == layer.attrs.get("_FillValue", 0)
    np.testing.assert_array_equal(layer.values[~there], sample.values[~there])
    assert (~there).any()
    with pytest.raises(InputError, match="other values than the class codes"):
        load(tree.spec, tree.root, level="simplified").layer("mask")


def test_code_missing_in_the_level_raises(tmp_path):
    tree = make_tree(get("sen12ms"), tmp_path)
    dataset = load(tree.spec, tmp_path, level="lccs_land_use")
    path = tmp_path / next(iter(dataset.entries[0].paths("mask", dataset.spec.assets["mask"]).values()))
    with rasterio.open(path, "r+") as file:
        band = file.read(3)
        band[:2] = 77
        file.write(band, 3)
    with pytest.raises(LabelError, match=rf"{path.name}'.*: 77 are none"):
        dataset.read(0)
    assert load(tree.spec, tmp_path).read(0)["mask"].size


def test_file_without_the_band_of_a_level_raises(tmp_path):
    tree = make_tree(get("sen12ms"), tmp_path)
    dataset = load(tree.spec, tmp_path, level="lccs_land_use")
    path = tmp_path / next(iter(dataset.entries[0].paths("mask", dataset.spec.assets["mask"]).values()))
    write_image(path, np.ones((1, 12, 12), "uint16"), None)
    with pytest.raises(ReadError, match=rf"Cannot read band 3 of '.*{path.name}': it has 1"):
        dataset.read(0)


@pytest.mark.parametrize("level", ["", "tier5", "TIER4"])
def test_unknown_level_raises(level):
    with pytest.raises(InputError, match=rf"level '{level}' of 'zuericrop': it has tier4, tier3, tier2\. Pass level="):
        load("zuericrop", "nowhere", level=level)
    with pytest.raises(InputError, match=r"of 'eurosat': it has none"):
        load("eurosat", "nowhere", level="tier4")


def test_separate_splits_are_loaded_by_name_only(trees):
    tree = trees("xview2")
    assert tree.spec.split_names == tuple(PARTS)
    of = {split: [load(tree.spec, tree.root, split).fields(at) for at in range(tree.splits[split])] for split in PARTS}
    assert {fields["split"] for split in PARTS for fields in of[split]} == set(PARTS)
    released = load(tree.spec, tree.root)
    assert [released.fields(at) for at in range(len(released))] == sorted(
        of["train"] + of["test"], key=lambda fields: (fields["split"], fields["disaster"], fields["id"])
    )
    assert released.verify(deep=True).ok
    assert released.verify().extra == ()
    (tree.root / "tier3" / "note.txt").write_text("x")
    assert load(tree.spec, tree.root).verify().extra == ("tier3/note.txt",)
    (tree.root / "tier3" / "note.txt").unlink()


def test_release_without_separate_splits_is_complete(tmp_path):
    tree = make_tree(get("xview2"), tmp_path)
    for split in ("hold", "tier3"):
        (tmp_path / split).rename(tmp_path.parent / f"{tmp_path.name}-{split}")
    assert fetch(tree.spec, tmp_path, checksum=False) == tmp_path
    assert load(tree.spec, tmp_path, download=True, checksum=False).verify().ok
    with pytest.raises(ReadError, match=r"samples of 'xview2' of split 'tier3'.*Register at https://xview2\.org"):
        load(tree.spec, tmp_path, "tier3")


def test_separate_split_with_missing_files_raises_only_by_name(tmp_path):
    tree = make_tree(get("xview2"), tmp_path)
    for path in (tmp_path / "tier3/targets").iterdir():
        path.unlink()
    assert load(tree.spec, tmp_path).verify(deep=True).ok
    assert len(load(tree.spec, tmp_path, "hold")) == tree.splits["hold"]
    with pytest.raises(ReadError, match="split=tier3.*no mask"):
        load(tree.spec, tmp_path, "tier3")


def test_separate_split_alone_raises(tmp_path):
    tree = make_tree(get("xview2"), tmp_path)
    for split in ("train", "test"):
        (tmp_path / split).rename(tmp_path.parent / f"{tmp_path.name}-{split}")
    with pytest.raises(ReadError, match="outside of separately published splits"):
        load(tree.spec, tmp_path)
    assert len(load(tree.spec, tmp_path, "tier3")) == tree.splits["tier3"]
    with pytest.raises(ReadError, match=r"Register at https://xview2.*train_images_labels_targets\.tar\.gz"):
        fetch(tree.spec, tmp_path)


@pytest.mark.parametrize("split", ["", "tier1", "Train"])
def test_unknown_split_raises(split):
    with pytest.raises(InputError, match=rf"split '{split}' of 'xview2': it has train, test, hold, tier3"):
        load("xview2", "nowhere", split)
