"""Targets: known where labels and image are valid, on both dates of a change, on any date of a time series."""

import pytest
import torch

from geoxt.errors import InputError, LabelWarning
from geoxt.metrics.label_codes import IGNORE, Codes
from geoxt.models import Card
from geoxt.trainers import Recipe, SampleDataModule, Task, fit
from geoxt.trainers.tasks.registry import SUPERVISION
from geoxt.trainers.tasks.targets import change_classes, mask_nonfinite, pixel_classes

MODELS = {"change": "test_fc_siam_diff", "time-series": "test_utae", "segmentation": "test_unet"}


def series(times=2, size=16):
    """Return two samples of classes 3 and 4 that hold every combination of valid dates and labels."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, times, 2, size, size, generator=generator)
    mask = (image[:, 0, 0] > 0.5).long() + 3
    valid = torch.rand(2, times, size, size, generator=generator) > 0.4
    known = torch.rand(2, size, size, generator=generator) > 0.2
    return {"image": image, "image_valid": valid, "mask": mask, "mask_valid": known}


def expected(batch, how):
    """Return the known pixels, by a loop over pixels."""
    valid, label = batch["image_valid"], batch["mask_valid"]
    known = torch.zeros_like(label)
    for sample, row, col in [tuple(position) for position in torch.ones_like(label).nonzero().tolist()]:
        dates = [bool(step[row, col]) for step in valid[sample]]
        known[sample, row, col] = how(dates) and bool(label[sample, row, col])
    return known


@pytest.mark.parametrize(("kind", "how"), [("change", all), ("time-series", any)])
def test_known_pixels_equal_loop_over_dates(kind, how):
    batch = series()
    target = SUPERVISION[kind].target(batch, "image", "mask", Codes((3, 4)))
    known = expected(batch, how)
    assert 0 < known.sum() < known.numel()
    assert torch.equal(target != IGNORE, known)
    assert torch.equal(target[known] + 3, batch["mask"][known])


@pytest.mark.parametrize(("kind", "how"), [("change", all), ("time-series", any)])
def test_unknown_pixels_do_not_change_loss_or_scores(kind, how):
    batch = series()
    data = SampleDataModule([{name: value[at] for name, value in batch.items()} for at in range(2)], batch_size=2)
    task = Task(data.card(model=MODELS[kind], task=kind), Recipe(ema_decay=None)).eval()
    task.log = lambda *_, **__: None  # there is no trainer
    known = expected(batch, how)
    other = {**batch, "mask": batch["mask"].where(known, 7 - batch["mask"])}  # the other class, where it is not known
    with torch.no_grad():
        assert torch.equal(task._loss(batch, "train")[0], task._loss(other, "train")[0])
        task._score(other, "val")
    assert task.val.compute().sum() == known.sum()


def test_unknown_code_is_ignored_without_valid_masks():
    batch = series()
    plain = {"image": batch["image"], "mask": batch["mask"]}
    for find in (change_classes, pixel_classes):
        assert (find(plain, "image", "mask", Codes((3, 4))) != IGNORE).all()
        with pytest.warns(LabelWarning, match="hold 4, "):
            indices = find(plain, "image", "mask", Codes((3,)))
        assert torch.equal(indices == IGNORE, batch["mask"] == 4)


def test_labels_of_several_times_raise():
    batch = series() | {"mask": torch.zeros(2, 2, 16, 16)}
    with pytest.raises(InputError, match=r"'mask' of shape \(2, 2, 16, 16\): a sample needs one class per pixel"):
        pixel_classes(batch, "image", "mask", Codes((0,)))
    one_date = {
        "image": batch["image"],
        "mask": torch.full((2, 1, 16, 16), 3),
        "mask_valid": torch.ones(2, 1, 16, 16) > 0,
    }
    assert pixel_classes(one_date, "image", "mask", Codes((3,))).shape == (2, 16, 16)


def test_nonfinite_pixels_do_not_contribute():
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(4, 2, 16, 16, generator=generator) * 50
    mask, valid = (image[:, 0] > 25).long(), torch.rand(4, 16, 16, generator=generator) > 0.2
    holes = torch.rand(4, 16, 16, generator=generator) > 0.8
    broken = image.clone()
    broken[:, 1][holes] = torch.nan
    broken[0, 0, 0, 0] = torch.inf
    known = valid & broken.isfinite().all(1)
    samples = [{"image": broken[at], "image_valid": valid[at], "mask": mask[at]} for at in range(4)]
    data = SampleDataModule(samples, batch_size=4)
    card = data.card(model="test_unet", task="segmentation")
    for band in range(2):
        good = valid & broken[:, band].isfinite()
        assert card.mean[band] == pytest.approx(image[:, band][good].double().mean().item())
        assert card.std[band] == pytest.approx(image[:, band][good].double().std(correction=0).item())
    task = Task(card, Recipe(ema_decay=None)).eval()
    task.log = lambda *_, **__: None  # there is no trainer
    with torch.no_grad():
        batch = {"image": broken, "image_valid": valid, "mask": mask}
        loss, _, target = task._loss(mask_nonfinite(batch, "image"), "train")
        task._score(batch, "val")
        plain = task._loss({"image": image, "image_valid": known, "mask": mask}, "train")[0]
    assert torch.equal(target != IGNORE, known)
    assert torch.equal(loss, plain)
    assert task.val.compute().sum() == known.sum()
    label = torch.tensor(1.0)
    samples = [{"image": torch.stack([pixel, pixel * torch.nan]), "label": label} for pixel in image[:2, 0]]
    data = SampleDataModule(samples)
    with pytest.raises(InputError, match="band 2: it has no valid pixel in 2 training samples"):
        data.card(model="test_classifier", task="regression", legend=None)


def test_images_of_several_sizes_raise():
    samples = [{"image": torch.rand(1, size, size), "label": at % 2} for at, size in enumerate((8, 9, 8, 9))]
    data = SampleDataModule(samples, batch_size=4)
    task = Task(data.card(model="test_classifier", task="classification"))
    with pytest.raises(InputError, match="Cannot stack 'image' into one batch: samples have the shapes"):
        fit(task, data, epochs=1, progress="none")


def test_batch_norm_of_one_value_per_channel_raises():
    data = SampleDataModule([{"image": torch.rand(1, 32, 32), "label": at} for at in range(2)], batch_size=1)
    task = Task(data.card(model="test_classifier", task="classification"))
    with pytest.raises(InputError, match=r"one image of \(32, 32\) pixels: 'test_classifier' .* Pass batch_size=2"):
        fit(task, data, epochs=1, progress="none")


def test_fractions_are_no_class_codes():
    mask = torch.tensor([[[1.0, 5.0], [torch.nan, 3.0]]])
    batch = {"image": torch.zeros(1, 1, 2, 2), "mask": mask}
    assert pixel_classes(batch, "image", "mask", Codes([1, 3, 5])).tolist() == [[[0, 2], [IGNORE, 1]]]
    batch["mask_valid"] = torch.tensor([[[True, True], [True, False]]])
    batch["mask"] = mask + torch.tensor([[[0, 0], [0, 0.5]]])  # a fraction at an invalid pixel
    assert pixel_classes(batch, "image", "mask", Codes([1, 3, 5])).tolist() == [[[0, 2], [IGNORE, IGNORE]]]
    batch["mask"] = mask + 0.25
    with pytest.raises(InputError, match=r"1\.25 is not a whole number"):
        pixel_classes(batch, "image", "mask", Codes([1, 3, 5]))


def test_evaluation_loss_is_the_mean_over_labeled_pixels():
    options = {"mean": (0,), "std": (1,), "codes": (1, 2), "names": ("a", "b"), "colors": ("#000000", "#ffffff")}
    card = Card(task="segmentation", model="test_unet", bands=("a",), size=(32, 32), **options)
    task = Task(card, Recipe(loss="cross_entropy"))
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(3, 1, 32, 32, generator=generator), torch.randint(1, 3, (3, 32, 32), generator=generator)
    valid = torch.zeros(3, 32, 32, dtype=torch.bool)
    valid[0], valid[1, :3] = True, True  # 1024, 96 and no labeled pixels
    task.eval()
    batches = [{"image": image[[i]], "mask": mask[[i]], "mask_valid": valid[[i]]} for i in range(3)]
    with torch.no_grad():
        for batch in batches:
            task.validation_step(batch, 0)
        logits = task(image)
    expected = torch.nn.functional.cross_entropy(logits, torch.where(valid, mask - 1, IGNORE))
    mean, labels = task.losses["val"].compute()
    assert int(labels) == 1024 + 96
    assert torch.isclose(mean, expected, rtol=1e-4)
