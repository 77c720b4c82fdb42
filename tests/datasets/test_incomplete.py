"""Parts of releases, damaged samples, overlapping lists, missing rows, and labels that are not classes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.dataset_trees import make_tree

import geoxt.bridge
from geoxt.datasets import Boxes, ListSplit, Raster, Spec, Table, Vector, get, load
from geoxt.datasets.spec import RGB, classes
from geoxt.datasets.vector_labels import Drawing, read_coco
from geoxt.errors import InputError, LabelError, ReadError

pytestmark = pytest.mark.filterwarnings("ignore::geoxt.errors.DatasetWarning")


def test_damaged_sample_of_another_split_does_not_matter(tree):
    next(tree.root.rglob("test/mask/*.png")).unlink()
    assert len(load(tree.spec, tree.root, "train")) == 1
    with pytest.raises(ReadError, match="split=test"):
        load(tree.spec, tree.root, "test")
    with pytest.raises(ReadError, match="1 samples lack files"):
        load(tree.spec, tree.root)
    complete = load(tree.spec, tree.root, missing="skip")
    assert (len(complete), len(complete.skipped)) == (1, 1)


def test_random_splits_do_not_depend_on_damaged_samples(tmp_path):
    made = make_tree(get("advance"), tmp_path)
    before = {s: {str(load(made.spec, tmp_path, s).fields(i)) for i in range(3)} for s in ("train", "val")}
    test = load(made.spec, tmp_path, "test").fields(0)
    (tmp_path / "sound" / test["label"] / f"{test['id']}.wav").unlink()
    for split, samples in before.items():
        part = load(made.spec, tmp_path, split, missing="skip")
        assert {str(part.fields(i)) for i in range(3)} == samples
    skipped = load(made.spec, tmp_path, "test", missing="skip").skipped
    assert len(skipped) == 1
    assert "no audio" in skipped[0]


def test_incomplete_samples_survive_the_cache(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("geoxt.datasets.cache.MIN_SAMPLES", 1)
    next(tree.root.rglob("test/mask/*.png")).unlink()
    for _ in range(2):
        with pytest.raises(ReadError, match="split=test"):
            load(tree.spec, tree.root)
        assert len(load(tree.spec, tree.root, "train")) == 1
        monkeypatch.setattr("geoxt.datasets.cache.build", None)


@pytest.mark.parametrize(
    ("name", "keys", "gone"),
    [
        ("sen12ms", ["image", "mask"], "sar"),
        ("sen12ms", ["sar"], "image"),
        ("chesapeake_cvpr", ["image", "mask"], "leaf_on"),
        ("advance", ["image"], "audio"),
    ],
)
def test_part_of_a_release_opens_by_its_assets(tmp_path, name, keys, gone):
    made = make_tree(get(name), tmp_path)
    complete = load(made.spec, tmp_path)
    asset = made.spec.assets[gone]
    for entry in complete.entries:
        for path in entry.paths(gone, asset).values():
            (tmp_path / path).unlink(missing_ok=True)
    for folder in sorted((p for p in tmp_path.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    part = load(made.spec, tmp_path, assets=keys)
    assert len(part) == len(complete)
    assert set(part.read(0)) - {"label"} == set(keys)
    with pytest.raises(InputError, match="Cannot find asset 'sound'"):
        load(made.spec, tmp_path, assets=["sound"])


def test_bands_of_a_part_of_a_release(tmp_path):
    made = make_tree(get("sen12ms"), tmp_path)
    complete = load(made.spec, tmp_path)
    for entry in complete.entries:
        for path in entry.paths("sar", made.spec.assets["sar"]).values():
            (tmp_path / path).unlink(missing_ok=True)
    part = load(made.spec, tmp_path, bands=["B04"])
    assert len(part) == len(complete)
    assert part.read(0)["image"].shape[0] == 1


@pytest.fixture
def listed():
    return Spec(
        name="listed",
        title="Listed",
        task="classification",
        source="generated",
        classes=classes("land water"),
        assets={
            "image": Raster("image/{id}.png", bands=RGB, shape=(4, 4)),
            "label": Table("labels.csv", columns={"id": "{id}"}, value="class", label_kind="class"),
        },
        splits=ListSplit(path="{split:train|test}.txt", columns=("{id}",)),
    )


def write(root, *, train="a\nb\n", test="c\n", rows=("a", "b", "c")):
    (root / "image").mkdir()
    for name in "abc":
        Image.fromarray(np.zeros((4, 4, 3), "u1")).save(root / "image" / f"{name}.png")
    (root / "train.txt").write_text(train)
    (root / "test.txt").write_text(test)
    (root / "labels.csv").write_text("id,class\n" + "".join(f"{name},water\n" for name in rows))


def test_sample_in_two_lists_raises(listed, tmp_path):
    write(tmp_path, test="b\nc\n")
    with pytest.raises(ReadError, match=r"id=b is in .test. and .train."):
        load(listed, tmp_path, "train")


def test_sample_twice_in_one_list_is_one_sample(listed, tmp_path):
    write(tmp_path, train="a\nb\na\n")
    assert len(load(listed, tmp_path, "train")) == 2


def test_samples_without_a_table_row_are_skipped(listed, tmp_path):
    write(tmp_path, rows=("a", "c"))
    train = load(listed, tmp_path, "train", missing="skip")
    assert [train.fields(i)["id"] for i in range(len(train))] == ["a"]
    assert train.skipped == ("id=b: no row of label (labels.csv)",)
    assert train.read(0)["label"] == 1
    with pytest.raises(ReadError, match="id=b in 'labels.csv'"):
        load(listed, tmp_path, "train").read(1)


def test_mask_of_another_size_raises_when_read(tree):
    path = next(tree.root.rglob("train/mask/*.png"))
    mask = Image.open(path)
    mask.crop((0, 0, mask.width, mask.height - 2)).save(path)
    dataset = load(tree.spec, tree.root)
    assert dataset.verify().ok
    sizes = f"mask has {mask.height - 2}x{mask.width} pixels, image {mask.height}x{mask.width}"
    (problem,) = dataset.verify(deep=True).problems
    assert f"split=train/place=s000: Cannot read split=train/place=s000: {sizes}." in problem
    for read in (dataset.read, dataset.__getitem__):
        read(0)
        with pytest.raises(ReadError, match=f"Cannot read split=train/place=s000: {sizes}. Fetch"):
            read(1)


@pytest.mark.parametrize("size", [(6, 9), (11, 18), (18, 12), (13, 19)])
def test_mask_of_another_size_raises_in_batches(tree, size):
    torch = pytest.importorskip("torch")
    for path in tree.root.rglob("mask/*.png"):
        Image.fromarray(np.zeros(size, "u1")).save(path)
    samples = geoxt.bridge.to_torch(load(tree.spec, tree.root))
    with pytest.raises(ReadError, match=f"mask has {size[0]}x{size[1]} pixels, image 12x18"):
        next(iter(torch.utils.data.DataLoader(samples, batch_size=1)))


BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]}


def coco(path, annotation=BOX, *, images=((1, "a.png"),)):
    content = {
        "images": [{"id": number, "file_name": name} for number, name in images],
        "annotations": [annotation],
        "categories": [{"id": 0, "name": "_background_"}, {"id": 1, "name": "ship"}],
    }
    path.write_text(json.dumps(content))
    return path


def test_unused_category_may_be_no_class(tmp_path):
    asset = Boxes("boxes.json", image="{id}.png")
    ((fields, objects),) = read_coco(coco(tmp_path / "boxes.json"), asset, classes("ship", first=1))
    assert fields == {"id": "a"}
    np.testing.assert_array_equal(objects["boxes"], [[1, 2, 4, 6]])
    with pytest.raises(LabelError, match="category '_background_'"):
        read_coco(coco(tmp_path / "boxes.json", {**BOX, "category_id": 0}), asset, classes("ship", first=1))


def test_image_that_the_coco_file_lacks_raises(listed, tmp_path):
    write(tmp_path)
    assets = {"image": listed.assets["image"], "boxes": Boxes("boxes.json", image="{id}.png")}
    spec = replace(listed, task="detection", assets=assets)
    coco(tmp_path / "boxes.json", images=((1, "a.png"), (2, "c.png")))
    data = load(replace(spec, classes=classes("ship", first=1)), tmp_path)
    assert len(data.read(0)["boxes"]) == 1
    assert len(data.read(2)["boxes"]) == 0  # in the file, without objects
    with pytest.raises(ReadError, match="Cannot find id=b in 'boxes.json'"):
        data.read(1)


@pytest.mark.parametrize(
    ("value", "code"),
    [("water", 1), ("land", 0), (1, 1), ("1", 1), (1.0, 1), ("Water", None), (None, None), (1.5, None)],
)
def test_class_names_of_vector_labels(tmp_path, value, code):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]}
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "geometry": square, "properties": {"kind": value}}]}))  # fmt: skip
    drawing = Drawing(asset=Vector("a.geojson", column="kind"), path=str(path))
    geometry, values, _ = drawing._features()
    if code is None:
        with pytest.raises(LabelError, match=r"Cannot map feature 1 of .*: its kind"):
            drawing._codes(geometry, values, classes("land water"))
    else:
        assert drawing._codes(geometry, values, classes("land water")).tolist() == [code]
