"""Decoders of segmentation-models-pytorch, and a linear one, on the feature maps of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError, did_you_mean
from geoxt.models.libraries import require_model_options, smp
from geoxt.models.padding import pad

DecoderName = Literal["linear", "FPN", "UPerNet", "Unet"]
"""Decoder of an encoder's feature maps: `"linear"`, or the name of a model of segmentation-models-pytorch."""
T = TypeVar("T")
_NUM_LEVELS = 4
_WIDTH = 256
_UNET = (256, 128, 64, 32, 16)


class Pyramid(nn.Module):
    """Four feature maps at 4, 2, 1 and 1/2 times the resolution of the input maps, which have one stride, as in ViTDet.

    Parameters
    ----------
    channels
        Channels of each input map. If there are not four maps, the last one is used four times, as in ViTDet.

    References
    ----------
    Li et al. 2022, https://arxiv.org/abs/2203.16527
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        first, second, third, fourth = _to_four_levels(channels)
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(first, first // 2, 2, 2), nn.GroupNorm(1, first // 2), nn.GELU(),
                    nn.ConvTranspose2d(first // 2, first // 4, 2, 2),
                ),
                nn.ConvTranspose2d(second, second // 2, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2, 2),
            ]
        )  # fmt: skip
        self.out_channels = (first // 4, second // 2, third, fourth)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return four maps, finest first; odd sides are padded to even ones."""
        return [scale(pad(x, 2)) for scale, x in zip(self.scales, _to_four_levels(maps), strict=True)]


def _to_four_levels(values: Sequence[T]) -> list[T]:
    return list(values) if len(values) == _NUM_LEVELS else [values[-1]] * _NUM_LEVELS


class Decoder(nn.Module):
    """Decoder: fuses the feature maps of an encoder into one feature map (N, F, h, w).

    Parameters
    ----------
    name
        Name of the decoder.
    channels, reductions
        Channels and stride of each feature map.
    options
        Further arguments of the decoder of segmentation-models-pytorch.

    Raises
    ------
    InputError
        If the decoder or an option is unknown, or the decoder needs other feature maps.
    """

    def __init__(self, name: str, channels: Sequence[int], reductions: Sequence[int], **options: Any) -> None:
        super().__init__()
        decoders = get_args(DecoderName)
        if name not in decoders:
            msg = f"Cannot build the decoder {name!r}. {did_you_mean(name, decoders, count=1)}".rstrip()
            remedy = f"Pass {{decoder}}, one of {', '.join(decoders)}."
            raise InputError(msg, remedy=remedy, value=name, argument="decoder")
        require_model_options(options)
        self.name = name
        self.pyramid: Pyramid | None = None
        self.decoder: Any = None
        self.out_channels, self.stride = channels[-1], reductions[-1]
        if name == "linear":
            if options:
                msg = f"Cannot build the linear decoder with the option {next(iter(options))!r}."
                raise InputError(msg, remedy="Leave it out.", value=next(iter(options)))
            return
        distinct = sorted(set(reductions))
        if len(distinct) == 1:
            if distinct[0] < _NUM_LEVELS:
                counted = f"{len(reductions)} feature maps" if len(reductions) > 1 else "one feature map"
                msg = f"Cannot build the decoder {name!r}: it needs feature maps of {_NUM_LEVELS} strides, but the "
                msg += f"encoder has {counted} of stride {distinct[0]}."
                raise InputError(msg, remedy="Pass {decoder:'linear'}.", value=name, argument="decoder")
            self.pyramid = Pyramid(channels)
            channels, base = self.pyramid.out_channels, distinct[0]
            reductions = (base // 4, base // 2, base, base * 2)
        doubling = all(2 * a == b for a, b in pairwise(reductions))
        if len(reductions) < _NUM_LEVELS or not (doubling or self.pyramid):
            strides = ", ".join(map(str, reductions))
            msg = f"Cannot build the decoder {name!r}: it needs feature maps of {_NUM_LEVELS} strides, each twice the "
            msg += f"previous one, but the encoder has the strides {strides}."
            raise InputError(msg, remedy="Pass {decoder:'linear'}.", value=name, argument="decoder")
        self.levels = len(reductions) if name == "Unet" else _NUM_LEVELS
        self.decoder, self.out_channels = _build_decoder(name, tuple(channels)[-self.levels :], options)
        self.stride = reductions[-self.levels]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the decoded feature map, at the stride of the finest map that the decoder takes."""
        if self.decoder is None:
            return maps[-1]
        if self.pyramid is not None:
            maps = self.pyramid(maps)
        maps = list(maps[-self.levels :])
        empty = maps[0][:, :0]
        if self.name == "Unet":  # its first map gives the size of the last block only
            return self.decoder([empty, *maps])
        return self.decoder([empty, empty, *maps])


def _build_decoder(name: str, channels: tuple[int, ...], options: dict[str, Any]) -> tuple[nn.Module, int]:
    """Return a decoder of segmentation-models-pytorch and its number of output channels."""
    decoders = smp().decoders
    try:
        if name == "Unet":
            widths = tuple(options.pop("decoder_channels", _UNET[-len(channels) :]))
            unet = decoders.unet.model.UnetDecoder((0, *channels), widths, len(channels), **options)
            return unet, int(widths[-1])
        if name == "FPN":
            fpn = decoders.fpn.model.FPNDecoder([0, 0, *channels], **options)
            return fpn, int(fpn.out_channels)
        width = options.pop("decoder_channels", _WIDTH)
        return decoders.upernet.model.UPerNetDecoder([0, 0, *channels], decoder_channels=width, **options), int(width)
    except (TypeError, ValueError) as error:
        msg = f"Cannot build the decoder {name!r} with {options} ({error})."
        raise InputError(msg, remedy="Pass other {decoder_options}.", argument="decoder_options") from error


class DecodedEncoder(nn.Module):
    """Encoder, decoder and head: logits or values (N, K, H, W) of pixels, or (N, K) of images.

    Parameters
    ----------
    encoder
        Encoder with `body`, `normalized`, `out_channels` and `reductions`.
    count
        Number of output channels, K.
    decoder, options
        Decoder and its further arguments.
    dense
        Whether to return an output for each pixel.
    dropout
        Dropout rate of the decoded features.
    """

    def __init__(
        self, encoder: Any, *, count: int, decoder: str, dense: bool, dropout: float, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dense = dense
        self.multiple = encoder.patch_size
        if not dense and decoder != "linear":
            msg = f"Cannot classify images with the decoder {decoder!r}: it returns maps."
            raise InputError(msg, remedy="Pass {decoder:'linear'}.", value=decoder, argument="decoder")
        self.decoder = Decoder(decoder, encoder.out_channels, encoder.reductions, **options)
        self.dropout = nn.Dropout2d(dropout) if dense else nn.Dropout(dropout)
        width = self.decoder.out_channels
        self.head = nn.Conv2d(width, count, 1) if dense else nn.Linear(width, count)

    @property
    def backbone(self) -> nn.Module:
        """Encoder."""
        encoder: nn.Module = self.encoder
        return encoder

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return logits or values of images in the units of the layer."""
        height, width = image.shape[-2:]
        if not self.encoder.body.fixed_size:
            image, valid = self._pad(image), None if valid is None else self._pad_mask(valid)
        maps = self.encoder(image, valid)
        features = self.dropout(self.decoder(maps) if self.dense else maps[-1].mean((-2, -1)))
        output: Tensor = self.head(features)
        if not self.dense:
            return output
        stride = self.decoder.stride
        if stride > 1:
            sides = (output.shape[-2] * stride, output.shape[-1] * stride)
            output = F.interpolate(output, size=sides, mode="bilinear", align_corners=False)
        return output[..., :height, :width]

    def _pad(self, image: Tensor) -> Tensor:
        padded = pad(image.reshape(-1, *image.shape[-3:]), self.multiple)
        return padded.reshape(*image.shape[:-2], *padded.shape[-2:])

    def _pad_mask(self, valid: Tensor) -> Tensor:
        return self._pad(valid.unsqueeze(-3).to(torch.float32)).squeeze(-3) > 0
