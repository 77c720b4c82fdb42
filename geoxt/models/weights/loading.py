"""`load` puts pretrained weights into a model with other bands, and reports the result."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.weights.band_mapping import Adapted, Missing, adapt, alias_of
from geoxt.models.weights.keys import State, rename
from geoxt.models.weights.table import Weights, get
from geoxt.models.weights.weights_file import fetch, read
from geoxt.types import SomePath

_LOG = logging.getLogger("geoxt")
_HEADS = r"^(fc|head|heads|classifier|last_linear|fc_norm|norm|head_dist|head_drop)(\.|$)"
"""Last layers of timm models, which pretrained weights often lack."""
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Result of `load`."""

    weights: Weights
    """Loaded weights."""
    layouts: tuple[str, ...]
    """Key layouts of the file, outermost first; empty for timm's."""
    matched: tuple[str, ...]
    """Bands with kernels from the weights."""
    initialized: tuple[str, ...]
    """Bands with initialized kernels."""
    dropped: tuple[str, ...]
    """Bands of the weights that the model lacks."""
    missing: Missing
    """Initialization of missing kernels."""
    scale: float
    """Factor applied to all kernels of the first layer."""
    count: int
    """Number of loaded tensors."""
    missing_keys: tuple[str, ...]
    """Tensors of the model that keep their initial values."""
    unexpected_keys: tuple[str, ...]
    """Tensors of the weights that the model lacks."""

    def __str__(self) -> str:
        initialized = f"; initialized {', '.join(self.initialized)} ({self.missing})" if self.initialized else ""
        dropped = f"; without {', '.join(self.dropped)}" if self.dropped else ""
        scale = f"; kernels times {self.scale:.3g}" if self.scale != 1 else ""
        new = f"; new: {_format_keys(self.missing_keys)}" if self.missing_keys else ""
        license_ = self.weights.license or "none stated"
        doubts = f"; unverified: {', '.join(self.weights.unverified)}" if self.weights.unverified else ""
        head = f"{self.weights.name}: {self.count} tensors, bands {', '.join(self.matched)}"
        return f"{head}{initialized}{dropped}{scale}{new}; license: {license_}{doubts}"


def load(
    model: nn.Module,
    weights: str | Weights,
    *,
    bands: Sequence[str] | None = None,
    missing: Missing = "mean",
    alias: str | Mapping[str, str] | None = None,
    strict: bool = True,
    file: SomePath | None = None,
    folder: SomePath | None = None,
    progress: bool = True,
) -> Loaded:
    """Load pretrained weights into a model (modified inplace); see `geoxt.models.load`.

    Raises
    ------
    InputError
        If model and weights do not fit, or no band matches by name.
    ReadError, MissingDependency
        If the file cannot be located, downloaded or read.
    """
    row = get(weights) if isinstance(weights, str) else weights
    if not row.timm or row.bands is None:
        remedy = "Pass {weights}, one of geoxt.models.weights.names()."
        if row.unsupported is not None:
            msg = f"Cannot load {row.name!r}: {row.unsupported}"
        else:
            msg = f"Cannot load {row.name!r} into {type(model).__name__}: they are of another architecture."
            remedy += f" Or build the encoder: geoxt.models.load({row.name!r}, bands=layer)."
        raise InputError(msg, remedy=remedy, value=row.name, argument="weights")
    body = _backbone(model)
    model_bands = _bands(model, body, bands)
    path = Path(file) if file is not None else fetch(row, folder=folder, progress=progress)
    state, layouts = rename(read(path))
    targets = {_with_dots(key): key for key in body.state_dict()}
    state = {targets.get(_with_dots(key), key): value for key, value in state.items()}
    adapted = _adapt_first(body, state, row, model_bands, missing=missing, alias=alias_of(alias))
    loaded, missing_keys, unexpected_keys, shapes = _partition(body.state_dict(), state)
    if strict:
        _raise_if_incomplete(row, missing_keys, unexpected_keys, shapes, complete=hasattr(body, "forward_head"))
    with torch.no_grad():
        body.load_state_dict(loaded, strict=False)
    report = Loaded(
        weights=row,
        layouts=layouts,
        matched=adapted.matched,
        initialized=adapted.initialized,
        dropped=adapted.unused,
        missing=missing,
        scale=adapted.scale,
        count=len(loaded),
        missing_keys=missing_keys,
        unexpected_keys=unexpected_keys,
    )
    _LOG.info("Loaded %s", report)
    return report


def _backbone(model: nn.Module) -> nn.Module:
    """Return the part of a model with timm's keys."""
    part: Any = model
    while not hasattr(part, "default_cfg") and not hasattr(part, "conv1"):
        inner = getattr(part, "backbone", None) or getattr(part, "body", None) or getattr(part, "model", None)
        if not isinstance(inner, nn.Module):
            msg = f"Cannot load weights into {type(model).__name__}: it has no timm encoder."
            raise InputError(msg, remedy="Pass a model with a timm encoder.", argument="model")
        part = inner
    backbone: nn.Module = part
    return backbone


def _bands(model: nn.Module, body: nn.Module, bands: Sequence[str] | None) -> tuple[str, ...]:
    declared = getattr(model, "bands", None) or getattr(getattr(model, "card", None), "bands", None)
    band_names = declared if bands is None else bands
    count = _first_convolution(body)[1].in_channels
    if band_names is None:
        msg = f"Cannot match the model's {count} bands to those of the weights: their names are unknown."
        raise InputError(msg, remedy="Pass {bands}, their names in order.", argument="bands")
    if isinstance(band_names, str) or len(band_names) != count or len(set(band_names)) != count:
        msg = f"Cannot match bands={band_names!r} to a model of {count} bands."
        raise InputError(msg, remedy=f"Pass {{bands}}, {count} distinct names.", value=band_names, argument="bands")
    return tuple(band_names)


def _first_convolution(body: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in body.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    msg = f"Cannot load weights into {type(body).__name__}: it has no convolution."
    raise InputError(msg, remedy="Pass a model that begins with a convolution.", argument="model")


def _adapt_first(
    body: nn.Module, state: State, row: Weights, bands: tuple[str, ...], *, missing: Missing, alias: Mapping[str, str]
) -> Adapted:
    """Adapt the kernels of the first convolution in `state` (modified inplace)."""
    name, convolution = _first_convolution(body)
    key = f"{name}.weight"
    weight_bands = row.bands or ()
    kernels = state.get(key)
    if kernels is None or kernels.ndim != 4 or kernels.shape[1] != len(weight_bands):
        shape = "lacks it" if kernels is None else f"has the shape {tuple(kernels.shape)}"
        msg = f"Cannot load {row.name!r}: {key} should have {len(weight_bands)} bands, but the file {shape}."
        remedy = f"Build timm's {row.architecture!r}. Or pass other {{weights}}."
        raise InputError(msg, remedy=remedy, value=row.name, argument="weights")
    initial = convolution.weight.detach().cpu()
    adapted = adapt(kernels.float(), weight_bands, bands, missing=missing, initial=initial, alias=alias)
    state[key] = adapted.kernels
    return adapted


def _partition(
    target: Mapping[str, Tensor], state: State
) -> tuple[State, tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return fitting tensors, keys that the weights lack, keys that the model lacks, and keys of differing shapes."""
    loaded = {key: value for key, value in state.items() if key in target and target[key].shape == value.shape}
    differ = [key for key in state if key in target and target[key].shape != state[key].shape]
    shapes = tuple((key, f"{tuple(state[key].shape)} for {tuple(target[key].shape)}") for key in differ)
    missing_keys = tuple(key for key in target if key not in loaded and not key.endswith("num_batches_tracked"))
    return loaded, missing_keys, tuple(key for key in state if key not in target), shapes


def _raise_if_incomplete(
    row: Weights,
    missing_keys: Sequence[str],
    unexpected_keys: Sequence[str],
    shapes: Sequence[tuple[str, str]],
    *,
    complete: bool,
) -> None:
    """Raise if more than the last layers differ; an encoder without a head may also lack the deepest stages."""
    parts = [
        ("the weights lack", [key for key in missing_keys if not _is_head(key)]),
        ("the model lacks", [key for key in unexpected_keys if complete and not _is_head(key)]),
        ("shapes differ in", [f"{key} ({shape})" for key, shape in shapes if not _is_head(key)]),
    ]
    differences = "; ".join(f"{text} {_format_keys(keys)}" for text, keys in parts if keys)
    if not differences:
        return
    msg = f"Cannot load {row.name!r}: {differences}."
    remedy = f"Build timm's {row.architecture!r}. Or pass {{strict:False}}."
    raise InputError(msg, remedy=remedy, value=row.name, argument="weights")


def _is_head(key: str) -> bool:
    return re.search(_HEADS, key) is not None


def _with_dots(key: str) -> str:
    """Return a key with `stages.0` for the `stages_0` of timm's `features_only` models."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key)


def _format_keys(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _MAX_LISTED} more" if len(keys) > _MAX_LISTED else ""
    return ", ".join(keys[:_MAX_LISTED]) + more
