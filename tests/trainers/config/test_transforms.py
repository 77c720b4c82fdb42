"""Transforms of configurations: applied to training batches only, reproducible by seed, and resumed exactly."""

import json

import pytest
import torch
from kornia.augmentation import RandomAffine
from torch import nn
from torch.nn import functional as F

from geoxt import transforms
from geoxt.cli import FAILED, main
from geoxt.errors import InputError
from geoxt.tasks import TASKS
from geoxt.trainers import Recipe, SampleDataModule, Task, TrainingConfig, build, fit
from geoxt.trainers.config.transforms import apply_transform, create_transform
from geoxt.trainers.tasks.losses import LOSSES

CLOUDS = {"class_path": "Clouds", "init_args": {"p": 1.0, "seed": 5}}
AFFINE = {
    "class_path": "Augment",
    "init_args": {"steps": [{"class_path": "RandomAffine", "init_args": {"degrees": 9}}]},
}


class Images:
    """Samples with two bands and a mask, whose class codes are 0 and 7."""

    def __init__(self, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.image = torch.rand(count, 2, 16, 16, generator=generator)
        self.mask = (self.image[:, 0] > 0.5).to(torch.uint8) * 7

    def __len__(self):
        return len(self.image)

    def __getitem__(self, index):
        return {"image": self.image[index], "mask": self.mask[index], "label": int(index) % 3}


class Shift(nn.Module):
    """Adds one to the image: a transform defined by a user."""

    def forward(self, batch):
        return {**batch, "image": batch["image"] + 1}


def module():
    return SampleDataModule(Images(12), Images(4, seed=1), batch_size=4)


def config(*described, **recipe):
    recipe = Recipe(**({"lr": 0.01} | recipe))
    return TrainingConfig(task="segmentation", model="test_unet", transforms=described, recipe=recipe)


def network_inputs(task, data, **options):
    """Train; return the images that the network received in training and in validation."""
    received = {True: [], False: []}
    task.network.register_forward_pre_hook(lambda net, inputs: received[net.training].append(inputs[0].clone()))
    fit(task, data, epochs=1, progress="none", **options)
    return torch.cat(received[True]), torch.cat(received[False])


def test_transforms_apply_to_training_batches_only():
    plain = network_inputs(build(config(augment=False), module()), module())
    shifted = network_inputs(build(config(f"{__name__}.Shift"), module()), module())
    assert torch.equal(shifted[0], plain[0] + 1)
    assert torch.equal(shifted[1], plain[1])


def test_transforms_equal_those_created_in_python_and_depend_on_the_seed():
    described = create_transform(["RandomFlipRotate", CLOUDS, AFFINE])
    made = nn.Sequential(
        transforms.RandomFlipRotate(), transforms.Clouds(1.0, seed=5), transforms.Augment(RandomAffine(degrees=9))
    )
    batch = next(iter(module().train_dataloader()))
    results = []
    for transform in (described, made):
        torch.manual_seed(3)
        results.append(apply_transform(transform, batch, image="image"))
    assert torch.equal(results[0]["image"], results[1]["image"])
    assert torch.equal(results[0]["mask"], results[1]["mask"])
    assert not torch.equal(results[0]["image"], batch["image"])
    assert set(results[0]["mask"].unique().tolist()) <= {0, 7}  # class codes stored as uint8 are not interpolated
    runs = [
        network_inputs(build(config("RandomFlipRotate", CLOUDS), module()), module(), seed=seed)[0]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


class Killed(BaseException):
    """Raised instead of a kill signal."""


@pytest.mark.parametrize("stop", [4])
def test_resumed_run_with_transforms_equals_uninterrupted_run(stop, tmp_path, monkeypatch):
    def train(batches=None, **options):
        task = build(
            config("RandomFlipRotate", CLOUDS, {"class_path": "RandomCrop", "init_args": {"size": 8}}), module()
        )
        step, left = task.training_step, [batches]

        def killed(*args):
            if left[0] == 0:
                raise Killed
            left[0] = None if left[0] is None else left[0] - 1
            return step(*args)

        task.training_step = killed
        fit(task, module(), epochs=3, progress="none", **options)
        return task.network.state_dict()

    uninterrupted = train()
    with pytest.raises(Killed):
        train(batches=stop, resume=tmp_path, checkpoint_every=1)
    resumed = train(resume=tmp_path, checkpoint_every=1)
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in uninterrupted)
    with pytest.raises(InputError, match="the checkpoint has 3 random transforms, and 0 are requested"):
        fit(build(config(), module()), module(), epochs=3, progress="none", resume=tmp_path)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("RandomTurm", "Cannot find the transform 'RandomTurm': the transforms are Augment, CenterCrop, Clouds"),
        ("os.path", "Cannot find the transform 'os.path'"),
        ("no.such.Thing", "Cannot import the transform 'no.such.Thing': No module named 'no'"),
        ("Normalize", "validation and prediction would lack it"),
        ("geoxt.transforms.AppendIndices", "validation and prediction would lack it"),
        (
            {"class_path": "Clouds", "init_args": {"q": 1}},
            "argument 'q'. Its arguments are p, coverage",
        ),
        ({"Clouds": {}}, "by name, or as class_path"),
        ({"class_path": "Augment", "init_args": {"steps": ["Blur"]}}, "Cannot find the transform 'Blur'"),
        ({"class_path": "RandomCrop", "init_args": {"size": 0}}, "size= of at least one pixel"),
    ],
)
def test_invalid_transforms_raise(described, message):
    with pytest.raises(InputError) as caught:
        create_transform([described])
    assert message in str(caught.value)
    with pytest.raises(InputError, match="Pass transforms=, a list"):
        create_transform(described)


def test_transforms_that_change_the_bands_raise():
    task = Task(
        module().card(model="test_unet", task="segmentation"), transform=lambda b: b | {"image": b["image"][:, :1]}
    )
    with pytest.raises(InputError, match=r"shape \(4, 1, 16, 16\): its shape before transforms is \(4, 2, 16, 16\)"):
        fit(task, module(), epochs=1, progress="none")


def test_mixed_labels_are_learned_as_class_probabilities():
    class Labelled(Images):
        def __getitem__(self, index):
            return {name: value for name, value in super().__getitem__(index).items() if name != "mask"}

    data = SampleDataModule(Labelled(12), Labelled(4, seed=1), batch_size=4)
    task = build(TrainingConfig(task="classification", model="test_classifier", transforms=["MixUp"]), data)
    batch = {"image": torch.rand(4, 2, 8, 8), "label": torch.tensor([0, 1, 2, 2])}
    torch.manual_seed(0)
    mixed = task.transform(batch)
    probabilities = task.target(mixed)
    assert probabilities.shape == (4, 3)
    torch.testing.assert_close(probabilities, mixed["label"])
    assert ((probabilities > 0).sum(dim=1) > 1).any()
    history = fit(task, data, epochs=1, progress="none")
    assert history[0]["train/loss"] > 0


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5])])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", TASKS["classification"].losses)
def test_losses_of_one_hot_targets_equal_losses_of_classes(name, smoothing, weights):
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 2, 1, 0])
    one_hot = F.one_hot(target, 3).float()
    expected = LOSSES["softmax"][name](logits, target, smoothing, weights)
    torch.testing.assert_close(LOSSES["softmax"][name](logits, one_hot, smoothing, weights), expected)
    half = (one_hot + one_hot.flip(0)) / 2
    if smoothing == 0 and weights is None and name == "cross_entropy":
        by_hand = -(half * logits.log_softmax(dim=1)).sum(dim=1).mean()
        torch.testing.assert_close(LOSSES["softmax"][name](logits, half), by_hand)


CONFIG = """
data: {{class_path: ImageFolderDataModule, init_args: {{path: {chips}, fractions: [0.5, 0.25, 0.25], batch_size: 4}}}}
"""
MODEL = """
task: classification
model: test_classifier
transforms: [RandomFlipRotate, {class_path: geoxt.transforms.Clouds, init_args: {p: 0.5, seed: 3}}]
"""


@pytest.fixture
def chips(tmp_path, monkeypatch):
    """Eight images of two classes, in memory."""
    labels = torch.arange(8) % 2
    images = torch.randint(0, 200, (8, 3, 16, 16), dtype=torch.uint8)
    monkeypatch.setattr(
        "geoxt.trainers.datamodules.image_folder.read_image_folder", lambda _: (images, labels, ("Lake", "Roof"))
    )
    return tmp_path / "chips"


def test_fit_and_experiment_accept_transforms_and_save_them(chips, tmp_path, capsys):
    path, out = tmp_path / "fit.yaml", tmp_path / "run"
    path.write_text(CONFIG.format(chips=chips) + MODEL)
    arguments = ["--training.epochs", "1", "--out", str(out)]
    assert main(["fit", "--config", str(path), *arguments]) == 0
    saved = (out / "config.yaml").read_text()
    assert "- RandomFlipRotate\n" in saved
    assert "class_path: geoxt.transforms.Clouds" in saved
    path.write_text(path.read_text().replace("RandomFlipRotate", "RandomTurm"))
    assert main(["fit", "--config", str(path), *arguments[:-1], str(tmp_path / "other")]) == FAILED
    assert "Cannot find the transform 'RandomTurm'" in capsys.readouterr().err

    remainder = "training: {epochs: 1}\nseeds: [0]\ngrid: {transforms: [[], [RandomFlipRotate]]}\n"
    path.write_text(CONFIG.format(chips=chips) + MODEL + remainder)
    assert main(["experiment", "--config", str(path), "--out", str(tmp_path / "all")]) == 0
    report = json.loads((tmp_path / "all" / "results.json").read_text())
    assert [run["config"]["transforms"] for run in report["grid"]] == [[], ["RandomFlipRotate"]]
