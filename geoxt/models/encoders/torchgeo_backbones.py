"""Models of TorchGeo as encoders: DOFA, CROMA, Panopticon, ScaleMAE, Copernicus-FM, EarthLoc and TileNet."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.models.encoders.backbone_request import BackboneRequest
from geoxt.models.encoders.feature_backbone import FeatureBackbone, TokenBackbone, resize_positions, token_map
from geoxt.models.encoders.layer_inputs import LayerInputs

_RADAR = ("vv", "vh", "hh", "hv")
_DOFA_RADAR = 3.75
"""Wavelength that stands for radar in the weights of DOFA (documented by TorchGeo's `DOFA.forward`)."""


def torchgeo_models() -> Any:
    """Import and return `torchgeo.models`.

    Raises
    ------
    MissingDependency
        If TorchGeo is not installed.
    """
    with optional_import("torchgeo", "foundation", "build this encoder"):
        import torchgeo.models
    return torchgeo.models


def _build(function: str, **options: Any) -> Any:
    """Build a model of TorchGeo without weights."""
    models = torchgeo_models()
    if not hasattr(models, function):
        msg = f"Cannot build torchgeo.models.{function}: the installed version of TorchGeo has no such model."
        raise InputError(msg, remedy="Install a newer version: pip install -U torchgeo.", value=function)
    return getattr(models, function)(**options)


class DofaBackbone(TokenBackbone):
    """DOFA: generates the kernels of the patch embedding from wavelengths.

    Parameters
    ----------
    wavelengths
        Wavelength of each band in micrometres.
    model, options
        As in `TokenBackbone`.
    """

    def __init__(self, model: nn.Module, *, wavelengths: tuple[float, ...], **options: Any) -> None:
        super().__init__(model, **options)
        self.wavelengths = wavelengths

    def call(self, image: Tensor) -> Any:
        """Run DOFA on normalized images."""
        return self.model.forward_features(image, list(self.wavelengths))


def dofa(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build DOFA; its position embeddings are resized to the side of the images."""
    model = _build(request.options["model"], img_size=request.size)
    side = request.size // model.patch_size
    state = resize_positions(state, side)
    request.load(model, state, allow_missing=("fc_norm.", "norm.", "head."), allow_unexpected=("norm.", "mask_token"))
    wavelengths = tuple(_DOFA_RADAR if f.common in _RADAR else f.wavelength for f in request.inputs.metadata)
    return DofaBackbone(
        model, wavelengths=wavelengths, blocks=model.blocks, out_indices=request.out_indices, width=model.embed_dim,
        patch_size=model.patch_size, size=request.size, fixed_size=True,
    )  # fmt: skip


class CromaBackbone(FeatureBackbone):
    """CROMA: encodes radar, optical images, or both jointly.

    Parameters
    ----------
    radar, optical
        Channels of radar and optical bands; empty without such bands.
    model, options
        As in `FeatureBackbone`.
    """

    def __init__(self, model: nn.Module, *, radar: tuple[int, ...], optical: tuple[int, ...], **options: Any) -> None:
        super().__init__(model, **options)
        self.radar, self.optical = radar, optical

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map (N, F, h, w) of normalized images."""
        sar = image[:, list(self.radar)] if self.radar else None
        optical = image[:, list(self.optical)] if self.optical else None
        outputs = self.model(x_sar=sar, x_optical=optical)
        kind = "joint" if self.radar and self.optical else "sar" if self.radar else "optical"
        return [token_map(outputs[f"{kind}_encodings"], (self.size // self.patch_size,) * 2)]


def croma(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build CROMA for the bands of the layer: radar, optical or both."""
    # Channels of a missing sensor are filled, but not passed to the model.
    groups = {name: group for group, names in enumerate(request.options["groups"]) for name in names}
    present = {groups[request.names[channel]] for channel in request.inputs.channels}
    radar, optical = (
        tuple(c for c, name in enumerate(request.names) if groups[name] == group) if group in present else ()
        for group in (0, 1)
    )
    modalities = [name for name, channels in (("sar", radar), ("optical", optical)) if channels]
    model = _build(request.options["model"], modalities=modalities, image_size=request.size)
    parts = ("s1_", "s2_", "joint_")
    request.load(model, state, allow_missing=("attn_bias",), allow_unexpected=parts)
    return CromaBackbone(
        model, radar=radar, optical=optical, patch_size=8, size=request.size, fixed_size=True,
        out_channels=(model.encoder_dim,), reductions=(8,),
    )  # fmt: skip


class PanopticonBackbone(TokenBackbone):
    """Panopticon: embeds each band by its wavelength, or its polarization.

    Parameters
    ----------
    ids
        Wavelength of each band in nanometres; for radar -1 to -4 for VV, VH, HH and HV of an unknown orbit.
    model, options
        As in `TokenBackbone`.
    """

    def __init__(self, model: nn.Module, *, ids: tuple[int, ...], **options: Any) -> None:
        super().__init__(model, **options)
        self.ids = ids

    def call(self, image: Tensor) -> Any:
        """Run Panopticon on normalized images."""
        ids = torch.tensor(self.ids, device=image.device).expand(image.shape[0], -1).clone()
        return self.model.model.forward_features({"imgs": image, "chn_ids": ids})


def panopticon(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build Panopticon; its position embeddings are resized to the side of the images."""
    model = _build("panopticon_vitb14", img_size=request.size)
    side = request.size // 14
    state = resize_positions({key: value for key, value in state.items() if key != "mask_token"}, side)
    request.load(model.model, state)
    codes = {name: -1 - index for index, name in enumerate(_RADAR)}
    ids = tuple(codes[f.common] if f.common in codes else round(f.wavelength * 1000) for f in request.inputs.metadata)
    return PanopticonBackbone(
        model, ids=ids, blocks=model.model.blocks, out_indices=request.out_indices, width=768, patch_size=14,
        size=request.size, fixed_size=True,
    )  # fmt: skip


class ScaleMaeBackbone(TokenBackbone):
    """ScaleMAE: position embeddings depend on the ground sample distance."""

    def call(self, image: Tensor) -> Any:
        """Run ScaleMAE on normalized images."""
        return self.model.forward_features(image)


def scale_mae(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build ScaleMAE for the resolution of the layer."""
    model = _build("scalemae_large_patch16", img_size=request.size, res=request.gsd())
    state = resize_positions(state, request.size // 16)
    request.load(model, state, allow_missing=("fc_norm.", "norm.", "head."), allow_unexpected=("decoder", "mask_token"))
    return ScaleMaeBackbone(
        model, blocks=model.blocks, out_indices=request.out_indices, width=model.embed_dim, patch_size=16,
        size=request.size, fixed_size=True,
    )  # fmt: skip


class CopernicusBackbone(TokenBackbone):
    """Copernicus-FM: generates the kernels of the patch embedding from wavelengths and bandwidths.

    Parameters
    ----------
    spectrum
        Wavelength and bandwidth of each band in nanometres.
    metadata
        Longitude, latitude, days since 1970 and area of a patch in km2; NaN if unknown.
    model, options
        As in `TokenBackbone`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        spectrum: tuple[tuple[float, float], ...],
        metadata: tuple[float, ...],
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.spectrum, self.metadata = spectrum, metadata

    def call(self, image: Tensor) -> Any:
        """Run Copernicus-FM on normalized images."""
        metadata = torch.tensor(self.metadata, device=image.device, dtype=image.dtype).expand(image.shape[0], -1)
        wavelengths, bandwidths = (list(values) for values in zip(*self.spectrum, strict=True))
        return self.model.forward_features(
            image, metadata, wavelengths=wavelengths, bandwidths=bandwidths, kernel_size=self.patch_size
        )


def require_bandwidths(name: str, inputs: LayerInputs) -> None:
    """Raise if the bandwidth of a band is unknown, as of radar.

    Raises
    ------
    InputError
        With the names of the bands.
    """
    pairs = zip(inputs.bands, inputs.metadata, strict=True)
    unknown = [label for label, band in pairs if math.isnan(band.wavelength) or math.isnan(band.bandwidth)]
    if unknown:
        msg = f"Cannot pass the bands {', '.join(unknown)} to {name!r}: their bandwidths are unknown."
        raise InputError(msg, remedy="Pass a layer of optical bands of Sentinel-2.", value=unknown[0], argument="bands")


def copernicus_fm(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build Copernicus-FM for optical bands; it takes location, date and resolution if the layer states them."""
    model = _build("copernicusfm_base")
    request.load(
        model, state, allow_missing=("fc_norm.", "norm.", "head."), allow_unexpected=("norm.", "mask_token", "head.")
    )
    context, patch, width = request.context, 16, model.cls_token.shape[-1]
    days = float(np.datetime64(context.time[0], "D").astype(int)) if context.time else math.nan
    area = math.nan if context.gsd is None else (context.gsd * patch / 1000) ** 2
    return CopernicusBackbone(
        model, spectrum=tuple((f.wavelength * 1000, f.bandwidth) for f in request.inputs.metadata),
        metadata=(*(context.location or (math.nan, math.nan)), days, area), blocks=model.blocks,
        out_indices=request.out_indices, width=width, patch_size=patch, size=request.size, fixed_size=True,
    )  # fmt: skip


class EarthLocBackbone(FeatureBackbone):
    """EarthLoc: feature map of its ResNet, before the aggregation to one vector per image."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map (N, 1024, h, w) of normalized images."""
        return [self.model.backbone(image)]


def earthloc(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build EarthLoc."""
    model = _build("earthloc")
    request.load(model, state)
    return EarthLocBackbone(model, patch_size=16, size=request.size, out_channels=(1024,), reductions=(16,))


class TileNetBackbone(FeatureBackbone):
    """TileNet: feature maps of its residual layers."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five feature maps of normalized images, at strides 1, 2, 4, 8 and 16."""
        model = self.model
        maps = [model.bn1(model.conv1(image)).relu()]
        for layer in (model.layer1, model.layer2, model.layer3, model.layer4, model.layer5):
            maps.append(layer(maps[-1]))
        return maps[1:]


def tilenet(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build TileNet."""
    model = _build("tilenet", in_channels=len(request.names))
    request.load(model, state)
    channels = (64, 128, 256, 512, 512)
    return TileNetBackbone(model, patch_size=16, size=request.size, out_channels=channels, reductions=(1, 2, 4, 8, 16))
