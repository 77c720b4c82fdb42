"""Decoders on pretrained encoders: outputs, frozen parts, adapters, checkpoints, training and errors."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from support.encoder_layers import image_layer

import geoxt
from geoxt import models, trainers
from geoxt.errors import InputError, MissingDependency
from geoxt.models.encoders.decoders import Decoder
from geoxt.models.network import save_checkpoint

VIT, RESNET = "timm/test_vit.r160_in1k", "timm/test_resnet.r160_in1k"
BANDS = ("B", "R", "G", "extra")
SIDE = 32


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name in (VIT, RESNET):
            model = timm.create_model(name.removeprefix("timm/").split(".")[0], num_classes=0)
            torch.save(model.state_dict(), folder / f"{len(name)}.pth")
    return {name: folder / f"{len(name)}.pth" for name in (VIT, RESNET)}


def card(task="segmentation"):
    return models.Card(
        task=task, model="", bands=BANDS, mean=(100.0,) * 4, std=(50.0,) * 4, codes=(0, 1), names=("land", "water"),
        colors=("#00ff00", "#0000ff"), size=(SIDE, SIDE),
    )  # fmt: skip


def network_of(files, name=VIT, task="segmentation", **options):
    encoder = models.load(name, bands=list(BANDS), file=files[name], size=SIDE)
    return models.EncoderDecoder(encoder, card(task), **options)


def images(count=2, side=SIDE):
    return torch.randint(0, 255, (count, 4, side, side), generator=torch.Generator().manual_seed(0)).float()


def data_module():
    items = [{"image": x, "mask": (x[0] > 128).long()} for x in images(4)]
    return trainers.SampleDataModule(items, items[:1], batch_size=2)


def fitted(network, folder=None, *, epochs=1, **recipe):
    recipe = {"lr": 0.01, "ema_decay": 0.5, "schedule": "constant", **recipe}
    task = trainers.Task(network, trainers.Recipe(**recipe))
    trainers.fit(task, data_module(), epochs=epochs, accelerator="cpu", resume=folder, progress="none")
    return task


def changed(before, network):
    """Return the names of the tensors that differ."""
    return {name for name, value in network.state_dict().items() if not torch.equal(before[name], value)}


def copied(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", [VIT, RESNET])
@pytest.mark.parametrize("decoder", ["linear", "FPN", "UPerNet", "Unet"])
def test_outputs_have_the_size_of_the_image_and_round_trip(files, tmp_path, name, decoder):
    options = {} if decoder == "linear" else {"decoder_options": OPTIONS[decoder]}
    if name == RESNET and decoder == "Unet":
        options = {"decoder_options": {"decoder_channels": (16, 16, 16, 16, 16)}}
    network = network_of(files, name, decoder=decoder, freeze="encoder", **options).eval()
    for side in (SIDE,) if name == VIT else (SIDE, 45):
        assert network(images(side=side)).shape == (2, 2, side, side)
    restored = models.from_checkpoint(save_checkpoint(network, tmp_path / "model.ckpt"))
    assert torch.equal(restored(images()), network(images()))
    assert [p.requires_grad for p in restored.parameters()] == [p.requires_grad for p in network.parameters()]


def test_images_are_normalized_once_and_bands_are_matched(files):
    network = network_of(files).eval()
    encoder = models.load(VIT, bands=["R", "G", "B"], file=files[VIT], size=SIDE)
    assert network.body.encoder.bands == ("R", "G", "B")
    image, valid = images(), torch.rand(2, SIDE, SIDE) > 0.2
    expected = encoder(image[:, [1, 2, 0]], valid)[-1]
    torch.testing.assert_close(network.embed(image, valid), expected)
    head = torch.nn.functional.conv2d(expected, network.body.head.weight, network.body.head.bias)
    mean = network(image, valid).unflatten(-1, (-1, 16)).unflatten(-3, (-1, 16)).mean((-3, -1))
    torch.testing.assert_close(mean, head, atol=0.2, rtol=0.2)


def test_frozen_encoder_keeps_weights_and_statistics(files):
    network = network_of(files, RESNET, freeze="encoder")
    before = copied(network)
    fitted(network)
    assert changed(before, network) == {"body.head.weight", "body.head.bias"}


def test_first_blocks_are_frozen(files):
    network = network_of(files, RESNET, freeze=2)
    before = copied(network)
    fitted(network, encoder_lr=0.001)
    names = changed(before, network)
    frozen = {name for name in before if ".layer1." in name or ".conv1." in name.split("layer")[0]}
    assert frozen
    assert not frozen & names
    assert any(".layer4." in name and "running_mean" in name for name in names)


def test_learning_rates_of_encoder_and_decoder(files):
    network = network_of(files)
    task = trainers.Task(network, trainers.Recipe(lr=0.1, encoder_lr=0.01, schedule="one-cycle"))
    trainers.fit(task, data_module(), epochs=1, accelerator="cpu", progress="none")
    groups = task.optimizers().param_groups
    assert [group["max_lr"] for group in groups] == [0.1, 0.01]
    assert len(groups[0]["params"]) == 2
    with pytest.raises(InputError, match=r"encoder_lr=0.01: the model has no encoder with trained"):
        fitted(network_of(files, freeze="encoder"), encoder_lr=0.01)


def test_resumed_training_equals_uninterrupted(files, tmp_path):
    network = fitted(network_of(files, freeze=1), tmp_path / "a", epochs=2).network
    fitted(network_of(files, freeze=1), tmp_path / "b", epochs=1)
    resumed = fitted(network_of(files, freeze=1), tmp_path / "b", epochs=2).network
    assert not changed(network.state_dict(), resumed)
    restored = models.from_checkpoint(tmp_path / "b" / "best.ckpt")
    assert torch.equal(restored(images()), resumed.eval()(images()))


def test_only_adapters_are_trained(files, tmp_path):
    pytest.importorskip("peft")
    network = network_of(files, lora={"r": 2, "lora_alpha": 4})
    before = copied(network)
    fitted(network)
    names = changed(before, network)
    assert any("lora_B" in name for name in names)
    assert all("lora_" in name or ".head." in name for name in names)
    restored = models.from_checkpoint(save_checkpoint(network, tmp_path / "model.ckpt"))
    assert torch.equal(restored(images()), network.eval()(images()))
    with pytest.raises(InputError, match="megatron_core"):
        network_of(files, lora={"megatron_core": "os"})


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_linear_head_of_images(files, tmp_path, task):
    network = network_of(files, task=task, dropout=0.1).eval()
    assert network(images()).shape == (2, 2)
    if task == "regression":
        scaled = replace(card(task), target_mean=(9.0, 3.0), target_std=(2.0, 4.0))
        other = models.EncoderDecoder(network.body.encoder, scaled, dropout=0.1).eval()
        expected = network(images()) * torch.tensor([2.0, 4.0]) + torch.tensor([9.0, 3.0])
        torch.testing.assert_close(other(images()), expected)
    restored = models.from_checkpoint(save_checkpoint(network, tmp_path / "model.ckpt"))
    assert torch.equal(restored(images()), network(images()))


def test_prediction_and_embeddings(files):
    network = network_of(files, RESNET, freeze="encoder").eval()
    layer = image_layer(BANDS, 64)
    assert geoxt.predict(layer, network).shape[-2:] == (64, 64)
    embeddings = geoxt.predict(layer, network, output="embeddings", size=SIDE, overlap=0)
    first = torch.from_numpy(layer.to_numpy()[None, :, :SIDE, :SIDE])
    with torch.no_grad():
        np.testing.assert_allclose(embeddings[:, :1, :1], network.embed(first)[0], atol=1e-5)


@pytest.mark.slow
def test_export(files, tmp_path):
    network = network_of(files, RESNET, freeze="encoder").eval()
    file = models.from_file(models.export(network, tmp_path / "model.pt2"))
    with torch.no_grad():
        np.testing.assert_allclose(file(images()), network(images()).softmax(1), atol=1e-4)


def test_configuration_of_an_encoder(files):
    config = trainers.TrainingConfig(
        model=f"encoder/{VIT}",
        model_options={"decoder": "linear", "freeze": "encoder", "file": str(files[VIT]), "size": SIDE},
        training=trainers.TrainingOptions(epochs=1),
    )
    text = (
        Path(__file__)
        .parents[3]
        .joinpath("docs/how-to/training.md")
        .read_text(encoding="utf-8")
        .split("# encoder.yaml\n")[1]
        .split("```")[0]
    )
    stated = yaml.safe_load(text)
    assert set(stated["model_options"]) <= {"decoder", "freeze"}
    trainers.Recipe(**stated["recipe"])
    data = data_module()
    data.card = lambda task, **options: card(task)
    task = trainers.build(config, data)
    assert task.card.model == f"encoder/{VIT}"
    before = copied(task.network)
    trainers.fit(task, data, epochs=1, accelerator="cpu", progress="none")
    assert changed(before, task.network) == {"body.head.weight", "body.head.bias"}
    with pytest.raises(InputError, match="the option 'frozen'"):
        trainers.build(replace(config, model_options={"frozen": 1}), data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "UperNet"}, r"decoder 'UperNet'. Did you mean UPerNet"),
        ({"decoder": "FPN", "task": "classification"}, r"images with the decoder 'FPN'"),
        ({"decoder": "Unet", "decoder_options": {"depth": 2}}, r"decoder 'Unet' with {'depth': 2}"),
        ({"decoder_options": {"width": 2}}, r"linear decoder with the option 'width'"),
        ({"freeze": 99}, r"freeze 99 blocks of .*: it has \d+ blocks"),
        ({"freeze": 0}, r"freeze 0 blocks"),
        ({"task": "time-series"}, r"for time-series: it takes 1 dates"),
    ],
)
def test_options_that_do_not_fit(files, options, message):
    with pytest.raises(InputError, match=message):
        network_of(files, **options)


def test_decoders_that_need_several_strides():
    with pytest.raises(InputError, match=r"4 strides, but the encoder has one feature map of stride 1. Pass decoder='"):
        Decoder("UPerNet", (8,), (1,))
    with pytest.raises(
        InputError, match=r"4 strides, each twice the previous one, but the encoder has the strides 4, 8"
    ):
        Decoder("FPN", (8, 8), (4, 8))


def test_missing_peft_names_the_extra(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependency, match="lora"):
        network_of(files, lora={"r": 2})


OPTIONS = {
    "FPN": {"pyramid_channels": 32, "segmentation_channels": 32},
    "UPerNet": {"decoder_channels": 16},
    "Unet": {"decoder_channels": (16, 16, 16, 16)},
}
