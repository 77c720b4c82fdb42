"""Encoder: normalization, fills, and errors for images of other shapes; the model returns its input."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from geoxt.errors import InputError
from geoxt.inference import predict
from geoxt.inference.fingerprint import weights_digest
from geoxt.layers import open_cogs
from geoxt.models import Card, Encoder
from geoxt.models.encoders.band_metadata import BandMetadata
from geoxt.models.encoders.feature_backbone import (
    FeatureBackbone,
    TokenBackbone,
    block_indices,
    resize_position_embeddings,
)
from geoxt.models.encoders.layer_inputs import LayerInputs, layer_inputs
from geoxt.models.weights.table import linear_scaling
from geoxt.testing import make_grid, make_layer, write_cog


class Identity(FeatureBackbone):
    def forward(self, image):
        return [image]


def encoder_of(steps, *, channels=(0, 1), count=2, fill=(5.0, 50.0), scale=(1.0, 1.0), offset=(0.0, 0.0),
               inputs=None, **body):  # fmt: skip
    options = {"patch_size": 2, "size": 4, "out_channels": (count,), "reductions": (1,), **body}
    names = tuple(f"b{index}" for index in channels)
    card = Card(task="self-supervised", model="x", bands=names, mean=(0.0,) * len(names), std=(1.0,) * len(names),
                codes=(), names=(), colors=(), size=(4, 4))  # fmt: skip
    inputs = inputs or LayerInputs(bands=names, metadata=(BandMetadata(),) * len(names), channels=channels, count=count,
                         scale=scale, offset=offset)  # fmt: skip
    return Encoder(card, Identity(nn.Identity(), **options), inputs=inputs, steps=steps, fill=fill)


IMAGE = torch.arange(32.0).view(1, 2, 4, 4)
NORMALIZE = {"op": "normalize", "mean": [5.0, 50.0], "std": [2.0, 4.0]}


def test_units_are_converted_before_the_steps():
    out = encoder_of([NORMALIZE], scale=(2.0, 1.0), offset=(0.0, -1.0)).embed(IMAGE)
    torch.testing.assert_close(out[0, 0], (IMAGE[0, 0] * 2 - 5) / 2)
    torch.testing.assert_close(out[0, 1], (IMAGE[0, 1] - 1 - 50) / 4)


def test_missing_bands_and_invalid_pixels_are_the_mean():
    encoder = encoder_of([NORMALIZE], channels=(1,), scale=(1.0,), offset=(0.0,))
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0] = False
    out = encoder(IMAGE[:, :1], valid)[0]
    assert not out[0, 0].any()
    assert out[0, 1, 0, 0] == 0
    torch.testing.assert_close(out[0, 1, 1:], (IMAGE[0, 0, 1:] - 50) / 4)


def test_clip_and_linear_statistics():
    steps = [{"op": "divide", "by": 10}, {"op": "multiply", "by": 2.0}, {"op": "clip", "min": 0.0, "max": 1.0}]
    torch.testing.assert_close(encoder_of(steps).embed(IMAGE), (IMAGE / 5).clamp(0, 1))
    assert linear_scaling(steps, 2) == ((0.0, 0.0), (5.0, 5.0))
    assert linear_scaling([{"op": "stretch", "std": 2.0}], 2) == ((0.0, 0.0), (1.0, 1.0))


def test_each_image_is_stretched_over_its_valid_pixels():
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[0, 0] = False
    image = IMAGE.clone()
    image[:, :, 0] = 1e6
    out = encoder_of([{"op": "stretch", "std": 1.0}]).embed(image, valid)
    part = IMAGE[0, 0, 1:]
    torch.testing.assert_close(out[0, 0, 1:], ((part - part.mean()) / (2 * part.std()) + 0.5).clamp(0, 1))
    assert (out[0, :, 0] == 0.5).all()
    assert (encoder_of([{"op": "stretch", "std": 1.0}]).embed(torch.ones_like(IMAGE)) == 0.5).all()


def test_version_depends_on_the_normalization_and_not_on_the_units_of_the_layer():
    def digest(mean, **units):
        encoder = encoder_of([{**NORMALIZE, "mean": mean}], fill=mean, **units)
        encoder.body.model = nn.Conv2d(2, 1, 1)
        nn.init.ones_(encoder.body.model.weight)
        nn.init.ones_(encoder.body.model.bias)
        return weights_digest(encoder)

    version = digest(NORMALIZE["mean"])
    digests = {
        name: digest(mean, scale=scale, offset=offset)
        for name, mean, scale, offset in (
            ("baseline 04.00", [5.0, 50.0], (1.0, 1.0), (-1000.0, -1000.0)),
            ("reflectance", [5.0, 50.0 + 1e-9], (10_000.0, 10_000.0), (0.0, 0.0)),
            ("other statistics", [5.0, 51.0], (1.0, 1.0), (0.0, 0.0)),
        )
    }
    assert digests["baseline 04.00"] == digests["reflectance"] == version
    assert digests["other statistics"] != version


PHYSICAL = {"radiometry": "physical: stored * scale + offset, of each scene and band", "units": "1"}
STORED, HARMONISED = ({"radiometry": "as stored: …", "scales": [1e-4] * 2, "offsets": [o] * 2} for o in (-0.1, 0.0))


def loaded_for(layer, units="reflectance"):
    inputs = layer_inputs(layer, model="x", names=("b0", "b1"), metadata=(BandMetadata(),) * 2, units=(units,) * 2,
                          factor=1e4, missing="raise")  # fmt: skip
    return encoder_of([], inputs=inputs)


@pytest.mark.parametrize("attrs", [PHYSICAL, STORED, HARMONISED])
def test_layers_of_another_scale_are_refused(attrs):
    reflectance = np.array([0.01, 0.4, 0.3, 0.2] * 8, "float32").reshape(2, 4, 4)

    def layer_of(attrs):
        scale, offset = (attrs[key][0] if key in attrs else 1 - (key == "offsets") for key in ("scales", "offsets"))
        return make_layer(((reflectance - offset) / scale).astype("float32"), bands=["b0", "b1"]).assign_attrs(attrs)

    image = layer_of(attrs)
    encoder = loaded_for(image)
    for same in (image, image.sel(band=["b1", "b0"]), image.drop_attrs(deep=False)):
        mapped = predict(same, encoder, output="embeddings", size=4)
        np.testing.assert_allclose(mapped, reflectance * 1e4, rtol=1e-4)
    for other in (PHYSICAL, STORED, HARMONISED):
        if other is not attrs:
            with pytest.raises(InputError, match="values of 'b0' are .* in the layer, and .* in the layer for which"):
                predict(layer_of(other), encoder, output="embeddings", size=4)
    if attrs is not PHYSICAL:
        encoder = loaded_for(image, units="any")
        with pytest.raises(InputError, match="are physical in the layer, and stored, of scale 0.0001"):
            predict(layer_of(PHYSICAL), encoder, output="embeddings", size=4)


def test_arithmetic_on_stored_numbers_is_refused(tmp_path):
    path = write_cog(tmp_path / "a.tif", np.ones((2, 4, 4), "uint16"), grid=make_grid((4, 4)), bands=["b0", "b1"])
    with xr.set_options(keep_attrs=True):
        computed = open_cogs(path, scale=1e-4, offset=-0.1) * 1e-4 - 0.1
    encoder = loaded_for(computed)  # converts twice: models do not know how the layer was computed
    with pytest.raises(InputError, match="computed from stored numbers, .* Open the layer= with rescale=True"):
        predict(computed, encoder, output="embeddings", size=4)


@pytest.mark.parametrize(
    ("units", "attrs", "text"),
    [
        ("byte", {"units": "1"}, "Cannot pass reflectance to 'x': it takes bytes.* Pass layer="),
        ("reflectance", {"radiometry": "as stored: unknown"}, "the layer is as stored: unknown.*rescale=True"),
        ("decibel", {"units": "1"}, "takes backscatter in dB"),
    ],
)
def test_units_that_load_refuses_are_refused_for_a_map(units, attrs, text):
    encoder = loaded_for(["b0", "b1"], units=units)
    image = make_layer(np.ones((2, 4, 4), "float32"), bands=["b0", "b1"])
    assert predict(image, encoder, output="embeddings", size=4).shape == (2, 4, 4)
    with pytest.raises(InputError, match=text):
        predict(image.assign_attrs(attrs), encoder, output="embeddings", size=4)


def test_unknown_step_is_refused():
    with pytest.raises(InputError, match="step 'sqrt'"):
        encoder_of([{"op": "sqrt"}])(IMAGE)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 4, 4), "takes 2 bands, b0, b1"),
        ((2, 4, 4), "takes 2 bands"),
        ((1, 3, 2, 4, 4), "3 dates: the encoder takes 1"),
        ((1, 2, 4, 3), "4 x 3 pixels into patches of 2"),
    ],
)
def test_images_of_another_shape_are_refused(shape, text):
    with pytest.raises(InputError, match=text):
        encoder_of([])(torch.zeros(shape))


def test_fixed_positions_take_one_size():
    encoder = encoder_of([], fixed_size=True)
    assert encoder(IMAGE)[0].shape == IMAGE.shape
    with pytest.raises(InputError, match="6 x 6 pixels: the positions of the encoder are for 4"):
        encoder(torch.zeros(1, 2, 6, 6))


def test_feature_maps_are_those_of_the_requested_blocks():
    blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(8))
    model = nn.Sequential(*blocks)
    body = TokenBackbone(model, blocks=blocks, out_indices=[1, -1], width=3, patch_size=2, size=4, prefix=0)
    tokens = torch.randn(1, 4, 3)
    body.call = lambda _: model(tokens)
    first, last = body(torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(last, model(tokens).mT.reshape(1, 3, 2, 2))
    torch.testing.assert_close(first, model[:2](tokens).mT.reshape(1, 3, 2, 2))
    assert block_indices(12, None) == (2, 5, 8, 11)
    assert block_indices(2, None) == (0, 1)
    for indices in ([3, 1], [8], [], [1, 1]):
        with pytest.raises(InputError, match="the encoder has 8"):
            block_indices(8, indices)


def test_positions_keep_their_tokens_and_mean():
    positions = torch.randn(1, 1 + 16, 5)
    assert resize_position_embeddings(positions, 4) is positions
    resized = resize_position_embeddings(positions, 8)
    assert resized.shape == (1, 65, 5)
    assert torch.equal(resized[:, 0], positions[:, 0])
    flat = resize_position_embeddings(torch.ones(1, 17, 5), 7)
    torch.testing.assert_close(flat, torch.ones(1, 50, 5))
