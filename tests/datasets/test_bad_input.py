"""Broken files and folders raise errors with the path, or are reported."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from support.dataset_trees import make_tree
from support.sample_files import write_image

from geoxt.datasets import RandomSplit, Raster, fetch, get, load
from geoxt.datasets.codes import decode
from geoxt.datasets.spec import classes
from geoxt.datasets.table_rows import read_rows
from geoxt.errors import DatasetWarning, InputError, LabelError, OutputError, ReadError


def test_missing_mask_raises_or_is_skipped(tree):
    (tree.root / "ponds/train/mask/s000.png").unlink()
    with pytest.raises(ReadError, match=r"1 samples lack files: split=train/place=s000: no mask .*missing='skip'"):
        load(tree.spec, tree.root)
    dataset = load(tree.spec, tree.root, missing="skip")
    assert len(dataset) == 1
    assert "no mask" in dataset.skipped[0]
    assert not dataset.verify().ok


def test_file_removed_after_loading_raises(tree):
    dataset = load(tree.spec, tree.root)
    path = tree.root / "ponds/test/image/s001.png"
    path.unlink()
    with pytest.raises(ReadError, match=r"ponds/test/image/s001\.png.*Fetch the dataset again"):
        dataset.read(0)
    assert any("s001.png is missing" in problem for problem in dataset.verify().problems)


def test_extra_files_are_ignored_and_reported(tree):
    for name in ("Thumbs.db", "train/image/notes.txt"):
        (tree.root / "ponds" / name).write_text("x")
    dataset = load(tree.spec, tree.root)
    assert len(dataset) == 2
    report = dataset.verify()
    assert report.ok
    assert report.extra == ("ponds/Thumbs.db", "ponds/train/image/notes.txt")


@pytest.mark.parametrize("end", ["png", "jpg", "tif"])
def test_truncated_image_raises(ponds, tmp_path, end):
    image = Raster("ponds/{split:train|test}/image/{place}." + end, bands=ponds.bands, shape=(64, 96))
    tree = make_tree(replace(ponds, assets={"image": image}), tmp_path)
    dataset = load(tree.spec, tmp_path)
    path = tmp_path / f"ponds/test/image/s001.{end}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ReadError, match=rf"Cannot read the image .*s001\.{end}"):
        dataset.read(0)
    assert not dataset.verify(deep=True).ok


def test_mask_with_unknown_codes_raises(tree):
    path = tree.root / "ponds/test/mask/s001.png"
    write_image(path, np.array([[[0, 255, 7], [9, 9, 0]]], np.uint8), None)
    with pytest.raises(LabelError, match=r"class of 3 pixels in .*s001\.png.*: 7, 9 are none of the codes"):
        load(tree.spec, tree.root).read(0)


def test_unknown_colors_of_a_mask_raise(ponds, tmp_path):
    mask = Raster("ponds/{split:train|test}/mask/{place}.png", colors="exact", shape=(64, 96))
    painted = replace(ponds, assets={**ponds.assets, "mask": mask})
    tree = make_tree(painted, tmp_path)
    dataset = load(tree.spec, tmp_path)
    assert set(np.unique(dataset.read(0)["mask"])) == {0, 1}
    path = tmp_path / "ponds/test/mask/s001.png"
    write_image(path, np.full((3, 12, 18), 9, np.uint8), None)
    with pytest.raises(LabelError, match=r"#090909 are none of the colors"):
        dataset.read(0)


def test_snapped_colors_match_the_legend(ponds, tmp_path):
    legend = classes("land water", colors="#000000 #ffff00")
    mask = Raster("ponds/{split:train|test}/mask/{place}.png", colors="snap", shape=(64, 96))
    tree = make_tree(replace(ponds, classes=legend, assets={**ponds.assets, "mask": mask}), tmp_path)
    path = tmp_path / "ponds/test/mask/s001.png"
    pixels = np.zeros((3, 12, 18), np.uint8)
    pixels[:, 0, :2] = [[252, 3], [255, 90], [0, 1]]
    write_image(path, pixels, None)
    assert load(tree.spec, tmp_path).read(0)["mask"][0].tolist() == [1, *[0] * 17]


def test_empty_class_folder_warns(tmp_path):
    tree = make_tree(get("ucmerced"), tmp_path)
    for path in (tmp_path / "UCMerced_LandUse/Images/river").iterdir():
        path.unlink()
    missing_sample = pytest.warns(
        DatasetWarning, match="1 samples of the splits do not exist, such as label=river/n=17"
    )
    with missing_sample, pytest.warns(DatasetWarning, match="no samples of 1 of its classes: river"):
        dataset = load(tree.spec, tmp_path)
    assert len(dataset) == 20


def test_unknown_class_folder_raises(tmp_path):
    tree = make_tree(get("ucmerced"), tmp_path)
    (tmp_path / "UCMerced_LandUse/Images/river").rename(tmp_path / "UCMerced_LandUse/Images/volcano")
    folder = tmp_path / "UCMerced_LandUse/Images/volcano"
    path = next(folder.iterdir())
    path.rename(folder / path.name.replace("river", "volcano"))
    with pytest.raises(LabelError, match=r"class 'volcano' of '.*volcano/volcano.*\.tif'"):
        load(tree.spec, tmp_path)


def test_unknown_or_unreadable_label_raises(tmp_path):
    tree = make_tree(get("bigearthnet"), tmp_path)
    path = next(tmp_path.rglob("*_labels_metadata.json"))
    path.write_text(json.dumps({"labels": ["Volcanoes"]}))
    dataset = load(tree.spec, tmp_path)
    with pytest.raises(LabelError, match=r"'Volcanoes' of .*_labels_metadata\.json"):
        dataset.read(0)
    path.write_text("{")
    with pytest.raises(ReadError, match=r"Cannot read the labels in .*_labels_metadata\.json"):
        dataset.read(0)


def test_missing_rows_and_columns_of_a_table_raise(tmp_path):
    tree = make_tree(get("tropical_cyclone"), tmp_path)
    path = tmp_path / "test_set_labels.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:1]))
    with pytest.raises(ReadError, match="has no such row"):
        load(tree.spec, tmp_path).read(0)
    path.write_text("\n".join([lines[0].replace("Wind Speed", "wind"), *lines[1:]]))
    with pytest.raises(ReadError, match="no column 'Wind Speed'"):
        load(tree.spec, tmp_path).read(0)


def test_contradictory_rows_of_a_table_raise(tmp_path):
    tree = make_tree(get("tropical_cyclone"), tmp_path)
    path = tmp_path / "test_set_labels.csv"
    _, row, *_ = lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, row]))
    first = load(tree.spec, tmp_path).read(0)  # equal rows agree
    assert first["label"] == float(row.split(",")[-1])
    path.write_text("\n".join([*lines, f"{row[: row.rindex(',')]},999"]))
    with pytest.raises(ReadError, match=r"labels\.csv': .* has two different rows"):
        load(tree.spec, tmp_path).read(0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,class,class\na,water,forest\n", "two columns have the name 'class'"),
        ("id,class\na,water\nb,land,forest\n", "line 3 has 3 values for 2 columns"),
    ],
)
def test_ambiguous_columns_of_a_table_raise(tmp_path, text, problem):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ReadError, match=rf"Cannot read the table '.*labels\.csv': {problem}\. Fetch"):
        list(read_rows(path, {"id": "{id}"}))


def test_columns_without_a_name_may_repeat(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,class,,\na,water,,\nb,land,,,\n")
    assert [row["class"] for _, row in read_rows(path, {"id": "{id}"})] == ["water", "land"]


def test_parquet_table_with_two_columns_of_a_name_raises(tmp_path):
    path = tmp_path / "labels.parquet"
    columns = [pyarrow.array(["a"]), pyarrow.array(["water"]), pyarrow.array(["forest"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["id", "class", "class"]), path)
    with pytest.raises(ReadError, match=r"labels\.parquet': two columns have the name 'class'"):
        list(read_rows(path, {"id": "{id}"}))


@pytest.mark.parametrize(
    ("bands", "alpha", "problem"),
    [(4, 255, None), (4, 254, "4 bands, not 3, and transparent pixels"), (5, 255, "5 bands, not 3")],
)
def test_further_bands_of_an_image_raise_unless_opaque(tree, bands, alpha, problem):
    path = tree.root / "ponds/test/image/s001.png"
    image = np.concatenate([load(tree.spec, tree.root, "test").read(0)["image"]] * 2)[:bands]
    image[3] = alpha
    options = {"photometric": "rgb", "alpha": "yes"} if bands == 4 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        size = {"count": bands, "height": image.shape[1], "width": image.shape[2]}
        with rasterio.open(path, "w", driver="GTiff", dtype="uint8", **size, **options) as file:
            file.write(image)
    data = load(tree.spec, tree.root, "test")
    if problem is None:
        np.testing.assert_array_equal(data.read(0)["image"], image[:3])
        return
    with pytest.raises(ReadError, match=rf"s001\.png.*{problem}"):
        data.read(0)


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf])
def test_instance_numbers_that_are_no_whole_numbers_raise(value):
    numbers = np.array([[0, 2], [1, value]], np.float32)
    with pytest.raises(LabelError, match=f"instance numbers in 'a.tif': {value:g} is not a whole number"):
        decode(numbers, Raster("a.tif", instances=True), None, "a.tif")
    np.testing.assert_array_equal(decode(numbers[:1], Raster("a.tif", instances=True), None, "a.tif"), [[0, 2]])
    with pytest.raises(LabelError, match="Cannot determine the class of 1 pixels in 'a.tif'"):
        decode(numbers[1:], Raster("a.tif", codes={}), classes("land water"), "a.tif")


def test_unknown_category_of_boxes_raises(tmp_path):
    tree = make_tree(get("vhr10"), tmp_path)
    path = tmp_path / "NWPU VHR-10 dataset/annotations.json"
    path.write_text(path.read_text().replace("airplane", "zeppelin"))
    dataset = load(tree.spec, tmp_path)
    with pytest.raises(LabelError, match="category 'zeppelin'"):
        dataset.read(len(tree.samples) - 1)


def test_invalid_geojson_gives_an_empty_mask(tmp_path):
    tree = make_tree(get("spacenet2"), tmp_path)
    dataset = load(tree.spec, tmp_path, "train")
    assert dataset.read(0)["mask"].any()
    next(iter((tmp_path / dataset.entries[0].paths("mask", tree.spec.assets["mask"])[None, None],))).write_text("{")
    assert not dataset.read(0)["mask"].any()


def test_unknown_names_splits_and_bands_raise(tree):
    with pytest.raises(InputError, match="Did you mean eurosat"):
        load("eurosatt", tree.root)
    with pytest.raises(InputError, match="split 'val' of 'ponds': it has train, test"):
        load(tree.spec, tree.root, "val")
    with pytest.raises(InputError, match="band 'nir' of 'ponds': it has red"):
        load(tree.spec, tree.root, bands="nir")
    with pytest.raises(InputError, match="Use its samples"):
        load(tree.spec, tree.root).layer()
    with pytest.raises(InputError, match="missing='ignore'. Pass missing='raise' or missing='skip'"):
        load(tree.spec, tree.root, missing="ignore")


def test_missing_split_lists_raise(tmp_path):
    tree = make_tree(get("ucmerced"), tmp_path)
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    assert len(load(tree.spec, tmp_path)) == 21
    with pytest.raises(ReadError, match=r"lists .*they do not exist.*download=True"):
        load(tree.spec, tmp_path, "train")


def test_truncated_table_raises(tmp_path):
    pytest.importorskip("pyarrow")
    tree = make_tree(get("bigearthnet_v2"), tmp_path)
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1")
    with pytest.raises(ReadError, match=r"Cannot read the table '.*metadata\.parquet'"):
        load(tree.spec, tmp_path, "train")


def test_listed_sample_without_files_warns(tmp_path):
    tree = make_tree(get("landcoverai"), tmp_path)
    for path in tmp_path.glob("output/s001_2*"):
        path.unlink()
    with pytest.warns(DatasetWarning, match=r"1 samples of the splits do not exist, such as tile=s001/n=2\."):
        dataset = load(tree.spec, tmp_path)
    assert len(dataset) == 2
    assert "tile=s001/n=2" in dataset.skipped[0]
    assert not dataset.verify().ok


def test_named_tile_without_files_warns(tmp_path):
    tree = make_tree(get("potsdam"), tmp_path)
    for path in tmp_path.rglob("top_potsdam_7_9_*"):
        path.unlink()
    with pytest.warns(DatasetWarning, match="do not exist, such as tile=7_9"):
        assert len(load(tree.spec, tmp_path)) == len(tree.samples) - 1


def test_missing_split_raises(tree):
    for path in (tree.root / "ponds/test").rglob("*.png"):
        path.unlink()
    with pytest.raises(ReadError, match=r"split 'test' in .*: there are 1 of 'train'\. Pass download=True"):
        load(tree.spec, tree.root, "test")
    spec = replace(tree.spec, splits=None)
    with pytest.raises(InputError, match="Cannot find split 'test' of 'ponds': it has no splits. Leave split= out"):
        load(spec, tree.root, "test")


def test_file_as_root_raises(ponds, tmp_path):
    path = tmp_path / "ponds.zip"
    path.write_bytes(b"x")
    with pytest.raises(ReadError, match=r"ponds\.zip': it is a file\. Pass root= of its folder"):
        load(ponds, path)
    with pytest.raises(OutputError, match=r"ponds\.zip': it is a file\. Pass root= of a folder"):
        fetch(ponds, path)


def test_truncated_recording_raises(tmp_path):
    tree = make_tree(get("advance"), tmp_path)
    path = next(tmp_path.glob("sound/airport/*"))
    path.write_bytes(path.read_bytes()[:-7])
    dataset = load(tree.spec, tmp_path)
    at = next(at for at in range(len(dataset)) if dataset.fields(at)["id"] == path.stem)
    with pytest.raises(ReadError, match=rf"Cannot read the recording .*{path.name}"):
        dataset.read(at)


def test_hdf5_file_truncated_after_a_read_raises(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("so2sat"), tmp_path)
    dataset = load(tree.spec, tmp_path)
    dataset.read(0)
    path = tmp_path / "validation.h5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    at = next(at for at in range(len(dataset)) if dataset.fields(at)["split"] == "validation")
    with pytest.raises(ReadError, match=r"Cannot open the HDF5 file .*validation\.h5.*truncated"):
        dataset.read(at)


def test_error_of_a_truncated_image_has_the_libpng_message(tree):
    path = tree.root / "ponds/test/image/s001.png"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ReadError, match=r"s001\.png': .*libpng.*[^.]\. Fetch the dataset again"):
        load(tree.spec, tree.root).read(0)


def test_split_rule_on_a_partial_release_warns(ponds, tmp_path):
    tree = make_tree(
        replace(ponds, splits=RandomSplit(group=("place",), fractions={"train": 0.5, "test": 0.5})), tmp_path
    )
    assert len(load(tree.spec, tmp_path, "train")) == len(tree.samples) // 2
    spec = replace(tree.spec, samples=800)
    with pytest.warns(DatasetWarning, match=f"has {len(tree.samples)} samples, the release 800: its splits are made"):
        load(spec, tmp_path, "train")


@pytest.mark.parametrize("fractions", [{"train": 0.5}, {"train": 1.2, "test": -0.2}])
def test_invalid_split_fractions_raise(tree, fractions):
    with pytest.raises(InputError, match="Pass fractions= of 0 to 1 that sum to 1"):
        load(replace(tree.spec, splits=RandomSplit(fractions=fractions)), tree.root, "train")
