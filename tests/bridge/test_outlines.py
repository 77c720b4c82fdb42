"""Masks of COCO outlines: the pixels whose centers are in an outline."""

from __future__ import annotations

import numpy as np
import shapely

from geoxt.bridge.sample_dataset import _objects

SIZE = (40, 50)


def test_masks_hold_the_pixel_centers_in_the_outlines():
    rng = np.random.default_rng(0)
    cols, rows = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    for _ in range(60):
        rings = []
        for _ in range(int(rng.integers(1, 3))):
            angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
            radius = rng.uniform(3, 25, 9)
            center = rng.uniform(0, 40, 2)
            ring = (center + radius[:, None] * np.stack((np.cos(angles), np.sin(angles)), 1)).astype(np.float32)
            rings.append(
                np.concatenate((ring, ring[:1])) if rng.integers(2) else ring
            )  # closed or not, as in COCO files
        outlines = [shapely.polygons(ring) for ring in rings]
        expected = np.logical_or.reduce([shapely.contains_xy(outline, cols, rows) for outline in outlines])
        sample = {"image_valid": None, "boxes": np.zeros((1, 4), np.float32), "labels": np.ones(1), "outlines": [rings]}
        masks = _objects(sample, SIZE)["masks"].numpy()
        np.testing.assert_array_equal(masks[0], expected)


def test_outlines_outside_of_the_image_and_of_two_points_are_empty():
    far = np.array([[90, 90], [99, 90], [99, 99], [90, 90]], np.float32)
    line = np.array([[1, 1], [5, 5]], np.float32)
    values = {"boxes": np.zeros((2, 4), np.float32), "labels": np.ones(2), "outlines": [[far], [line]]}
    assert not _objects(values, SIZE)["masks"].any()
