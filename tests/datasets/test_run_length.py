"""Run-length encoded masks of COCO files: against texts that pycocotools wrote, and a brute-force encoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from geoxt.datasets import Boxes, Raster, Spec, load
from geoxt.datasets.run_length import decode_runs
from geoxt.datasets.spec import RGB, classes
from geoxt.errors import ReadError


def pixels_of(rings, shape):
    """Count the rectangles that cover each pixel."""
    out = np.zeros(shape, int)
    for ring in rings:
        (left, top), (right, bottom) = ring[0].astype(int), ring[2].astype(int)
        np.testing.assert_array_equal(ring, [(left, top), (right, top), (right, bottom), (left, bottom)])
        out[top:bottom, left:right] += 1
    return out


def hollow():
    mask = np.zeros((7, 9), "u1")
    mask[2:6, 1:8], mask[3:5, 3:5], mask[0, 8] = 1, 0, 1
    return mask


def counts_of(mask):
    """Return the lengths of runs of 0 and 1 in turns, column by column."""
    flat = mask.T.ravel().tolist()
    counts, value = [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def text_of(counts):
    """Return counts in the text form of COCO: by digits of base 32, signed, of differences."""
    out = ""
    for at, count in enumerate(counts):
        value = count - counts[at - 2] if at > 2 else count
        while True:
            digit, value = value % 32, value // 32
            more = not (value in (0, -1) and (digit >= 16) == (value == -1))
            out += chr(48 + digit + 32 * more)
            if not more:
                break
    return out


def test_text_written_by_pycocotools():
    encoded = {"size": [7, 9], "counts": "94300MO010O0130000NM5"}
    assert text_of(counts_of(hollow())) == encoded["counts"]
    np.testing.assert_array_equal(pixels_of(decode_runs(encoded), (7, 9)), hollow())


@pytest.mark.parametrize("compressed", [False, True])
def test_random_masks(compressed):
    rng = np.random.default_rng(7)
    for _ in range(40):
        shape = tuple(rng.integers(1, 16, 2).tolist())
        mask = (rng.random(shape) < rng.random() ** 2).astype("u1")
        mask = np.kron(mask, np.ones(rng.integers(1, 9, 2), "u1"))
        counts = counts_of(mask)
        encoded = {"size": list(mask.shape), "counts": text_of(counts) if compressed else counts}
        np.testing.assert_array_equal(pixels_of(decode_runs(encoded, mask.shape), mask.shape), mask)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), "u1"), np.ones((3, 4), "u1"), np.ones((1, 1), "u1")])
def test_empty_and_full_masks(mask):
    counts = counts_of(mask)
    np.testing.assert_array_equal(pixels_of(decode_runs({"size": mask.shape, "counts": counts}), mask.shape), mask)


@pytest.mark.parametrize(
    ("encoded", "match"),
    [
        ({"size": [2, 4], "counts": [3, 4]}, "sum to 7, not 2x4"),
        ({"size": [2, 4], "counts": [3, 6]}, "sum to 9, not 2x4"),
        ({"size": [2, 4], "counts": [9, -1]}, "sum to 8, not 2x4"),
        ({"size": [2, 4], "counts": []}, "sum to 0, not 2x4"),
        ({"size": [2, 4], "counts": "3\x7f"}, "is not a character"),
        ({"size": [2, 4], "counts": "3P"}, "ends within a count"),
        ({"size": [4, 2], "counts": [8]}, "has 4x2 pixels, its image 2x4"),
    ],
)
def test_invalid_counts_raise(encoded, match):
    with pytest.raises(ValueError, match=match):
        decode_runs(encoded, (2, 4))


def write(root, segmentation, **image):
    Image.fromarray(np.zeros((7, 9, 3), "u1")).save(root / "a.png")
    annotation = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 0, 8, 6], "segmentation": segmentation}
    content = {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": [annotation],
        "categories": [{"id": 1, "name": "ship"}],
    }
    (root / "boxes.json").write_text(json.dumps(content))
    assets = {"image": Raster("{id}.png", bands=RGB, shape=(7, 9)), "boxes": Boxes("boxes.json", image="{id}.png")}
    return Spec(name="s", title="S", task="detection", source="-", classes=classes("ship", first=1), assets=assets)


@pytest.mark.parametrize("counts", ["94300MO010O0130000NM5", counts_of(hollow())])
def test_masks_of_batches_equal_the_encoded_mask(tmp_path, counts):
    pytest.importorskip("torch")
    from geoxt.bridge import to_torch

    spec = write(tmp_path, {"size": [7, 9], "counts": counts}, height=7, width=9)
    sample = to_torch(load(spec, tmp_path))[0]
    np.testing.assert_array_equal(sample["masks"].numpy(), [hollow()])
    np.testing.assert_array_equal(sample["boxes"].numpy(), [[1, 0, 9, 6]])


@pytest.mark.parametrize(
    ("segmentation", "image", "match"),
    [
        ({"size": [7, 9], "counts": [60]}, {}, "annotation 5: the counts .* sum to 60, not 7x9"),
        ({"size": [9, 7], "counts": [63]}, {"height": 7, "width": 9}, "annotation 5: .* has 9x7 pixels, its image 7x9"),
        ({"counts": [63]}, {}, "annotation 5: 'size'"),
        ([[1, 2, 3]], {}, "annotation 5: cannot reshape"),
    ],
)
def test_error_names_file_and_annotation(tmp_path, segmentation, image, match):
    spec = write(tmp_path, segmentation, **image)
    with pytest.raises(ReadError, match=rf"boxes\.json.*{match}"):
        load(spec, tmp_path).read(0)
