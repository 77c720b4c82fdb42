"""`geoxt demo` on a small generated world: outputs, scores on held-out blocks, and reproducibility."""

import json

import numpy as np
import pytest
import rasterio

from geoxt.cli import demo
from geoxt.cli.demo import OUTPUTS, Demo, describe, run
from geoxt.models import from_checkpoint

TINY = {"epochs": 1, "model": "test_unet", "scene": 96, "progress": "none"}


@pytest.fixture(scope="module", autouse=True)
def short_epochs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_PIXELS_PER_EPOCH", 5_000)
        yield


@pytest.fixture(scope="module")
def made(short_epochs, tmp_path_factory):
    lines = []
    out = tmp_path_factory.mktemp("demo")
    return run(Demo(out=out, **TINY), log=lines.append), lines


def test_all_outputs_are_written_and_every_step_is_printed(made):
    report, lines = made
    assert tuple(report.files) == OUTPUTS
    assert all(path.stat().st_size > 500 for path in report.files.values())
    assert sorted(path.name for path in report.files["map.tif"].parent.iterdir()) == sorted(
        [*OUTPUTS, "map.tif.aux.xml", "world"]
    )
    assert [line.split()[0] for line in lines] == [
        "make",
        "open",
        "open",
        "align",
        "split",
        "train",
        "predict",
        "assess",
    ]
    text = describe(report)
    assert str(report.files["map.png"]) in text
    assert f"accuracy {report.metrics['accuracy']:6.1%}" in text


def test_map_has_the_grid_of_the_image_and_the_classes_of_the_labels(made):
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


def test_report_has_the_accuracy_of_the_scores(made):
    report, _ = made
    values = json.loads(report.files["report.json"].read_text())
    assert values["accuracy"]["overall"]["value"] == pytest.approx(report.metrics["accuracy"], abs=1e-4)  # by area
    assert np.sum(values["accuracy"]["counts"]) == report.metrics["pixels"]
    assert values["metadata"]["Training"] == "1 epoch, seed 0"
    assert values["model"]["codes"] == [int(code) for code in report.metrics["classes"]]


def test_scores_equal_those_of_the_written_map_on_held_out_blocks(made):
    report, _ = made
    metrics = json.loads(report.files["metrics.json"].read_text())
    root = report.files["map.tif"].parent / "world"
    with (
        rasterio.open(report.files["map.tif"]) as mapped,
        rasterio.open(next((root / "cdl").glob("*.tif"))) as labels,
        rasterio.vrt.WarpedVRT(
            labels,
            crs=mapped.crs,
            transform=mapped.transform,
            height=mapped.height,
            width=mapped.width,
            resampling=rasterio.enums.Resampling.nearest,
        ) as warped,
    ):
        prediction, truth = mapped.read(1), warped.read(1)
    correct = total = 0
    for row, col, height, width in metrics["blocks"]["test"]:
        block = slice(row, row + height), slice(col, col + width)
        valid = (truth[block] != 0) & (prediction[block] != 0)
        correct += (truth[block] == prediction[block])[valid].sum()
        total += valid.sum()
    assert metrics["pixels"] == pytest.approx(total, rel=0.01)
    assert metrics["accuracy"] == pytest.approx(correct / total, abs=0.02)  # GDAL warps to 1/8 pixel
    coverage = np.zeros(metrics["grid"]["shape"], int)
    for part in ("train", "val", "test"):
        for row, col, height, width in metrics["blocks"][part]:
            coverage[row : row + height, col : col + width] += 1
    assert coverage.max() == 1


@pytest.mark.slow
def test_seed_determines_the_result(made, tmp_path, monkeypatch):
    report, _ = made
    monkeypatch.setattr(demo, "_save", lambda figure, path: None)  # figures take a third of the time
    monkeypatch.setattr(demo, "_picture", lambda *arguments: None)
    monkeypatch.setattr(demo.plot, "samples", lambda *arguments: None)
    again = run(Demo(out=tmp_path / "again", **TINY))
    for name in ("metrics.json", "map.tif"):
        assert again.files[name].read_bytes() == report.files[name].read_bytes()
    other = run(Demo(out=tmp_path / "other", seed=1, **TINY))
    assert other.metrics["blocks"] != report.metrics["blocks"]
    assert other.metrics["accuracy"] != report.metrics["accuracy"]
