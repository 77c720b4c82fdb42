"""Generated trees of all datasets, each written once, and a small dataset for tests of the engine."""

from __future__ import annotations

import pytest
from support.dataset_trees import make_tree, pack
from support.servers import serve_files

from geoxt.datasets import Archive, FolderSplit, Raster, Spec, get
from geoxt.datasets.assets import HDF5Array
from geoxt.datasets.spec import RGB, classes


def needs(spec) -> None:
    """Skip where an optional package is not installed."""
    if any(isinstance(asset, HDF5Array) for asset in spec.assets.values()):
        pytest.importorskip("h5py")
    texts = [t.pattern for asset in spec.assets.values() for t in asset.templates]
    if any(text.endswith(".parquet") for text in texts):
        pytest.importorskip("pyarrow")


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """Return the tree of a dataset, each written once."""
    made = {}

    def tree(name):
        needs(get(name))
        if name not in made:
            made[name] = make_tree(get(name), tmp_path_factory.mktemp(name))
        return made[name]

    return tree


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
        archives=(Archive(file="ponds.zip", members=("ponds/",)),),
        splits=FolderSplit(),
    )


@pytest.fixture
def tree(ponds, tmp_path):
    return make_tree(ponds, tmp_path / "tree")


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Return a folder that is served, and its address."""
    folder = tmp_path_factory.mktemp("served")
    with serve_files(folder, nginx=False) as url:
        yield folder, url


@pytest.fixture
def packed(tree, served, tmp_path):
    """Return the spec with the address of its archive, the folder that is served, and the address."""
    folder, url = served[0] / tmp_path.name, f"{served[1]}/{tmp_path.name}"
    folder.mkdir()
    return pack(tree, folder, url), folder, url
