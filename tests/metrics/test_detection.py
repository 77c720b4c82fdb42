"""Average precision of detections: cases computed by hand."""

import numpy as np
import torch

from geoxt.metrics.detection import THRESHOLDS, AveragePrecision


def test_average_precision_of_boxes_equals_hand_computation():
    target = [{"boxes": torch.tensor([[0, 0, 10, 10.0], [20, 20, 30, 30]]), "labels": torch.tensor([1, 1])}]
    detections = {
        "boxes": torch.tensor([[0, 0, 10, 10.0], [0, 0, 10, 9], [20, 20, 30, 27]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 1, 1]),
    }
    metric = AveragePrecision(2)
    metric.update([detections], target)
    table = metric.compute()
    # first: match; second: duplicate, no match; third: IoU 0.7, a match up to that threshold
    low = (51 * 1 + 50 * 2 / 3) / 101
    expected = [low if threshold <= 0.7 + 1e-9 else 51 / 101 for threshold in THRESHOLDS]
    np.testing.assert_allclose(table[0], expected)
    assert table[1].isnan().all()
    metric.reset()
    metric.update([{name: value[[0, 2]] for name, value in detections.items()}], target)
    assert metric.compute()[0, 0] == 1


def test_average_precision_of_masks_uses_mask_iou():
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
