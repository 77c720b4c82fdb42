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
    found = make(count=4, height=20, width=20)
    return {**found, **{f"{name}_valid": torch.ones_like(found[f"{name}_valid"]) for name in ("image", "mask")}}


def inside(found, name):
    """Return the mask of pixels at least one pixel from the edges of the source and of the window."""
    known = torch.nn.functional.pad(found[f"{name}_valid"].float(), (1, 1, 1, 1))
    return -torch.nn.functional.max_pool2d(-known, 3, 1) > 0


@pytest.mark.parametrize("name", RIGID)
def test_affine_transform_follows_the_pixels(batch, centres, name):
    found = Augment(RIGID[name], seed=4)(batch)
    height, width = found["image"].shape[-2:]
    known = inside(found, "image")[:, None].expand_as(found["image"]).numpy()
    x_y = centres(found["transform"], height, width)
    np.testing.assert_allclose(found["image"].numpy()[known], x_y[known], rtol=0, atol=2e-3)
    assert known.mean() > 0.4
    left, bottom, right, top = (found["bounds"][:, side, None, None].numpy() for side in range(4))
    assert ((left < x_y[:, 0]) & (x_y[:, 0] < right) & (bottom < x_y[:, 1]) & (x_y[:, 1] < top)).all()


@pytest.mark.parametrize("name", RIGID)
def test_class_codes_are_resampled_by_nearest_neighbour(batch, name):
    found = Augment(RIGID[name], ignore=-1, seed=4)(batch)
    a, b, c, d, e, f = (batch["transform"][:, place, None, None] for place in range(6))
    x, y = found["image"].unbind(1)
    det = a * e - b * d
    col, row = (e * (x - c) - b * (y - f)) / det, (a * (y - f) - d * (x - c)) / det
    known = inside(found, "image")
    sharp = known & ((col % 1 - 0.5).abs() < 0.499) & ((row % 1 - 0.5).abs() < 0.499)
    expected = torch.arange(4)[:, None, None] * 400 + row.floor().long() * 20 + col.floor().long()
    assert torch.equal(found["mask"][sharp], expected[sharp])
    assert sharp.float().mean() > 0.4
    assert (found["mask"][~found["mask_valid"]] == -1).all()


def test_pixels_from_outside_are_invalid(batch):
    found = Augment(K.RandomRotation((45.0, 45.0), p=1.0), seed=0)(batch)
    assert not found["mask_valid"][:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert not found["image_valid"][:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert found["image_valid"].float().mean() == pytest.approx(2 * (math.sqrt(2) - 1), abs=0.05)  # an octagon
    assert (found["image"].where(~found["image_valid"][:, None], 0) == 0).all()


def test_invalid_pixels_do_not_affect_valid_ones(batch):
    holes = torch.rand(4, 20, 20) > 0.2
    spoilt = {**batch, "image": batch["image"].where(holes[:, None], torch.nan), "image_valid": holes}
    found = Augment(K.RandomAffine(15.0, p=1.0), seed=1)(spoilt)
    clean = Augment(K.RandomAffine(15.0, p=1.0), seed=1)(batch)
    good = found["image_valid"]
    assert found["image"].isfinite().all()
    assert 0.5 < good.float().mean() < 0.95
    assert (found["image"] - clean["image"]).abs().where(good[:, None], 0).max() < 30  # a pixel: what is left leans


def test_time_steps_are_transformed_alike(make):
    batch = make(count=2, height=12, width=12, steps=3)
    del batch["boxes"], batch["masks"]
    found = Augment(K.RandomRotation(90.0, p=1.0), seed=3)(batch)
    for step in (1, 2):
        change = (found["image"][:, step] - found["image"][:, 0]).where(found["image_valid"][:, :1], 1e5 * step)
        torch.testing.assert_close(change, torch.full_like(change, 1e5 * step))


def test_boxes_enclose_the_same_pixels(batch, boxes_around):
    found = Augment(K.RandomAffine(0.0, (0.1, 0.1), (0.8, 0.8), p=1.0), seed=2)(batch)
    assert [len(one) for one in found["boxes"]] == [len(one) for one in found["labels"]]
    assert sum(map(len, found["boxes"])) > 3
    for boxes, masks in zip(found["boxes"], found["masks"], strict=True):
        assert np.abs(boxes.numpy() - boxes_around(masks)).max() <= 0.5


def test_several_steps_resample_once():
    """Two half turns of pixels lead back, however far they moved between: nothing was lost to sampling twice."""
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    there, back = K.RandomRotation((37.0, 37.0), p=1.0), K.RandomRotation((-37.0, -37.0), p=1.0)
    found = Augment(there, back)({"image": image})
    torch.testing.assert_close(found["image"], image, atol=1e-5, rtol=0)
    assert found["image_valid"].all()


def test_unmoved_sample_is_bit_equal(batch):
    batch["image"] = batch["image"].float()
    found = Augment(K.RandomRotation((20.0, 40.0), p=0.5), seed=1)(batch)
    still = (found["transform"] == batch["transform"]).all(1)
    assert 0 < still.sum() < 4
    for name in ("image", "mask", "bounds"):
        assert torch.equal(found[name][still], batch[name][still])
        assert not torch.equal(found[name][~still], batch[name][~still])


@pytest.mark.parametrize("step", [K.RandomPerspective(0.4, p=1.0), K.RandomElasticTransform(p=1.0, alpha=(3.0, 3.0))])
def test_geometry_is_nan_after_non_affine_warp(batch, step):
    for name in ("boxes", "masks", "labels"):
        del batch[name]
    found = Augment(step, seed=0)(batch)
    assert found["transform"].isnan().all()
    assert found["bounds"].isnan().all()
    assert batch["transform"].isfinite().all()
    known = inside(found, "mask")
    number = found["mask"] % 400
    near = 1000 + 500 * torch.arange(4)[:, None, None] + 30 * (number % 20 + 0.5)
    assert (found["image"][:, 0] - near).abs()[known].max() <= 15.01  # half a pixel: image and codes moved alike


def test_non_rigid_warp_of_boxes_raises(batch):
    with pytest.raises(InputError, match="Cannot warp boxes with a non-rigid"):
        Augment(K.RandomElasticTransform(p=1.0))(batch)


def test_intensity_changes_only_valid_image_pixels(make):
    batch = make(steps=2)
    found = Augment(K.RandomGaussianNoise(std=1.0, p=1.0), seed=0)(batch)
    changed = (found["image"] != batch["image"]).all(2)
    assert torch.equal(changed, batch["image_valid"])
    assert all(torch.equal(found[name], batch[name]) for name in ("mask", "image_valid", "transform"))


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
        on_gpu[name] = [one.cuda() for one in batch[name]]
    transform = torch.nn.Sequential(RandomFlipRotate(seed=1), Augment(K.RandomAffine(20.0, p=1.0), seed=1))
    expected, found = pickle.loads(pickle.dumps(transform))(batch), transform(on_gpu)
    assert found["image"].is_cuda
    torch.testing.assert_close(found["image"].cpu(), expected["image"])
    torch.testing.assert_close(found["transform"].cpu(), expected["transform"])
