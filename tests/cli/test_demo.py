"""The demo, on a world small enough to run in seconds: what it writes is right, scored where it says, and repeats."""

import json

import numpy as np
import pytest
import rasterio

from geoxt.cli.demo import OUTPUTS, Demo, describe, run
from geoxt.models import from_checkpoint

TINY = {"epochs": 1, "model": "test_unet", "scene": 160, "progress": "none"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    said = []
    out = tmp_path_factory.mktemp("demo")
    return run(Demo(out=out, **TINY), say=said.append), said


def test_it_writes_all_and_says_what_it_does(made):
    report, said = made
    assert tuple(report.files) == OUTPUTS
    assert all(path.stat().st_size > 500 for path in report.files.values())
    assert sorted(path.name for path in report.files["map.tif"].parent.iterdir()) == sorted(
        [*OUTPUTS, "map.tif.aux.xml", "world"]
    )
    assert [line.split()[0] for line in said] == ["make", "open", "open", "align", "split", "train", "predict"]
    text = describe(report)
    assert str(report.files["map.png"]) in text
    assert f"accuracy {report.metrics['accuracy']:6.1%}" in text


def test_the_map_lies_on_the_images_grid_with_the_classes_of_the_labels(made):
    report, _ = made
    metrics = json.loads(report.files["metrics.json"].read_text())
    network = from_checkpoint(report.files["model.ckpt"])
    with rasterio.open(report.files["map.tif"]) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.crs.to_epsg() == 32615
        assert list(file.transform)[:6] == metrics["grid"]["transform"]
        assert list(file.shape) == metrics["grid"]["shape"]
        assert set(np.unique(file.read(1))) <= {*network.card.codes, int(file.nodata)}
        assert file.tags(1)["flag_meanings"].split() == [name.replace(" ", "_") for name in network.card.names]
        assert {code: file.colormap(1)[code] for code in network.card.codes} == network.card.legend.colormap()
    assert metrics["classes"] == dict(zip(map(str, network.card.codes), network.card.names, strict=True))


def test_the_scores_are_those_of_the_held_out_blocks_in_the_written_map(made):
    report, _ = made
    metrics = json.loads(report.files["metrics.json"].read_text())
    root = report.files["map.tif"].parent / "world"
    with (
        rasterio.open(report.files["map.tif"]) as found,
        rasterio.open(next((root / "cdl").glob("*.tif"))) as labels,
        rasterio.vrt.WarpedVRT(
            labels,
            crs=found.crs,
            transform=found.transform,
            height=found.height,
            width=found.width,
            resampling=rasterio.enums.Resampling.nearest,
        ) as warped,
    ):
        guess, truth = found.read(1), warped.read(1)
    right = total = 0
    for row, col, height, width in metrics["blocks"]["test"]:
        block = slice(row, row + height), slice(col, col + width)
        known = (truth[block] != 0) & (guess[block] != 0)
        right += (truth[block] == guess[block])[known].sum()
        total += known.sum()
    assert metrics["pixels"] == pytest.approx(total, rel=0.01)
    assert metrics["accuracy"] == pytest.approx(right / total, abs=0.02)  # GDAL warps to 1/8 pixel
    seen = np.zeros(metrics["grid"]["shape"], int)
    for part in ("train", "val", "test"):
        for row, col, height, width in metrics["blocks"][part]:
            seen[row : row + height, col : col + width] += 1
    assert seen.max() == 1


def test_the_same_seed_gives_the_same_and_another_one_does_not(made, tmp_path):
    report, _ = made
    again = run(Demo(out=tmp_path / "again", **TINY))
    for name in ("metrics.json", "map.tif"):
        assert again.files[name].read_bytes() == report.files[name].read_bytes()
    other = run(Demo(out=tmp_path / "other", seed=1, **TINY))
    assert other.metrics["blocks"] != report.metrics["blocks"]
    assert other.metrics["accuracy"] != report.metrics["accuracy"]
