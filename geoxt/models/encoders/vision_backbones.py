"""Models of timm, torchvision and segmentation-models-pytorch as backbones."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.models.encoders.backbone_request import BackboneRequest
from geoxt.models.encoders.feature_backbone import FeatureBackbone
from geoxt.models.libraries import encoder_of, smp
from geoxt.models.weights.loading import load
from geoxt.models.weights.table import Weights


class TimmBackbone(FeatureBackbone):
    """timm model with `features_only`."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps (N, F, h, w) of normalized images."""
        height = image.shape[-2]
        maps = self.model(image)
        # Swin and others return (N, h, w, F)
        return [
            x if x.shape[1] == c and x.shape[2] == height // r else x.movedim(-1, 1)
            for x, c, r in zip(maps, self.out_channels, self.reductions, strict=True)
        ]


def timm_backbone(weights: Weights, request: BackboneRequest, **options: Any) -> FeatureBackbone:
    """Build a timm model and load its weights; `options` are the file options of `load`."""
    names = weights.bands or ()
    indices = None if request.out_indices is None else tuple(request.out_indices)
    selected = {} if indices is None else {"out_indices": indices}
    try:
        model: Any = encoder_of(weights.architecture, in_chans=len(names), features_only=True, **selected)
    except (IndexError, AssertionError) as error:
        msg = f"Cannot return the features {indices!r} of {weights.architecture!r} ({error})."
        raise InputError(msg, remedy="Leave {out_indices} out.", value=indices, argument="out_indices") from error
    inner = getattr(model, "model", model)  # transformers are wrapped
    if request.pretrained:
        load(inner, weights, bands=names, **options)
    channels, reductions = model.feature_info.channels(), model.feature_info.reduction()
    stages = [getattr(inner, str(info["module"]), None) for info in model.feature_info.info]
    blocks = getattr(inner, "blocks", None) or [stage for stage in stages if isinstance(stage, nn.Module)]
    return TimmBackbone(
        model, patch_size=max(reductions), size=request.size, out_channels=channels, reductions=reductions,
        blocks=blocks,
    )  # fmt: skip


class SwinBackbone(FeatureBackbone):
    """Swin transformer of torchvision; features of several dates are reduced to their maximum, as in Satlas."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return four feature maps of normalized images, at strides 4, 8, 16 and 32."""
        if image.ndim == 5:
            maps = self(image.flatten(0, 1))
            return [x.unflatten(0, image.shape[:2]).amax(dim=1) for x in maps]
        maps = []
        for index, layer in enumerate(self.model.features):
            image = layer(image)
            if index % 2:
                maps.append(image.movedim(-1, 1))
        return maps


def swin(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build a Swin transformer; keys of the original files of Satlas begin with `backbone.`."""
    with optional_import("torchvision", "train", "build this encoder"):
        import torchvision
    model = getattr(torchvision.models, request.options["model"])(weights=None)
    width = model.features[0][0].out_channels
    model.features[0][0] = nn.Conv2d(len(request.names), width, kernel_size=4, stride=4)
    stripped = {_without_backbone(key): value for key, value in state.items()}
    parts = {key: value for key, value in stripped.items() if key.startswith(("features.", "norm.", "head."))}
    request.load(model, parts, allow_missing=("norm.", "head."), allow_unexpected=("head.",))
    channels = tuple(width * factor for factor in (1, 2, 4, 8))
    return SwinBackbone(
        model, patch_size=32, size=request.size, out_channels=channels, reductions=(4, 8, 16, 32), dates=request.dates,
        blocks=model.features[1::2],
    )  # fmt: skip


def _without_backbone(key: str) -> str:
    while key.startswith("backbone."):
        key = key.removeprefix("backbone.")
    return key


class UnetBackbone(FeatureBackbone):
    """Encoder of a U-Net of segmentation-models-pytorch; dates are stacked along the bands, last date first."""

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return five feature maps of normalized images, at strides 2, 4, 8, 16 and 32."""
        # Fields of The World stacks the harvest before the planting (TorchGeo's `FieldsOfTheWorld`)
        maps: list[Tensor] = self.model.encoder(image.flip(1).flatten(1, 2) if image.ndim == 5 else image)
        return maps[1:]


def unet(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build a U-Net; `model` of the backbone includes decoder and head."""
    options = request.options
    model = smp().Unet(
        options["encoder"], encoder_weights=None, in_channels=len(request.names) * request.dates,
        classes=options["num_classes"],
    )  # fmt: skip
    request.load(model, state)
    return UnetBackbone(
        model, patch_size=32, size=request.size, out_channels=tuple(model.encoder.out_channels[1:]),
        reductions=(2, 4, 8, 16, 32), dates=request.dates,
    )  # fmt: skip
