"""Classification scores equal those of torchmetrics; batches add up."""

import json
import math

import numpy as np
import pytest
import sklearn.metrics
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
)
from geoxt.metrics.label_codes import IGNORE
from geoxt.metrics.scores import Scores


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(4, (3, 20, 20), generator=generator)
    predicted = target.where(torch.rand(target.shape, generator=generator) < 0.6, (target + 1) % 4)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    return predicted, target


def test_segmentation_scores_equal_torchmetrics(maps):
    predicted, target = maps
    scores = classification_scores(confusion_matrix(predicted, target, 4), "abcd")
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
    assert list(scores["f1"].values()) == pytest.approx(f1.tolist())
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
    scores = classification_scores(matrix, ["a", "b", "c"])
    assert scores["iou"] == {"a": 0.75, "b": 0.0, "c": None}
    assert scores["miou"] == 0.375
    assert set(scores.flat("accuracy", "iou")) == {"accuracy", "iou/a", "iou/b"}


def test_prediction_of_no_class_is_wrong():
    matrix = torch.tensor([[3, 1], [0, 0]])
    assert classification_scores(matrix, ["a"])["iou"] == {"a": 0.75}
    assert classification_scores(matrix, ["a"])["accuracy"] == 0.75


def test_duplicate_class_name_raises():
    with pytest.raises(LabelError, match="'Corn' names several classes"):
        classification_scores(torch.eye(2, dtype=torch.int64), ("Corn", "Corn"))


def test_empty_matrix_has_nan_accuracy():
    assert math.isnan(classification_scores(torch.zeros(2, 2, dtype=torch.int64), "ab")["accuracy"])


def test_scores_equal_scikit_learn(maps):
    """Precision, recall, F1, support, IoU, kappa and balanced accuracy, also of a class that is never predicted."""
    predicted, target = (part[maps[1] != IGNORE].numpy() for part in maps)
    predicted[predicted == 3] = 0
    scores = classification_scores(confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(target), 4), "abcd")
    np.testing.assert_array_equal(scores.confusion_matrix, sklearn.metrics.confusion_matrix(target, predicted))
    table = sklearn.metrics.precision_recall_fscore_support(target, predicted, zero_division=0)
    for name, column in zip(("precision", "recall", "f1", "support"), table, strict=True):
        np.testing.assert_allclose(scores.to_dataframe()[name], column, err_msg=name)
    iou = sklearn.metrics.jaccard_score(target, predicted, average=None)
    np.testing.assert_allclose(scores.to_dataframe()["iou"], iou)
    assert scores["kappa"] == pytest.approx(sklearn.metrics.cohen_kappa_score(target, predicted))
    assert scores["macro_recall"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(target, predicted))
    assert scores["precision"]["d"] == 0
    assert scores["macro_precision"] == pytest.approx(np.mean(table[0]))
    assert classification_scores(torch.tensor([[3, 0], [0, 0]]), "ab")["precision"]["b"] is None


def test_scores_are_a_mapping_a_table_and_a_figure():
    scores = classification_scores(torch.tensor([[3, 1], [0, 0]]), ["<script>"], unit="images")
    assert dict(Scores.from_dict(json.loads(json.dumps(scores.to_dict())))) == dict(scores)
    assert scores["images"] == 4
    assert len(scores) == len(list(scores)) == len({**scores})
    lines = str(scores).splitlines()
    assert lines[0].split() == ["accuracy", "0.7500"]
    assert lines[-1].split() == ["<script>", "1.0000", "0.7500", "0.8571", "0.7500", "4"]
    labels = [text.get_text() for text in scores.plot().axes[0].get_yticklabels()]
    assert labels == ["<script>", "other"]
    rare = classification_scores(torch.tensor([[3, 0, 1], [0, 0, 0], [0, 0, 2]]), ["a", "absent", "c"])
    figure = rare.plot()  # a legend may have many classes that do not occur
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "c"]
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0, 1]])
    assert not Scores()


def test_text_lists_the_classes_that_occur_and_arrays_add_up():
    counts = np.zeros((50, 50), np.int64)
    counts[45, 45], counts[46, 45] = 3, 1
    fold = classification_scores(counts, [f"c{code}" for code in range(50)])
    assert [line.split()[0] for line in str(fold).splitlines() if line.startswith("c")] == ["c45", "c46"]
    assert str(fold).endswith("... and 48 more classes: to_dataframe() has all.")
    both = classification_scores(fold.confusion_matrix + fold.confusion_matrix, fold.classes)
    assert (both["pixels"], both["accuracy"]) == (8, 0.75)
