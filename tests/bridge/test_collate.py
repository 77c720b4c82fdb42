"""Collated batches: stacked where shapes are equal, lists otherwise."""

import numpy as np
import torch

from geoxt.bridge import collate


def test_tensors_and_arrays_of_equal_shape_are_stacked():
    batch = collate([{"image": torch.full((2, 3), n), "mask": np.full((3,), n)} for n in range(4)])
    assert batch["image"].shape == (4, 2, 3)
    assert torch.equal(batch["mask"], torch.arange(4)[:, None].expand(4, 3))


def test_tensors_of_unequal_shape_are_a_list():
    batch = collate([{"audio": torch.zeros(1, 5)}, {"audio": torch.zeros(1, 6)}])
    assert [tuple(audio.shape) for audio in batch["audio"]] == [(1, 5), (1, 6)]


def test_objects_are_a_list_even_if_every_sample_has_as_many():
    batch = collate([{"boxes": np.zeros((2, 4)), "labels": [1, 2]}] * 2)
    assert [tuple(boxes.shape) for boxes in batch["boxes"]] == [(2, 4), (2, 4)]
    assert torch.equal(batch["labels"][1], torch.tensor([1, 2]))


def test_numbers_become_a_tensor_and_other_values_a_list():
    batch = collate(
        [{"label": n, "year": np.int16(n), "age": 0.5 + n, "crs": f"EPSG:{n}", "bounds": 1.5} for n in (0, 1)]
    )
    assert batch["label"].dtype == torch.int64
    assert batch["year"].tolist() == [0, 1]
    assert batch["age"].dtype == torch.float32
    assert batch["bounds"].dtype == torch.float64
    assert batch["crs"] == ["EPSG:0", "EPSG:1"]


def test_keys_that_a_sample_lacks_are_left_out():
    assert set(collate([{"image": torch.zeros(1), "boxes": torch.zeros(0, 4)}, {"image": torch.zeros(1)}])) == {"image"}
