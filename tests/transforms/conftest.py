"""Batches with coordinates as pixel values: a georeferenced ramp, with class codes, validity, boxes and instances."""

import numpy as np
import pytest
import torch


def make_batch(*, count=3, height=6, width=6, steps=None, rotated=False):
    """Return a batch with x and y of the pixel centres as bands 0 and 1, and the number of each pixel as `mask`."""
    rng = np.random.default_rng(1)
    turn = 0.3 if rotated else 0.0
    affine = np.array([30 * np.cos(turn), -30 * np.sin(turn), 0, 30 * np.sin(turn), -30 * np.cos(turn), 0])
    transform = np.tile(affine, (count, 1))
    transform[:, 2], transform[:, 5] = 1000 + 500 * np.arange(count), 9000 - 700 * np.arange(count)
    row, col = np.mgrid[:height, :width] + 0.5
    a, b, c, d, e, f = (transform[:, index, None, None] for index in range(6))
    image = np.stack([a * col + b * row + c, d * col + e * row + f], axis=1)
    corner_x = np.stack([a * x + b * y + c for x in (0, width) for y in (0, height)])[..., 0, 0]
    corner_y = np.stack([d * x + e * y + f for x in (0, width) for y in (0, height)])[..., 0, 0]
    bounds = np.stack([corner_x.min(0), corner_y.min(0), corner_x.max(0), corner_y.max(0)], axis=1)
    valid = rng.random((count, height, width)) > 0.2
    if steps is not None:
        image = np.stack([image + 1e5 * step for step in range(steps)], axis=1)
        valid = np.stack([valid] * steps, axis=1)
    numbers = np.arange(count * height * width).reshape(count, height, width)
    masks = np.zeros((count, 2, height, width), bool)
    masks[:, 0, 1:3, 0:4] = masks[:, 1, 4:6, 3:5] = True
    boxes = torch.tensor([[0.0, 1.0, 4.0, 3.0], [3.0, 4.0, 5.0, 6.0]])
    return {
        "image": torch.from_numpy(image.astype("float64")),
        "image_valid": torch.from_numpy(valid),
        "mask": torch.from_numpy(numbers),
        "mask_valid": torch.from_numpy(rng.random((count, height, width)) > 0.1),
        "boxes": [boxes.clone() for _ in range(count)],
        "labels": [torch.tensor([7, 9]) + number for number in range(count)],
        "masks": list(torch.from_numpy(masks)),
        "bounds": torch.from_numpy(bounds),
        "transform": torch.from_numpy(transform),
        "crs": ["EPSG:32615"] * count,
        "label": torch.arange(count),
    }


def pixel_coordinates(transform, height, width):
    """Return x and y of pixel centres by an affine transform, (batch, 2, height, width)."""
    row, col = np.mgrid[:height, :width] + 0.5
    a, b, c, d, e, f = (transform.numpy()[:, index, None, None] for index in range(6))
    return np.stack([a * col + b * row + c, d * col + e * row + f], axis=1)


def enclosing(masks):
    """Return the box of each instance mask: left, top, right, bottom."""
    boxes = []
    for mask in masks.numpy():
        rows, cols = np.nonzero(mask)
        boxes.append([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
    return np.array(boxes, dtype="float32").reshape(-1, 4)


@pytest.fixture
def batch():
    return make_batch()


@pytest.fixture
def make():
    return make_batch


@pytest.fixture
def centres():
    return pixel_coordinates


@pytest.fixture
def boxes_around():
    return enclosing
