"""A picture of a sample of each dataset, from trees that are written from the specs: no download, no file in git."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from support.dataset_trees import make_tree

from geoxt import datasets
from geoxt.errors import DatasetWarning


def draw_all(folder: Path) -> None:
    """Draw what is not there yet; it takes some ten seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in datasets.names():
        if not (folder / f"{name}.png").is_file():
            draw(name, folder / f"{name}.png")


def draw(name: str, path: Path) -> None:
    """Draw the sample of a dataset that has most: a mask, say, where those of the test part have none."""
    with tempfile.TemporaryDirectory() as root, warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        tree = make_tree(datasets.get(name), Path(root))
        found = datasets.load(tree.spec, root)
        most = max(range(len(found)), key=lambda at: (len(found[at]), len(found[at].get("boxes", ()))))
        found.plot(most).savefig(path, dpi=70)
