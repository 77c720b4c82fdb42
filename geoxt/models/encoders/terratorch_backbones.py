"""Models of TerraTorch as encoders: Prithvi, TerraMind and Clay."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import optional_import
from geoxt.models.encoders.backbone_request import BackboneRequest, day_of_year, year_and_month
from geoxt.models.encoders.feature_backbone import FeatureBackbone, block_indices, strip_prefix, token_map


class _TokenListBackbone(FeatureBackbone):
    """Model that returns the tokens of all blocks; those of the last block are normalized.

    Parameters
    ----------
    model
        Model of the provider.
    indices
        Indices of the blocks whose outputs are returned.
    width
        Number of channels of a token.
    prefix
        Number of tokens before the patch tokens.
    options
        As in `FeatureBackbone`.
    """

    def __init__(
        self, model: nn.Module, *, indices: tuple[int, ...], width: int, prefix: int, patch_size: int, **options: Any
    ) -> None:
        channels = (width * options.get("dates", 1),) * len(indices)
        reductions = (patch_size,) * len(indices)
        super().__init__(model, patch_size=patch_size, out_channels=channels, reductions=reductions, **options)
        self.indices, self.prefix = indices, prefix

    def tokens(self, image: Tensor) -> list[Tensor]:
        """Return the tokens of all blocks."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return feature maps (N, T * F, h, w) of normalized images."""
        tokens = self.tokens(image)
        shape = tuple(side // self.patch_size for side in image.shape[-2:])
        return [token_map(tokens[index][:, self.prefix :], shape, self.dates) for index in self.indices]


class PrithviBackbone(_TokenListBackbone):
    """Prithvi: takes dates and location if its weights have embeddings of them.

    Parameters
    ----------
    temporal
        Year and day of the year, from 1, of each date; empty if unknown.
    location
        Latitude and longitude; empty if unknown.
    model, options
        As in the base class.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        temporal: tuple[tuple[int, int], ...],
        location: tuple[float, ...],
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.temporal, self.location = temporal, location

    def tokens(self, image: Tensor) -> list[Tensor]:
        """Return the tokens of all blocks."""
        images = image.movedim(1, 2) if image.ndim == 5 else image.unsqueeze(2)
        temporal, location = (
            torch.tensor(values, device=image.device, dtype=image.dtype).expand(image.shape[0], *[-1] * dims)
            if values
            else None
            for values, dims in ((self.temporal, 2), (self.location, 1))
        )
        features: list[Tensor] = self.model.forward_features(images, temporal, location)
        return features


def prithvi(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build the encoder of Prithvi; the decoder and the fixed position embeddings of the file are ignored."""
    with optional_import("terratorch", "foundation", "build this encoder"):
        from terratorch.models.backbones import prithvi_vit
    build = getattr(prithvi_vit, request.options["model"])
    model = build(pretrained=False, num_frames=request.dates, img_size=request.size)
    parts = {key: v for key, v in state.items() if not re.search(r"decoder|_dec\b|_dec\.|mask_token", key)}
    parts = {key: v for key, v in strip_prefix(parts, "encoder.").items() if key != "pos_embed"}
    request.load(model, parts, allow_missing=("pos_embed",))
    time, location = request.context.time, request.context.location
    # days 1 to 365, as the model card of Prithvi-EO-2.0 states and the data sets of TerraTorch pass them
    temporal = tuple((year_and_month(date)[0], day_of_year(date)) for date in time) if model.temporal_encoding else ()
    return PrithviBackbone(
        model, temporal=temporal, location=location[::-1] if location and model.location_encoding else (),
        indices=block_indices(len(model.blocks), request.out_indices), width=model.embed_dim, prefix=1,
        patch_size=model.patch_embed.patch_size[1], size=request.size, dates=request.dates, blocks=model.blocks,
    )  # fmt: skip


class TerraMindBackbone(_TokenListBackbone):
    """TerraMind: mean of the tokens of the modalities.

    Parameters
    ----------
    modalities
        Name and channels of each modality that is passed to the model.
    model, options
        As in the base class.
    """

    def __init__(self, model: nn.Module, *, modalities: dict[str, list[int]], **options: Any) -> None:
        super().__init__(model, **options)
        self.modalities = modalities

    def tokens(self, image: Tensor) -> list[Tensor]:
        """Return the tokens of all blocks."""
        tokens: list[Tensor] = self.model({name: image[:, at] for name, at in self.modalities.items()})
        return tokens


def terramind(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build TerraMind for the modalities of the layer."""
    with optional_import("terratorch", "foundation", "build this encoder"):
        from terratorch.models.backbones.terramind.model import terramind_register
    present = {request.names[channel] for channel in request.inputs.channels}
    modalities = {
        modality: [request.names.index(name) for name in names]
        for modality, names in zip(request.options["modalities"], request.options["groups"], strict=True)
        if present & set(names)
    }
    build = getattr(terramind_register, request.options["model"])
    model = build(pretrained=False, modalities=list(modalities))
    request.load(model, {k: v for k, v in state.items() if k in model.state_dict()})
    return TerraMindBackbone(
        model, modalities=modalities, indices=block_indices(len(model.encoder), request.out_indices),
        width=model.out_channels[0], prefix=0, patch_size=16, size=224, fixed_size=True, blocks=model.encoder,
    )  # fmt: skip


class ClayBackbone(FeatureBackbone):
    """Clay: generates its patch embedding from wavelengths; date and location are zero if unknown.

    Parameters
    ----------
    waves
        Wavelength of each band in micrometres.
    gsd
        Ground sample distance in metres.
    time, latlon
        Sine and cosine of week and hour, and of latitude and longitude; zeros if unknown.
    indices
        Indices of the blocks whose outputs are returned.
    model, options
        As in `FeatureBackbone`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        waves: tuple[float, ...],
        gsd: float,
        time: tuple[float, ...],
        latlon: tuple[float, ...],
        indices: tuple[int, ...],
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.waves, self.gsd, self.time, self.latlon, self.indices = waves, gsd, time, latlon, indices

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return feature maps (N, F, h, w) of normalized images."""
        waves, time, latlon = (
            torch.tensor(values, device=image.device, dtype=image.dtype)
            for values in (self.waves, self.time, self.latlon)
        )
        count = image.shape[0]
        cube = {
            "pixels": image,
            "time": time.expand(count, -1),
            "latlon": latlon.expand(count, -1),
            "gsd": torch.tensor(self.gsd),
            "waves": waves,
        }
        output = self.model(cube)
        shape = tuple(side // self.patch_size for side in image.shape[-2:])
        # Clay 1 returns the tokens of all blocks; Clay 1.5 returns the tokens of the last block, and indices.
        tokens = [output[index] for index in self.indices] if isinstance(output, list) else [output[0]]
        return [token_map(x[:, 1:], shape) for x in tokens]


def clay(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build the encoder of Clay."""
    depth, width, heads = request.options["depth"], request.options["width"], request.options["heads"]
    common: dict[str, Any] = {"patch_size": 8, "dim": width, "depth": depth, "heads": heads, "dim_head": 64}
    with optional_import("terratorch", "foundation", "build this encoder"):
        from terratorch.models.backbones.clay_v1 import modules
        from terratorch.models.backbones.clay_v15 import model as clay15
    if request.options["version"] == "1":
        with warnings.catch_warnings():  # of torch: layers that normalize first have no nested tensors
            warnings.filterwarnings("ignore", "enable_nested_tensor", UserWarning)
            model = modules.EmbeddingEncoder(img_size=request.size, mlp_ratio=4.0, **common)
        indices = block_indices(depth, request.out_indices)
    else:
        model = clay15.Encoder(mask_ratio=0.0, shuffle=False, mlp_ratio=4.0, **common)
        indices = (depth - 1,)
    encoder = {key: value for key, value in state.items() if re.match(r"(model\.)?encoder\.", key)}
    request.load(model, strip_prefix(strip_prefix(encoder, "model."), "encoder."))
    context = request.context
    radar = dict(zip(("vv", "vh"), request.options["radar"], strict=True))
    return ClayBackbone(
        model, waves=tuple(radar.get(f.common, f.wavelength) for f in request.inputs.metadata), gsd=request.gsd(),
        time=_encode_week(context.time), latlon=_encode_location(context.location), indices=indices, patch_size=8,
        size=request.size, fixed_size=True, out_channels=(width,) * len(indices), reductions=(8,) * len(indices),
    )  # fmt: skip


def _encode_week(time: tuple[str, ...]) -> tuple[float, ...]:
    """Return sine and cosine of the ISO week and of the hour. The hour is noon, as layers of composites state days.

    Order and formulas follow `finetune/embedder/how-to-embed.ipynb` of Clay.
    """
    if not time:
        return (0.0,) * 4
    week = np.datetime64(time[0], "D").astype(object).isocalendar()[1]
    return (*_sin_cos(week / 52), *_sin_cos(12 / 24))


def _encode_location(location: tuple[float, float] | None) -> tuple[float, ...]:
    if location is None:
        return (0.0,) * 4
    lon, lat = location
    return (*_sin_cos(lat / 360), *_sin_cos(lon / 360))


def _sin_cos(turns: float) -> tuple[float, float]:
    return math.sin(2 * math.pi * turns), math.cos(2 * math.pi * turns)
