"""The Python blocks of the docs run in order in the world of `geoxt demo`, with fewer and smaller windows."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import geopandas
import matplotlib.pyplot as plt
import numpy as np
import pytest
import rasterio
import torch

import geoxt
from geoxt.models.card import Card
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD, PREFIX, Network
from geoxt.testing import make_world

ROOT = Path(__file__).parents[1]
SMALLER = {
    r"length=[\d_]+": "length=4",
    r"size=(224|256|96|64|48)\b": "size=16",
    r"buffer=256, ?": "",
    r"block=1024": "block=32",
    r"batch_size=\d+": "batch_size=2",
    r"num_workers=\d": "num_workers=0",
    r', exclude=\("clouds", "shadows"\)': "",  # the world has no quality band
    r'model="resnet18"': 'model="test_classifier"',
    r'model="fcn"': 'model="test_fcn"',
    r"slice\(0, 300\)": "slice(0, 30)",
    r"slice\(300, None\)": "slice(30, None)",
    r"/fast/disk/blocks:100GB": "blocks:1GB",
    r'device="cuda:1", precision="bf16", compile=True|device=\["cuda:0", "cuda:1"\]': 'device="cpu"',
}
"""Replacements of numbers that take long, and of devices."""
SKIPPED = re.compile(
    r"^table = .*classifier.*|^objects = .*|^geoxt\.writers\.to_vector\(objects.*"
    r"|^clouds = (?:.*\n)*?\)\n^cover = scene.*",
    re.MULTILINE,
)
"""Lines that need a detector, a classifier, or networks of another package (tests/inference/test_cloud_masks.py)."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Return the folder of a small world, with the further files that the docs name."""
    folder = tmp_path_factory.mktemp("world")
    made = make_world(folder, size=112, scenes=2, blocksize=64)
    files = made.scenes["LC08_L2SP_024031_20190708_20200827_02_T1"]
    for path in files:
        (folder / f"scene_{path.stem[-2:]}.tif").symlink_to(path)
    (folder / "chips").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(folder / "chips" / "a.tif", "w", width=16, height=16, count=6, dtype="uint16") as chip:
            chip.write(np.full((6, 16, 16), 99, "uint16"))
    (folder / "scene.tif").symlink_to(files[0])
    return folder


def write_checkpoint(path, seed=0):
    """Write an untrained model of the bands of `scene_B*.tif` or of the catalog."""
    card = Card(
        task="segmentation", model="fcn", options={"width": 4}, bands=tuple(f"B{n}" for n in range(2, 8)),
        common_names=("blue", "green", "red", "nir08", "swir16", "swir22"), mean=(9e3,) * 6, std=(3e3,) * 6,
        codes=(1, 5, 111), names=("Corn", "Soybeans", "Open Water"), colors=("#ffd300", "#267000", "#4970a3"),
        size=(16, 16),
    )  # fmt: skip
    state = {f"{PREFIX}{key}": value for key, value in Network(card, seed=seed).state_dict().items()}
    torch.save({CARD: card.to_dict(), MLM: to_stac(card), "state_dict": state}, path)


def write_points(path):
    """Write labeled points on the pixels of the scene."""
    view = geoxt.source.view_of(geoxt.open_cogs("scene_B*.tif"))
    grid, valid = view.grid, view.read(geoxt.Window(0, 0, *view.grid.shape))[1].all(axis=(0, 1))
    row, col = np.random.default_rng(0).choice(np.argwhere(valid), 40).T + 0.5
    points = geopandas.points_from_xy(*(grid.affine @ np.stack([col, row])))
    geopandas.GeoDataFrame({"class": ["corn", "soy"] * 20}, geometry=points, crs=grid.crs.to_wkt()).to_file(path)


def layers():
    """Return the layers that a page takes from the pages before it."""
    image = geoxt.open_cogs("scene_B*.tif")
    cdl = geoxt.open_cogs("cdl/*.tif", product="cdl")
    ds = geoxt.intersection(image=image, mask=cdl, grid="image")
    split = geoxt.splits.by_block(ds, size=24, seed=0)
    return {"landsat": image, "image": image, "cdl": cdl, "layers": ds, "labels": ds["mask"], "split": split}


# The blocks of docs/how-to/training.md take 20 s.
PAGES = [
    "README.md",
    "docs/tutorials/quickstart.md",
    "docs/index.md",
    "docs/how-to/predicting.md",
    "docs/how-to/fast-loading.md",
    *(f"docs/explanation/coming-from-{name}.md" for name in ("torchgeo", "odc-stac", "rioxarray")),
]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_in_order(world, monkeypatch, page):
    monkeypatch.chdir(world)
    write_checkpoint("model.ckpt")
    write_points("points.gpkg")
    names = {"__name__": "docs", "geoxt": geoxt}
    if page not in PAGES[:2]:
        names |= layers()
    run_blocks((ROOT / page).read_text(encoding="utf-8"), page, names)
    plt.close("all")


def run_blocks(text, page, names):
    """Run the Python blocks of a text in order."""
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        code = SKIPPED.sub("", block)
        for pattern, smaller in SMALLER.items():
            code = re.sub(pattern, smaller, code)
        exec(compile(code, page, "exec"), names)  # noqa: S102 (the blocks are those of this repository)


def write_assessed(folder):
    """Write the files that the guide to assessment names: a class map, training points, and bands with names."""
    image = layers()["image"]
    cover = geoxt.predict(image, "model.ckpt", size=16)
    geoxt.to_cog(cover, folder / "map.tif")
    bands = image.squeeze(drop=True).isel(band=slice(2, 5)).assign_coords(band=["red", "nir", "swir16"])
    geoxt.to_cog(bands, folder / "image.tif")
    points = geopandas.read_file(folder / "points.gpkg")
    points.assign(county=[f"county {k % 4}" for k in range(len(points))]).to_file(folder / "training.gpkg")
    return {"other_map": cover, "folds": np.arange(len(points)) % 4}


@pytest.mark.filterwarnings("ignore::geoxt.errors.AssessmentWarning")  # few pixels of a small world
def test_blocks_of_the_guide_to_assessment_run(world, monkeypatch):
    """All sections in their order; between two of them, the sample is labeled."""
    monkeypatch.chdir(world)
    for seed, name in enumerate(("model", "seed1")):
        write_checkpoint(f"{name}.ckpt", seed=seed)
    write_points("points.gpkg")
    page = "docs/how-to/assessment.md"
    before, heading, after = (ROOT / page).read_text(encoding="utf-8").partition("## Estimate accuracy and areas")
    names = {"__name__": "docs", **layers(), **write_assessed(world)}
    run_blocks(before, page, names)
    sample = names["sample"]
    assert len(sample) == 600
    sample["reference"] = sample["map_class"].where(np.arange(len(sample)) % 7 > 0, "Corn")
    geoxt.assess.write_sample(sample, "sample.gpkg")
    labels, assessed = names["labels"], geoxt.predict(names["image"], "model.ckpt", size=16)
    names |= {"counts": [[66, 4], [2, 55]], "stratum_sizes": [2000, 1500], "labels": labels, "predicted": assessed}
    run_blocks(heading + after, page, names)
    assert names["accuracy"].overall.value < 1
    assert names["calibration"].temperature > 0
    assert names["area"]["applicable"].dtype == np.uint8
    report = Path("report/report.html").read_text(encoding="utf-8")
    assert all(f"<h2>{title}" in report for title in ("Calibration", "Conformal sets", "Area of applicability"))
    assert "with finite population correction" in report
    plt.close("all")


@pytest.mark.parametrize("section", ["product", "dataset", "model family", "task"])
def test_blocks_of_the_contributing_guide_run(section):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    part = text.partition(f"## Add a {section}\n")[2].partition("\n## ")[0]
    assert len(part.partition("```python\n")[2].partition("```")[0].splitlines()) <= 20
    names = {"__name__": "docs"}
    run_blocks(part, section, names)
    if section == "model family":
        logits = names["Linear"](in_chans=3, num_classes=2)(torch.zeros(1, 3, 4, 4))
        assert logits.shape == (1, 2, 4, 4)
    if section == "product":
        assert names["SPOT"].files[0].match("P1_20200703_B2.tif")["band"] == "B2"
