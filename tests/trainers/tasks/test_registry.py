"""Every supervised task trains a tiny model, is scored, and leaves out unknown targets."""

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.metrics.confusion import confusion_matrix
from geoxt.metrics.label_codes import IGNORE
from geoxt.trainers import Recipe, SampleDataModule, Task, fit
from geoxt.trainers.loop.fit import evaluate

SIZE = 32


class GeneratedSamples:
    """Samples made by a function of a generator."""

    classes = None

    def __init__(self, make, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.samples = [make(generator) for _ in range(count)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def random_image(generator, *lead):
    return torch.rand(*lead, SIZE, SIZE, generator=generator)


def segmentation_sample(generator, *lead):
    image = random_image(generator, *lead)
    mask = (image.reshape(-1, SIZE, SIZE)[0] > 0.5).long() + 3
    valid = torch.rand(SIZE, SIZE, generator=generator) > 0.2
    return {"image": image, "mask": mask, "mask_valid": valid}


def pixelwise_regression_sample(generator):
    image = random_image(generator, 2)
    target = image.mean(dim=0)
    target[:4] = torch.nan
    return {"image": image, "target": target}


def multilabel_sample(generator):
    image = random_image(generator, 2)
    return {"image": image, "label": torch.tensor([1, 0, int(image.mean() > 0.5)])}


def regression_sample(generator):
    image = random_image(generator, 2)
    return {"image": image, "label": torch.stack([image.mean(), image.std()])}


def classification_sample(generator):
    label = torch.randint(2, (), generator=generator)
    return {"image": random_image(generator, 2) + label, "label": label}


def instances_sample(generator):
    image, masks = random_image(generator, 2), torch.zeros(2, SIZE, SIZE, dtype=torch.uint8)
    row, col = torch.randint(0, 12, (2,), generator=generator).tolist()
    masks[0, row : row + 10, col : col + 8] = 1
    masks[1, 24:30, 20:30] = 1
    return {"image": image + masks[0], "boxes": masks_to_boxes(masks), "labels": torch.tensor([4, 7]), "masks": masks}


CASES = {
    "segmentation": ("test_unet", lambda g: segmentation_sample(g, 2)),
    "change": ("test_fc_siam_diff", lambda g: segmentation_sample(g, 2, 2)),
    "time-series": ("test_utae", lambda g: segmentation_sample(g, 3, 2)),
    "pixelwise-regression": ("test_unet", pixelwise_regression_sample),
    "classification": ("test_classifier", classification_sample),
    "multilabel": ("test_classifier", multilabel_sample),
    "regression": ("test_classifier", regression_sample),
    "detection": ("test_faster_rcnn", instances_sample),
    "instance-segmentation": ("test_mask_rcnn", instances_sample),
}


@pytest.mark.parametrize("name", tasks.names(supervised=True))
def test_task_trains_and_is_scored(name):
    model, make = CASES[name]
    splits = [GeneratedSamples(make, count, seed) for seed, count in enumerate((4, 2, 2))]
    data = SampleDataModule(*splits, batch_size=2)
    task = Task(data.card(model=model, task=name), Recipe(ema_decay=None))
    before = [weight.clone() for weight in task.network.parameters()]
    history = fit(task, data, epochs=1, progress="none")
    assert np.isfinite(history[0]["train/loss"])
    assert task.monitor in history[0]
    changed = [not torch.equal(a, b) for a, b in zip(before, task.network.parameters(), strict=True)]
    assert sum(changed) > len(changed) / 2
    assert {*evaluate(task, data)} >= {*task.kind.scores}


@pytest.mark.parametrize("name", ["segmentation", "pixelwise-regression"])
def test_invalid_pixels_do_not_change_loss_or_scores(name):
    model, make = CASES[name]
    data = SampleDataModule(GeneratedSamples(make, 4), batch_size=4)
    task = Task(data.card(model=model, task=name)).eval()
    task.log = lambda *_, **__: None  # there is no trainer
    batch = next(iter(data.train_dataloader()))
    layer = task.target_key
    batch[f"{layer}_valid"] = torch.rand(4, SIZE, SIZE) > 0.5
    batch["image_valid"] = torch.rand(4, SIZE, SIZE) > 0.3
    other = dict(batch)
    known = batch[f"{layer}_valid"] & batch["image_valid"]
    other[layer] = batch[layer].where(known, 3)
    with torch.no_grad():
        loss, output, target = task._loss(batch, "train")
        assert torch.equal(loss, task._loss(other, "train")[0])
    if name == "segmentation":
        assert torch.equal(target != IGNORE, known)
        matrix = confusion_matrix(output.argmax(dim=1), target, 2)
        assert matrix.sum() == known.sum()
    else:
        assert torch.equal(~target[:, 0].isnan(), known & ~batch[layer].isnan())
        errors = (output[:, 0] - batch[layer]) / task.card.target_std[0]
        expected = (errors**2)[~target[:, 0].isnan()].mean()
        torch.testing.assert_close(loss, expected)


def test_unsuitable_recipe_raises():
    data = SampleDataModule(GeneratedSamples(regression_sample, 4), batch_size=2)
    card = data.card(model="test_classifier", task="regression")
    with pytest.raises(InputError, match="class weights for regression: its loss takes none"):
        Task(card, Recipe(class_weights="balanced"))
    with pytest.raises(InputError, match=r"loss='dice'\. Pass loss=, one of mse, mae"):
        Task(card, Recipe(loss="dice"))
    with pytest.raises(InputError, match="without 'height': their keys are image, label"):
        Task(card, names={"target": "height"}).target(data.train[0])
    with pytest.raises(InputError, match="optimizer 'Adamm'"):
        fit(Task(card, Recipe(optimizer="Adamm")), data, epochs=1, progress="none")
    with pytest.raises(InputError, match="schedule_options"):
        fit(Task(card, Recipe(schedule="StepLR")), data, epochs=1, progress="none")
