"""Data modules of configurations: raster files, STAC items and benchmark datasets, each trained for a step."""

import json
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from shapely import box
from support.dataset_trees import make_tree

from geoxt import bridge, datasets
from geoxt.cli import FAILED, main
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.metrics.label_codes import IGNORE
from geoxt.models import create, from_checkpoint
from geoxt.models.registry import ARCHITECTURES, Architecture
from geoxt.testing import make_grid, make_world
from geoxt.trainers import BenchmarkDataModule, LayerDataModule, Recipe, SampleDataModule, Task, fit


def weights(task):
    return torch.cat([parameter.detach().flatten() for parameter in task.network.parameters()])


def train_one_epoch(module, **card):
    """Train for one epoch, and check that weights change and are finite; return the task and its scores."""
    task = Task(module.card(**card))
    before = weights(task)
    scores = fit(task, module, epochs=1, progress="none")
    after = weights(task)
    assert not torch.equal(before, after)
    assert torch.isfinite(after).all()
    return task, scores[0]


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes the tree of a dataset."""

    def write(name):
        return make_tree(datasets.get(name), tmp_path / name)

    return write


@pytest.mark.filterwarnings("ignore:.*the release 800:geoxt.errors.DatasetWarning")  # the trees are miniatures
@pytest.mark.parametrize(
    ("name", "task", "model", "splits"),
    [
        ("ucmerced", "classification", "test_classifier", ("train", "val", "test")),
        ("landcoverai", "segmentation", "test_unet", ("train", "val", "test")),
        ("vhr10", "detection", "test_faster_rcnn", ("train", "val")),
    ],
)
def test_benchmark_dataset_trains_by_its_splits(tree, name, task, model, splits):
    made = tree(name)
    module = BenchmarkDataModule(name, str(made.root), splits=splits, batch_size=4)
    parts = (module.train, module.val, module.test)
    for split, part in zip(splits, parts, strict=False):
        assert len(part) == len(datasets.load(name, made.root, split))
    assert (module.test is None) is ("test" not in splits)
    trained, scores = train_one_epoch(module, model=model, task=task)
    assert (trained.card.codes, trained.card.names) == (made.spec.classes.codes, made.spec.classes.names)
    assert trained.card.bands == ("red", "green", "blue")
    assert np.isfinite(scores["train/loss"])


def test_nodata_codes_are_no_class(tree):
    made = tree("chesapeake_cvpr")
    module = BenchmarkDataModule("chesapeake_cvpr", str(made.root), batch_size=2)
    trained, scores = train_one_epoch(module, model="test_unet", task="segmentation")
    assert trained.card.codes == (1, 2, 3, 4, 5, 6)
    assert "val/iou/no data" not in scores


def test_bands_are_selected_by_name(tree):
    module = BenchmarkDataModule("eurosat", str(tree("eurosat").root), bands=["nir", "red"])
    card = module.card(model="test_classifier")
    assert card.bands == ("B08", "B04")
    pixels = torch.stack([module.train[at]["image"] for at in range(len(module.train))]).double()
    np.testing.assert_allclose(card.mean, pixels.mean(dim=(0, 2, 3)), rtol=1e-6)


def test_missing_split_raises(tree):
    made = tree("levircd_plus")
    with pytest.raises(InputError, match="split 'val' of 'levircd_plus': it has train, test"):
        BenchmarkDataModule("levircd_plus", str(made.root), splits=("train", "val", "test"))
    module = BenchmarkDataModule("levircd_plus", str(made.root), val_fraction=0)
    assert (module.val, len(module.test)) == (None, len(datasets.load("levircd_plus", made.root, "test")))


def test_dataset_without_training_split_raises(monkeypatch):
    spec = replace(datasets.get("eurosat"), splits=None)
    monkeypatch.setattr("geoxt.trainers.config.benchmark_datamodule.datasets.get", lambda _: spec)
    with pytest.raises(InputError, match="the training split of 'eurosat': it has no splits. Pass splits="):
        BenchmarkDataModule("eurosat")


def write(path, values):
    count, height, width = values.shape
    grid = make_grid((height, width))
    profile = {"driver": "GTiff", "count": count, "dtype": values.dtype, "crs": str(grid.crs)}
    with rasterio.open(path, "w", height=height, width=width, transform=grid.affine, **profile) as file:
        file.write(values)


@pytest.mark.parametrize("target", ["mask", "target"])
def test_raster_files_are_split_by_blocks_and_trained(tmp_path, target):
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(1, 3, (1, 6, 6)), np.ones((1, 16, 16), int))
    labels = labels.astype("uint8" if target == "mask" else "float32")
    write(tmp_path / "image.tif", (labels * 100 + rng.normal(0, 5, (2, 96, 96))).astype("float32"))
    write(tmp_path / "labels.tif", labels)
    module = LayerDataModule(
        [str(tmp_path / "image.tif")], str(tmp_path / "labels.tif"), target=target, block=16, size=16, eval_size=16,
        batch_size=4, length=8,
    )  # fmt: skip
    kind = "segmentation" if target == "mask" else "pixelwise-regression"
    trained, scores = train_one_epoch(module, model="test_unet", task=kind)
    assert len(trained.card.bands) == 2
    assert trained.card.codes == ((1, 2) if target == "mask" else (0,))
    assert target == "mask" or trained.card.names == ("target",)
    assert np.isfinite(scores["val/loss"])


def test_ignored_codes_are_ignored_by_loss_and_scores(tree):
    made = tree("chesapeake_cvpr")  # 15 and 0 are not land cover
    samples = bridge.to_torch(datasets.load("chesapeake_cvpr", made.root, "train"), keys=["image", "mask"])
    module = SampleDataModule(samples, batch_size=2)
    card = module.card(model="test_unet", task="segmentation")
    assert (card.codes, card.bands) == ((1, 2, 3, 4, 5, 6), ("red", "green", "blue", "nir"))
    assert card.names == made.spec.classes.only(card.codes).names
    batch = next(iter(module.train_dataloader()))
    ignored = torch.isin(batch["mask"], torch.tensor([15, 0]))
    assert 0 < ignored.sum() < ignored.numel()
    task = Task(card, Recipe(ema_decay=None)).eval()
    task.log = lambda *_, **__: None  # there is no trainer
    assert torch.equal(task.target(batch) == IGNORE, ignored)
    other = {**batch, "mask": batch["mask"].where(~ignored, 3)}  # a class, where there is no label
    with torch.no_grad():
        assert torch.equal(task._loss(batch, "train")[0], task._loss(other, "train")[0])
        task._score(other, "val")
    assert task.val.compute().sum() == (~ignored).sum()


def test_configuration_names_a_dataset_in_one_line(tmp_path, monkeypatch, capsys):
    made = make_tree(datasets.get("eurosat_rgb"), tmp_path / "data" / "eurosat_rgb")
    monkeypatch.chdir(tmp_path)
    architecture = Architecture(
        name="tiny", task="classification", build=create_tiny, input_shape="", output_shape="", reference=""
    )
    monkeypatch.setitem(ARCHITECTURES, "resnet18", architecture)  # what classification takes by default, in small
    (tmp_path / "fit.yaml").write_text("dataset: eurosat_rgb\n")
    more = ["--training.epochs", "1", "--out", "run"]
    assert main(["fit", "--config", "fit.yaml", *more]) == 0
    card = from_checkpoint(tmp_path / "run" / "best.ckpt").card
    assert (card.task, card.model, card.names) == ("classification", "resnet18", made.spec.classes.names)
    assert "test/accuracy" in json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    assert "name: eurosat_rgb" in (tmp_path / "run" / "config.yaml").read_text()

    (tmp_path / "all.yaml").write_text(
        "dataset: {name: eurosat_rgb, batch_size: 8}\nmodel: test_classifier\ntraining: {epochs: 1}\nseeds: [0]\n"
    )
    assert main(["experiment", "--config", "all.yaml", "--out", "all"]) == 0
    assert (tmp_path / "all" / "results.md").exists()

    capsys.readouterr()
    for text, message in (
        ("dataset: eurosat_rbg\n", "eurosat_rbg"),
        ("dataset: ucmerced\n", "Pass download"),
        ("dataset: eurosat_rgb\ndata: {class_path: BenchmarkDataModule}\n", "both data and dataset"),
        ("dataset: [\n", "Pass config:, a YAML file"),
    ):
        (tmp_path / "fit.yaml").write_text(text)
        assert main(["fit", "--config=fit.yaml", *more]) == FAILED
        assert message in capsys.readouterr().err


def test_configuration_selects_the_level_of_a_class_hierarchy(tree, tmp_path):
    made = tree("sen12ms")
    (tmp_path / "fit.yaml").write_text(
        f"dataset: {{name: sen12ms, root: {made.root}, level: lccs_land_use, batch_size: 4}}\nmodel: test_unet\n"
    )
    more = ["--training.epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), *more]) == 0
    card = from_checkpoint(tmp_path / "run" / "best.ckpt").card
    expected = made.spec.levels["lccs_land_use"].classes
    assert card.names == tuple(name for code, name in zip(expected.codes, expected.names, strict=True) if code)


def create_tiny(in_chans, num_classes):
    return create("test_classifier", in_chans=in_chans, num_classes=num_classes)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), size=128, blocksize=128)


STAC = """
data:
  class_path: LayerDataModule
  init_args:
    image: {{stac: {items}, collections: landsat-c2-l2, crs: {crs}, bands: [red, nir08]}}
    labels: {{stac: {items}, collections: usda-cdl}}
    {split}
    size: 24
    eval_size: 64
    batch_size: 4
    length: 8
model: test_unet
"""


@pytest.mark.parametrize(("crs", "zones"), [("EPSG:32615", 1), ("native", 2)])
def test_configuration_trains_on_stac_items_of_two_layers(world, tmp_path, crs, zones):
    text = STAC.format(items=world.items, crs=crs, split="block: 32\n    buffer: 2\n    fractions: [0.5, 0.25, 0.25]")
    (tmp_path / "fit.yaml").write_text(text)
    more = ["--training.epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), *more]) == 0
    card = from_checkpoint(tmp_path / "run" / "best.ckpt").card
    assert (card.task, card.bands, set(card.names) <= set(world.names)) == ("segmentation", ("red", "nir08"), True)
    image = {"stac": str(world.items), "collections": "landsat-c2-l2", "crs": crs, "bands": ["red"]}
    module = LayerDataModule(image, {"stac": str(world.items), "collections": "usda-cdl"}, size=32, block=32)
    assert len(module.split.grids) == zones


def test_saved_split_vector_labels_and_invalid_layers(world, tmp_path):
    image = {"stac": str(world.items), "collections": "landsat-c2-l2", "crs": "EPSG:32615", "bands": ["red"]}
    first = LayerDataModule(image, str(world.labels), size=32, block=32, split_seed=3)
    first.split.save(tmp_path / "split.geojson")
    again = LayerDataModule(image, str(world.labels), size=32, split=str(tmp_path / "split.geojson"))
    assert again.split.parts == first.split.parts
    np.testing.assert_array_equal(again.data["mask"].isel(y=slice(9)), first.data["mask"].isel(y=slice(9)))

    grid = grid_of(first.data)
    left, bottom, right, top = grid.extent.boundingbox
    field = gpd.GeoDataFrame({"kind": [4]}, geometry=[box(left, bottom, (left + right) / 2, top)], crs=str(grid.crs))
    field.to_file(tmp_path / "fields.gpkg")
    drawn = LayerDataModule(image, {"vector": str(tmp_path / "fields.gpkg"), "column": "kind"}, size=32, block=32)
    assert set(np.unique(drawn.data["mask"])) == {0, 4}

    for wrong, message in (
        ({"file": "x.tif"}, "it has none of files, stac, vector, zarr and xarray"),
        ({"files": "x.tif", "stac": "y"}, "it has files and stac of"),
        (
            {"files": "x.tif", "band": ["red"]},
            "Cannot use the configuration key 'image.band': the known keys are bands, baseline",
        ),
    ):
        with pytest.raises(InputError, match=message):
            LayerDataModule(wrong, str(world.labels))


def test_configuration_trains_on_unlabeled_images(world, tmp_path):
    text = STAC.format(items=world.items, crs="native", split="").replace("LayerDataModule", "UnlabeledLayerDataModule")
    text = "".join(line for line in text.splitlines(keepends=True) if "labels" not in line and "eval" not in line)
    text = text.replace("length: 8", "length: 4\n    positives: neighbours\n    radius: 20").replace(
        "size: 4", "size: 6"
    )
    text = text.replace("model: test_unet", "task: tile2vec\nmodel: test_classifier")
    (tmp_path / "fit.yaml").write_text(text)
    more = ["--training.epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), *more]) == 0
    assert from_checkpoint(tmp_path / "run" / "best.ckpt").card.bands == ("red", "nir08")
