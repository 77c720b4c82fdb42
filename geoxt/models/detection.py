"""Detection and instance segmentation: torchvision's Faster and Mask R-CNN on a pyramid over any encoder of timm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError, MissingDependency
from geoxt.models.libraries import encoder_of

_ASPECTS = (0.5, 1.0, 2.0)
Target = Mapping[str, Tensor]
"""What stands in one image: `boxes` float32 (M, 4) as left, top, right, bottom in pixels, `labels` int64 (M,) from 1
on, and for instance segmentation `masks` uint8 (M, H, W)."""


class Pyramid(nn.Module):
    """The last four stages of an encoder of timm, and a feature pyramid over them with one coarser level."""

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
        levels = {str(level): found for level, found in enumerate(self.encoder(image))}
        pyramid: dict[str, Tensor] = self.fpn(levels)
        return pyramid


class Detector(nn.Module):
    """Faster R-CNN, or with masks Mask R-CNN, for any number of bands.

    Images come scaled already, so the scaling that torchvision has inside is left at mean 0 and deviation 1 unless
    `mean` and `std` say otherwise.

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Classes of objects, without the background: their labels are 1 to `classes`, 0 is the background.
    encoder
        Name of a model of timm.
    masks
        Whether to draw each object's outline as well.
    width
        Channels of the pyramid.
    sizes
        Side of the boxes that each level of the pyramid looks for, in pixels, finest level first; five of them.
    min_size, max_size
        Images are resized so that the shorter side has `min_size` pixels, the longer at most `max_size`.
    mean, std
        Of each band, subtracted and divided by; `None` leaves images as they are.
    options
        Further options of torchvision's model, such as `box_score_thresh`.

    References
    ----------
    Ren et al. 2015, https://arxiv.org/abs/1506.01497; He et al. 2017, https://doi.org/10.1109/ICCV.2017.322
    """

    def __init__(
        self,
        *,
        in_chans: int,
        classes: int,
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
        try:
            from torchvision.models import detection
        except ImportError as error:
            msg = "Cannot build a detector without torchvision: pip install 'geoxt[train]'."
            raise MissingDependency(msg) from error
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != in_chans:
                msg = f"Cannot scale {in_chans} bands by {len(values)} numbers: pass {in_chans} in {name}=."
                raise InputError(msg)
        anchors = detection.anchor_utils.AnchorGenerator(tuple((size,) for size in sizes), (_ASPECTS,) * len(sizes))
        build = detection.MaskRCNN if masks else detection.FasterRCNN
        self.body: Any = build(
            Pyramid(encoder, in_chans, width),
            num_classes=classes + 1,
            rpn_anchor_generator=anchors,
            min_size=min_size,
            max_size=max_size,
            image_mean=list(mean or [0.0] * in_chans),
            image_std=list(std or [1.0] * in_chans),
            **options,
        )

    @property
    def backbone(self) -> nn.Module:
        """The part that pretrained weights are for."""
        encoder: nn.Module = self.body.backbone.encoder
        return encoder

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Return losses by name in training, and what was found in each image otherwise.

        Parameters
        ----------
        images
            Float32 (in_chans, H, W) each, of any shapes.
        targets
            What stands in each image; wanted in training.

        Returns
        -------
        dict of str to Tensor, or list of dict
            In evaluation `boxes`, `labels`, `scores` and, for instance segmentation, `masks` float32 (M, 1, H, W).
        """
        return self.body(list(images), None if targets is None else [dict(target) for target in targets])
