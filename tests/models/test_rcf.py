"""Random convolutional features equal NumPy loops; drawn patches equal an explicit whitening."""

import numpy as np
import pytest
import torch

from geoxt import models
from geoxt.errors import InputError


def brute_force(image, patches, threshold):
    """Return RCF features of an image (C, H, W), by loops over patches and pixels."""
    _, height, width = image.shape
    size = patches.shape[-1]
    over, under = np.zeros(len(patches)), np.zeros(len(patches))
    spots = [(y, x) for y in range(height - size + 1) for x in range(width - size + 1)]
    for index, patch in enumerate(patches):
        for y, x in spots:
            response = (image[:, y : y + size, x : x + size] * patch).sum()
            over[index] += max(0, response - threshold)
            under[index] += max(0, -response - threshold)
    return np.concatenate([over, under]) / len(spots)


@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_features_equal_loop(kernel):
    model = models.create("rcf", in_chans=2, features=10, kernel=kernel, threshold=0.7)
    images = torch.randn(2, 2, 7, 6)
    expected = [brute_force(image.numpy().astype(float), model.patches.numpy(), 0.7) for image in images]
    np.testing.assert_allclose(model(images), expected, rtol=1e-4, atol=1e-6)


def test_patches_are_fixed_by_seed():
    first, second = (models.create("test_rcf", in_chans=3, num_classes=2, seed=4) for _ in range(2))
    assert torch.equal(first.patches, second.patches)
    assert not torch.equal(first.patches, models.create("test_rcf", in_chans=3, num_classes=2, seed=5).patches)
    assert {name for name, _ in first.named_parameters()} == {"head.weight", "head.bias"}
    assert not first.features(torch.randn(1, 3, 8, 8, requires_grad=True)).requires_grad


def test_drawn_patches_are_whitened_image_patches():
    images = torch.rand(3, 2, 12, 10, generator=torch.Generator().manual_seed(0))
    model = models.create("rcf", in_chans=2, features=400).draw(images, seed=1, ridge=1e-3)
    pieces = images.unfold(2, 3, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 18).numpy().astype(float)
    pieces -= pieces.mean(1, keepdims=True)
    pieces /= np.linalg.norm(pieces, axis=1, keepdims=True)
    drawn = model.patches.flatten(1).numpy().astype(float)
    # the same draws, and a whitening matrix applied twice
    generator = torch.Generator().manual_seed(1)
    n, y, x = (torch.randint(end, (200,), generator=generator).numpy() for end in (3, 10, 8))
    cut = pieces.reshape(3, 10, 8, 18)[n, y, x]
    variance, axes = np.linalg.eigh(cut.T @ cut / 200)
    whitener = axes @ np.diag((variance + 1e-3) ** -0.5) @ axes.T
    np.testing.assert_allclose(drawn, cut @ whitener @ whitener, rtol=1e-3, atol=1e-3)


def test_constant_patch_is_finite():
    model = models.create("test_rcf", in_chans=1).draw(torch.ones(2, 1, 5, 5))
    assert model.patches.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 2, 8), (1, 8, 8)])
def test_unsuitable_images_raise(shape):
    with pytest.raises(InputError, match="Cannot draw patches from images of shape"):
        models.create("test_rcf", in_chans=1).draw(torch.zeros(shape))
