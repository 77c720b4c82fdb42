"""Encoders of TorchGeo: features equal those of TorchGeo's model, loaded from its published file format."""

import numpy as np
import pytest
import torch
from support.encoder_layers import assert_features, image_layer, images_of

import geoxt
from geoxt import models
from geoxt.errors import InputError
from geoxt.models.encoders import load_encoder

torchgeo = pytest.importorskip("torchgeo.models", reason="TorchGeo needs Python 3.12: extra `foundation`")
SMALL = {"embed_dim": 48, "depth": 4, "num_heads": 4}
S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
SCALED = {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}


def scaled(image):
    return (image - torch.tensor(SCALED["mean"])[:, None, None]) / torch.tensor(SCALED["std"])[:, None, None]


def tokens_of(blocks, run):
    """Return the output of the last block while `run` is called."""
    outputs = []
    handle = blocks[-1].register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.no_grad():
        run()
    handle.remove()
    return outputs[-1]


def as_map(tokens, side, prefix=1):
    return tokens[:, prefix:].mT.unflatten(2, (side, side))


@pytest.fixture
def dofa(monkeypatch):
    monkeypatch.setattr(torchgeo, "dofa_base_patch16_224", lambda **k: torchgeo.DOFA(**SMALL, **k))
    model = torchgeo.DOFA(**SMALL, img_size=32).eval()
    torch.nn.init.normal_(model.pos_embed)
    return model


DOFA = "torchgeo:DOFABase16_Weights.DOFA_MAE"


def published(model):
    """Return weights as published: without the layers that are created for a task."""
    return {k: v for k, v in model.state_dict().items() if not k.startswith(("fc_norm.", "head."))}


def test_dofa_takes_any_bands_by_wavelength(dofa, saved):
    layer = image_layer(["red", "nir", "VV"], 32)
    encoder = models.load(DOFA, bands=layer, file=saved(published(dofa)), size=32, **SCALED)
    image = images_of(layer, encoder)
    waves = [0.6646, 0.8328, 3.75]
    tokens = tokens_of(dofa.blocks, lambda: dofa.forward_features(scaled(image), waves))
    assert_features(encoder, layer, as_map(tokens, 2))
    assert encoder.body.wavelengths == tuple(waves)
    assert encoder.out_channels == (48,) * 4
    mapped = geoxt.predict(layer, encoder, output="embeddings", size=32, overlap=0)
    np.testing.assert_allclose(mapped, as_map(tokens, 2)[0], atol=1e-5)


def test_dofa_is_not_loaded_without_statistics_or_wavelengths(dofa, saved):
    path = saved(published(dofa))
    with pytest.raises(InputError, match="authors state no statistics"):
        models.load(DOFA, bands=["red", "green"], file=path, size=32)
    with pytest.raises(InputError, match="'dem'.*states none"):
        models.load(DOFA, bands=["red", "dem"], file=path, size=32, mean=[0, 0], std=[1, 1])
    with pytest.raises(InputError, match="of each of red, green"):
        models.load(DOFA, bands=["red", "green"], file=path, size=32, mean=[0], std=[1])


def test_positions_are_resized_to_the_images(dofa, saved):
    encoder = models.load(DOFA, bands=["red"], file=saved(published(dofa)), size=64, mean=[0], std=[1])
    assert encoder.body.model.pos_embed.shape == (1, 17, 48)
    assert encoder(torch.zeros(1, 1, 64, 64))[-1].shape == (1, 48, 4, 4)
    with pytest.raises(InputError, match="32 x 32 pixels: the positions of the encoder are for 64"):
        encoder(torch.zeros(1, 1, 32, 32))
    with pytest.raises(InputError, match="images of 40 pixels: the patches of the model have 16"):
        models.load(DOFA, bands=["red"], file="x.pth", size=40, mean=[0], std=[1])


def test_another_file_is_refused(dofa, saved):
    state = published(dofa)
    state.pop("cls_token")
    with pytest.raises(InputError, match=r"it lacks cls_token; it has unknown tensors new"):
        models.load(DOFA, bands=["red"], file=saved(state | {"new": torch.ones(1)}), size=32, mean=[0], std=[1])


CROMA = "torchgeo:CROMABase_Weights.CROMA_VIT"


@pytest.fixture
def croma(monkeypatch):
    small = {"encoder_dim": 32, "encoder_depth": 2, "num_heads": 16, "patch_size": 8}
    monkeypatch.setattr(torchgeo, "croma_base", lambda **k: torchgeo.CROMA(**small, **k))
    return torchgeo.CROMA(**small, image_size=16).eval()


def nested(model):
    """Return weights as published: one dict per part."""
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    return {part: getattr(model, part).state_dict() for part in parts}


def stretched(image):
    mean, std = image.mean((-2, -1), keepdim=True), image.std((-2, -1), keepdim=True)
    return ((image - (mean - 2 * std)) / (4 * std)).clamp(0, 1)


@pytest.mark.parametrize(
    ("bands", "key"),
    [(["VH", "VV", *S2[::-1]], "joint_encodings"), (S2, "optical_encodings"), (["VV", "VH"], "sar_encodings")],
)
def test_croma_takes_radar_optical_or_both(croma, saved, bands, key):
    layer = image_layer(bands, 16, high=3000)
    encoder = models.load(CROMA, bands=layer, file=saved(nested(croma)), size=16)
    image = stretched(torch.from_numpy(layer.to_numpy())[None])
    at = {name: index for index, name in enumerate(bands)}
    sar = image[:, [at[b] for b in ("VV", "VH")]] if "VV" in at else torch.zeros(1, 2, 16, 16)
    optical = image[:, [at[b] for b in S2]] if "B02" in at else torch.zeros(1, 12, 16, 16)
    with torch.no_grad():
        expected = croma(x_sar=sar, x_optical=optical)[key]
    assert_features(encoder, layer, as_map(expected, 2, prefix=0))


def test_croma_is_not_loaded_with_parts_of_a_sensor(croma, saved):
    path = saved(nested(croma))
    with pytest.raises(InputError, match="has no band 'B12', only"):
        models.load(CROMA, bands=S2[:-1], file=path, size=16)
    with pytest.raises(InputError, match="their mean is not published"):
        models.load(CROMA, bands=S2[:-1], file=path, size=16, missing="mean")
    with pytest.raises(InputError, match="takes backscatter in dB"):
        models.load(CROMA, bands=image_layer(["VV", "VH"], 16, units="1"), file=path, size=16)


def test_panopticon_takes_any_bands(monkeypatch, saved):
    """Of radar, the ids are those of an unknown orbit."""
    build = torchgeo.panopticon_vitb14

    def short(**options):
        new = build(**options, attn_dim=96)
        new.model.blocks = new.model.blocks[:2]
        return new

    model = short(img_size=28).eval()
    monkeypatch.setattr(torchgeo, "panopticon_vitb14", short)
    state = model.model.state_dict() | {"mask_token": torch.zeros(1, 768)}
    layer = image_layer(["red", "VH", "VV"], 28)
    name = "torchgeo:Panopticon_Weights.VIT_BASE14"
    encoder = models.load(name, bands=layer, file=saved(state), size=28, **SCALED)
    inputs = {"imgs": scaled(images_of(layer, encoder)), "chn_ids": torch.tensor([[665, -2, -1]])}
    tokens = tokens_of(model.model.blocks, lambda: model.model.forward_features(inputs))
    assert_features(encoder, layer, as_map(tokens, 2))


def test_scale_mae_takes_the_resolution_of_the_layer(monkeypatch, saved):
    small = {"embed_dim": 32, "depth": 4, "num_heads": 2, "patch_size": 16, "qkv_bias": True, "num_classes": 0}
    monkeypatch.setattr(torchgeo, "scalemae_large_patch16", lambda **k: torchgeo.ScaleMAE(**small, **k))
    layer = image_layer(["blue", "green", "red"], 32)
    gsd = float(abs(layer.x[1] - layer.x[0]))
    model = torchgeo.ScaleMAE(**small, img_size=32, res=gsd).eval()
    name = "torchgeo:ScaleMAELarge16_Weights.FMOW_RGB"
    encoder = models.load(name, bands=layer, file=saved(model.state_dict()), size=32)
    assert encoder.bands == ("red", "green", "blue")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (images_of(layer, encoder) / 255 - mean[:, None, None]) / std[:, None, None]
    tokens = tokens_of(model.blocks, lambda: model.forward_features(image))
    assert_features(encoder, layer, as_map(tokens, 2))
    with pytest.raises(InputError, match="without resolution.*Pass gsd="):
        models.load(name, bands=["red", "green", "blue"], file=saved(model.state_dict()), size=32)
    other = models.load(name, bands=layer, file=saved(model.state_dict()), size=32, gsd=2 * gsd)
    assert not torch.equal(other(images_of(layer, other))[-1], encoder(images_of(layer, encoder))[-1])


def test_copernicus_fm_takes_date_location_and_area(monkeypatch, saved):
    small = {"embed_dim": 48, "depth": 4, "num_heads": 4}
    monkeypatch.setattr(torchgeo, "copernicusfm_base", lambda: torchgeo.CopernicusFM(**small))
    model = torchgeo.CopernicusFM(**small).eval()
    layer = image_layer(["B02", "B03", "B04"], 32)
    name = "torchgeo:CopernicusFM_Base_Weights.CopernicusFM_ViT"
    bands = layer.assign_coords(common_name=("band", ["blue", "green", "red"]))
    encoder = models.load(name, bands=bands, file=saved(published(model)), size=32, **SCALED)
    lon, lat = encoder.body.metadata[:2]
    days = (np.datetime64("2024-06-15") - np.datetime64("1970-01-01")).astype(int)
    area = (float(abs(layer.x[1] - layer.x[0])) * 16 / 1000) ** 2
    assert encoder.body.metadata[2:] == (days, pytest.approx(area))
    metadata = torch.tensor([[lon, lat, days, area]])
    spectrum = {"wavelengths": [492.7, 559.8, 664.6], "bandwidths": [65, 35, 30]}
    image = scaled(images_of(layer, encoder))
    tokens = tokens_of(model.blocks, lambda: model.forward_features(image, metadata, kernel_size=16, **spectrum))
    assert_features(encoder, layer, as_map(tokens, 2))
    unknown = models.load(name, bands=["blue"], file=saved(published(model)), size=32, mean=[0], std=[1])
    assert "time, location" in unknown.notes[-1]
    assert np.isnan(unknown.body.metadata).all()
    with pytest.raises(InputError, match="the bands VV to .*: their bandwidths are unknown"):
        models.load(name, bands=["VV"], file=saved(published(model)), size=32, mean=[0], std=[1])


def test_earthloc_returns_the_map_before_its_descriptor(saved):
    model = torchgeo.earthloc().eval()
    layer = image_layer(["B04", "B03", "B02"], 32)
    encoder = models.load("torchgeo:EarthLoc_Weights.SENTINEL2_RESNET50", bands=layer, file=saved(model.state_dict()))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (images_of(layer, encoder) / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        assert_features(encoder, layer, model.backbone(image))


def test_tilenet_returns_its_layers(saved):
    model = torchgeo.tilenet().eval()
    layer = image_layer(["R", "G", "B", "NIR"], 64)
    encoder = models.load("torchgeo:TileNet_Weights.NAIP_ALL_TILE2VEC", bands=layer, file=saved(model.state_dict()))
    maps = encoder(images_of(layer, encoder))
    with torch.no_grad():
        expected = model(images_of(layer, encoder) / 255)
    torch.testing.assert_close(maps[-1].mean((-2, -1)), expected, atol=1e-5, rtol=1e-5)
    assert [tuple(x.shape[1:]) for x in maps] == [
        (c, 64 // r, 64 // r) for c, r in zip(encoder.out_channels, encoder.reductions, strict=True)
    ]


def test_an_older_torchgeo_is_named(monkeypatch, saved):
    monkeypatch.delattr(torchgeo, "tilenet")
    facts = models.weights.get("torchgeo:TileNet_Weights.NAIP_ALL_TILE2VEC")
    with pytest.raises(InputError, match="pip install -U torchgeo"):
        load_encoder(facts, bands=["R", "G", "B", "NIR"], file=saved({"x": torch.ones(1)}))
