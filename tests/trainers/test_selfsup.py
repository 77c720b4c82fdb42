"""Self-supervision: losses against numpy, every method learns, the encoder is handed on."""

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
    contrastive_losses,
    encoder_weights,
)
from geoxt.trainers.selfsup.masking import choose, cut
from geoxt.trainers.selfsup.methods import follow

SMALL = {
    "byol": {"hidden": 16, "out": 8, "decay": 0.9},
    "simclr": {"hidden": 16, "out": 8},
    "moco": {"hidden": 16, "out": 8, "queue": 24},
    "tile2vec": {"margin": 1.0},
    "mae": {"decoder": 16, "depth": 1, "heads": 2},
}


def vectors(count, width=5, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(array):
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_byol_is_the_square_distance_of_unit_vectors():
    first, second = vectors(7), vectors(7, seed=1)
    wanted = ((unit(first.numpy()) - unit(second.numpy())) ** 2).sum(axis=1).mean()
    assert contrastive_losses.byol(first, second).item() == pytest.approx(wanted)


def test_nt_xent_is_that_of_brute_force():
    first, second = vectors(6), vectors(6, seed=1)
    both = unit(np.concatenate([first, second]))
    terms = []
    for i in range(12):
        others = [np.exp(both[i] @ both[k] / 0.3) for k in range(12) if k != i]
        terms.append(-np.log(np.exp(both[i] @ both[(i + 6) % 12] / 0.3) / sum(others)))
    assert contrastive_losses.nt_xent(first, second, 0.3).item() == pytest.approx(np.mean(terms))


def test_info_nce_is_that_of_brute_force():
    query, key, negatives = vectors(4), vectors(4, seed=1), F.normalize(vectors(9, seed=2), dim=1)
    q, k, n = unit(query.numpy()), unit(key.numpy()), negatives.numpy()
    right = np.exp((q * k).sum(axis=1) / 0.2)
    wanted = -np.log(right / (right + np.exp(q @ n.T / 0.2).sum(axis=1))).mean()
    assert contrastive_losses.info_nce(query, key, negatives, 0.2).item() == pytest.approx(wanted)


def test_the_triplet_loss_is_that_of_brute_force():
    a, n, d = (vectors(8, seed=seed) for seed in range(3))
    near, far = np.linalg.norm(a - n, axis=1), np.linalg.norm(a - d, axis=1)
    lengths = sum(np.linalg.norm(one, axis=1).mean() for one in (a, n, d))
    wanted = np.maximum(near - far + 0.5, 0).mean() + 0.01 * lengths
    assert 0 < (near - far + 0.5 > 0).sum() < 8
    assert contrastive_losses.triplet(a, n, d, margin=0.5, penalty=0.01).item() == pytest.approx(wanted)


@pytest.mark.parametrize("normalise", [True, False])
def test_masked_error_counts_hidden_patches_only(normalise):
    found, patches = vectors(12).reshape(3, 4, 5), vectors(12, seed=1).reshape(3, 4, 5)
    hidden = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]).bool()
    truth = patches.numpy()
    if normalise:
        truth = (truth - truth.mean(-1, keepdims=True)) / np.sqrt(truth.var(-1, keepdims=True, ddof=1) + 1e-6)
    wanted = ((found.numpy() - truth) ** 2).mean(-1)[hidden.numpy()].mean()
    assert contrastive_losses.masked_error(found, patches, hidden, normalise=normalise).item() == pytest.approx(wanted)


def test_patches_are_cut_row_by_row_and_chosen_at_random():
    image = torch.arange(2 * 3 * 8 * 12).reshape(2, 3, 8, 12)
    patches = cut(image, (4, 4))
    assert patches.shape == (2, 6, 48)
    assert torch.equal(patches[1, 4], image[1, :, 4:8, 4:8].flatten())
    kept, back, hidden = choose(3, 16, 0.75, torch.device("cpu"))
    assert kept.shape == (3, 4)
    assert (hidden.sum(dim=1) == 12).all()
    for image_, seen in enumerate(kept):
        assert not hidden[image_, seen].any()
        assert torch.equal(back[image_, seen], torch.arange(4))


def test_a_copy_follows_by_its_decay():
    model = torch.nn.Linear(3, 2)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.add_(1)
    before = copied.weight.clone()
    follow(copied, model, 0.75)
    torch.testing.assert_close(copied.weight, 0.75 * before + 0.25 * model.weight)


def test_views_differ_keep_their_shape_and_can_be_left_out():
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(0)
    one, other = Views()(images), Views()(images)
    assert one.shape == images.shape
    assert not torch.equal(one, other)
    plain = Views(crop=1, turn=False, brightness=0, contrast=0, drop=0, noise=0)(images)
    torch.testing.assert_close(plain, images)
    flat = Views(brightness=0, contrast=0, drop=0, noise=0)(torch.full((2, 1, 8, 8), 3.0))
    torch.testing.assert_close(flat, torch.full((2, 1, 8, 8), 3.0))


@pytest.fixture(scope="module")
def scene():
    """Two bands of smooth fields at three times."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(500, 100, (1, 2, 8, 8)) + rng.normal(0, 30, (3, 2, 8, 8))
    pixels = np.kron(coarse, np.ones((16, 16))).astype("float32") + rng.normal(0, 5, (3, 2, 128, 128)).astype("float32")
    coords = coordinates(make_grid((128, 128)))
    times = np.array(["2021-01-01", "2021-07-01", "2021-10-01"], "datetime64[ns]")
    dims = ("time", "band", "y", "x")
    return xr.DataArray(pixels, dims=dims, coords={"time": times, "band": ["nir", "red"], **coords}, name="image")


def module_of(scene, positives):
    if positives == "times":
        both = Times(groups=((0, 1, 2),), take=2)
        return UnlabeledDataModule(scene, RandomSampler(scene, size=32, length=24, times=both), batch_size=6)
    still = scene.isel(time=0)
    if positives == "neighbours":
        plan = TripletSampler(still, size=32, length=8, radius=12, distance=40)
        return UnlabeledDataModule(still, plan, plan, batch_size=12)
    return UnlabeledDataModule(still, RandomSampler(still, size=32, length=24), batch_size=6)


def learner(scene, method, positives, **options):
    data = module_of(scene, positives)
    card = data.card(model="test_vit", img_size=32) if method == "mae" else data.card(model="test_classifier")
    task = SelfSupervised(
        card, method, positives=positives, recipe=Recipe(lr=2e-3, ema_decay=None, **options), options=SMALL[method]
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
def test_every_method_trains_the_encoder(scene, method, positives):
    task, data = learner(scene, method, positives)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    history = fit(task, data, epochs=1, progress="none")
    assert np.isfinite(history[0]["train/loss"])
    moved = [name for name, value in task.network.state_dict().items() if not torch.equal(before[name], value)]
    assert len([name for name in moved if name.endswith("weight")]) > 5


@pytest.mark.parametrize(("method", "positives"), PAIRS)
def test_every_method_lowers_its_loss_on_a_batch(scene, method, positives):
    task, data = learner(scene, method, positives)
    places = task._places(task._scaled(next(iter(data.train_dataloader()))["image"], None))
    optimizer = torch.optim.Adam([weight for weight in task.parameters() if weight.requires_grad], 1e-3)
    found = []
    for _ in range(8):
        torch.manual_seed(0)  # which patches are hidden
        loss = task.method.loss(task.encoder, places)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]


def test_the_copy_of_byol_moves_and_is_not_trained(scene):
    task, data = learner(scene, "byol", "same")
    assert not any(weight.requires_grad for weight in task.method.target.parameters())
    start = [weight.clone() for weight in task.method.target.parameters()]
    fit(task, data, epochs=1, progress="none")
    moved = [not torch.equal(a, b) for a, b in zip(start, task.method.target.parameters(), strict=True)]
    assert all(moved[:3])


def test_the_queue_of_moco_holds_the_last_keys(scene):
    task, data = learner(scene, "moco", "same")
    first = task.method.queue.clone()
    fit(task, data, epochs=1, progress="none")  # 4 batches of 6
    assert int(task.method.place) == 0
    assert not (task.method.queue == first).all(dim=1).any()
    torch.testing.assert_close(task.method.queue.norm(dim=1), torch.ones(24))


def test_a_cut_off_pretraining_goes_on_alike(scene, tmp_path, monkeypatch):
    through, data = learner(scene, "byol", "same")
    fit(through, data, epochs=2, progress="none")
    broken, data = learner(scene, "byol", "same")
    step, left = broken.method.loss, iter(range(6))

    def failing(*args):
        if next(left) == 5:
            raise KeyError
        return step(*args)

    broken.method.loss = failing
    with pytest.raises(KeyError):
        fit(broken, data, epochs=2, progress="none", resume=tmp_path, every=1)
    resumed, data = learner(scene, "byol", "same")
    fit(resumed, data, epochs=2, progress="none", resume=tmp_path, every=1)
    for name, value in through.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_encoder_is_handed_on(scene, tmp_path):
    task, data = learner(scene, "simclr", "same")
    fit(task, data, epochs=1, progress="none", checkpoint=tmp_path / "ssl.ckpt")
    whole = from_checkpoint(tmp_path / "ssl.ckpt")
    image = torch.rand(2, 2, 32, 32) * 1000
    scaled = (image - whole.mean) / whole.std
    torch.testing.assert_close(whole.body.features(scaled), task(image))

    facts = encoder_weights(task.network.body, task.card, tmp_path / "encoder.pt", method="simclr")
    model = create("test_classifier", bands=["red", "nir"], classes=5).eval()
    report = load(model, facts, file=tmp_path / "encoder.pt")
    assert set(report.known) == {"nir", "red"}
    torch.testing.assert_close(model.features(scaled[:, [1, 0]]), task(image))


def test_what_does_not_fit_is_refused(scene):
    card = module_of(scene, "same").card(model="test_classifier")
    with pytest.raises(InputError, match="method='dino': pass one of byol"):
        SelfSupervised(card, "dino")
    with pytest.raises(InputError, match="Tile2Vec on positives='same'"):
        SelfSupervised(card, "tile2vec", positives="same")
    with pytest.raises(InputError, match="Cannot hide patches from ResNet"):
        SelfSupervised(card, "mae")
    task = SelfSupervised(card, "simclr", positives="times", options=SMALL["simclr"])
    with pytest.raises(InputError, match="as two times of places"):
        task.training_step({"image": torch.zeros(4, 2, 32, 32)}, 0)
    assert set(SMALL) == set(METHODS)
