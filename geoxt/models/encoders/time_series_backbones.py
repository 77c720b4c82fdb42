"""Encoders of time series: TESSERA and Presto, pixel by pixel, and OlmoEarth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import optional_import
from geoxt.models.encoders.backbone_request import BackboneRequest, day_of_year, year_and_month
from geoxt.models.encoders.feature_backbone import FeatureBackbone
from geoxt.models.encoders.torchgeo_backbones import torchgeo_models

_PIXELS = 4096
"""Pixels per forward pass."""
_MISSING = 3
"""Mask value of OlmoEarth for tokens that are missing (`MaskValue.MISSING`)."""


class PixelBackbone(FeatureBackbone):
    """Model that encodes the time series of each pixel independently."""

    def encode_series(self, series: Tensor) -> Tensor:
        """Return features (n, F) of time series (n, T, C)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map (N, F, H, W) of normalized images."""
        images = image if image.ndim == 5 else image.unsqueeze(1)
        count, _, _, height, width = images.shape
        series = images.permute(0, 3, 4, 1, 2).flatten(0, 2)
        features = torch.cat([self.encode_series(part) for part in torch.split(series, _PIXELS)])
        return [features.reshape(count, height, width, -1).movedim(-1, 1)]


class TesseraBackbone(PixelBackbone):
    """TESSERA: takes the bands and the day of the year of each date.

    Parameters
    ----------
    days
        Day of the year of each date.
    splits
        Number of bands of each sensor; the day follows the bands of each sensor.
    model, options
        As in `FeatureBackbone`.
    """

    def __init__(self, model: nn.Module, *, days: tuple[int, ...], splits: tuple[int, ...], **options: Any) -> None:
        super().__init__(model, **options)
        self.days, self.splits = days, splits

    def encode_series(self, series: Tensor) -> Tensor:
        """Return features (n, F) of time series (n, T, C)."""
        days = torch.tensor(self.days, device=series.device, dtype=series.dtype)[None, :, None]
        parts = [
            part
            for bands in torch.split(series, list(self.splits), dim=-1)
            for part in (bands, days.expand(len(series), -1, 1))
        ]
        features: Tensor = self.model(torch.cat(parts, dim=-1))
        return features


def tessera(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build TESSERA, or its encoder of one sensor."""
    part = request.options.get("part")
    tessera_model = torchgeo_models().tessera()
    model = tessera_model if part is None else getattr(tessera_model, part)
    request.load(model, state)
    groups: dict[str, int] = {"s2_backbone": 10, "s1_backbone": 2}
    splits = tuple(groups.values()) if part is None else (groups[part],)
    days = tuple(map(day_of_year, request.time()))
    return TesseraBackbone(
        model, days=days, splits=splits, patch_size=1, size=request.size, dates=request.dates,
        out_channels=(128 if part is None else 512,), reductions=(1,),
    )  # fmt: skip


class PrestoBackbone(PixelBackbone):
    """Presto: mean of the tokens of the band groups that the layer has.

    Parameters
    ----------
    months
        Month of each date, from 0.
    location
        Longitude and latitude in degrees.
    present
        Channels with values.
    ndvi
        Channels of red, near infrared and the computed NDVI; empty if red or near infrared is missing.
    model, options
        As in `FeatureBackbone`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        months: tuple[int, ...],
        location: tuple[float, float],
        present: tuple[int, ...],
        ndvi: tuple[int, ...],
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.months, self.location, self.present, self.ndvi = months, location, present, ndvi

    def encode_series(self, series: Tensor) -> Tensor:
        """Return features (n, F) of time series (n, T, C)."""
        mask = torch.ones_like(series)
        mask[..., list(self.present)] = 0
        if self.ndvi:
            red, nir, channel = self.ndvi
            total = series[..., nir] + series[..., red]
            ratio = (series[..., nir] - series[..., red]) / total.where(total > 0, 1)
            series = series.clone()
            series[..., channel] = ratio.where(total > 0, 0)
            mask[..., channel] = 0
        count, dates = series.shape[:2]
        cover = torch.full((count, dates), 9, device=series.device)  # the class of missing Dynamic World labels
        latlons = torch.tensor(self.location[::-1], device=series.device, dtype=series.dtype).expand(count, -1)
        months = torch.tensor(self.months, device=series.device).expand(count, -1)
        tokens = self.model.encoder(series, cover, latlons, mask=mask, month=months)[0]
        features: Tensor = tokens.mean(dim=1)
        return features


def presto(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build Presto."""
    model = torchgeo_models().presto()
    request.load(model, state)
    names = request.names
    present = tuple(request.inputs.channels)
    ndvi = tuple(names.index(name) for name in ("B04", "B08", "NDVI"))
    months = tuple(year_and_month(date)[1] - 1 for date in request.time())
    return PrestoBackbone(
        model, months=months, location=request.location(), present=present,
        ndvi=ndvi if set(ndvi[:2]) <= set(present) and ndvi[2] not in present else (), patch_size=1,
        size=request.size, dates=request.dates, out_channels=(128,), reductions=(1,),
    )  # fmt: skip


class OlmoEarthBackbone(FeatureBackbone):
    """OlmoEarth: mean of the tokens over dates, band groups and sensors.

    Parameters
    ----------
    timestamps
        Day, month from 0 and year of each date.
    sensors
        Channels of each sensor, and the mask value of each of its band groups.
    gsd
        Ground sample distance in metres.
    model, options
        As in `FeatureBackbone`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        timestamps: tuple[tuple[int, int, int], ...],
        sensors: dict[str, tuple[list[int], list[int]]],
        gsd: int,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.timestamps, self.sensors, self.gsd = timestamps, sensors, gsd

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return one feature map (N, F, h, w) of normalized images."""
        with optional_import("olmoearth-pretrain-minimal", "foundation", "encode images"):
            from olmoearth_pretrain_minimal.olmoearth_pretrain_v1.utils.datatypes import MaskedOlmoEarthSample
        images = (image if image.ndim == 5 else image.unsqueeze(1)).permute(0, 3, 4, 1, 2)
        inputs: dict[str, Tensor] = {}
        for name, (channels, mask) in self.sensors.items():
            inputs[name] = images[..., channels]
            inputs[f"{name}_mask"] = torch.tensor(mask, device=image.device).expand(*images.shape[:-1], -1)
        stamps = torch.tensor(self.timestamps, device=image.device).expand(image.shape[0], -1, -1)
        sample = MaskedOlmoEarthSample(timestamps=stamps, **inputs)
        output = self.model.encoder(sample, patch_size=self.patch_size, input_res=self.gsd)["tokens_and_masks"]
        tokens, weights = [], []
        for name in self.sensors:
            tokens.append(getattr(output, name).flatten(3, 4))
            weights.append((getattr(output, f"{name}_mask").flatten(3, 4) != _MISSING).unsqueeze(-1))
        weight = torch.cat(weights, dim=3).to(tokens[0].dtype)
        pooled = (torch.cat(tokens, dim=3) * weight).sum(dim=3) / weight.sum(dim=3)
        return [pooled.movedim(-1, 1)]


def olmoearth(request: BackboneRequest, state: dict[str, Tensor]) -> FeatureBackbone:
    """Build OlmoEarth v1 for the sensors of the layer; missing band groups are masked."""
    with optional_import("olmoearth-pretrain-minimal", "foundation", "build this encoder"):
        from olmoearth_pretrain_minimal import OlmoEarthPretrain_v1
    model = OlmoEarthPretrain_v1(model_size=request.options["model"], model_version="v1").model
    request.load(model, state)
    present = {request.names[channel] for channel in request.inputs.channels}
    sensors: dict[str, tuple[list[int], list[int]]] = {}
    for sensor, names in request.options["sensors"].items():
        if present & set(names):
            groups = [set(group) for group in request.options["groups"] if set(group) <= set(names)]
            mask = [0 if present & group else _MISSING for group in groups]
            sensors[sensor] = [request.names.index(name) for name in names], mask
    stamps = tuple((int(date[8:10]), year_and_month(date)[1] - 1, year_and_month(date)[0]) for date in request.time())
    width = model.encoder.embedding_size
    return OlmoEarthBackbone(
        model, timestamps=stamps, sensors=sensors, gsd=round(request.gsd()), patch_size=request.options["patch_size"],
        size=request.size, dates=request.dates, out_channels=(width,), reductions=(request.options["patch_size"],),
    )  # fmt: skip
