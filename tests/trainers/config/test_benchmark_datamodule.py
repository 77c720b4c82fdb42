"""Benchmark datasets in configurations: splits with labels, held-out validation, tasks, windows and custom specs."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.dataset_trees import make_tree

from geoxt import datasets
from geoxt.datasets.catalog import _SPECS
from geoxt.errors import DatasetWarning, InputError, ReadError
from geoxt.legend import Legend
from geoxt.trainers import BenchmarkDataModule, SampleDataModule, TrainingConfig
from geoxt.trainers.config.benchmark_datamodule import default_task, has_labels
from geoxt.trainers.config.build import build

pytestmark = pytest.mark.filterwarnings("ignore::geoxt.errors.DatasetWarning")  # the trees are miniatures


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = make_tree(datasets.get(name), tmp_path_factory.mktemp(name))
            for start in [m for a in datasets.get(name).archives for m in a.members if m.endswith("/")]:
                folder = made[name].root / start
                if not folder.exists():  # one of many scenes, all of which a release has
                    folder.mkdir(parents=True)
                    (folder / "readme").touch()
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "parts", "unlabeled"),
    [
        ("etci2021", {"train": "train", "val": "val"}, "test"),
        ("gid15", {"train": "train", "val": "val"}, "test"),
        ("spacenet2", {"train": "train"}, "test"),
        ("spacenet7", {"train": "train"}, "test"),
        ("levircd_plus", {"train": "train", "test": "test"}, None),
        ("chesapeake_cvpr", {"train": "train", "val": "val", "test": "test"}, None),
    ],
)
def test_default_splits_have_labels(tree, name, parts, unlabeled):
    made = tree(name)
    module = BenchmarkDataModule(name, str(made.root), val_fraction=0)
    assert module.splits == parts
    assert (module.test is None) is ("test" not in parts)
    if unlabeled:
        with pytest.warns(DatasetWarning, match="Split 'train' is used for train and for val: scores are too good"):
            named = BenchmarkDataModule(name, str(made.root), splits=["train", "train", unlabeled])
        with pytest.raises(InputError, match=f"Cannot test on split 'test' of {name!r}: it has no"):
            build(TrainingConfig(), named)


def test_labels_under_another_key_are_looked_for_there():
    spec = datasets.get("etci2021")
    assert has_labels(spec, "test", "water")
    assert not has_labels(spec, "test", "mask")


def test_every_default_split_of_the_catalog_has_its_target(trees_of_labels):
    for name, part, keys in trees_of_labels:
        assert keys & {"mask", "label", "boxes", "instances"}, (name, part)


@pytest.fixture
def trees_of_labels(tree):
    """Yield name, split and sample keys of small datasets without a validation split."""
    out = []
    for name in ("etci2021", "spacenet1", "spacenet4", "tropical_cyclone", "xview2"):
        module = BenchmarkDataModule(name, str(tree(name).root), val_fraction=0)
        for part in ("train", "val", "test"):
            samples = getattr(module, part)
            if samples is not None:
                out.append((name, part, set(samples[0])))
    return out


@pytest.mark.parametrize(
    "name", ["tropical_cyclone", "sen12ms", "spacenet7", "spacenet4", "cowc_detection", "cowc_counting",
             "etci2021", "landcoverai"]
)  # fmt: skip
def test_validation_is_cut_from_training_by_groups(tree, name):
    made = tree(name)
    group = made.spec.group
    assert group
    train = datasets.load(name, made.root, "train")
    # Several groups of several samples, without files.
    fields = [{**train.fields(0), **dict.fromkeys(group, f"{n // 3}")} for n in range(60)]
    many = datasets.Dataset(train.reader, [replace(train.entries[0], fields=f) for f in fields], split="train")
    train_part, held = many.hold_out(0.25)
    names = [{tuple(part.fields(i)[f] for f in group) for i in range(len(part))} for part in (train_part, held)]
    assert not names[0] & names[1]
    assert (len(names[0]), len(names[1])) == (15, 5)


def test_held_out_samples_are_stratified_and_reproducible(tree):
    train = datasets.load("eurosat_rgb", tree("eurosat_rgb").root, "train")
    entries = [
        replace(train.entries[0], fields={"label": label, "n": n}) for label in train.classes.names for n in range(20)
    ]
    many = datasets.Dataset(train.reader, entries)
    held = many.hold_out(0.2)[1]
    labels = [held.fields(i)["label"] for i in range(len(held))]
    assert {label: labels.count(label) for label in train.classes.names} == dict.fromkeys(train.classes.names, 4)
    again = datasets.Dataset(train.reader, entries[::-1]).hold_out(0.2)[1]
    assert {tuple(e.fields.values()) for e in again.entries} == {tuple(e.fields.values()) for e in held.entries}
    assert many.hold_out(0.2, seed=1)[1].entries != held.entries
    with pytest.raises(InputError, match="they are one group"):
        many[:1].hold_out(0.2)


def test_validation_of_the_module_is_part_of_training(tree):
    made = tree("eurosat_rgb")
    dataset = datasets.load("eurosat_rgb", made.root, "train")
    module = BenchmarkDataModule("eurosat_rgb", str(made.root), splits=["train"], val_fraction=0.5, batch_size=1)
    train, val = ([part.data.fields(i) for i in range(len(part))] for part in (module.train, module.val))
    assert sorted(map(str, train + val)) == sorted(str(dataset.fields(i)) for i in range(len(dataset)))
    assert train
    assert val
    with pytest.raises(InputError, match="a fraction of 1. Pass val_fraction"):
        BenchmarkDataModule("eurosat_rgb", str(made.root), splits=["train"], val_fraction=1)


def test_splits_by_part_may_lack_validation_before_the_test(tree):
    made = tree("etci2021")
    module = BenchmarkDataModule("etci2021", str(made.root), splits={"train": "train", "test": "val"}, val_fraction=0)
    assert module.splits == {"train": "train", "test": "val"}
    assert module.val is None
    assert module.test.data.fields(0)["split"] == "test"  # the folder of the split val
    for splits in ({"tests": "val", "train": "train"}, {"test": "val"}, []):
        with pytest.raises(InputError, match="a part is train, val or test. Pass splits"):
            BenchmarkDataModule("etci2021", str(made.root), splits=splits)


def test_part_of_a_release_needs_no_other_files(tree):
    made = tree("chesapeake_cvpr")
    options = {"assets": ["image", "mask"], "where": {"state": "de_1m_2013"}}
    module = BenchmarkDataModule("chesapeake_cvpr", str(made.root), **options)
    for part in ("train", "val", "test"):
        data = getattr(module, part).data
        assert {data.fields(i)["state"] for i in range(len(data))} == {"de_1m_2013"}
        assert set(data.spec.assets) == {"image", "mask"}


@pytest.mark.parametrize(
    ("name", "task"),
    [("cv4a_kenya_crop_type", "time-series"), ("zuericrop", "time-series"), ("seasonal_contrast", "byol"),
     ("levircd_plus", "change"), ("sen12ms", "segmentation"), ("spacenet7", "instance-segmentation")],
)  # fmt: skip
def test_default_task_follows_the_images(name, task):
    assert default_task(datasets.get(name)) == task


def test_default_tasks_of_the_catalog_can_be_trained():
    from geoxt.tasks import names
    from geoxt.trainers import METHODS

    assert {default_task(spec) for spec in _SPECS.values()} <= {*names(supervised=True), *METHODS}


@pytest.mark.parametrize(
    ("name", "splits", "model"),
    [
        ("zuericrop", [["fold1", "fold2", "fold3"], "fold4", "fold5"], None),
        ("seasonal_contrast_100k", None, "test_classifier"),
    ],
)
def test_series_train_by_their_default_task(tree, name, splits, model):
    pytest.importorskip("h5py")
    made = tree(name)
    if splits is None:
        data = datasets.load(name, made.root)
        module = BenchmarkDataModule(name, str(made.root), splits=[["train", "val"]], val_fraction=0, batch_size=2)
        assert len(module.train) == len(data)
    else:
        module = BenchmarkDataModule(name, str(made.root), splits=splits, batch_size=2)
        folds = [len(datasets.load(name, made.root, fold)) for fold in ("fold1", "fold2", "fold3")]
        assert len(module.train) == sum(folds)
    task = build(TrainingConfig(model=model), module)
    task.log = lambda *_, **__: None  # there is no trainer
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].ndim == 5
    assert torch.isfinite(task._loss(batch, "train") if module.task == "byol" else task._loss(batch, "train")[0])


def test_large_images_are_cut_into_windows_of_their_split(tree):
    made = tree("landcoverai_scenes")
    dataset = datasets.load("landcoverai_scenes", made.root)
    windows = datasets.load("landcoverai_scenes", made.root, window=8)
    height, width = dataset[0]["image"].shape[-2:]
    assert len(windows) == len(dataset) * -(-height // 8) * -(-width // 8)
    first = windows.read(0)
    np.testing.assert_array_equal(first["image"], dataset.read(0)["image"][..., :8, :8])
    np.testing.assert_array_equal(first["mask"], dataset.read(0)["mask"][..., :8, :8])
    parts = [datasets.load("landcoverai_scenes", made.root, split, window=8) for split in dataset.spec.split_names
             if split in set(_splits(dataset))]  # fmt: skip
    tiles = [{part.fields(i)["tile"] for i in range(len(part))} for part in parts]
    assert sum(map(len, tiles)) == len(set().union(*tiles))
    train_part, held = windows.hold_out(0.5)
    assert not {f["tile"] for f in map(train_part.fields, range(len(train_part)))} & {
        f["tile"] for f in map(held.fields, range(len(held)))
    }


def _splits(data):
    from geoxt.datasets.locations import footprints
    from geoxt.datasets.splits import assign

    return assign(data.spec, data.entries, footprints=footprints(data.spec, data.root, data.entries))


@pytest.mark.parametrize(
    ("name", "window", "message"),
    [
        ("landcoverai_scenes", 0, "the side is not positive"),
        ("cv4a_kenya_crop_type", 64, "its samples are windows of 256 pixels"),
        ("vhr10", 64, "only rasters on one grid and vector labels can be cut"),
    ],
)
def test_windows_that_cannot_be_cut_raise(tmp_path, name, window, message):
    with pytest.raises(InputError, match=message):
        datasets.load(name, tmp_path, window=window)


def test_statistics_hold_one_image_at_a_time():
    alive = weakref.WeakSet()
    most = []

    class Images:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            sample = {"image": torch.full((2, 8, 8), float(index)), "label": torch.tensor(index % 2)}
            alive.add(sample["image"])
            most.append(len(alive))
            return sample

    card = SampleDataModule(Images(), batch_size=2).card(model="test_classifier", legend=Legend((0, 1), ("a", "b")))
    np.testing.assert_allclose(card.mean, [19.5, 19.5])
    np.testing.assert_allclose(card.std, np.std(np.arange(40)), rtol=1e-12)
    assert max(most) <= 2  # the image that is measured, and the next


def test_statistics_of_strips_equal_those_of_the_image(monkeypatch):
    image = torch.randn(3, 50, 20, generator=torch.Generator().manual_seed(0)) * 100 + 1e4
    image[0, 3, 4] = float("nan")
    samples = [{"image": image, "label": torch.tensor(0)}, {"image": image + 5, "label": torch.tensor(1)}]
    card_of_image = SampleDataModule(samples, batch_size=1).card(model="test_classifier")
    monkeypatch.setattr("geoxt.trainers.datamodules.samples._STATISTICS_ROWS", 7)
    strips = SampleDataModule(samples, batch_size=1).card(model="test_classifier")
    np.testing.assert_allclose(strips.mean, card_of_image.mean, rtol=1e-12)
    np.testing.assert_allclose(strips.std, card_of_image.std, rtol=1e-9)


def test_custom_spec_by_import_path(tmp_path, monkeypatch):
    (tmp_path / "my_ponds.py").write_text(
        "from geoxt.datasets import Archive, FolderSplit, Raster, Spec\n"
        "from geoxt.datasets.spec import RGB, classes\n"
        "PONDS = Spec(name='ponds', title='Ponds', task='segmentation', source='a kite',\n"
        "    classes=classes('land water'), splits=FolderSplit(), assets={\n"
        "        'image': Raster('{split:train|test}/image/{place}.png', bands=RGB, shape=(64, 96)),\n"
        "        'mask': Raster('{split:train|test}/mask/{place}.png', codes={0: 0, 255: 1}, shape=(64, 96)),\n"
        "    })\n"
        "OTHER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    module_name = "my_ponds:PONDS"
    with pytest.raises(ReadError, match="Cannot find 'ponds' in 'data/ponds'"):
        BenchmarkDataModule(module_name)
    from my_ponds import PONDS

    root = make_tree(PONDS, tmp_path / "data" / "ponds").root
    for path in [*root.rglob("train/*/*.png")]:
        shutil.copy(path, path.with_name("other.png"))
    module = BenchmarkDataModule(module_name, val_fraction=0.5, batch_size=1)
    assert module.card(model="test_unet", task="segmentation").names == ("land", "water")
    of_spec = BenchmarkDataModule(PONDS, val_fraction=0.5, batch_size=1)
    assert (of_spec.spec, of_spec.splits, len(of_spec.train)) == (module.spec, module.splits, len(module.train))
    for name, message in (
        ("my_ponds:OTHER", "it is a int"),
        ("my_ponds:RIVERS", "no attribute 'RIVERS'"),
        ("my_lakes:PONDS", "No module named 'my_lakes'"),
    ):
        with pytest.raises(InputError, match=message):
            BenchmarkDataModule(name)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_both_parts_have_a_group_if_there_are_two(tree, fraction, count):
    train = datasets.load("eurosat_rgb", tree("eurosat_rgb").root, "train")
    entries = [replace(train.entries[0], fields={"label": f"class{n}", "n": n}) for n in range(count)]
    train_part, held = datasets.Dataset(train.reader, entries).hold_out(fraction)
    assert min(len(train_part), len(held)) >= 1
    assert len(train_part) + len(held) == count
