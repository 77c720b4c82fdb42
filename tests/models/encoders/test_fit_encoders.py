"""Encoders of TorchGeo and TerraTorch: `geoxt fit` from a file, a map by the checkpoint, and the ONNX file."""

import numpy as np
import pytest
import torch
import yaml
from support.encoder_layers import image_layer

import geoxt
from geoxt import models
from geoxt.cli import main

DOFA_BANDS, HLS_BANDS = ["red", "nir", "VV"], ["blue", "green", "red", "nir08", "swir16", "swir22"]


def write_dofa(monkeypatch, path):
    """Write small random weights of DOFA in their published format; return options to load them."""
    torchgeo = pytest.importorskip("torchgeo.models", reason="TorchGeo needs Python 3.12: extra `foundation`")
    small = {"embed_dim": 48, "depth": 4, "num_heads": 4}
    monkeypatch.setattr(torchgeo, "dofa_base_patch16_224", lambda **k: torchgeo.DOFA(**small, **k))
    state = torchgeo.DOFA(**small, img_size=32).state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith(("fc_norm.", "head."))}, path)
    return {"mean": [127.0] * 3, "std": [74.0] * 3}


def write_prithvi(monkeypatch, path):
    """Write small random weights of Prithvi in their published format; return options to load them."""
    pytest.importorskip("terratorch", reason="TerraTorch is not installed: extra `foundation`")
    from terratorch.models.backbones import prithvi_vit

    name = "prithvi_eo_v2_tiny_tl"
    small = {"embed_dim": 32, "depth": 4, "num_heads": 2}
    monkeypatch.setitem(prithvi_vit.prithvi_cfgs, name, prithvi_vit.prithvi_cfgs[name] | small)
    state = prithvi_vit.prithvi_eo_v2_tiny_tl(num_frames=1, img_size=32).state_dict()
    torch.save({f"encoder.{key}": value for key, value in state.items()}, path)
    return {}


CASES = {
    "torchgeo:DOFABase16_Weights.DOFA_MAE": (write_dofa, DOFA_BANDS, 255, {"decoder": "linear"}),
    "prithvi:eo2_tiny_tl": (write_prithvi, HLS_BANDS, 3000, {"decoder": "UPerNet"}),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_predict_and_export(name, tmp_path, monkeypatch, capsys):
    write, bands, high, decoder = CASES[name]
    options = write(monkeypatch, tmp_path / "weights.pth") | decoder
    config = {
        "data": {"class_path": "support.encoder_data.BrightPixels", "init_args": {"bands": bands, "high": high}},
        "task": "segmentation",
        "model": f"encoder/{name}",
        "model_options": options | {"freeze": "encoder", "file": str(tmp_path / "weights.pth"), "size": 32},
        "recipe": {"lr": 0.01, "ema_decay": 0.5},
        "training": {"epochs": 1, "accelerator": "cpu"},
        "out": str(tmp_path / "run"),
    }
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "fit.yaml")]) == 0, capsys.readouterr()
    network = models.from_checkpoint(tmp_path / "run" / "best.ckpt").eval()
    published = torch.load(tmp_path / "weights.pth")
    key = next(key for key in published if key.endswith("blocks.0.attn.qkv.weight"))
    trained = {k: v for k, v in network.state_dict().items() if k.endswith("blocks.0.attn.qkv.weight")}
    assert [torch.equal(v, published[key]) for v in trained.values()] == [True]
    layer = image_layer(bands, 64, high=high)
    probabilities = geoxt.predict(layer, tmp_path / "run" / "best.ckpt", output="probabilities", size=32, overlap=0)
    first = torch.from_numpy(layer.to_numpy()[None, :, :32, :32])
    with torch.no_grad():
        expected = network(first).softmax(1)
    np.testing.assert_allclose(probabilities[:, :32, :32], expected[0], atol=1e-5)
    pytest.importorskip("onnxscript")
    file = models.from_file(models.export(network, tmp_path / "model.onnx"))
    np.testing.assert_allclose(file(first), expected, atol=1e-4)
