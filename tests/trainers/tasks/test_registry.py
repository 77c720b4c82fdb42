"""Kinds of tasks: each trains a tiny model, scores as torchmetrics does, and leaves out what is unknown."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import (
    MulticlassF1Score,
    MulticlassRecall,
    MultilabelAveragePrecision,
    MultilabelF1Score,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score
from torchvision.ops import masks_to_boxes

from geoxt import tasks
from geoxt.errors import InputError, LabelError
from geoxt.metrics.confusion import confusion, report_images
from geoxt.metrics.label_codes import IGNORE
from geoxt.metrics.multilabel import Errors, Labels, report_errors, report_labels
from geoxt.trainers import Recipe, SampleDataModule, Task, fit
from geoxt.trainers.loop.fit import evaluate
from geoxt.trainers.tasks.class_weights import balanced, class_counts
from geoxt.trainers.tasks.detection_targets import THRESHOLDS, AveragePrecision, turn

SIZE = 32


class Made:
    """Samples made by a function of a generator."""

    classes = None

    def __init__(self, make, count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.samples = [make(generator) for _ in range(count)]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def picture(generator, *lead):
    return torch.rand(*lead, SIZE, SIZE, generator=generator)


def masked(generator, *lead):
    image = picture(generator, *lead)
    mask = (image.reshape(-1, SIZE, SIZE)[0] > 0.5).long() + 3
    valid = torch.rand(SIZE, SIZE, generator=generator) > 0.2
    return {"image": image, "mask": mask, "mask_valid": valid}


def measured(generator):
    image = picture(generator, 2)
    target = image.mean(dim=0)
    target[:4] = torch.nan
    return {"image": image, "target": target}


def labelled(generator):
    image = picture(generator, 2)
    return {"image": image, "label": torch.tensor([1, 0, int(image.mean() > 0.5)])}


def valued(generator):
    image = picture(generator, 2)
    return {"image": image, "label": torch.stack([image.mean(), image.std()])}


def classed(generator):
    label = torch.randint(2, (), generator=generator)
    return {"image": picture(generator, 2) + label, "label": label}


def things(generator):
    image, masks = picture(generator, 2), torch.zeros(2, SIZE, SIZE, dtype=torch.uint8)
    row, col = torch.randint(0, 12, (2,), generator=generator).tolist()
    masks[0, row : row + 10, col : col + 8] = 1
    masks[1, 24:30, 20:30] = 1
    return {"image": image + masks[0], "boxes": masks_to_boxes(masks), "labels": torch.tensor([4, 7]), "masks": masks}


CASES = {
    "segmentation": ("test_unet", lambda g: masked(g, 2)),
    "change": ("test_fc_siam_diff", lambda g: masked(g, 2, 2)),
    "time-series": ("test_utae", lambda g: masked(g, 3, 2)),
    "pixelwise-regression": ("test_unet", measured),
    "classification": ("test_classifier", classed),
    "multilabel": ("test_classifier", labelled),
    "regression": ("test_classifier", valued),
    "detection": ("test_faster_rcnn", things),
    "instance-segmentation": ("test_mask_rcnn", things),
}


@pytest.mark.parametrize("name", tasks.names(supervised=True))
def test_every_kind_trains_and_is_scored(name):
    model, make = CASES[name]
    data = SampleDataModule(Made(make, 4), Made(make, 2, seed=1), Made(make, 2, seed=2), batch_size=2)
    task = Task(data.card(model=model, task=name), Recipe(ema_decay=None))
    before = [weight.clone() for weight in task.network.parameters()]
    history = fit(task, data, epochs=1, progress="none")
    assert np.isfinite(history[0]["train/loss"])
    assert task.monitor in history[0]
    moved = [not torch.equal(a, b) for a, b in zip(before, task.network.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    assert any(key.startswith("test/") for key in evaluate(task, data))


@pytest.mark.parametrize("name", ["segmentation", "pixelwise-regression"])
def test_what_is_not_valid_counts_neither_in_loss_nor_in_scores(name):
    model, make = CASES[name]
    data = SampleDataModule(Made(make, 4), batch_size=4)
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
        counts = confusion(output.argmax(dim=1), target, 2)
        assert counts.sum() == known.sum()
    else:
        assert torch.equal(~target[:, 0].isnan(), known & ~batch[layer].isnan())
        wanted = ((output[:, 0] - batch[layer]) ** 2)[~target[:, 0].isnan()].mean()
        torch.testing.assert_close(loss, wanted)


def test_scores_of_images_are_those_of_torchmetrics():
    found, truth = torch.randint(4, (200,)), torch.randint(4, (200,))
    truth[::5] = IGNORE
    scores = report_images(confusion(found, truth, 4), "abcd")
    f1 = MulticlassF1Score(4, average="none", ignore_index=IGNORE)(found, truth)
    recall = MulticlassRecall(4, average="macro", ignore_index=IGNORE)(found, truth)
    assert [scores[f"f1/{name}"] for name in "abcd"] == pytest.approx(f1.tolist())
    assert scores["recall"] == pytest.approx(recall.item())


def test_scores_of_labels_are_those_of_torchmetrics():
    logits, truth = torch.randn(50, 3), torch.randint(2, (50, 3)).float()
    truth[::7, 1] = torch.nan
    tally = Labels(3)
    for part in range(0, 50, 10):
        tally.update(logits[part : part + 10], truth[part : part + 10])
    scores = report_labels(tally.compute(), "abc")
    known = truth.nan_to_num(-1).long()
    f1 = MultilabelF1Score(3, average="none", ignore_index=-1)(logits.sigmoid(), known)
    ap = MultilabelAveragePrecision(3, average="none", ignore_index=-1)(logits.sigmoid(), known)
    assert [scores[f"f1/{name}"] for name in "abc"] == pytest.approx(f1.tolist())
    assert [scores[f"ap/{name}"] for name in "abc"] == pytest.approx(ap.tolist())
    right = ((logits > 0) == (truth == 1))[~truth.isnan()]
    assert scores["accuracy"] == pytest.approx(right.float().mean().item())


def test_errors_are_those_of_torchmetrics():
    found, truth = torch.randn(6, 2, 5, 5) + 300, torch.randn(6, 2, 5, 5) + 300
    truth[:, :, 0] = torch.nan
    tally = Errors(2)
    tally.update(found[:2], truth[:2])
    tally.update(found[2:], truth[2:])
    scores = report_errors(tally.compute(), ("a", "b"))
    known = ~truth.isnan()
    assert scores["mae"] == pytest.approx(MeanAbsoluteError()(found[known], truth[known]).item(), rel=1e-5)
    assert scores["rmse"] == pytest.approx(MeanSquaredError(squared=False)(found[known], truth[known]).item(), rel=1e-5)
    pairs = [(found[:, k][known[:, k]].double() - 300, truth[:, k][known[:, k]].double() - 300) for k in range(2)]
    assert scores["r2"] == pytest.approx(np.mean([R2Score()(*pair).item() for pair in pairs]), rel=1e-4)
    assert scores["bias"] == pytest.approx((found - truth)[known].mean().item(), abs=1e-5)
    assert scores["rmse/b"] == pytest.approx(((found - truth)[:, 1][known[:, 1]] ** 2).mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize("size", [(20, 20), (12, 20)])
def test_things_turn_as_their_masks_and_images_do(size):
    masks = torch.zeros(2, *size, dtype=torch.uint8)
    masks[0, 2:5, 3:9] = 1
    masks[1, 8:12, 10:20] = 1
    edge = torch.tensor([0, 0, 1, 1])  # masks_to_boxes gives the last pixel, not what lies behind it
    one = {"boxes": masks_to_boxes(masks) + edge, "labels": torch.tensor([1, 2]), "masks": masks}
    images = masks.sum(0)[None].repeat(40, 3, 1, 1).float()
    torch.manual_seed(0)
    turned, moved = turn(images, [one] * 40)
    assert len({tuple(image.flatten().tolist()) for image in turned}) == (8 if size[0] == size[1] else 4)
    for image, thing in zip(turned, moved, strict=True):
        assert torch.equal(image[0], thing["masks"].sum(0).float())
        torch.testing.assert_close(thing["boxes"], masks_to_boxes(thing["masks"]) + edge)
    torch.manual_seed(0)
    plain = turn(images, [{name: one[name] for name in ("boxes", "labels")}] * 40)
    assert torch.equal(plain[0], turned)


def test_average_precision_is_that_of_a_known_case():
    truth = [{"boxes": torch.tensor([[0, 0, 10, 10.0], [20, 20, 30, 30]]), "labels": torch.tensor([1, 1])}]
    said = {
        "boxes": torch.tensor([[0, 0, 10, 10.0], [0, 0, 10, 9], [20, 20, 30, 27]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 1, 1]),
    }
    metric = AveragePrecision(2)
    metric.update([said], truth)
    table = metric.compute()
    # found first: right; second: the same thing again, wrong; third: overlap 0.7, right up to that threshold
    low = (51 * 1 + 50 * 2 / 3) / 101
    wanted = [low if threshold <= 0.7 + 1e-9 else 51 / 101 for threshold in THRESHOLDS]
    np.testing.assert_allclose(table[0], wanted)
    assert table[1].isnan().all()
    metric.reset()
    metric.update([{name: value[[0, 2]] for name, value in said.items()}], truth)
    assert metric.compute()[0, 0] == 1


def test_average_precision_of_masks_overlaps_pixels():
    mask = torch.zeros(1, 8, 8)
    mask[:, :4] = 1
    half = mask.clone()
    half[:, 3] = 0  # three of four rows
    boxes, label = torch.tensor([[0, 0, 8, 4.0]]), torch.tensor([1])
    metric = AveragePrecision(1, masks=True)
    metric.update(
        [{"boxes": boxes, "labels": label, "scores": torch.ones(1), "masks": half[:, None]}],
        [{"boxes": boxes, "labels": label, "masks": mask}],
    )
    np.testing.assert_array_equal(metric.compute()[0] > 0, [threshold <= 0.75 for threshold in THRESHOLDS])


def test_class_weights_are_counted_batch_by_batch():
    batches = [{"t": torch.tensor([0, 0, 1, IGNORE])}, {"t": torch.tensor([0, 2])}]
    counts = class_counts(iter(batches), lambda batch: batch["t"], 4)
    assert counts.tolist() == [3, 1, 1, 0]
    torch.testing.assert_close(balanced(counts), torch.tensor([5 / 9, 5 / 3, 5 / 3, 0]))
    with pytest.raises(LabelError, match="nothing in the training part"):
        balanced(torch.zeros(2, dtype=torch.int64))


def test_what_a_kind_lacks_is_refused():
    data = SampleDataModule(Made(valued, 4), batch_size=2)
    card = data.card(model="test_classifier", task="regression")
    with pytest.raises(InputError, match="classes of regression: it has none"):
        Task(card, Recipe(class_weights="balanced"))
    with pytest.raises(InputError, match="loss='dice': pass one of mse, mae"):
        Task(card, Recipe(loss="dice"))
    with pytest.raises(InputError, match="without 'height': it has image, label"):
        Task(card, names={"target": "height"}).target(data.train[0])
    with pytest.raises(InputError, match="optimizer='Adamm'"):
        fit(Task(card, Recipe(optimizer="Adamm")), data, epochs=1, progress="none")
    with pytest.raises(InputError, match="schedule_options"):
        fit(Task(card, Recipe(schedule="StepLR")), data, epochs=1, progress="none")
