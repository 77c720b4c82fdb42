"""Frozen encoders by name, and their features of labeled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.inference.device_model import DeviceModel
from geoxt.inference.devices import SomeDevice, first_device, parse_options
from geoxt.inference.fingerprint import fingerprint
from geoxt.models import Card, Network, from_checkpoint, load, weights
from geoxt.models.band_match import BandNames, match_bands
from geoxt.models.registry import TIMM, get
from geoxt.models.scale_check import ScaleCheck
from geoxt.probes.labeled_images import LabeledImages, legend_of
from geoxt.tasks import get as get_task
from geoxt.trainers.config.weight_bands import weight_common_names
from geoxt.trainers.datamodules.samples import SampleDataModule
from geoxt.trainers.selfsup.encoder import Encoder
from geoxt.types import Array

PIXELS = "pixels"
"""Name of the encoder whose features are the pixels."""
_CHECKPOINT_SUFFIXES = (".ckpt", ".pt", ".pth")
Perturb = Callable[[Tensor], Tensor]


class Pixels(nn.Module):
    """Pixels of an image, averaged over a grid of cells.

    Parameters
    ----------
    side
        Height and width of the grid.
    """

    def __init__(self, side: int = 16) -> None:
        super().__init__()
        self.side = side

    def features(self, image: Tensor) -> Tensor:
        """Return the mean of each band in each cell, (N, C * side * side)."""
        return F.adaptive_avg_pool2d(image, self.side).flatten(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenEncoder:
    """An encoder with its bands and normalization."""

    name: str
    """Argument `name` of `open_encoder`."""
    network: Network
    """Model, mean and standard deviation of its bands."""
    positions: tuple[int, ...]
    """Position of each band of the encoder among the bands of the images."""
    normalization: str
    """Source of mean and standard deviation: "weights", "checkpoint" or "training images"."""
    dropped: tuple[str, ...]
    """Bands of the images that the encoder does not use."""

    def describe(self) -> dict[str, Any]:
        """Return model, bands, normalization and a hash of the weights, which determine the features, for JSON."""
        return {
            "model": self.name,
            "bands": list(self.network.card.bands),
            "bands_dropped": list(self.dropped),
            "normalization": self.normalization,
            "fingerprint": fingerprint(self.network),
        }


def open_encoder(name: str, data: LabeledImages, *, seed: int = 0) -> FrozenEncoder:
    """Return a frozen encoder by name.

    Parameters
    ----------
    name
        `"pixels"`; one of `geoxt.models.weights.names()`; the path of a geoxt checkpoint; or an architecture of
        `geoxt.models.names()`, with random weights.
    data
        Images, whose bands are matched to those of pretrained weights by name, common name and wavelength. Their
        training part determines mean and standard deviation of encoders without pretrained weights.
    seed
        Seed of random weights.

    Raises
    ------
    InputError
        If the name is unknown, the model does not take single images, the images lack bands of pretrained weights, or
        the weights are not normalized by mean and standard deviation.
    """
    if name.endswith(_CHECKPOINT_SUFFIXES):
        network = from_checkpoint(name)
        positions = _match_positions(name, network.card.band_names, data)
        return _frozen_encoder(name, network, positions, "checkpoint", data)
    if name in weights.names() or (name.startswith(TIMM) and "." in name):
        facts = weights.get(name)
        if facts.bands is None or facts.scaling is None:
            msg = f"Cannot probe {name!r}: it does not normalize named bands by mean and standard deviation."
            raise InputError(msg, remedy="Pass other {models}.", value=name, argument="models")
        requested = BandNames(names=facts.bands, common_names=weight_common_names(facts))
        positions = _match_positions(name, requested, data)
        mean, std = facts.scaling
        card = replace(_card(data), model=f"{TIMM}{facts.architecture}", bands=facts.bands, mean=mean, std=std)
        network = Network(card, seed=seed)
        load(network.body, facts, bands=facts.bands)
        return _frozen_encoder(name, network, positions, "weights", data)
    card = _card(data)
    if name == PIXELS:
        network = Network(card, body=Pixels())
    else:
        tasks = get(name).tasks
        if not {"classification", "embedding"} & set(tasks) or any(get_task(task).takes_series for task in tasks):
            msg = f"Cannot probe {name!r}: it is a model for {', '.join(tasks)}."
            raise InputError(msg, remedy="Pass {models} for classification.", value=name, argument="models")
        network = Network(replace(card, model=name), seed=seed)
    return _frozen_encoder(name, network, tuple(range(len(data.bands))), "training images", data)


def _frozen_encoder(
    name: str, network: Network, positions: tuple[int, ...], normalization: str, data: LabeledImages
) -> FrozenEncoder:
    dropped = tuple(band for at, band in enumerate(data.bands.names) if at not in positions)
    return FrozenEncoder(
        name=name, network=network.eval(), positions=positions, normalization=normalization, dropped=dropped
    )


def _card(data: LabeledImages) -> Card:
    """Return a model card with the band statistics of at most 1024 training images."""
    training = _Subset(data.samples, data.parts["train"])
    return SampleDataModule(training).card(model=PIXELS, legend=legend_of(data), bands=data.bands.names)


@dataclass(frozen=True, slots=True)
class _Subset:
    samples: Any
    positions: Array

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        sample: Mapping[str, Any] = self.samples[int(self.positions[index])]
        return sample


def _match_positions(name: str, requested: BandNames, data: LabeledImages) -> tuple[int, ...]:
    """Return the position of each requested band in the images.

    Raises
    ------
    InputError
        If the images lack a band.
    """
    positions = match_bands(requested, data.bands)
    missing = [requested.label(at) for at, position in enumerate(positions) if position is None]
    if missing:
        msg = f"Cannot probe {name!r} on {data.name!r}: its bands {', '.join(missing)} are not among the bands "
        msg += f"{', '.join(data.bands.names)}."
        raise InputError(msg, remedy="Pass {models} of the bands of the dataset.", value=missing, argument="models")
    return tuple(position for position in positions if position is not None)


def features(
    encoder: FrozenEncoder,
    data: LabeledImages,
    positions: Sequence[int] | Array,
    *,
    perturb: Perturb | None = None,
    standardize: bool = False,
    batch_size: int = 128,
    device: SomeDevice = "auto",
) -> Array:
    """Return the features of images, float32 (n, F).

    Parameters
    ----------
    encoder
        The encoder.
    data
        The images.
    positions
        Positions of the samples.
    perturb
        Function applied to images (N, C, H, W) of stored values, before the normalization.
    standardize
        Whether to standardize each band of each image to mean 0 and standard deviation 1, after the normalization.
    batch_size
        Images per forward pass.
    device
        Device, as for `geoxt.predict`; of several devices the first.

    Raises
    ------
    InputError
        If features are not finite, or this process has no such device.
    """
    where = first_device(parse_options(device))
    network = encoder.network.to(where.torch_device)
    body, check = Encoder(network.body).eval(), ScaleCheck(network)

    def forward(images: Tensor, valid: Tensor) -> Tensor:
        images = images.where(valid[:, None], network.mean)
        scaled = ((images if perturb is None else perturb(images)) - network.mean) / network.std
        if standardize:
            scaled = F.instance_norm(scaled)
        output: Tensor = body(scaled)
        return output

    model = DeviceModel(forward, where)
    rows = []
    for start in range(0, len(positions), batch_size):
        images, valid = data.batch([int(position) for position in positions[start : start + batch_size]])
        images = images[:, list(encoder.positions)].contiguous(memory_format=torch.channels_last)  # faster on CPUs
        check(images.numpy(), valid.numpy())
        rows.append(model(images.to(where.torch_device), valid.to(where.torch_device)).float().cpu().numpy())
    table = np.concatenate(rows)
    if not np.isfinite(table).all():
        msg = f"Cannot probe {encoder.name!r}: {int((~np.isfinite(table)).any(1).sum())} of {len(table)} images have "
        raise InputError(f"{msg}features that are not finite.", remedy="Pass other {models}.", argument="models")
    return table


def translate(pixels: int) -> Perturb:
    """Return a function that shifts images down and to the right, and repeats the first rows and columns."""

    def shift(images: Tensor) -> Tensor:
        return F.pad(images, (pixels, 0, pixels, 0), mode="replicate")[..., : images.shape[-2], : images.shape[-1]]

    return shift


def reverse_bands(images: Tensor) -> Tensor:
    """Return images with their bands in reverse order."""
    return images.flip(1)


def half_resolution(images: Tensor) -> Tensor:
    """Downsample images to half their height and width, and upsample them again."""
    options: dict[str, Any] = {"mode": "bilinear", "align_corners": False, "antialias": True}
    half = F.interpolate(images, size=tuple(max(side // 2, 1) for side in images.shape[-2:]), **options)
    return F.interpolate(half, size=tuple(images.shape[-2:]), **options)
