"""Classification scores equal those of torchmetrics; batches add up."""

import math

import pytest
import torch
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassJaccardIndex,
    MulticlassRecall,
)

from geoxt.errors import LabelError
from geoxt.metrics.confusion import (
    ConfusionMatrix,
    classification_scores,
    confusion_matrix,
    flat_segmentation_scores,
    segmentation_scores,
)
from geoxt.metrics.label_codes import IGNORE


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (3, 20, 20), generator=generator)
    predicted = target.where(torch.rand(target.shape, generator=generator) < 0.6, (target + 1) % 4)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    return predicted, target


def test_segmentation_scores_equal_torchmetrics(maps):
    predicted, target = maps
    scores = segmentation_scores(confusion_matrix(predicted, target, 4), "abcd")
    accuracy = MulticlassAccuracy(4, average="micro", ignore_index=IGNORE)(predicted, target)
    class_iou = MulticlassJaccardIndex(4, average="none", ignore_index=IGNORE)(predicted, target)
    assert scores["accuracy"] == pytest.approx(accuracy.item())
    assert list(scores["iou"].values()) == pytest.approx(class_iou.tolist())
    assert scores["miou"] == pytest.approx(class_iou.mean().item())
    labeled = target[target != IGNORE]
    assert scores["pixels"] == len(labeled)
    assert scores["majority_accuracy"] == pytest.approx(labeled.bincount().max().item() / len(labeled))


def test_classification_scores_equal_torchmetrics():
    predicted, target = torch.randint(4, (200,)), torch.randint(4, (200,))
    target[::5] = IGNORE
    scores = classification_scores(confusion_matrix(predicted, target, 4), "abcd")
    f1 = MulticlassF1Score(4, average="none", ignore_index=IGNORE)(predicted, target)
    recall = MulticlassRecall(4, average="macro", ignore_index=IGNORE)(predicted, target)
    assert [scores[f"f1/{name}"] for name in "abcd"] == pytest.approx(f1.tolist())
    assert scores["macro_recall"] == pytest.approx(recall.item())
    assert scores["macro_f1"] == pytest.approx(f1.mean().item())


def test_batches_add_up_and_reset(maps):
    predicted, target = maps
    metric = ConfusionMatrix(4)
    for batch in zip(predicted, target, strict=True):
        metric.update(*batch)
    assert torch.equal(metric.compute(), confusion_matrix(predicted, target, 4))
    metric.reset()
    assert metric.matrix.sum() == 0


def test_absent_class_has_no_score():
    matrix = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]])
    scores = segmentation_scores(matrix, ["a", "b", "c"])
    assert scores["iou"] == {"a": 0.75, "b": 0.0, "c": None}
    assert scores["miou"] == 0.375
    assert set(flat_segmentation_scores(matrix, ["a", "b", "c"])) == {"accuracy", "miou", "iou/a", "iou/b"}


def test_prediction_of_no_class_is_wrong():
    matrix = torch.tensor([[3, 1], [0, 0]])
    assert segmentation_scores(matrix, ["a"])["iou"] == {"a": 0.75}
    assert segmentation_scores(matrix, ["a"])["accuracy"] == 0.75


def test_duplicate_class_name_raises():
    with pytest.raises(LabelError, match="'Corn' names several classes"):
        segmentation_scores(torch.eye(2, dtype=torch.int64), ("Corn", "Corn"))


def test_empty_matrix_has_nan_accuracy():
    assert math.isnan(segmentation_scores(torch.zeros(2, 2, dtype=torch.int64), "ab")["accuracy"])
