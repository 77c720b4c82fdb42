"""Detection and instance segmentation: torchvision's Faster and Mask R-CNN on a feature pyramid over a timm encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.models.libraries import encoder_of

_ASPECTS = (0.5, 1.0, 2.0)
Target = Mapping[str, Tensor]
"""Instances of one image: `boxes` float32 (M, 4) as left, top, right, bottom in pixels, `labels` int64 (M,) from 1,
and for instance segmentation `masks` uint8 (M, H, W)."""


class Pyramid(nn.Module):
    """Feature pyramid over the last four stages of a timm encoder, with one coarser level."""

    def __init__(self, encoder: str, in_chans: int, width: int) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        body: Any = encoder_of(encoder, in_chans=in_chans, features_only=True, out_indices=(-4, -3, -2, -1))
        self.encoder = body
        self.out_channels = width
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), width, extra_blocks=LastLevelMaxPool())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return features (N, width, h, w) by level, finest first, of images (N, in_chans, H, W)."""
        levels = {str(level): features for level, features in enumerate(self.encoder(image))}
        pyramid: dict[str, Tensor] = self.fpn(levels)
        return pyramid


class Detector(nn.Module):
    """Faster R-CNN, or Mask R-CNN, for any number of bands.

    Input images are standardized already: torchvision's own standardization is off unless `mean` and `std` are given.

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Number of classes without background. Labels are 1 to `num_classes`; 0 is background.
    encoder
        Name of a timm model.
    masks
        Whether to predict instance masks (Mask R-CNN).
    width
        Channels of the feature pyramid.
    sizes
        Anchor size of each of the five pyramid levels, in pixels, finest level first.
    min_size, max_size
        Images are resized to `min_size` pixels on the shorter side, at most `max_size` on the longer.
    mean, std
        Mean and standard deviation of each band; `None` switches standardization off.
    options
        Further options of the torchvision model, such as `box_score_thresh`.

    References
    ----------
    Ren et al. 2015, https://arxiv.org/abs/1506.01497; He et al. 2017, https://doi.org/10.1109/ICCV.2017.322
    """

    def __init__(
        self,
        *,
        in_chans: int,
        num_classes: int,
        encoder: str,
        masks: bool,
        width: int,
        sizes: Sequence[int],
        min_size: int,
        max_size: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        **options: Any,
    ) -> None:
        super().__init__()
        with optional_import("torchvision", "train", "build a detector"):
            from torchvision.models import detection
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != in_chans:
                msg = f"Cannot standardize {in_chans} bands by {len(values)} numbers."
                remedy = f"Pass {{{name}}} with {in_chans} numbers."
                raise InputError(msg, remedy=remedy, value=values, argument=name)
        anchors = detection.anchor_utils.AnchorGenerator(tuple((size,) for size in sizes), (_ASPECTS,) * len(sizes))
        build = detection.MaskRCNN if masks else detection.FasterRCNN
        self.body: Any = build(
            Pyramid(encoder, in_chans, width),
            num_classes=num_classes + 1,
            rpn_anchor_generator=anchors,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(mean or [0.0] * in_chans),
            image_std=list(std or [1.0] * in_chans),
            **options,
        )

    @property
    def backbone(self) -> nn.Module:
        """Encoder, into which pretrained weights are loaded."""
        encoder: nn.Module = self.body.backbone.encoder
        return encoder

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Return losses by name in training mode, and the detections of each image in evaluation mode.

        Parameters
        ----------
        images
            Float32 (in_chans, H, W) each, of any shapes.
        targets
            Instances of each image; required in training mode.

        Returns
        -------
        dict of str to Tensor, or list of dict
            In evaluation mode `boxes`, `labels`, `scores` and, for Mask R-CNN, `masks` float32 (M, 1, H, W).
        """
        return self.body(list(images), None if targets is None else [dict(target) for target in targets])
