"""The Python blocks of the how-to guides run, each page alone, on the files of a small world."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from test_docs_examples import ROOT, layers, run_blocks, write_checkpoint

import geoxt
from geoxt.testing import make_world

LONG = {"index", "training", "predicting", "assessment", "fast-loading", "data-cubes"}
"""Pages of several jobs; tests/test_docs_examples.py runs their blocks."""
PAGES = [path for path in sorted((ROOT / "docs" / "how-to").glob("*.md")) if path.stem not in LONG]


def write(path: Path, values: np.ndarray, like: rasterio.DatasetReader | None, **options) -> None:
    """Write a raster, on the grid of another unless `like` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options |= {"crs": like.crs, "transform": like.transform} if like else {}
    height, width = values.shape
    options |= {"height": height, "width": width, "count": 1, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", **options) as file:
            file.write(values, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return the folder of a small world, with the further files that the guides name."""
    folder = tmp_path_factory.mktemp("guides")
    made = make_world(folder, size=112, scenes=2, blocksize=64)
    files = made.scenes["LC08_L2SP_024031_20190708_20200827_02_T1"]
    for path in files:
        (folder / f"scene_{path.stem[-2:]}.tif").symlink_to(path)
    random = np.random.default_rng(0)
    with rasterio.open(files[0]) as scene:
        shape = scene.shape
        for day in ("20190708", "20190724"):
            for band in ("red", "nir"):
                write(folder / "own" / day / f"{band}.tif", random.integers(1, 99, shape).astype("uint16"), scene)
        binary = random.integers(0, 2, shape).astype("uint8")
        write(folder / "clouds.tif", binary, scene)
        write(folder / "buildings.tif", binary * np.uint8(255), scene)
        write(folder / "height.tif", random.random(shape, "float32"), scene, nodata=-1)
        boxes = geopandas.points_from_xy(*scene.transform @ np.array([[30, 60], [40, 70]])).buffer(300)
        geopandas.GeoDataFrame({"class": ["corn", "soy"]}, geometry=boxes, crs=scene.crs).to_file(
            folder / "training.gpkg"
        )
    write(folder / "labels.png", binary, None, driver="PNG")
    for name, mask in (("change", binary), ("unchanged", 1 - binary)):
        write(folder / f"{name}.bmp", mask * np.uint8(255), None, driver="BMP")
    for name in ("forest", "lake"):
        for number in range(10):
            chip = random.integers(0, 255, (16, 16)).astype("uint8")
            write(folder / "classes" / name / f"{name}_{number}.png", chip, None, driver="PNG")
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:.*NotGeoreferenced")  # of few pixels and few batches
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_blocks_of_a_guide_run(world, monkeypatch, page):
    monkeypatch.chdir(world)
    if not Path("model.ckpt").exists():
        write_checkpoint("model.ckpt")
    names = {"__name__": "docs", "geoxt": geoxt, **layers()}
    run_blocks(page.read_text(encoding="utf-8"), page.name, names | {"ds": names["layers"]})


def test_every_guide_is_in_the_index():
    folder = ROOT / "docs" / "how-to"
    listed = re.findall(r"^([a-z-]+)$", (folder / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted([*listed, "index"]) == sorted(path.stem for path in folder.glob("*.md"))
