"""`Encoder`: a pretrained encoder that takes bands of a layer by name and returns feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.models.card import Card
from geoxt.models.encoders.feature_backbone import FeatureBackbone
from geoxt.models.encoders.layer_inputs import LayerInputs
from geoxt.models.network import Network

Steps = Sequence[Mapping[str, Any]]


class Encoder(Network):
    """Pretrained encoder: computes feature maps of images in the units of a layer.

    `encoder(image, valid)` returns a list of feature maps, finest or shallowest first, as timm's `features_only` models
    do; `out_channels` and `reductions` describe them. `encoder.body` is the model of the provider, whose parameters can
    be frozen or trained. `predict(layer, encoder, output="embeddings", size=encoder.size)` maps the last feature map.

    Parameters
    ----------
    card
        Model card: bands of the layer in the order of the model, with mean and deviation in units of the layer.
    body
        Model that returns feature maps of normalized images.
    inputs
        Bands of the layer, their channels in the model and the unit conversion.
    steps
        Normalization in units of the model; see `Weights.steps`.
    fill
        Value of each channel for missing bands and invalid pixels, in units of the model.

    Attributes
    ----------
    bands
        Names of the bands that the encoder takes, in order.
    patch_size
        Side of a patch in pixels: sides of images are multiples of it.
    size
        Side in pixels of the images for which the encoder was loaded: that of the training, or `size`. Images of other
        multiples of `patch_size` are accepted by encoders whose positions do not depend on it, else an InputError is
        raised.
    dates
        Number of time steps of an image.
    out_channels, reductions
        Channels, and stride in pixels, of each feature map.
    notes
        Dropped and filled bands, unit conversions and unknown inputs, as text.
    """

    def __init__(
        self,
        card: Card,
        body: FeatureBackbone,
        *,
        inputs: LayerInputs,
        steps: Steps,
        fill: Sequence[float],
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(card, body=body)
        self.patch_size = body.patch_size
        self.size = body.size
        self.dates = body.dates
        self.out_channels = tuple(body.out_channels)
        self.reductions = tuple(body.reductions)
        self.notes = (*inputs.notes, *notes)
        self.channels = inputs.channels
        self._inputs = inputs
        self.steps = tuple(dict(step) for step in steps)
        self.description: Mapping[str, Any] = {}
        """Arguments of `load_encoder.rebuild_encoder`, JSON-compatible except for NaN."""
        self.factor: Tensor
        self.offset: Tensor
        self.fill: Tensor
        for name, values in (("factor", inputs.scale), ("offset", inputs.offset), ("fill", fill)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands that the encoder takes, in order."""
        return self.card.bands

    def require_layer(self, layer: Any, names: Sequence[str] | None) -> None:
        """Raise if a layer, with these names of `bands`, has other units or scales than the encoder takes."""
        self._inputs.require_layer(layer, names, self.card.model)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> list[Tensor]:  # type: ignore[override]
        """Return feature maps (N, F, h, w) of images.

        Parameters
        ----------
        image
            Float32 (N, C, H, W), or (N, T, C, H, W) for an encoder of several dates, in the units of the layer.
        valid
            Valid pixels, bool, of the shape of `image` without bands; others are set to the fill value.

        Raises
        ------
        InputError
            If the number of bands, dates or pixels does not match the model.
        """
        self._require_shape(image)
        features: list[Tensor] = self.body(self.normalize(image, valid))
        return features

    def embed(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the last feature map (N, F, h, w) of images; see `forward`."""
        return self(image, valid)[-1]

    def normalize(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return all channels of the model's input, normalized."""
        values = image * self.factor + self.offset
        fill = self.fill.to(values.dtype)
        mask = None if valid is None else valid.unsqueeze(-3)
        if mask is not None:
            values = values.where(mask, fill[list(self.channels)])
        if self.channels != tuple(range(len(fill))):
            channels = fill.expand(*values.shape[:-3], len(fill), *values.shape[-2:]).clone()
            channels[..., list(self.channels), :, :] = values
            values = channels
        for step in self.steps:
            values = _apply(step, values, mask)
        return values

    def _require_shape(self, image: Tensor) -> None:
        """Raise if the shape of images does not match the model."""
        body: Any = self.body
        if image.ndim not in (4, 5) or image.shape[-3] != len(self.bands):
            msg = f"Cannot encode images of the shape {tuple(image.shape)}: the encoder takes {len(self.bands)} bands, "
            msg += f"{', '.join(self.bands)}."
            raise InputError(msg, remedy="Pass {image} of the shape (N, C, H, W) or (N, T, C, H, W).", argument="image")
        dates = image.shape[1] if image.ndim == 5 else 1
        if dates != self.dates:
            msg = f"Cannot encode images of {dates} dates: the encoder takes {self.dates}."
            raise InputError(msg, remedy=f"Load it with {{dates:{dates}}}, where the model allows it.", value=dates)
        height, width = image.shape[-2:]
        if body.fixed_size and (height, width) != (self.size, self.size):
            msg = (
                f"Cannot encode images of {height} x {width} pixels: the positions of the encoder are for {self.size}."
            )
            remedy = f"Pass {{size:{self.size}}} to predict. Or load the encoder with this {{size}}."
            raise InputError(msg, remedy=remedy, value=(height, width), argument="size")
        if height % self.patch_size or width % self.patch_size:
            msg = f"Cannot divide images of {height} x {width} pixels into patches of {self.patch_size} pixels."
            remedy = f"Pass {{size}}, a multiple of {self.patch_size}."
            raise InputError(msg, remedy=remedy, value=(height, width), argument="size")


def _apply(step: Mapping[str, Any], values: Tensor, mask: Tensor | None) -> Tensor:
    """Return values (…, C, H, W) after one step."""
    match step["op"]:
        case "divide":
            return values / _column(step["by"], values)
        case "multiply":
            return values * _column(step["by"], values)
        case "normalize":
            return (values - _column(step["mean"], values)) / _column(step["std"], values)
        case "clip":
            return values.clamp(step["min"], step["max"])
        case "stretch":
            return _stretch(values, mask, step["std"])
        case "resize" | "center_crop":
            return values
        case name:
            raise InputError(f"Cannot normalize with the step {name!r}.")


def _stretch(values: Tensor, mask: Tensor | None, width: float) -> Tensor:
    """Scale `mean - width * std` to `mean + width * std` of each channel and image to 0 … 1; 0.5 without contrast."""
    weight = torch.ones_like(values) if mask is None else mask.expand_as(values).to(values.dtype)
    count = weight.sum((-2, -1), keepdim=True).clamp(min=1)
    mean = (values * weight).sum((-2, -1), keepdim=True) / count
    variance = ((values - mean).square() * weight).sum((-2, -1), keepdim=True) / (count - 1).clamp(min=1)
    std = variance.sqrt()
    scaled = (values - mean) / (2 * width * std.where(std > 0, 1)) + 0.5
    return (scaled if mask is None else scaled.where(mask, 0.5)).clamp(0, 1)


def _column(value: float | Sequence[float], like: Tensor) -> Tensor:
    column = torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(-1)
    return column[:, None, None]
