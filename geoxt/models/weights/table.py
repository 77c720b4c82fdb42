"""The table of pretrained weights: facts of each, read from `weights.jsonl` beside this file, one row a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from geoxt.errors import InputError
from geoxt.models.libraries import timm
from geoxt.models.registry import TIMM

_TABLE = Path(__file__).with_name("weights.jsonl")
_RGB = ("R", "G", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What is known of one file of weights."""

    name: str
    """The name that `load` takes; what stands before the colon is where the facts were read."""
    family: str
    """The method or dataset by which it is known."""
    architecture: str
    """timm's name of the model where `timm` is true, the authors' own otherwise."""
    timm: bool
    """Whether a model of timm takes these weights."""
    sensor: str | None = None
    """Which sensor took the images."""
    level: str | None = None
    """Processing level of the images."""
    bands: tuple[str, ...] | None
    """Names of the bands, in order; `None` where the model takes any."""
    steps: tuple[Mapping[str, Any], ...] = ()
    """How stored numbers were scaled, in order; `op` is divide, multiply, normalize, clip_minmax, resize or
    center_crop."""
    note: str | None = None
    """What else is to be known of the input."""
    dataset: str | None = None
    """What it was trained on."""
    method: str | None = None
    """How it was trained."""
    license: str | None
    """The licence of the weights; `None` where none is stated."""
    paper: str | None = None
    """To be cited."""
    repository: str | None = None
    """Where its authors publish."""
    url: str | None
    """Where the file lies; `None` where only a package has it."""
    file: str
    """Its name on disk."""
    package: str | None = None
    """A package of PyPI that brings the file."""
    inside: str | None = None
    """The folder in that package."""
    sha256: str | None = None
    """First digits of the checksum, as many as are published; `None` where none are."""
    md5: str | None = None
    """Another checksum, where only that is published."""
    unverified: tuple[str, ...] = ()
    """Which of these facts no source was found for."""

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation of each band in stored numbers, with which (x - mean) / std is what the steps do.

        `None` where there are no bands or the steps do more than divide, multiply and normalise.
        """
        if self.bands is None:
            return None
        mean, std = [0.0] * len(self.bands), [1.0] * len(self.bands)
        for step in self.steps:
            match step["op"]:
                case "divide" | "multiply":
                    by = _each(step["by"], len(self.bands))
                    std = [s * b if step["op"] == "divide" else s / b for s, b in zip(std, by, strict=True)]
                case "normalize":
                    mean = [m + s * a for m, s, a in zip(mean, std, _each(step["mean"], len(std)), strict=True)]
                    std = [s * a for s, a in zip(std, _each(step["std"], len(std)), strict=True)]
                case "resize" | "center_crop":
                    pass
                case _:
                    return None
        return tuple(mean), tuple(std)


def weights_names(*, architecture: str | None = None, bands: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return the names of known weights that `load` takes.

    Parameters
    ----------
    architecture
        Only those for this model of timm.
    bands
        Only those that know all of these bands.

    Examples
    --------
    >>> weights_names(architecture="resnet18", bands=["B02", "B10"])
    ('torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO',)
    """
    rows = [row for row in _table().values() if row.timm]
    if architecture is not None:
        rows = [row for row in rows if row.architecture.split(".")[0] == architecture]
    wanted = set(bands or ())
    return tuple(row.name for row in rows if wanted <= set(row.bands or ()))


def weights_info(name: str) -> Weights:
    """Return what is known of weights; `"timm/"` and a name of timm's with its tag work as well.

    Raises
    ------
    InputError
        Where the name is unknown.

    Examples
    --------
    >>> found = weights_info("torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO")
    >>> found.bands[:4], found.license
    (('B01', 'B02', 'B03', 'B04'), 'CC-BY-4.0')
    """
    table = _table()
    if name in table:
        return table[name]
    if name.startswith(TIMM):
        return _of_timm(name)
    close = get_close_matches(name, table, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    msg = f"Cannot find weights named {name!r}.{hint} Pass one of weights_names(), or 'timm/' and a name with its tag."
    raise InputError(msg)


@cache
def _table() -> Mapping[str, Weights]:
    rows = (_row(json.loads(line)) for line in _TABLE.read_text(encoding="utf-8").splitlines())
    return {row.name: row for row in rows}


def _row(values: Mapping[str, Any]) -> Weights:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Weights(**fields)


def _of_timm(name: str) -> Weights:
    """Return the row of weights of which timm itself knows."""
    model, _, tag = name.removeprefix(TIMM).partition(".")
    known = timm().is_model(model) and (not tag or f"{model}.{tag}" in timm().list_pretrained(f"{model}.*"))
    found = timm().get_pretrained_cfg(name.removeprefix(TIMM)) if known else None
    if found is None or not found.hf_hub_id:
        msg = f"Cannot find weights named {name!r}: pass 'timm/' and one of timm.list_pretrained()."
        raise InputError(msg)
    return Weights(
        name=name,
        family="timm",
        architecture=found.architecture,
        timm=True,
        bands=_RGB,
        steps=({"op": "divide", "by": 255.0}, {"op": "normalize", "mean": list(found.mean), "std": list(found.std)}),
        dataset=found.tag,
        license=found.license,
        url=f"https://huggingface.co/{found.hf_hub_id}/resolve/main/model.safetensors",
        file=f"{found.architecture}.{found.tag}.safetensors",
    )


def _each(value: float | list[float], count: int) -> list[float]:
    return list(value) if isinstance(value, list) else [value] * count
