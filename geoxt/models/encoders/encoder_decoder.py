"""`EncoderDecoder`: a pretrained encoder with a decoder; the encoder can be frozen, or adapted by LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.models.card import Card
from geoxt.models.encoders.decoders import DecodedEncoder
from geoxt.models.encoders.load_encoder import rebuild_encoder
from geoxt.models.encoders.pretrained_encoder import Encoder
from geoxt.models.network import Network
from geoxt.torch_devices import forked_rng

ENCODER = "encoder/"
"""Prefix of the architecture of a model card: the name of the encoder's weights follows."""
Freeze = Literal["encoder"] | int | None
_LORA = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora")
"""Arguments of peft's LoraConfig that a checkpoint can hold: others import modules or replace functions."""


class EncoderDecoder(Network):
    """Pretrained encoder with a decoder, for segmentation, pixelwise regression, classification or regression.

    It takes images in the units of the layer, as the encoder does, with the bands of the model card in order. A model
    of several dates is for `task="time-series"` or `"change"`.

    Parameters
    ----------
    encoder
        Encoder from `geoxt.models.load`. It becomes a submodule of the network.
    card
        Task, bands, classes and size, such as `data.card(task="segmentation")` of a data module.
    decoder
        `"linear"`, a 1 x 1 convolution on the last feature map (of images, a linear layer on its mean); or `"FPN"`,
        `"UPerNet"` or `"Unet"` of segmentation-models-pytorch. If all feature maps have one stride, maps of four
        strides are computed by transposed convolutions and pooling, as in ViTDet.
    freeze
        `"encoder"` freezes the weights and batch-norm statistics of the encoder; a number freezes its first blocks.
    lora
        Arguments of peft's `LoraConfig`, such as `{"r": 8}`: the encoder is frozen, and low-rank adapters of its
        linear layers are trained.
    dropout
        Dropout rate before the last layer.
    decoder_options
        Further arguments of the decoder, such as `{"decoder_channels": 128}`.
    seed
        Seed of the initial weights of decoder and adapters.

    Raises
    ------
    InputError
        If the decoder or an option is unknown, the encoder lacks requested feature maps, bands or blocks, or it takes
        another number of dates than the task.
    MissingDependency
        If `lora` is passed and peft is not installed.

    Examples
    --------
    >>> from geoxt import models, trainers  # doctest: +SKIP
    >>> encoder = models.load("terramind:v1_tiny", bands=layer)  # doctest: +SKIP
    >>> network = models.EncoderDecoder(encoder, data.card(), decoder="UPerNet", freeze="encoder")  # doctest: +SKIP
    >>> trainers.fit(trainers.Task(network), data, epochs=5)  # doctest: +SKIP
    """

    body: DecodedEncoder

    def __init__(
        self,
        encoder: Encoder,
        card: Card,
        *,
        decoder: str = "linear",
        freeze: Freeze = None,
        lora: Mapping[str, Any] | None = None,
        dropout: float = 0.0,
        decoder_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        kind = card.kind
        if kind.target not in ("pixels", "image") or kind.takes_series != (encoder.dates > 1):
            msg = f"Cannot build {encoder.card.model!r} for {card.task}: it takes {encoder.dates} dates."
            remedy = "Pass a {card} with task='segmentation', or 'time-series' for an encoder of several dates."
            raise InputError(msg, remedy=remedy, value=card.task, argument="card")
        missing = [band for band in encoder.bands if band not in card.bands]
        if missing:
            msg = f"Cannot build {encoder.card.model!r} for the bands {', '.join(card.bands)}: it takes {missing[0]!r}."
            remedy = "Pass a {card} of the layer for which the encoder was loaded."
            raise InputError(msg, remedy=remedy, value=tuple(missing), argument="card")
        options = dict(decoder_options or {})
        with forked_rng():
            torch.manual_seed(seed)
            body = DecodedEncoder(
                encoder, count=len(card.codes), decoder=decoder, dense=kind.target == "pixels", dropout=dropout,
                options=dict(options),
            )  # fmt: skip
            adapters = None if lora is None else _adapt(encoder, dict(lora))
        _freeze(encoder, "encoder" if lora is not None else freeze)
        parts = {
            "decoder": decoder, "freeze": freeze, "lora": adapters, "dropout": dropout, "decoder_options": options,
            "encoder": dict(encoder.description),
        }  # fmt: skip
        super().__init__(replace(card, model=f"{ENCODER}{encoder.card.model}", options=parts), body=body)
        self.positions = [card.bands.index(band) for band in encoder.bands]
        self.train(self.training)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return logits or values of images, as `Network` does; the encoder normalizes them."""
        return self.in_target_units(self.body(self._bands(image), valid))

    def embed(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the last feature map (N, F, h, w) of the encoder."""
        return self.body.encoder.embed(self._bands(image), valid)

    def train(self, mode: bool = True) -> EncoderDecoder:  # noqa: FBT001, FBT002 (torch's signature)
        """Set the training mode; frozen modules stay in evaluation mode, so that batch norm and dropout are fixed."""
        super().train(mode)
        for module in self.body.encoder.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.train(mode=False)
        return self

    def _bands(self, image: Tensor) -> Tensor:
        """Select the bands of the encoder from an image, in the order of the encoder."""
        ordered = self.positions == list(range(len(self.card.bands)))
        return image if ordered else image[..., self.positions, :, :]


def network_of(card: Card) -> Network:
    """Return the network of a checkpoint's model card, with initial weights."""
    if not card.model.startswith(ENCODER):
        return Network(card)
    options = dict(card.options)
    encoder = rebuild_encoder(options.pop("encoder"))
    return EncoderDecoder(encoder, card, **options)


def _freeze(encoder: Encoder, freeze: Freeze) -> None:
    """Freeze an encoder except for its adapters, or its first blocks and the layers before them."""
    if freeze is None:
        return
    names = dict(encoder.body.named_parameters())
    if freeze == "encoder":
        for name, parameter in names.items():
            parameter.requires_grad_("lora_" in name)
        return
    body: Any = encoder.body
    blocks: tuple[nn.Module, ...] = body.blocks
    count: Any = freeze  # of a configuration: any value
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= freeze <= len(blocks):
        counted = f"{len(blocks)} blocks" if blocks else "no known blocks"
        msg = f"Cannot freeze {freeze!r} blocks of {encoder.card.model!r}: it has {counted}."
        remedy = f"Pass {{freeze}}, 1 to {len(blocks)}, or 'encoder'." if blocks else "Pass {freeze:'encoder'}."
        raise InputError(msg, remedy=remedy, value=freeze, argument="freeze")
    trained = {id(parameter) for block in blocks[freeze:] for parameter in block.parameters()}
    order = list(names.values())
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    last = max(index for index, parameter in enumerate(order) if id(parameter) in inside)
    for index, parameter in enumerate(order):
        parameter.requires_grad_(id(parameter) in trained or index > last)


def _adapt(encoder: Encoder, options: dict[str, Any]) -> dict[str, Any]:
    """Add low-rank adapters to an encoder, and return their options."""
    with optional_import("peft", "lora", "train adapters"):
        import peft
    unknown = sorted(set(options) - set(_LORA))
    if unknown:
        msg = f"Cannot adapt {encoder.card.model!r} with the option {unknown[0]!r}."
        raise InputError(msg, remedy=f"Pass {{lora}} with some of {', '.join(_LORA)}.", value=unknown[0])
    model: Any = encoder.body.model
    linear_layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    targets = options.pop("target_modules", None) or linear_layers
    if not targets:
        msg = f"Cannot adapt {encoder.card.model!r}: it has no linear layers."
        raise InputError(msg, remedy="Pass {lora} with target_modules, names of convolutions.", argument="lora")
    targets = [targets] if isinstance(targets, str) else list(targets)
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(target_modules=targets, **options), model)
    except (TypeError, ValueError) as error:
        msg = f"Cannot adapt {encoder.card.model!r} by LoRA with {options}: {error}."
        raise InputError(msg, remedy="Pass other options by {lora}.", argument="lora") from error
    return {**options, "target_modules": targets}
