"""MixUp, CutMix and SlideMix against numpy, with mixed labels and geometry set to NaN."""

import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import CutMix, MixUp, SlideMix, cutmix, mixup, roll


@pytest.fixture
def windows(make):
    batch = make(count=4, steps=2)
    for name in ("boxes", "labels", "masks"):
        del batch[name]
    return batch


@pytest.fixture
def images(windows):
    return {name: value for name, value in windows.items() if not name.startswith("mask")}


def test_mixup_equals_weighted_mean(images):
    partners, shares = torch.tensor([1, 0, 3, 3]), torch.tensor([0.25, 0.5, 1.0, 0.75])
    mixed = mixup(images, partners, shares, image="image", label="label", num_classes=4)
    pixels, weights = images["image"].numpy(), shares.numpy()[:, None, None, None, None]
    expected = weights * pixels + (1 - weights) * pixels[partners.numpy()]
    np.testing.assert_allclose(mixed["image"].numpy(), expected, rtol=1e-12)
    assert mixed["label"].tolist() == [[0.25, 0.75, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    both = images["image_valid"] & images["image_valid"][partners]
    assert torch.equal(mixed["image_valid"][[0, 1, 3]], both[[0, 1, 3]])
    assert torch.equal(mixed["image_valid"][2], images["image_valid"][2])
    assert mixed["transform"].isnan().all(1).tolist() == [True, True, False, True]
    assert torch.equal(mixed["image"][2], images["image"][2])


def test_floating_point_labels_are_averaged(images):
    images["label"] = torch.tensor([0.0, 10.0, 20.0, 30.0])
    mixed = mixup(
        images, torch.tensor([1, 0, 3, 2]), torch.full((4,), 0.5), image="image", label="label", num_classes=None
    )
    assert mixed["label"].tolist() == [5, 5, 25, 25]


def test_mixup_of_class_codes_raises(windows, images):
    with pytest.raises(InputError, match=r"average class codes: the batch has the layers \['mask'\]"):
        MixUp()(windows)
    with pytest.raises(InputError, match="Cannot mix labels from 0 to 3 with num_classes=3"):
        MixUp(num_classes=3)(images)


def test_cutmix_replaces_the_same_rectangle_in_every_layer(windows):
    frames = torch.tensor([[0, 0, 3, 6], [1, 2, 4, 4], [2, 2, 2, 5], [0, 0, 6, 6]])
    partners = torch.tensor([1, 2, 3, 0])
    mixed = cutmix(windows, partners, frames, label="label", num_classes=4)
    for name in ("image", "image_valid", "mask", "mask_valid"):
        expected = windows[name].numpy().copy()
        for at, (top, left, bottom, right) in enumerate(frames.tolist()):
            pasted = windows[name][partners[at]].numpy()
            expected[at, ..., top:bottom, left:right] = pasted[..., top:bottom, left:right]
        assert np.array_equal(mixed[name].numpy(), expected), name
    assert mixed["transform"].isnan().all(1).tolist() == [True, True, False, True]
    assert torch.equal(mixed["bounds"][2], windows["bounds"][2])
    expected = [[0.5, 0.5, 0, 0], [0, 5 / 6, 1 / 6, 0], [0, 0, 1, 0], [1, 0, 0, 0]]
    torch.testing.assert_close(mixed["label"], torch.tensor(expected))


def test_roll_equals_numpy(windows):
    shifts = torch.tensor([[2, 0], [0, -1], [0, 0], [6, 0]])
    rolled = roll(windows, shifts)
    for name in ("image", "image_valid", "mask", "mask_valid"):
        for at, shift in enumerate(shifts.tolist()):
            assert np.array_equal(rolled[name][at].numpy(), np.roll(windows[name][at].numpy(), shift, (-2, -1)))
    assert rolled["transform"].isnan().all(1).tolist() == [True, True, False, False]
    assert torch.equal(rolled["label"], windows["label"])


def test_cutmix_weights_match_the_labels(make):
    batch = {"image": torch.arange(300.0).reshape(300, 1, 1, 1).expand(300, 1, 20, 20), "label": torch.arange(300)}
    mixed = CutMix(0.8, num_classes=300, seed=0)(batch)
    unchanged_fraction = (mixed["image"] == batch["image"]).flatten(1).float().mean(1)
    torch.testing.assert_close(mixed["label"].diagonal(), unchanged_fraction)
    assert (unchanged_fraction == 1).float().mean() == pytest.approx(0.2, abs=0.12)
    assert unchanged_fraction.min() < 0.2
    assert unchanged_fraction[unchanged_fraction < 1].std() > 0.15


def test_mixup_is_seeded(images):
    first, second = (MixUp(num_classes=4, seed=3)(images) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["image"], images["image"])
    torch.testing.assert_close(first["label"].sum(1), torch.ones(4))
    none = MixUp(0.0, num_classes=4)(images)
    assert torch.equal(none["image"], images["image"])
    assert torch.equal(none["transform"], images["transform"])


def test_slidemix_rolls_one_axis_in_both_directions():
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(300, 1, 8, 8)
    rolled = SlideMix(0.5, seed=0)({"image": image})["image"][:, 0, 0, 0].long()
    rows, cols = rolled // 8, rolled % 8
    assert ((rows == 0) | (cols == 0)).all()
    assert (rows > 0).float().mean() == pytest.approx(0.22, abs=0.07)
    assert set(rows.tolist()) == set(cols.tolist()) == set(range(8))


def test_mixing_boxes_raises(batch):
    for transform in (CutMix(), SlideMix()):
        with pytest.raises(InputError, match="Cannot mix samples with boxes"):
            transform(batch)
    with pytest.raises(InputError, match="alpha=0"):
        MixUp(alpha=0)
