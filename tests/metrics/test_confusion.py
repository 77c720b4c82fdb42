"""Scores against torchmetrics and scikit-learn; batches add up; names stay with their classes."""

import math

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from geoxt.errors import LabelError
from geoxt.metrics.confusion import Confusion, confusion, flatten, summarise
from geoxt.metrics.label_codes import IGNORE


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (3, 20, 20), generator=generator)
    predicted = target.where(torch.rand(target.shape, generator=generator) < 0.6, (target + 1) % 4)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    return predicted, target


def test_scores_are_those_of_torchmetrics(maps):
    predicted, target = maps
    scores = summarise(confusion(predicted, target, 4), "abcd")
    accuracy = MulticlassAccuracy(4, average="micro", ignore_index=IGNORE)(predicted, target)
    each = MulticlassJaccardIndex(4, average="none", ignore_index=IGNORE)(predicted, target)
    assert scores["accuracy"] == pytest.approx(accuracy.item())
    assert list(scores["iou"].values()) == pytest.approx(each.tolist())
    assert scores["miou"] == pytest.approx(each.mean().item())
    known = target[target != IGNORE]
    assert scores["pixels"] == len(known)
    assert scores["majority"] == pytest.approx(known.bincount().max().item() / len(known))


def test_batches_add_up_and_reset(maps):
    predicted, target = maps
    metric = Confusion(4)
    for one, other in zip(predicted, target, strict=True):
        metric.update(one, other)
    assert torch.equal(metric.compute(), confusion(predicted, target, 4))
    metric.reset()
    assert metric.counts.sum() == 0


def test_a_class_that_is_nowhere_has_no_score():
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    scores = summarise(counts, ["a", "b", "c"])
    assert scores["iou"] == {"a": 0.75, "b": 0.0, "c": None}
    assert scores["miou"] == 0.375
    assert set(flatten(scores, "val")) == {"val/accuracy", "val/miou", "val/iou/a", "val/iou/b"}


def test_what_was_predicted_as_no_class_is_wrong():
    counts = torch.tensor([[3, 1], [0, 0]])
    assert summarise(counts, ["a"])["iou"] == {"a": 0.75}
    assert summarise(counts, ["a"])["accuracy"] == 0.75


def test_two_classes_of_one_name_are_refused_not_merged():
    with pytest.raises(LabelError, match="'Corn' names several classes"):
        summarise(torch.eye(2, dtype=torch.int64), ("Corn", "Corn"))


def test_nothing_counted_is_nan():
    assert math.isnan(summarise(torch.zeros(2, 2, dtype=torch.int64), "ab")["accuracy"])
