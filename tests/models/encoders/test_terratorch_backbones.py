"""Encoders of TerraTorch: features equal those of TerraTorch's model, loaded from the published file format."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.encoder_layers import assert_features, image_layer, images_of

from geoxt import models
from geoxt.errors import InputError
from geoxt.models.encoders import load_encoder

pytest.importorskip("terratorch", reason="TerraTorch is not installed: extra `foundation`")
from terratorch.models.backbones import prithvi_vit
from terratorch.models.backbones.clay_v1.modules import EmbeddingEncoder
from terratorch.models.backbones.clay_v15.model import Encoder as Clay15
from terratorch.models.backbones.terramind.model import terramind_register

HLS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
COMMON = ["swir22", "blue", "green", "red", "nir08", "swir16"]
S2 = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]
PRITHVI = "prithvi:eo2_tiny_tl"


def as_map(tokens, side, dates=1):
    return tokens.unflatten(1, (dates, side, side)).movedim(-1, 2).flatten(1, 2)


def normalized(image, row):
    step = models.weights.get(row).steps[0]
    return (image - torch.tensor(step["mean"])[:, None, None]) / torch.tensor(step["std"])[:, None, None]


@pytest.fixture
def prithvi(monkeypatch):
    small = {"embed_dim": 32, "depth": 4, "num_heads": 2}
    monkeypatch.setitem(
        prithvi_vit.prithvi_cfgs, "prithvi_eo_v2_tiny_tl", prithvi_vit.prithvi_cfgs["prithvi_eo_v2_tiny_tl"] | small
    )
    return lambda dates: prithvi_vit.prithvi_eo_v2_tiny_tl(num_frames=dates, img_size=32).eval()


def published(model):
    """Return weights as published: of the masked autoencoder, with its decoder."""
    state = {f"encoder.{key}": value for key, value in model.state_dict().items()}
    return state | {"decoder.mask_token": torch.ones(1), "decoder.decoder_pred.weight": torch.ones(1)}


@pytest.mark.parametrize("dates", [1, 3])
def test_prithvi_takes_dates_and_location(prithvi, saved, dates):
    model = prithvi(dates)
    layer = image_layer(COMMON, 32, high=3000, dates=dates)
    encoder = models.load(PRITHVI, bands=layer, file=saved(published(model)), size=32)
    assert encoder.bands == ("blue", "green", "red", "nir08", "swir16", "swir22")
    assert encoder.dates == dates
    assert encoder.out_channels == (32 * dates,) * 4
    days = torch.tensor([[[2024.0, 61], [2024, 167], [2024, 274]]])[:, :dates]
    lat, lon = encoder.body.location
    image = normalized(images_of(layer, encoder), PRITHVI).movedim(1, 2)
    with torch.no_grad():
        tokens = model.forward_features(image, days, torch.tensor([[lat, lon]]))
    assert_features(encoder, layer, as_map(tokens[-1][:, 1:], 2, dates))
    torch.testing.assert_close(encoder(images_of(layer, encoder))[0], as_map(tokens[0][:, 1:], 2, dates))


def test_prithvi_without_dates_and_location(prithvi, saved):
    model = prithvi(1)
    encoder = models.load(PRITHVI, bands=HLS, file=saved(model.state_dict()), size=32)
    assert "time, location" in encoder.notes[-1]
    image = torch.rand(1, 6, 32, 32) * 1000
    with torch.no_grad():
        tokens = model.forward_features(normalized(image, PRITHVI).unsqueeze(2))
    torch.testing.assert_close(encoder(image)[-1], as_map(tokens[-1][:, 1:], 2), atol=1e-5, rtol=1e-5)


def test_prithvi_fills_missing_bands_on_request(prithvi, saved):
    path = saved(published(prithvi(1)))
    with pytest.raises(InputError, match="has no band 'SWIR_2', only BLUE"):
        models.load(PRITHVI, bands=HLS[:-1], file=path, size=32)
    encoder = models.load(PRITHVI, bands=HLS[:-1], file=path, size=32, missing="mean")
    assert encoder.normalize(torch.zeros(1, 5, 32, 32))[0, 5].abs().max() == 0
    with pytest.raises(InputError, match=r"17 dates .* it takes 1 to 16"):
        models.load(PRITHVI, bands=HLS, file=path, size=32, dates=17)
    with pytest.raises(InputError, match="patches of the model have 16"):
        models.load(PRITHVI, bands=HLS, file=path, size=40)


@pytest.mark.parametrize("bands", [S2[::-1], ["VH", "VV"], [*S2, "VV", "VH"]])
def test_terramind_takes_one_sensor_or_both(monkeypatch, saved, bands):
    small = {"encoder_depth": 2, "dim": 36, "num_heads": 3}
    build = terramind_register.build_terrammind_vit
    monkeypatch.setattr(terramind_register, "build_terrammind_vit", lambda **k: build(**(k | small)))
    name = "terramind:v1_tiny"
    published = terramind_register.terramind_v1_tiny(modalities=["S2L2A", "S1GRD", "DEM"]).eval()
    layer = image_layer(bands, 224, low=-20, high=3000)
    encoder = models.load(name, bands=layer, file=saved(published.state_dict()))
    step = models.weights.get(name).steps[0]
    values = {b: (torch.from_numpy(layer.sel(band=b).to_numpy()) - m) / s
              for b, m, s in zip([*S2, "VV", "VH"], step["mean"], step["std"], strict=True) if b in bands}  # fmt: skip
    inputs = {}
    for modality, names in (("S2L2A", S2), ("S1GRD", ["VV", "VH"])):
        if names[0] in bands:
            inputs[modality] = torch.stack([values[b] for b in names])[None]
    with torch.no_grad():
        tokens = published(inputs)
    assert_features(encoder, layer, as_map(tokens[-1], 14))


def test_terramind_is_not_loaded_with_parts_of_a_sensor():
    with pytest.raises(InputError, match="has no band 'B11', 'B12', only"):
        models.load("terramind:v1_tiny", bands=S2[:-2], file="x.pth")
    with pytest.raises(InputError, match="takes backscatter in dB"):
        models.load("terramind:v1_tiny", bands=image_layer(["VV", "VH"], 16, units="1"), file="x.pth")
    with pytest.raises(InputError, match="256 pixels: the positions of the model are for 224"):
        models.load("terramind:v1_tiny", bands=S2, file="x.pth", size=256)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # as TerraTorch builds the model
@pytest.mark.parametrize("version", ["clay:v1", "clay:v1.5"])
def test_clay_takes_wavelengths_date_location_and_resolution(saved, version):
    options = {"depth": 2, "width": 32, "heads": 2}
    common = {"patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "dim_head": 64, "mlp_ratio": 4.0}
    model = (EmbeddingEncoder(img_size=32, **common) if version == "clay:v1"
             else Clay15(mask_ratio=0.0, shuffle=False, **common)).eval()  # fmt: skip
    state = {f"model.encoder.{key}": v for key, v in model.state_dict().items()} | {"model.decoder.x": torch.ones(1)}
    facts = models.weights.get(version)
    facts = replace(facts, encoder=facts.encoder | options)
    layer = image_layer(["red", "vv", "nir08"], 32, high=3000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        encoder = load_encoder(facts, bands=layer, file=saved({"state_dict": state}), size=32)
    image = images_of(layer, encoder)
    mean, std = torch.tensor([1552, 0.123273, 2785]), torch.tensor([1888, 1.492154, 1648])
    week = 2 * math.pi * np.datetime64("2024-06-15").astype(object).isocalendar()[1] / 52
    lon, lat = np.radians(location_of(layer))
    cube = {
        "pixels": (image - mean[:, None, None]) / std[:, None, None],
        "time": torch.tensor([[math.sin(week), math.cos(week), math.sin(math.pi), math.cos(math.pi)]]),
        "latlon": torch.tensor([[math.sin(lat), math.cos(lat), math.sin(lon), math.cos(lon)]]).float(),
        "gsd": torch.tensor(float(abs(layer.x[1] - layer.x[0]))),
        "waves": torch.tensor([0.6646, 3.5, 0.8647]),
    }
    with torch.no_grad():
        tokens = model(cube)
    tokens = tokens[-1] if version == "clay:v1" else tokens[0]
    assert_features(encoder, layer, as_map(tokens[:, 1:], 4))
    with pytest.raises(InputError, match="without resolution"):
        load_encoder(facts, bands=["red"], file=saved({"state_dict": state}), size=32)
    with pytest.raises(InputError, match="state no statistics"):
        load_encoder(facts, bands=image_layer(["coastal"], 32), file="x.pth", size=32)


def location_of(layer):
    from geoxt.models.encoders.layer_inputs import context_of

    return context_of(layer, dates=1).location
