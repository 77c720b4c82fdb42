"""L-TAE and U-TAE: invalid dates have no influence, order matters only through positions."""

import numpy as np
import pytest
import torch

from geoxt import models
from geoxt.models.ltae import LTAE

NAMES = ["test_utae", "test_ltae"]


@pytest.fixture
def series():
    return torch.randn(2, 5, 3, 16, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def valid():
    return torch.tensor([[True, False, True, True, False], [True, True, True, False, True]])


def build(name):
    torch.manual_seed(0)
    return models.create(name, in_chans=3, num_classes=2).eval()


@pytest.mark.parametrize("name", NAMES)
def test_invalid_dates_have_no_influence(name, series, valid):
    model = build(name)
    other = series.where(valid[:, :, None, None, None], torch.nan)
    with torch.no_grad():
        assert torch.equal(model(series, valid), model(other, valid))
        assert not torch.allclose(model(series, valid), model(series))


@pytest.mark.parametrize("name", NAMES)
def test_invalid_dates_equal_dropped_dates(name, series, valid):
    model = build(name)
    days = torch.tensor([3.0, 10, 50, 120, 200])
    keep = valid[0]
    with torch.no_grad():
        masked = model(series[:1], valid[:1], days[None])
        without = model(series[:1, keep], None, days[None, keep])
    torch.testing.assert_close(masked, without, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_output_is_invariant_to_date_order_with_positions(name, series):
    model = build(name)
    days, order = torch.tensor([[3.0, 10, 50, 120, 200]]).expand(2, -1), [4, 2, 0, 1, 3]
    with torch.no_grad():
        output, reordered = model(series, positions=days), model(series[:, order], positions=days[:, order])
        torch.testing.assert_close(output, reordered, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(output, model(series[:, order], positions=days), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_default_positions_are_date_indices(name, series):
    model = build(name)
    with torch.no_grad():
        assert torch.equal(model(series), model(series, positions=torch.arange(5).expand(2, -1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (17, 9)])
def test_small_images(name, shape):
    with torch.no_grad():
        assert build(name)(torch.zeros(1, 2, 3, *shape)).shape == (1, 2, *shape)


@pytest.mark.parametrize("name", NAMES)
def test_series_without_valid_dates_is_finite(name, series):
    with torch.no_grad():
        assert build(name)(series, torch.zeros(2, 5, dtype=torch.bool)).isfinite().all()


def encoder():
    torch.manual_seed(0)
    return LTAE(8, 8, heads=2, width=12, keys=3, period=1000.0, dropout=0.0).eval()


def test_ltae_equals_paper_equations():
    """Computed in NumPy, per pixel and head (equations 2 to 6)."""
    model = encoder()
    series, days = torch.randn(3, 4, 8), torch.tensor([[1.0, 5, 9, 30]]).expand(3, -1)
    with torch.no_grad():
        summary, attention = model(series, days)
    weights = {key: value.numpy().astype(float) for key, value in model.state_dict().items()}

    def group(values, groups, name):
        shaped = values.reshape(groups, -1)
        normal = (shaped - shaped.mean(1, keepdims=True)) / np.sqrt(shaped.var(1, keepdims=True) + 1e-5)
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        extra = (slice(None),) + (None,) * (values.ndim - 1)
        return normal.reshape(values.shape) * scale[extra] + shift[extra]

    for pixel in range(3):
        values = group(series[pixel].numpy().T.astype(float), 2, "norm_in").T
        values = values @ weights["widen.weight"][:, :, 0].T + weights["widen.bias"]
        for date, day in enumerate((1, 5, 9, 30)):
            waves = [day / 1000 ** (2 * (i // 2) / 6) for i in range(6)]
            values[date] += np.tile([np.sin(w) if i % 2 == 0 else np.cos(w) for i, w in enumerate(waves)], 2)
        keys = (values @ weights["to_keys.weight"].T + weights["to_keys.bias"]).reshape(4, 2, 3)
        heads = []
        for head in range(2):
            scores = keys[:, head] @ weights["queries"][head] / np.sqrt(3)
            share = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(attention[head, pixel], share, rtol=1e-4)
            heads.append(share @ values[:, 6 * head : 6 * head + 6])
        hidden = weights["mlp.0.weight"] @ np.concatenate(heads) + weights["mlp.0.bias"]
        hidden = np.maximum(hidden / np.sqrt(1 + 1e-5), 0)  # a new BatchNorm has mean 0 and variance 1
        np.testing.assert_allclose(summary[pixel], group(hidden, 2, "norm_out"), rtol=1e-3, atol=1e-5)


def test_attention_sums_to_one_over_valid_dates():
    valid = torch.tensor([[True, False, True], [False, False, True]])
    with torch.no_grad():
        _, attention = encoder()(torch.randn(2, 3, 8), torch.zeros(2, 3), valid)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 2))
    assert not attention[:, ~valid].any()
    assert (attention[:, 1, 2] == 1).all()


def test_all_valid_mask_changes_nothing():
    model, series = encoder(), torch.randn(4, 5, 8)
    with torch.no_grad():
        plain, _ = model(series, torch.zeros(4, 5))
        masked, _ = model(series, torch.zeros(4, 5), torch.ones(4, 5, dtype=torch.bool))
    torch.testing.assert_close(plain, masked, rtol=1e-4, atol=1e-5)
