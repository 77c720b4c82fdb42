"""Encoders of time series: features equal those of the provider's model, loaded from the published file format."""

import numpy as np
import pytest
import torch
from support.encoder_layers import assert_features, image_layer, images_of

import geoxt
from geoxt import models
from geoxt.errors import InputError

torchgeo = pytest.importorskip("torchgeo.models", reason="TorchGeo needs Python 3.12: extra `foundation`")
DAYS = (61, 167)
TESSERA = "torchgeo:Tessera_Weights.TESSERA"
S2 = ["B04", "B02", "B03", "B08", "B8A", "B05", "B06", "B07", "B11", "B12"]


def normalized(image, name):
    """Return time series (pixels, T, C) of an image (1, T, C, H, W)."""
    step = models.weights.get(name).steps[0]
    scaled = (image - torch.tensor(step["mean"])[:, None, None]) / torch.tensor(step["std"])[:, None, None]
    return scaled[0].permute(2, 3, 0, 1).flatten(0, 1)


@pytest.fixture
def tessera(monkeypatch):
    def small():
        model = torchgeo.Tessera(embed_dim=128)
        for part in (model.s1_backbone, model.s2_backbone):
            part.transformer_encoder.layers = part.transformer_encoder.layers[:1]
        return model

    monkeypatch.setattr(torchgeo, "tessera", small)
    return small().eval()


@pytest.mark.parametrize(
    ("name", "bands", "part"),
    [
        (TESSERA, [*S2[::-1], "VV", "VH"], None),
        (f"{TESSERA}_SENTINEL2_ENCODER", S2, "s2_backbone"),
        (f"{TESSERA}_SENTINEL1_ENCODER", ["VH", "VV"], "s1_backbone"),
    ],
)
def test_tessera_takes_the_day_of_each_date(tessera, saved, name, bands, part):
    model = tessera if part is None else getattr(tessera, part)
    layer = image_layer(bands, 4, high=3000, dates=2)
    encoder = models.load(name, bands=layer, file=saved(model.state_dict()), size=4)
    series = normalized(images_of(layer, encoder), name)
    days = torch.tensor([61.0, 167.0])[None, :, None].expand(16, -1, 1)
    parts = [series[..., :10], days, series[..., 10:], days] if part is None else [series, days]
    with torch.no_grad():
        expected = model(torch.cat(parts, dim=-1))
    assert_features(encoder, layer, expected.T.reshape(1, -1, 4, 4))
    with pytest.raises(InputError, match=r"without dates: the layer states none for 2 time steps. Pass time="):
        models.load(name, bands=bands, file=saved(model.state_dict()), dates=2)


def test_tessera_maps_a_series(tessera, saved):
    layer = image_layer(["VV", "VH"], 4, high=3000, dates=2)
    name = f"{TESSERA}_SENTINEL1_ENCODER"
    encoder = models.load(name, bands=layer, file=saved(tessera.s1_backbone.state_dict()), size=4)
    mapped = geoxt.predict(layer, encoder, output="embeddings", size=4, overlap=0, series=True)
    np.testing.assert_allclose(mapped, encoder(images_of(layer, encoder))[-1][0].detach(), atol=1e-5)


PRESTO = "torchgeo:Presto_Weights.PRESTO"
PRESTO_S2 = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]


@pytest.mark.parametrize("bands", [PRESTO_S2, ["VV", "VH"], ["VH", "VV", *PRESTO_S2[::-1]]])
def test_presto_masks_missing_groups_and_computes_ndvi(saved, bands):
    model = torchgeo.presto().eval()
    layer = image_layer(bands, 4, low=1, high=3000, dates=2)
    encoder = models.load(PRESTO, bands=layer, file=saved(model.state_dict()), size=4)
    names = models.weights.get(PRESTO).bands
    series = torch.zeros(16, 2, 17)
    mask = torch.ones(17)
    step = models.weights.get(PRESTO).steps[0]
    for channel, name in enumerate(names):
        if name in bands:
            values = torch.from_numpy(layer.sel(band=name).to_numpy()).flatten(1).T
            series[..., channel] = (values - step["mean"][channel]) / step["std"][channel]
            mask[channel] = 0
    if "B04" in bands:
        red, nir = series[..., names.index("B04")], series[..., names.index("B08")]
        series[..., 16], mask[16] = (nir - red) / (nir + red), 0
    lon, lat = encoder.body.location
    latlons, months = torch.tensor([[lat, lon]]).expand(16, -1), torch.tensor([[2, 5]]).expand(16, -1)
    with torch.no_grad():
        tokens = model.encoder(series, torch.full((16, 2), 9), latlons, mask=mask.expand(16, 2, -1), month=months)[0]
    assert_features(encoder, layer, tokens.mean(1).T.reshape(1, -1, 4, 4))


def test_presto_is_not_loaded_with_parts_of_a_group(saved):
    path = saved(torchgeo.presto().state_dict())
    with pytest.raises(InputError, match="has no band 'B05', 'B07', only"):
        models.load(PRESTO, bands=["B06"], file=path, time=["2024-01-01"], location=(0, 0))
    with pytest.raises(InputError, match="without location"):
        models.load(PRESTO, bands=["B08"], file=path, time=["2024-01-01"])


OLMO = "torchgeo:OlmoEarthV1_Weights.NANO"
OLMO_S2 = ["B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09"]


@pytest.mark.parametrize("bands", [OLMO_S2, OLMO_S2[:4], ["VH", "VV"], [*OLMO_S2[:10], "VV", "VH"]])
def test_olmoearth_masks_missing_groups(saved, bands):
    olmo = pytest.importorskip("olmoearth_pretrain_minimal", reason="OlmoEarth is not installed: extra `foundation`")
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.constants import Modality
    from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample

    model = olmo.OlmoEarthPretrain_v1(model_size="nano", model_version="v1").model.eval()
    layer = image_layer(bands, 8, low=-20, high=3000, dates=2)
    encoder = models.load(OLMO, bands=layer, file=saved(model.state_dict()), size=8)
    assert encoder.patch_size == 4
    normalizer = olmo.Normalizer(std_multiplier=2.0)
    groups = [OLMO_S2[:4], OLMO_S2[4:10], OLMO_S2[10:]]
    inputs, encoded = {}, []
    for spec, names, sets in (
        (Modality.SENTINEL2_L2A, OLMO_S2, groups), (Modality.SENTINEL1, ["VV", "VH"], [["VV", "VH"]])
    ):  # fmt: skip
        if not set(names) & set(bands):
            continue
        filled = layer.reindex(band=names).transpose("y", "x", "time", "band").to_numpy()
        values = np.nan_to_num(normalizer.normalize(spec, filled), nan=0.5)
        mask = torch.tensor([0 if group[0] in bands else 3 for group in sets])
        inputs[spec.name] = torch.from_numpy(values).float()[None]
        inputs[f"{spec.name}_mask"] = mask.expand(1, 8, 8, 2, -1)
        encoded.append((spec.name, mask == 0))
    stamps = torch.tensor([[[1, 2, 2024], [15, 5, 2024]]])
    sample = MaskedOlmoEarthSample(timestamps=stamps, **inputs)
    gsd = round(float(abs(layer.x[1] - layer.x[0])))
    with torch.no_grad():
        output = model.encoder(sample, patch_size=4, input_res=gsd)["tokens_and_masks"]
    tokens = torch.cat([getattr(output, name)[..., keep, :].flatten(3, 4) for name, keep in encoded], dim=3)
    assert_features(encoder, layer, tokens.mean(3).movedim(-1, 1))


def test_olmoearth_is_not_loaded_with_parts_of_a_group_or_without_dates():
    with pytest.raises(InputError, match="has no band 'B08', only B02, B03, B04"):
        models.load(OLMO, bands=["B02", "B03", "B04"], file="x.pth")
    with pytest.raises(InputError, match=r"13 dates .* 1 to 12"):
        models.load(OLMO, bands=OLMO_S2, file="x.pth", dates=13)
