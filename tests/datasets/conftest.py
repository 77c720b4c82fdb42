"""A small dataset of our own that shows what an engine must do: classes in folders, lists, one zip."""

from __future__ import annotations

import pytest

from geoxt.datasets import Archive, Folders, Raster, Spec
from geoxt.datasets.spec import RGB, classes
from geoxt.testing.servers import serve_files
from geoxt.testing.trees import make_tree, pack


@pytest.fixture
def ponds():
    """Return a dataset of images and masks in two splits."""
    return Spec(
        name="ponds",
        title="Ponds",
        task="segmentation",
        source="a kite",
        classes=classes("land water"),
        assets={
            "image": Raster("ponds/{split:train|test}/image/{place}.png", bands=RGB, shape=(64, 96)),
            "mask": Raster("ponds/{split:train|test}/mask/{place}.png", codes={0: 0, 255: 1}, shape=(64, 96)),
        },
        archives=(Archive(file="ponds.zip", holds=("ponds/",)),),
        splits=Folders(),
    )


@pytest.fixture
def tree(ponds, tmp_path):
    return make_tree(ponds, tmp_path / "tree")


@pytest.fixture
def packed(tree, tmp_path):
    """Return the spec with the address of its archive, the folder that is served, and the address."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serve_files(folder, nginx=False) as url:
        yield pack(tree, folder, url), folder, url
