"""Encoders of timm, torchvision and segmentation-models-pytorch: features equal those of the provider's model."""

from dataclasses import replace

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from support.encoder_layers import assert_features, image_layer, images_of
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformer, SwinTransformerBlockV2

import geoxt
from geoxt import models
from geoxt.errors import InputError
from geoxt.models.encoders import load_encoder

SWIN = "torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS"
UNET = "torchgeo:Unet_Weights.NAIP_RGBN_RESNET18_CHESAPEAKERSC"


@pytest.fixture
def swin(monkeypatch):
    def small(weights):
        del weights
        return SwinTransformer([4, 4], 8, [1, 1, 1, 1], [1, 2, 4, 8], [4, 4], block=SwinTransformerBlockV2,
                               downsample_layer=PatchMergingV2)  # fmt: skip

    monkeypatch.setattr(torchvision.models, "swin_v2_t", small)
    return small(None).eval()


def test_swin_of_torchvision(swin, saved):
    layer = image_layer(["B02", "B03", "B8A", "B04"], 64)
    encoder = models.load(SWIN, bands=layer, file=saved(swin.state_dict()), size=64)
    assert encoder.bands == ("B04", "B03", "B02")
    assert encoder.notes == ("Dropped bands that the model does not take: B8A.",)
    image = images_of(layer, encoder)
    with torch.no_grad():
        expected = swin.features(image / 255).movedim(-1, 1)
    assert_features(encoder, layer, expected)
    embeddings = geoxt.predict(layer, encoder, output="embeddings", size=encoder.size, overlap=0)
    np.testing.assert_allclose(embeddings, expected[0], atol=1e-5)


def test_original_file_of_satlas_and_features_over_dates(swin, saved):
    state = {f"backbone.backbone.{key}": v for key, v in swin.state_dict().items() if key.startswith("features")}
    path = saved(state | {"backbone.fpn.x": torch.ones(1), "heads.0.x": torch.ones(1)})
    name = "torchgeo:Swin_V2_T_Weights.SENTINEL2_MI_RGB_SATLAS"
    series = image_layer(["B04", "B03", "B02"], 32, dates=2)
    encoder = models.load(name, bands=series, file=path, size=32)
    assert encoder.dates == 2
    image = images_of(series, encoder)
    with torch.no_grad():
        expected = swin.features(image[0] / 255).movedim(-1, 1).amax(0, keepdim=True)
    assert_features(encoder, series, expected)


def test_unet_of_segmentation_models_pytorch(saved):
    model = smp.Unet("resnet18", encoder_weights=None, in_channels=4, classes=2).eval()
    layer = image_layer(["nir", "red", "green", "blue"], 32)
    encoder = models.load(UNET, bands=layer, file=saved(model.state_dict()))
    assert encoder.bands == ("red", "green", "blue", "nir")
    with torch.no_grad():
        expected = model.encoder(images_of(layer, encoder) / 255)[-1]
    assert_features(encoder, layer, expected)


def test_fields_of_the_world_stacks_the_harvest_first(saved):
    model = smp.Unet("resnet18", encoder_weights=None, in_channels=8, classes=2).eval()
    layer = image_layer(["B02", "B03", "B04", "B08"], 32, high=3000, dates=2)
    facts = models.weights.get("torchgeo:Unet_Weights.SENTINEL2_2CLASS_FTW")
    facts = replace(facts, encoder={**facts.encoder, "encoder": "resnet18"})
    encoder = load_encoder(facts, bands=layer, file=saved(model.state_dict()))
    planting, harvest = images_of(layer, encoder)[0]
    with torch.no_grad():
        expected = model.encoder(torch.cat([harvest, planting])[None] / 3000)[-1]
    assert_features(encoder, layer, expected)
    with pytest.raises(InputError, match=r"1 dates: the encoder takes 2"):
        encoder(planting[None])


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_timm_model(architecture, saved):
    model = timm.create_model(architecture, in_chans=3, num_classes=0).eval()
    facts = models.Weights(
        name="x", architecture=architecture, timm=True, bands=("B04", "B03", "B02"), sensor="sentinel-2",
        steps=({"op": "normalize", "mean": [100.0, 200.0, 300.0], "std": [10.0, 20.0, 30.0]},), license=None, url=None,
        file="x.pth",
    )  # fmt: skip
    layer = image_layer(["B02", "B03", "B04"], 160, scales=[1e-4] * 3, offsets=[-0.1] * 3)
    encoder = load_encoder(facts, bands=layer, file=saved(model.state_dict()), size=160)
    image = (images_of(layer, encoder) - 1000 - torch.tensor([100.0, 200, 300])[:, None, None]) / torch.tensor(
        [10.0, 20, 30]
    )[:, None, None]
    with torch.no_grad():
        expected = model.forward_intermediates(image, indices=1, norm=False, intermediates_only=True)[-1]
    assert_features(encoder, layer, expected)
    assert encoder.card.mean == (1100.0, 1200.0, 1300.0)  # in units of the layer
