"""All architectures of the registry, with their options, shapes and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoxt.models.architecture import Architecture
from geoxt.models.change import ChangeUNet
from geoxt.models.classifier import Classifier
from geoxt.models.dense import Dense
from geoxt.models.detection import Detector
from geoxt.models.fcn import FCN
from geoxt.models.rcf import RCF
from geoxt.models.series import UTAE, PixelSeries
from geoxt.models.unet import UNet

_IMAGE = "(N, C, H, W)"
_MAP = "(N, K, H, W)"
_SERIES = "(N, T, C, H, W), valid (N, T), positions (N, T)"
_UNET = "Ronneberger et al. 2015, https://doi.org/10.1007/978-3-319-24574-4_28"
_FCN = "Long et al. 2015, https://doi.org/10.1109/CVPR.2015.7298965"
_FASTER = "Ren et al. 2015, https://arxiv.org/abs/1506.01497"
_MASK = "He et al. 2017, https://doi.org/10.1109/ICCV.2017.322"
_DAUDT = "Daudt et al. 2018, https://doi.org/10.1109/ICIP.2018.8451652"
_ALSO_DENSE = ("pixelwise-regression",)
_ALSO_IMAGE = ("multilabel", "regression")


def classifier(name: str, encoder: str, reference: str) -> Architecture:
    """Return the registry row of a classifier on the timm model `encoder`."""
    return Architecture(
        name=name,
        task="classification",
        other_tasks=_ALSO_IMAGE,
        build=Classifier,
        options={"encoder": encoder, "dropout": 0.0},
        accepts_options=True,
        input_shape=_IMAGE,
        output_shape="(N, K); features (N, F)",
        reference=reference,
    )


def _segmentation(name: str, build: Any, reference: str, **options: Any) -> Architecture:
    return Architecture(
        name=name,
        task="segmentation",
        other_tasks=_ALSO_DENSE,
        build=build,
        options=options,
        accepts_options=build is Dense,
        input_shape=_IMAGE,
        output_shape=f"{_MAP}; features (N, F, H, W)",
        reference=reference,
    )


def _dense(name: str, decoder: str, encoder: str, reference: str, **options: Any) -> Architecture:
    return _segmentation(name, Dense, reference, decoder=decoder, encoder=encoder, **options)


def _change(name: str, fusion: str, **options: Any) -> Architecture:
    defaults = {"deepest": "second", "widths": (16, 32, 64, 128), "depths": (2, 2, 3, 3), "dropout": 0.2}
    return Architecture(
        name=name,
        task="change",
        build=ChangeUNet,
        options={"fusion": fusion, **defaults, **options},
        input_shape="(N, 2, C, H, W)",
        output_shape=f"{_MAP}; features (N, F, H, W)",
        reference=_DAUDT,
    )


def _detector(name: str, *, masks: bool, reference: str, **options: Any) -> Architecture:
    defaults = {
        "encoder": "resnet50",
        "width": 256,
        "sizes": (32, 64, 128, 256, 512),
        "min_size": 800,
        "max_size": 1333,
        "mean": None,
        "std": None,
    }
    outputs = "boxes, labels, scores" + (", masks" if masks else "")
    return Architecture(
        name=name,
        task="instance-segmentation" if masks else "detection",
        build=Detector,
        options={"masks": masks, **defaults, **options},
        accepts_options=True,
        input_shape="list of (C, H, W), list of targets",
        output_shape=f"losses by name in training, else a list of {outputs}; labels 1 to K, 0 is background",
        export="script",
        reference=reference,
    )


def _series(name: str, build: type[UTAE | PixelSeries], reference: str, **options: Any) -> Architecture:
    return Architecture(
        name=name,
        task="time-series",
        build=build,
        options=options,
        input_shape=_SERIES,
        output_shape=f"{_MAP}; features (N, F, H, W)",
        reference=reference,
    )


def _rcf(name: str, features: int) -> Architecture:
    return Architecture(
        name=name,
        task="embedding",
        other_tasks=("classification", *_ALSO_IMAGE),
        build=RCF,
        options={"features": features, "kernel": 3, "threshold": 1.0, "seed": 0},
        headless=True,
        input_shape=_IMAGE,
        output_shape="(N, K), without classes the features (N, F)",
        reference="Rolf et al. 2021, https://doi.org/10.1038/s41467-021-24638-z",
    )


_RESNET = "He et al. 2016, https://doi.org/10.1109/CVPR.2016.90"
_VIT = "Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929"
_LTAE = "Garnot and Landrieu 2020, https://doi.org/10.1007/978-3-030-65742-0_12"
_UTAE = "Garnot and Landrieu 2021, https://doi.org/10.1109/ICCV48922.2021.00483"
_DEEPLAB = "Chen et al. 2018, https://doi.org/10.1007/978-3-030-01234-2_49"
_FPN = "Kirillov et al. 2019, https://arxiv.org/abs/1901.02446"
_UPERNET = "Xiao et al. 2018, https://doi.org/10.1007/978-3-030-01228-1_26"
_SEGFORMER = "Xie et al. 2021, https://arxiv.org/abs/2105.15203"
_TIME = {"heads": 16, "width": 256, "keys": 4, "period": 1000.0, "dropout": 0.2}
_TINY_TIME = {"heads": 4, "width": 16, "keys": 4, "period": 1000.0, "dropout": 0.0}
_TINY_UNET = {"depth": 2, "decoder": (8, 8), "detail": 8, "dropout": 0.0}
_TINY_CHANGE: dict[str, Any] = {"widths": (8, 16), "depths": (2, 3), "dropout": 0.0}
_TINY_DETECTOR = {
    "encoder": "test_resnet",
    "width": 16,
    "sizes": (4, 8, 16, 32, 64),
    "min_size": 64,
    "max_size": 64,
    "box_detections_per_img": 10,
    "rpn_post_nms_top_n_train": 64,
    "rpn_post_nms_top_n_test": 64,
    "rpn_batch_size_per_image": 32,
    "box_batch_size_per_image": 16,
}

ARCHITECTURES: Mapping[str, Architecture] = {
    row.name: row
    for row in (
        classifier("resnet18", "resnet18", _RESNET),
        classifier("resnet50", "resnet50", _RESNET),
        classifier("resnet152", "resnet152", _RESNET),
        classifier("efficientnet_b0", "efficientnet_b0", "Tan and Le 2019, https://arxiv.org/abs/1905.11946"),
        classifier("efficientnet_lite0", "tf_efficientnet_lite0", "Tan and Le 2019, https://arxiv.org/abs/1905.11946"),
        classifier("convnext_tiny", "convnext_tiny", "Liu et al. 2022, https://doi.org/10.1109/CVPR52688.2022.01167"),
        classifier("vit_small", "vit_small_patch16_224", _VIT),
        classifier("vit_base", "vit_base_patch16_224", _VIT),
        classifier("vit_large", "vit_large_patch16_224", _VIT),
        classifier(
            "swin_tiny", "swin_tiny_patch4_window7_224", "Liu et al. 2021, https://doi.org/10.1109/ICCV48922.2021.00986"
        ),
        classifier("test_classifier", "test_resnet", _RESNET),
        classifier("test_vit", "test_vit", _VIT),
        _segmentation(
            "unet",
            UNet,
            _UNET,
            encoder="tu-resnet18",
            weights=None,
            depth=3,
            decoder=(64, 32, 16),
            detail=32,
            dropout=0.2,
        ),
        _segmentation("test_unet", UNet, _UNET, encoder="tu-test_resnet", weights=None, **_TINY_UNET),
        _dense("deeplabv3plus", "DeepLabV3Plus", "tu-resnet50", _DEEPLAB),
        _dense("test_deeplabv3plus", "DeepLabV3Plus", "tu-test_resnet", _DEEPLAB, decoder_channels=16),
        _dense("fpn", "FPN", "tu-resnet50", _FPN),
        _dense(
            "test_fpn",
            "FPN",
            "tu-test_resnet",
            _FPN,
            decoder_pyramid_channels=32,
            decoder_segmentation_channels=64,
            decoder_dropout=0.0,
        ),
        _dense("upernet", "UPerNet", "tu-resnet50", _UPERNET),
        _dense("test_upernet", "UPerNet", "tu-test_resnet", _UPERNET, decoder_channels=16),
        _dense("segformer", "Segformer", "mit_b0", _SEGFORMER),
        _dense("test_segformer", "Segformer", "tu-test_resnet", _SEGFORMER, decoder_segmentation_channels=32),
        _segmentation("fcn", FCN, _FCN, width=64, layers=5),
        _segmentation("test_fcn", FCN, _FCN, width=8, layers=2),
        _change("fc_ef", "early"),
        _change("fc_siam_conc", "concatenate"),
        _change("fc_siam_diff", "difference"),
        _change("test_fc_ef", "early", **_TINY_CHANGE),
        _change("test_fc_siam_conc", "concatenate", **_TINY_CHANGE),
        _change("test_fc_siam_diff", "difference", **_TINY_CHANGE),
        _detector("faster_rcnn", masks=False, reference=_FASTER),
        _detector("test_faster_rcnn", masks=False, reference=_FASTER, **_TINY_DETECTOR),
        _detector("mask_rcnn", masks=True, reference=_MASK),
        _detector("test_mask_rcnn", masks=True, reference=_MASK, **_TINY_DETECTOR),
        _series("utae", UTAE, _UTAE, encoder=(64, 64, 64, 128), decoder=(32, 32, 64, 128), **_TIME),
        _series("test_utae", UTAE, _UTAE, encoder=(8, 16), decoder=(8, 16), **_TINY_TIME),
        _series("ltae", PixelSeries, _LTAE, **{**_TIME, "width": 128}),
        _series("test_ltae", PixelSeries, _LTAE, **_TINY_TIME),
        _rcf("rcf", 512),
        _rcf("test_rcf", 32),
    )
}
"""All architectures, by name; `test_*` are tiny variants for tests."""
