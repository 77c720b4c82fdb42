"""Damaged trees of several datasets: each opens with the same content, warns of missing files, or raises clearly."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from support.dataset_trees import make_tree

from geoxt import datasets
from geoxt.datasets import load
from geoxt.errors import DatasetWarning, GeoxtError

NAMES = ["eurosat_rgb", "landcoverai", "cowc_counting", "spacenet1", "vhr10", "levircd_plus", "sen12ms"]
IMAGES = {".jpg", ".png", ".tif"}


def images(root):
    return sorted(path for path in root.rglob("*") if path.suffix in IMAGES)


def lists(root):
    return sorted(path for path in root.rglob("*") if path.suffix in {".txt", ".csv"})


def edit_lists(edit):
    def damage(root):
        for path in lists(root):
            path.write_bytes(edit(path.read_bytes()))

    return damage


def with_links(root):
    store = root.with_name(f"{root.name} store")
    store.mkdir()
    for number, path in enumerate(images(root)):
        path.symlink_to(path.rename(store / f"{number}{path.suffix}"))


def with_linked_folder(root):
    folder = images(root)[0].parent
    folder.symlink_to(folder.rename(root.with_name(f"{root.name} store")))


def with_hidden_files(root):
    for path in images(root):
        shutil.copy(path, path.with_name(f"._{path.name}"))
    (root / ".DS_Store").write_bytes(b"x")
    (root / "Thumbs.db").write_bytes(b"x")


HARMLESS = {
    "list with Windows line ends": edit_lists(lambda text: text.replace(b"\n", b"\r\n")),
    "list with a byte order mark": edit_lists(lambda text: b"\xef\xbb\xbf" + text),
    "list with blank lines and blanks": edit_lists(lambda text: b"\n" + text.replace(b"\n", b"  \n\n")),
    "list with a row twice": edit_lists(lambda text: text + text.splitlines(keepends=True)[-1]),
    "links to files": with_links,
    "link to a folder": with_linked_folder,
    "hidden files": with_hidden_files,
    "link to the folder itself": lambda root: (images(root)[0].parent / "loop").symlink_to(images(root)[0].parent),
}


def with_folder_as_file(root):
    path = images(root)[0]
    path.unlink()
    path.mkdir()


def with_broken_link(root):
    path = images(root)[0]
    path.unlink()
    path.symlink_to("/nowhere/x.tif")


HARMFUL = {
    "empty file": lambda root: images(root)[0].write_bytes(b""),
    "half a file": lambda root: images(root)[0].write_bytes(images(root)[0].read_bytes()[: 10**2]),
    "HTML": lambda root: images(root)[0].write_text("<html>404</html>"),
    "upper-case suffix": lambda root: images(root)[0].rename(images(root)[0].with_suffix(".JPG")),
    "renamed folder": lambda root: images(root)[0].parent.rename(images(root)[0].parent.with_name("copy of it")),
    "folder as file": with_folder_as_file,
    "broken link": with_broken_link,
    "removed file": lambda root: images(root)[0].unlink(),
}


@pytest.fixture(scope="module")
def trees_of(tmp_path_factory):
    made = {}

    def tree(name):
        if name not in made:
            made[name] = make_tree(datasets.get(name), tmp_path_factory.mktemp(name) / "root")
        return made[name]

    return tree


def contents(spec, root, split):
    dataset = load(spec, root, split)
    out = {}
    for index in range(len(dataset)):
        sample = dataset.read(index)
        out[str(dataset.fields(index))] = {k: np.asarray(v).tobytes() for k, v in sample.items() if k != "outlines"}
    return out


def damaged(tree, folder, damage):
    root = folder / "ä ö 数据 [x] {y} #1"
    shutil.copytree(tree.root, root)
    damage(root)
    return root


@pytest.mark.parametrize(
    ("name", "damage"),
    [(n, d) for n in NAMES for d in HARMLESS if n not in {"spacenet1", "vhr10", "levircd_plus"} or d[:4] != "list"],
)
def test_harmless_changes(trees_of, tmp_path, name, damage):
    tree = trees_of(name)
    root = damaged(tree, tmp_path, HARMLESS[damage])
    for split in (None, *tree.spec.split_names[:1]):
        if split is not None and tree.spec.name == "vhr10":
            continue  # the rule of the split needs more samples
        assert contents(tree.spec, root, split) == contents(tree.spec, tree.root, split)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", HARMFUL)
def test_harmful_changes_are_noticed(trees_of, tmp_path, name, damage):
    tree = trees_of(name)
    root = damaged(tree, tmp_path, HARMFUL[damage])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DatasetWarning)
        try:
            remaining = contents(tree.spec, root, None)
        except GeoxtError as error:
            assert any(word in str(error) for word in (root.name, "samples lack files"))  # noqa: PT017
            return
    intact = contents(tree.spec, tree.root, None)
    assert remaining == {name: intact[name] for name in remaining}
    assert len(remaining) < len(intact)
    assert any(issubclass(warning.category, DatasetWarning) for warning in caught)


def test_labels_without_images_warn(trees_of, tmp_path):
    tree = trees_of("spacenet1")
    root = damaged(tree, tmp_path, lambda root: next(root.rglob("train/3band/*.tif")).unlink())
    with pytest.warns(DatasetWarning, match=r"1 files of multispectral have no image, such as that of split=train/n=1"):
        load(replace(tree.spec, samples=None), root, "test")
