"""Kornia augmentations: a ramp of pixel coordinates is the oracle for every layer and for the geometry."""

import math
import pickle

import kornia.augmentation as K
import numpy as np
import pytest
import torch

from geoxt.errors import InputError
from geoxt.transforms import Augment, RandomFlipRotate

RIGID = {
    "rotation": K.RandomRotation(40.0, p=1.0),
    "affine": K.RandomAffine(20.0, (0.1, 0.1), (0.8, 1.3), 5.0, p=1.0),
    "crop": K.RandomResizedCrop((16, 24), (0.3, 0.8), p=1.0),
    "flip": K.RandomHorizontalFlip(p=1.0),
    "larger": K.Resize((30, 30)),
}


@pytest.fixture
def batch(make):
    """Return a batch of valid pixels, large enough for pixels from beyond the edge."""
    samples = make(count=4, height=20, width=20)
    return {**samples, **{f"{name}_valid": torch.ones_like(samples[f"{name}_valid"]) for name in ("image", "mask")}}


def inside(augmented, name):
    """Return the mask of pixels at least one pixel from the edges of the source and of the window."""
    known = torch.nn.functional.pad(augmented[f"{name}_valid"].float(), (1, 1, 1, 1))
    return -torch.nn.functional.max_pool2d(-known, 3, 1) > 0


@pytest.mark.parametrize("name", RIGID)
def test_affine_transform_follows_the_pixels(batch, centres, name):
    augmented = Augment(RIGID[name], seed=4)(batch)
    height, width = augmented["image"].shape[-2:]
    known = inside(augmented, "image")[:, None].expand_as(augmented["image"]).numpy()
    x_y = centres(augmented["transform"], height, width)
    np.testing.assert_allclose(augmented["image"].numpy()[known], x_y[known], rtol=0, atol=2e-3)
    assert known.mean() > 0.4
    left, bottom, right, top = (augmented["bounds"][:, side, None, None].numpy() for side in range(4))
    assert ((left < x_y[:, 0]) & (x_y[:, 0] < right) & (bottom < x_y[:, 1]) & (x_y[:, 1] < top)).all()


@pytest.mark.parametrize("name", RIGID)
def test_class_codes_are_resampled_by_nearest_neighbour(batch, name):
    augmented = Augment(RIGID[name], ignore=-1, seed=4)(batch)
    a, b, c, d, e, f = (batch["transform"][:, coefficient, None, None] for coefficient in range(6))
    x, y = augmented["image"].unbind(1)
    det = a * e - b * d
    col, row = (e * (x - c) - b * (y - f)) / det, (a * (y - f) - d * (x - c)) / det
    known = inside(augmented, "image")
    sharp = known & ((col % 1 - 0.5).abs() < 0.499) & ((row % 1 - 0.5).abs() < 0.499)
    expected = torch.arange(4)[:, None, None] * 400 + row.floor().long() * 20 + col.floor().long()
    assert torch.equal(augmented["mask"][sharp], expected[sharp])
    assert sharp.float().mean() > 0.4
    assert (augmented["mask"][~augmented["mask_valid"]] == -1).all()


def test_pixels_from_outside_are_invalid(batch):
    augmented = Augment(K.RandomRotation((45.0, 45.0), p=1.0), seed=0)(batch)
    assert not augmented["mask_valid"][:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert not augmented["image_valid"][:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert augmented["image_valid"].float().mean() == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.05)  # an octagon
    assert (augmented["image"].where(~augmented["image_valid"][:, None], 0) == 0).all()


def test_invalid_pixels_do_not_affect_valid_ones(batch):
    holes = torch.rand(4, 20, 20) > 0.2
    spoilt = {**batch, "image": batch["image"].where(holes[:, None], torch.nan), "image_valid": holes}
    augmented = Augment(K.RandomAffine(15.0, p=1.0), seed=1)(spoilt)
    clean = Augment(K.RandomAffine(15.0, p=1.0), seed=1)(batch)
    good = augmented["image_valid"]
    assert augmented["image"].isfinite().all()
    assert 0.5 < good.float().mean() < 0.95
    assert (augmented["image"] - clean["image"]).abs().where(good[:, None], 0).max() < 30  # a pixel: what is left leans


def test_time_steps_are_transformed_alike(make):
    batch = make(count=2, height=12, width=12, steps=3)
    del batch["boxes"], batch["masks"]
    augmented = Augment(K.RandomRotation(90.0, p=1.0), seed=3)(batch)
    for step in (1, 2):
        change = (augmented["image"][:, step] - augmented["image"][:, 0]).where(
            augmented["image_valid"][:, :1], 1e5 * step
        )
        torch.testing.assert_close(change, torch.full_like(change, 1e5 * step))


def test_boxes_enclose_the_same_pixels(batch, boxes_around):
    augmented = Augment(K.RandomAffine(0.0, (0.1, 0.1), (0.8, 0.8), p=1.0), seed=2)(batch)
    assert [len(entry) for entry in augmented["boxes"]] == [len(entry) for entry in augmented["labels"]]
    assert sum(map(len, augmented["boxes"])) > 3
    for boxes, masks in zip(augmented["boxes"], augmented["masks"], strict=True):
        assert np.abs(boxes.numpy() - boxes_around(masks)).max() <= 0.5


def test_several_steps_resample_once():
    """Two half turns of pixels lead back, however far they moved between: nothing was lost to sampling twice."""
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    there, back = K.RandomRotation((37.0, 37.0), p=1.0), K.RandomRotation((-37.0, -37.0), p=1.0)
    augmented = Augment(there, back)({"image": image})
    torch.testing.assert_close(augmented["image"], image, atol=1e-5, rtol=0)
    assert augmented["image_valid"].all()


def test_unmoved_sample_is_bit_equal(batch):
    batch["image"] = batch["image"].float()
    augmented = Augment(K.RandomRotation((20.0, 40.0), p=0.5), seed=1)(batch)
    still = (augmented["transform"] == batch["transform"]).all(1)
    assert 0 < still.sum() < 4
    for name in ("image", "mask", "bounds"):
        assert torch.equal(augmented[name][still], batch[name][still])
        assert not torch.equal(augmented[name][~still], batch[name][~still])


@pytest.mark.parametrize("step", [K.RandomPerspective(0.4, p=1.0), K.RandomElasticTransform(p=1.0, alpha=(3.0, 3.0))])
def test_geometry_is_nan_after_non_affine_warp(batch, step):
    for name in ("boxes", "masks", "labels"):
        del batch[name]
    augmented = Augment(step, seed=0)(batch)
    assert augmented["transform"].isnan().all()
    assert augmented["bounds"].isnan().all()
    assert batch["transform"].isfinite().all()
    known = inside(augmented, "mask")
    number = augmented["mask"] % 400
    near = 1000 + 500 * torch.arange(4)[:, None, None] + 30 * (number % 20 + 0.5)
    assert (augmented["image"][:, 0] - near).abs()[known].max() <= 15.01  # half a pixel: image and codes moved alike


def test_non_rigid_warp_of_boxes_raises(batch):
    with pytest.raises(InputError, match="Cannot warp boxes with a non-rigid"):
        Augment(K.RandomElasticTransform(p=1.0))(batch)


def test_intensity_changes_only_valid_image_pixels(make):
    batch = make(steps=2)
    augmented = Augment(K.RandomGaussianNoise(std=1.0, p=1.0), seed=0)(batch)
    changed = (augmented["image"] != batch["image"]).all(2)
    assert torch.equal(changed, batch["image_valid"])
    assert all(torch.equal(augmented[name], batch[name]) for name in ("mask", "image_valid", "transform"))


def test_seed_repeats_and_keeps_the_global_generator(batch):
    def run(seed):
        transform = Augment(K.RandomAffine(30.0, p=0.7), K.RandomGaussianNoise(p=0.5), seed=seed)
        return [transform(batch)["image"] for _ in range(2)]

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = run(11), run(11)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], run(12)[0])


def test_augment_pickles(batch):
    transform = torch.nn.Sequential(RandomFlipRotate(seed=1), Augment(K.RandomAffine(10.0, p=1.0), seed=1))
    copy = pickle.loads(pickle.dumps(transform))
    assert torch.equal(transform(batch)["image"], copy(batch)["image"])


def test_invalid_augmentation_raises():
    for step in (K.RandomMixUpV2(p=1.0), K.AugmentationSequential(K.RandomHorizontalFlip()), torch.nn.ReLU()):
        with pytest.raises(InputError, match=f"Cannot augment with {type(step).__name__}"):
            Augment(step)


@pytest.mark.gpu
def test_gpu_equals_cpu(batch):
    on_gpu = {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
    for name in ("boxes", "masks", "labels"):
        on_gpu[name] = [entry.cuda() for entry in batch[name]]
    transform = torch.nn.Sequential(RandomFlipRotate(seed=1), Augment(K.RandomAffine(20.0, p=1.0), seed=1))
    expected, augmented = pickle.loads(pickle.dumps(transform))(batch), transform(on_gpu)
    assert augmented["image"].is_cuda
    torch.testing.assert_close(augmented["image"].cpu(), expected["image"])
    torch.testing.assert_close(augmented["transform"].cpu(), expected["transform"])
