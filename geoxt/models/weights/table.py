"""Table of pretrained weights, read from `weights.jsonl` beside this file (one row per line)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from geoxt.errors import InputError, did_you_mean
from geoxt.models.libraries import timm
from geoxt.models.registry import TIMM

_TABLE = Path(__file__).with_name("weights.jsonl")
_RGB = ("R", "G", "B")
_LINEAR, GEOMETRIC = {"divide", "multiply", "normalize"}, {"resize", "center_crop"}
"""Operations of preprocessing that scale pixels, and that resize or crop images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """One file of pretrained weights."""

    name: str
    """Name that `load` takes; the part before the colon is the catalog of this row."""
    architecture: str
    """timm's name of the model if `timm` is true, else the authors' name."""
    timm: bool
    """Whether the weights fit a timm model."""
    sensor: str | None = None
    """Sensor of the training images."""
    level: str | None = None
    """Processing level of the training images."""
    bands: tuple[str, ...] | None
    """Names of the bands, in order; `None` if the model takes any."""
    steps: tuple[Mapping[str, Any], ...] = ()
    """Preprocessing of stored values, in order; `op` is divide, multiply, normalize, clip, clip_minmax, stretch (each
    image, from mean - std * deviation to mean + std * deviation), resize or center_crop."""
    units: str | tuple[str, ...] | None = None
    """Units of the stored values, of all bands or of each: "byte" (8-bit images), "reflectance" (times 10,000),
    "decibel", "power" or "stored"; `None` if they follow from sensor and steps."""
    note: str | None = None
    """Further notes on the input."""
    dataset: str | None = None
    """Training dataset."""
    method: str | None = None
    """Training method."""
    license: str | None
    """License of the weights; `None` if none is stated."""
    paper: str | None = None
    """Publication to cite."""
    repository: str | None = None
    """Repository of the authors."""
    url: str | None
    """URL of the file; `None` if only a package holds it."""
    file: str
    """File name on disk."""
    package: str | None = None
    """PyPI package that holds the file."""
    inside: str | None = None
    """Folder in that package."""
    sha256: str | None = None
    """SHA-256 checksum, or as many of its first digits as are published."""
    md5: str | None = None
    """MD5 checksum, if no SHA-256 is published."""
    encoder: Mapping[str, Any] | None = None
    """Options of an encoder of another library than timm: model family, variant, side of images and inputs."""
    unsupported: str | None = None
    """Reason why `load` cannot load the weights, and weights to use instead."""
    unverified: tuple[str, ...] = ()
    """Fields without a source."""

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation of each band in stored values, such that (x - mean) / std equals the steps.

        `None` without bands, or if a step is not linear.
        """
        if self.bands is None or any(step["op"] not in _LINEAR | GEOMETRIC for step in self.steps):
            return None
        return linear_scaling(self.steps, len(self.bands))


def linear_scaling(steps: Iterable[Mapping[str, Any]], count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of each of `count` bands such that (x - mean) / std equals the linear steps.

    Other steps are left out; without linear steps, mean is 0 and std 1.
    """
    mean, std = [0.0] * count, [1.0] * count
    for step in steps:
        match step["op"]:
            case "divide":
                std = [s * b for s, b in zip(std, _broadcast(step["by"], count), strict=True)]
            case "multiply":
                std = [s / b for s, b in zip(std, _broadcast(step["by"], count), strict=True)]
            case "normalize":
                mean = [m + s * a for m, s, a in zip(mean, std, _broadcast(step["mean"], count), strict=True)]
                std = [s * a for s, a in zip(std, _broadcast(step["std"], count), strict=True)]
            case _:
                continue
    return tuple(mean), tuple(std)


def names(
    *, architecture: str | None = None, bands: Iterable[str] | None = None, encoders: bool = False
) -> tuple[str, ...]:
    """Return the names of the weights that `load` takes.

    Parameters
    ----------
    architecture
        Only weights of this timm model.
    bands
        Only weights with all of these bands.
    encoders
        Whether to return encoders of other libraries than timm, too, which `load` builds by name.

    Examples
    --------
    >>> names(architecture="resnet18", bands=["B02", "B10"])
    ('torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO',)
    """
    rows = [row for row in _table().values() if row.timm or (encoders and row.encoder is not None)]
    if architecture is not None:
        rows = [row for row in rows if row.architecture.split(".")[0] == architecture]
    required = set(() if bands is None else bands)
    return tuple(row.name for row in rows if required <= set(row.bands or ()))


def get(name: str) -> Weights:
    """Return pretrained weights by name. `"timm/"` plus a timm name with its tag is valid as well.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> weights = get("torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO")
    >>> weights.bands[:4], weights.license
    (('B01', 'B02', 'B03', 'B04'), 'CC-BY-4.0')
    """
    table = _table()
    if name in table:
        return table[name]
    if name.startswith(TIMM):
        return _of_timm(name)
    families = [row for row in table if name and name.lower() in row.lower()][:3]  # such as "clay" or "satclip"
    question = (
        f"Did you mean {' or '.join(families)}?" if families else did_you_mean(name, list(table), count=1, cutoff=0.4)
    )
    msg = f"Cannot find weights named {name!r}. {question}".rstrip()
    remedy = "Pass one of geoxt.models.weights.names(), or 'timm/' plus a timm name with its tag."
    raise InputError(msg, remedy=remedy, value=name)


def describe(name: str) -> str:
    """Return sensor, bands, training data and license of pretrained weights as text.

    Raises
    ------
    InputError
        If the name is unknown.

    Examples
    --------
    >>> print(describe("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO").splitlines()[0])
    torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO: resnet18
    """
    row = get(name)
    texts = {
        "sensor": " ".join(filter(None, (row.sensor, row.level))),
        "bands": ", ".join(row.bands or ()),
        "dataset": row.dataset,
        "method": row.method,
        "unsupported": row.unsupported,
        "license": row.license or "none stated",
        "paper": row.paper,
        "url": row.url,
        "unverified": ", ".join(row.unverified),
    }
    lines = [f"{key:<12}{value}" for key, value in texts.items() if value]
    return "\n".join([f"{row.name}: {row.architecture}", "", *lines])


@cache
def _table() -> Mapping[str, Weights]:
    rows = (_row(json.loads(line)) for line in _TABLE.read_text(encoding="utf-8").splitlines())
    return {row.name: row for row in rows}


def _row(values: Mapping[str, Any]) -> Weights:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Weights(**fields)


def _of_timm(name: str) -> Weights:
    """Return weights that timm publishes."""
    model, _, tag = name.removeprefix(TIMM).partition(".")
    exists = timm().is_model(model) and (not tag or f"{model}.{tag}" in timm().list_pretrained(f"{model}.*"))
    config = timm().get_pretrained_cfg(name.removeprefix(TIMM)) if exists else None
    if config is None or not config.hf_hub_id:
        msg = f"Cannot find weights named {name!r}."
        raise InputError(msg, remedy="Pass 'timm/' plus one of timm.list_pretrained().", value=name)
    return Weights(
        name=name,
        architecture=config.architecture,
        timm=True,
        bands=_RGB,
        steps=({"op": "divide", "by": 255.0}, {"op": "normalize", "mean": list(config.mean), "std": list(config.std)}),
        dataset=config.tag,
        license=config.license,
        url=f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors",
        file=f"{config.architecture}.{config.tag}.safetensors",
    )


def _broadcast(value: float | Sequence[float], count: int) -> list[float]:
    values = [float(value)] if isinstance(value, (int, float)) else list(map(float, value))
    return values * count if len(values) == 1 else values
