"""Every dataset is learnt for one step by the real trainers: gradients reach each band, and what is unknown counts not.

Samples are those that `to_torch` gives, batches those of the data module, models the tiny ones of the registry.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch
from pytorch_lightning import Callback

from geoxt import bridge, datasets
from geoxt.legend import Legend
from geoxt.trainers import Recipe, SampleDataModule, Task, fit
from geoxt.trainers.selfsup import SelfSupervised

BATCH = 4
INSTANCES = 2
"""Images in a batch of a detector, which makes them larger first."""
PLAIN = Recipe(augment=False, ema_decay=None, label_smoothing=0)
MODELS = {
    "classification": "test_classifier",
    "multilabel": "test_classifier",
    "regression": "test_classifier",
    "segmentation": "test_unet",
    "time-series": "test_utae",
    "change": "test_fc_siam_conc",
    "detection": "test_faster_rcnn",
    "instance-segmentation": "test_mask_rcnn",
    "self-supervised": "test_classifier",
}
TARGETS = {"detection": "boxes", "instance-segmentation": "boxes", "self-supervised": "image"}
"""What a sample has to have of each kind, where it is neither label nor mask."""


def kinds(spec) -> tuple[str, ...]:
    """Return the kinds of tasks that a dataset is for; one of many dates is learnt as a series, and as one image."""
    many = "time" in spec.first_asset.templates[0].names or "t" in getattr(spec.first_asset, "axes", "")
    match spec.task:
        case "segmentation":
            return ("time-series",) if many else ("segmentation",)
        case "instance-segmentation":
            return ("time-series", "instance-segmentation") if many else ("instance-segmentation",)
        case task:
            return (task,)


CASES = [(name, kind) for name in datasets.names() for kind in kinds(datasets.get(name))]
FIRST = {kind: name for name, kind in reversed(CASES)}
"""The first dataset of each kind, which the trainer learns; a step of the task on its batches does for all others."""


class Gradients(Callback):
    """Keeps the gradient of the first layer, and counts steps."""

    def on_after_backward(self, trainer, module) -> None:
        self.first, self.steps = gradient_of_first_layer(module), trainer.global_step + 1


def gradient_of_first_layer(module) -> torch.Tensor:
    return next(weight for weight in module.network.body.parameters() if weight.ndim == 4).grad.clone()


def step(task, module):
    """Train by the step of `task` without a trainer; return the loss, the number of steps and a gradient."""
    task.log = lambda *_, **__: None
    batches = list(module.train_dataloader())
    for batch in batches:
        loss = task.training_step(batch, 0)
        loss.backward()
        torch.optim.SGD(task.network.parameters(), lr=0.01).step()
    return loss.detach(), len(batches), gradient_of_first_layer(task)


def averaged(sample):
    """Return a sample of many dates as one image."""
    if sample["image"].ndim < 4:
        return sample
    return {**sample, "image": sample["image"].mean(0), "image_valid": sample["image_valid"].all(0)}


def has(sample, target) -> bool:
    """Whether a sample has a training target."""
    return sample.get(target, torch.ones(0)).numel() > 0 and bool(sample.get(f"{target}_valid", torch.ones(1)).any())


def samples_of(dataset, kind):
    """Return some samples that have what is learnt."""
    target = TARGETS.get(kind, "mask" if "mask" in dataset.spec.assets else "label")
    keys = [key for key in ("image", "mask", "instances", "boxes", "label") if key in dataset.spec.assets]
    samples = bridge.to_torch(dataset, keys=keys, transform=averaged if kind == "instance-segmentation" else None)
    chosen = (sample for sample in (samples[at] for at in reversed(range(len(samples)))) if has(sample, target))
    return list(islice(chosen, INSTANCES if target == "boxes" else BATCH))


@pytest.fixture(scope="module")
def lesson(trees):
    """Return a dataset and the samples of it that are learnt from, each read once."""
    read = {}

    def of(name, kind):
        if (name, kind) not in read:
            dataset = datasets.load(trees(name).spec, trees(name).root)
            read[name, kind] = dataset, samples_of(dataset, kind)
        return read[name, kind]

    return of


def learner(module, dataset, kind):
    """Return the module that trains on a dataset: `Task`, or `SelfSupervised` for images without labels."""
    spec, names = dataset.spec, [band.name for band in dataset.bands["image"]]
    arguments = {"model": MODELS[kind], "bands": names}
    if kind == "self-supervised":
        card = module.card(task="change", legend=Legend((0,), ("embedding",)), **arguments)
        options = {"hidden": 16, "out": 8}
        card = replace(card, task="classification")
        return SelfSupervised(card, "simclr", positives="times", recipe=PLAIN, views=None, options=options)
    ignored = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
    legend = spec.classes and spec.classes.only([code for code in spec.classes.codes if code not in ignored])
    return Task(module.card(task=kind, legend=legend, **arguments), PLAIN)


def loss_of(task, batch) -> torch.Tensor:
    torch.manual_seed(0)  # a detector draws the places that it learns from
    return task.training_step(batch, 0).detach()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_training_step_of_each_dataset(lesson, name, kind):
    dataset, samples = lesson(name, kind)
    module = SampleDataModule(
        samples, None if kind in TARGETS else samples, batch_size=BATCH
    )  # detectors score at length
    task, gradients = learner(module, dataset, kind), Gradients()
    before = torch.cat([weight.detach().flatten() for weight in task.network.parameters()])
    if FIRST[kind] == name:
        scores = fit(task, module, epochs=1, progress="none", accelerator="cpu", callbacks=[gradients])
        loss, steps, first = torch.tensor(scores[0]["train/loss"]), gradients.steps, gradients.first
    else:
        loss, steps, first = step(task, module)
    after = torch.cat([weight.detach().flatten() for weight in task.network.parameters()])
    assert steps == 1
    assert torch.isfinite(loss)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    bands = len(dataset.bands["image"])
    assert first.shape[1] == bands
    assert (first.abs().amax(dim=(0, 2, 3)) > 0).all(), "a band has no part in the loss"


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_unlabeled_pixels_do_not_change_the_loss(lesson, name, kind):
    dataset, samples = lesson(name, kind)
    module = SampleDataModule(samples, batch_size=BATCH)
    task = learner(module, dataset, kind)
    task.log = lambda *_, **__: None  # there is no trainer to log for
    batch = next(iter(module.train_dataloader()))
    if getattr(dataset.spec.assets["image"], "nodata", None) is not None:
        assert not batch["image_valid"][..., 0, 0].any(), "the files say that there is nothing"
    batch["image_valid"][..., 0, 0] = False
    loss = loss_of(task, batch)
    hidden = ~batch["image_valid"].unsqueeze(-3)
    strange = torch.where(hidden, batch["image"] + 1e4, batch["image"])
    assert torch.equal(loss_of(task, {**batch, "image": strange}), loss)
    assert not torch.equal(loss_of(task, {**batch, "image": batch["image"].flip(-1)}), loss)
    if not isinstance(task, Task) or task.kind.target != "pixels":
        return
    unknown = ~batch["mask_valid"]
    assert unknown.any() == bool(dataset.spec.assets["mask"].ignore)
    unknown[..., 0, 0] = True
    for code in (task.card.codes[0], task.card.codes[-1]):
        changed = torch.where(unknown, code, batch["mask"])
        assert torch.equal(loss_of(task, {**batch, "mask": changed}), loss)
    codes = torch.tensor(sorted(task.card.codes))
    others = torch.where(unknown, batch["mask"], codes[(torch.searchsorted(codes, batch["mask"]) + 1) % len(codes)])
    assert not torch.equal(loss_of(task, {**batch, "mask": others}), loss)


def test_every_task_kind_is_covered():
    assert {kind for _, kind in CASES} == set(MODELS)
