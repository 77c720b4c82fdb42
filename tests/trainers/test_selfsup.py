"""Self-supervised training: losses equal NumPy formulas, every method trains, encoders load into new models."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.models import create, from_checkpoint, load
from geoxt.samplers import RandomSampler, Times, TripletSampler
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, fit
from geoxt.trainers.selfsup import (
    METHODS,
    SelfSupervised,
    UnlabeledDataModule,
    Views,
    encoder_weights,
)
from geoxt.trainers.selfsup.contrastive_losses import byol_loss, info_nce_loss, nt_xent_loss, triplet_loss
from geoxt.trainers.selfsup.masking import masked_mse, patchify, random_masking
from geoxt.trainers.selfsup.methods import update_ema

SMALL_OPTIONS = {
    "byol": {"hidden": 16, "out": 8, "decay": 0.9},
    "simclr": {"hidden": 16, "out": 8},
    "moco": {"hidden": 16, "out": 8, "queue": 24},
    "tile2vec": {"margin": 1.0},
    "mae": {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
}


def embeddings(count, width=5, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def l2_normalized(array):
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_byol_loss_equals_squared_distance_of_normalized_embeddings():
    first, second = embeddings(7), embeddings(7, seed=1)
    expected = ((l2_normalized(first.numpy()) - l2_normalized(second.numpy())) ** 2).sum(axis=1).mean()
    assert byol_loss(first, second).item() == pytest.approx(expected)


def test_nt_xent_loss_equals_explicit_sum():
    first, second = embeddings(6), embeddings(6, seed=1)
    views = l2_normalized(np.concatenate([first, second]))
    terms = []
    for i in range(12):
        others = [np.exp(views[i] @ views[k] / 0.3) for k in range(12) if k != i]
        terms.append(-np.log(np.exp(views[i] @ views[(i + 6) % 12] / 0.3) / sum(others)))
    assert nt_xent_loss(first, second, 0.3).item() == pytest.approx(np.mean(terms))


def test_info_nce_loss_equals_explicit_softmax():
    query, key, negatives = embeddings(4), embeddings(4, seed=1), F.normalize(embeddings(9, seed=2), dim=1)
    q, k, n = l2_normalized(query.numpy()), l2_normalized(key.numpy()), negatives.numpy()
    positive = np.exp((q * k).sum(axis=1) / 0.2)
    expected = -np.log(positive / (positive + np.exp(q @ n.T / 0.2).sum(axis=1))).mean()
    assert info_nce_loss(query, key, negatives, 0.2).item() == pytest.approx(expected)


def test_triplet_loss_equals_numpy():
    a, n, d = (embeddings(8, seed=seed) for seed in range(3))
    near, far = np.linalg.norm(a - n, axis=1), np.linalg.norm(a - d, axis=1)
    norms = sum(np.linalg.norm(x, axis=1).mean() for x in (a, n, d))
    expected = np.maximum(near - far + 0.5, 0).mean() + 0.01 * norms
    assert 0 < (near - far + 0.5 > 0).sum() < 8
    assert triplet_loss(a, n, d, margin=0.5, penalty=0.01).item() == pytest.approx(expected)


@pytest.mark.parametrize("normalize_targets", [True, False])
def test_masked_mse_uses_masked_patches_only(normalize_targets):
    predictions, patches = embeddings(12).reshape(3, 4, 5), embeddings(12, seed=1).reshape(3, 4, 5)
    masked = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]).bool()
    truth = patches.numpy()
    if normalize_targets:
        truth = (truth - truth.mean(-1, keepdims=True)) / np.sqrt(truth.var(-1, keepdims=True, ddof=1) + 1e-6)
    expected = ((predictions.numpy() - truth) ** 2).mean(-1)[masked.numpy()].mean()
    assert masked_mse(predictions, patches, masked, normalize_targets=normalize_targets).item() == pytest.approx(
        expected
    )


def test_patchify_is_row_major_and_masking_is_random():
    image = torch.arange(2 * 3 * 8 * 12).reshape(2, 3, 8, 12)
    patches = patchify(image, (4, 4))
    assert patches.shape == (2, 6, 48)
    assert torch.equal(patches[1, 4], image[1, :, 4:8, 4:8].flatten())
    visible, restore, masked = random_masking(3, 16, 0.75, torch.device("cpu"))
    assert visible.shape == (3, 4)
    assert (masked.sum(dim=1) == 12).all()
    for i, indices in enumerate(visible):
        assert not masked[i, indices].any()
        assert torch.equal(restore[i, indices], torch.arange(4))


def test_update_ema_interpolates_by_decay():
    model = torch.nn.Linear(3, 2)
    target = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.add_(1)
    before = target.weight.clone()
    update_ema(target, model, 0.75)
    torch.testing.assert_close(target.weight, 0.75 * before + 0.25 * model.weight)


def test_views_are_random_keep_shape_and_can_be_disabled():
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    first, second = Views()(images), Views()(images)
    assert first.shape == images.shape
    assert not torch.equal(first, second)
    unchanged = Views(crop=1, flip_rotate=False, brightness=0, contrast=0, band_dropout=0, noise=0)(images)
    torch.testing.assert_close(unchanged, images)
    constant = Views(brightness=0, contrast=0, band_dropout=0, noise=0)(torch.full((2, 1, 8, 8), 3.0))
    torch.testing.assert_close(constant, torch.full((2, 1, 8, 8), 3.0))


@pytest.fixture(scope="module")
def scene():
    """Layer of two smooth bands at three times."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(500, 100, (1, 2, 8, 8)) + rng.normal(0, 30, (3, 2, 8, 8))
    pixels = np.kron(coarse, np.ones((16, 16))).astype("float32") + rng.normal(0, 5, (3, 2, 128, 128)).astype("float32")
    coords = coordinates(make_grid((128, 128)))
    times = np.array(["2021-01-01", "2021-07-01", "2021-10-01"], "datetime64[ns]")
    dims = ("time", "band", "y", "x")
    return xr.DataArray(pixels, dims=dims, coords={"time": times, "band": ["nir", "red"], **coords}, name="image")


def data_module(scene, positives):
    if positives == "times":
        times = Times(groups=((0, 1, 2),), take=2)
        return UnlabeledDataModule(scene, RandomSampler(scene, size=32, length=24, times=times), batch_size=6)
    single = scene.isel(time=0)
    if positives == "neighbours":
        sampler = TripletSampler(single, size=32, length=8, radius=12, distance=40)
        return UnlabeledDataModule(single, sampler, sampler, batch_size=12)
    return UnlabeledDataModule(single, RandomSampler(single, size=32, length=24), batch_size=6)


def module_and_data(scene, method, positives, **options):
    data = data_module(scene, positives)
    card = data.card(model="test_vit", img_size=32) if method == "mae" else data.card(model="test_classifier")
    task = SelfSupervised(
        card,
        method,
        positives=positives,
        recipe=Recipe(lr=2e-3, ema_decay=None, **options),
        options=SMALL_OPTIONS[method],
    )
    return task, data


PAIRS = [
    ("byol", "same"),
    ("byol", "times"),
    ("simclr", "neighbours"),
    ("moco", "times"),
    ("mae", "same"),
    ("tile2vec", "neighbours"),
]


@pytest.mark.parametrize(("method", "positives"), PAIRS)
def test_fit_changes_encoder_weights(scene, method, positives):
    task, data = module_and_data(scene, method, positives)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    history = fit(task, data, epochs=1, progress="none")
    assert np.isfinite(history[0]["train/loss"])
    changed = [name for name, value in task.network.state_dict().items() if not torch.equal(before[name], value)]
    assert len([name for name in changed if name.endswith("weight")]) > 5


@pytest.mark.parametrize(("method", "positives"), PAIRS)
def test_loss_of_one_batch_decreases(scene, method, positives):
    task, data = module_and_data(scene, method, positives)
    sources = task._view_sources(task._normalize(next(iter(data.train_dataloader()))["image"], None))
    optimizer = torch.optim.Adam([weight for weight in task.parameters() if weight.requires_grad], 1e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)  # the same masked patches in every step
        loss = task.method.loss(task.encoder, sources)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_byol_target_network_is_updated_without_gradient(scene):
    task, data = module_and_data(scene, "byol", "same")
    assert not any(weight.requires_grad for weight in task.method.target.parameters())
    start = [weight.clone() for weight in task.method.target.parameters()]
    fit(task, data, epochs=1, progress="none")
    changed = [not torch.equal(a, b) for a, b in zip(start, task.method.target.parameters(), strict=True)]
    assert all(changed[:3])


def test_moco_queue_holds_latest_keys(scene):
    task, data = module_and_data(scene, "moco", "same")
    first = task.method.queue.clone()
    fit(task, data, epochs=1, progress="none")  # 4 batches of 6
    assert int(task.method.queue_pointer) == 0
    assert not (task.method.queue == first).all(dim=1).any()
    torch.testing.assert_close(task.method.queue.norm(dim=1), torch.ones(24))


def test_resumed_training_equals_uninterrupted_training(scene, tmp_path, monkeypatch):
    uninterrupted, data = module_and_data(scene, "byol", "same")
    fit(uninterrupted, data, epochs=2, progress="none")
    interrupted, data = module_and_data(scene, "byol", "same")
    loss, steps = interrupted.method.loss, iter(range(6))

    def failing(*args):
        if next(steps) == 5:
            raise KeyError
        return loss(*args)

    interrupted.method.loss = failing
    with pytest.raises(KeyError):
        fit(interrupted, data, epochs=2, progress="none", resume=tmp_path, checkpoint_every=1)
    resumed, data = module_and_data(scene, "byol", "same")
    fit(resumed, data, epochs=2, progress="none", resume=tmp_path, checkpoint_every=1)
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_encoder_weights_load_into_new_model(scene, tmp_path):
    task, data = module_and_data(scene, "simclr", "same")
    fit(task, data, epochs=1, progress="none", checkpoint=tmp_path / "ssl.ckpt")
    network = from_checkpoint(tmp_path / "ssl.ckpt")
    image = torch.rand(2, 2, 32, 32) * 1000
    normalized = (image - network.mean) / network.std
    torch.testing.assert_close(network.body.features(normalized), task(image))

    weights = encoder_weights(task.network.body, task.card, tmp_path / "encoder.pt", method="simclr")
    model = create("test_classifier", bands=["red", "nir"], num_classes=5).eval()
    report = load(model, weights, file=tmp_path / "encoder.pt")
    assert set(report.matched) == {"nir", "red"}
    torch.testing.assert_close(model.features(normalized[:, [1, 0]]), task(image))


def test_invalid_method_positives_or_images_raise(scene):
    card = data_module(scene, "same").card(model="test_classifier")
    with pytest.raises(InputError, match="method='dino'.*Pass method=, one of byol"):
        SelfSupervised(card, "dino")
    with pytest.raises(InputError, match="Tile2Vec with positives='same'"):
        SelfSupervised(card, "tile2vec", positives="same")
    with pytest.raises(InputError, match="Cannot mask patches of ResNet"):
        SelfSupervised(card, "mae")
    task = SelfSupervised(card, "simclr", positives="times", options=SMALL_OPTIONS["simclr"])
    with pytest.raises(InputError, match="Cannot take two times of images"):
        task.training_step({"image": torch.zeros(4, 2, 32, 32)}, 0)
    assert set(SMALL_OPTIONS) == set(METHODS)
