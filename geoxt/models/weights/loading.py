"""`load`: pretrained weights into a model with bands of its own, and a report of what was done."""

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
from geoxt.models.weights.table import Weights, weights_info
from geoxt.models.weights.weights_file import fetch, read
from geoxt.types import SomePath

_LOG = logging.getLogger("geoxt")
_HEADS = r"^(fc|head|heads|classifier|last_linear|fc_norm|norm|head_dist|head_drop)(\.|$)"
"""The last layers of timm's models, which pretrained weights often lack."""
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What `load` did."""

    weights: Weights
    """What was loaded."""
    layouts: tuple[str, ...]
    """In whose way the file named its weights, outermost first; empty where in timm's."""
    known: tuple[str, ...]
    """Bands whose kernels were taken from the weights."""
    made: tuple[str, ...]
    """Bands whose kernels were made up."""
    dropped: tuple[str, ...]
    """Bands of the weights that the model does not have."""
    missing: Missing
    """How kernels were made up."""
    scale: float
    """What all kernels of the first layer were multiplied by."""
    count: int
    """How many tensors were loaded."""
    fresh: tuple[str, ...]
    """Tensors of the model that were left as they began."""
    unused: tuple[str, ...]
    """Tensors of the weights that the model has no place for."""

    def __str__(self) -> str:
        made = f"; made up {', '.join(self.made)} ({self.missing})" if self.made else ""
        dropped = f"; without {', '.join(self.dropped)}" if self.dropped else ""
        scale = f"; kernels times {self.scale:.3g}" if self.scale != 1 else ""
        fresh = f"; new: {_some(self.fresh)}" if self.fresh else ""
        license_ = self.weights.license or "none stated"
        doubts = f"; unverified: {', '.join(self.weights.unverified)}" if self.weights.unverified else ""
        head = f"{self.weights.name}: {self.count} tensors, bands {', '.join(self.known)}"
        return f"{head}{made}{dropped}{scale}{fresh}; licence: {license_}{doubts}"


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
    """Load pretrained weights into a model, in place; kernels of the first layer by the names of their bands.

    Parameters
    ----------
    model
        What `create` made, or a model of timm.
    weights
        One of `weights_names()`, `"timm/"` and a name of timm's with its tag, or facts of your own.
    bands
        The model's bands, in order; not needed where `create` was told them.
    missing
        How the kernels of bands begin that the weights do not know: `"mean"` of the known ones, with all kernels scaled
        so that their sum stays (what a grey image gives), `"random"` as the model began, or `"zero"`.
    alias
        The weights' names of your bands, where they differ: a mapping, or a sensor of `ALIASES`. Nothing is guessed.
    strict
        Refuse weights that do not fit the whole model but its last layer.
    file
        The file, where you have it yourself.
    folder
        Where downloaded files are kept.
    progress
        Whether to show a bar while it is downloaded.

    Returns
    -------
    Loaded
        What was done; it is also logged.

    Raises
    ------
    InputError
        Where model and weights do not fit, or no band is known by name.
    ReadError, MissingDependency
        Where the file cannot be had.
    """
    facts = weights_info(weights) if isinstance(weights, str) else weights
    if not facts.timm or facts.bands is None:
        where = f" See {facts.repository}." if facts.repository else ""
        what = f"geoxt has no architecture {facts.architecture!r}"
        msg = f"Cannot load {facts.name!r}: {what}. Pass one of weights_names() in weights=.{where}"
        raise InputError(msg)
    body = _backbone(model)
    wanted = _bands(model, body, bands)
    path = Path(file) if file is not None else fetch(facts, folder=folder, progress=progress)
    state, layouts = rename(read(path))
    targets = {_plain(key): key for key in body.state_dict()}
    state = {targets.get(_plain(key), key): value for key, value in state.items()}
    adapted = _first(body, state, facts, wanted, missing=missing, alias=alias_of(alias))
    loaded, fresh, unused, wrong = _sort(body.state_dict(), state)
    if strict:
        _refuse(facts, fresh, unused, wrong, whole=_keeps_its_head(body))
    with torch.no_grad():
        body.load_state_dict(loaded, strict=False)
    report = Loaded(
        weights=facts,
        layouts=layouts,
        known=adapted.known,
        made=adapted.made,
        dropped=adapted.unused,
        missing=missing,
        scale=adapted.scale,
        count=len(loaded),
        fresh=fresh,
        unused=unused,
    )
    _LOG.info("Loaded %s", report)
    return report


def _backbone(model: nn.Module) -> nn.Module:
    """Return the part of a model that has timm's names."""
    part: Any = model
    while not hasattr(part, "default_cfg") and not hasattr(part, "conv1"):
        inner = getattr(part, "backbone", None) or getattr(part, "body", None) or getattr(part, "model", None)
        if not isinstance(inner, nn.Module):
            name = type(model).__name__
            msg = f"Cannot load weights into {name}: it has no encoder of timm. Pass a model that has one."
            raise InputError(msg)
        part = inner
    found: nn.Module = part
    return found


def _bands(model: nn.Module, body: nn.Module, bands: Sequence[str] | None) -> tuple[str, ...]:
    own = getattr(model, "bands", None) or getattr(getattr(model, "card", None), "bands", None)
    given = own if bands is None else bands
    count = _first_convolution(body)[1].in_channels
    if given is None:
        msg = f"Cannot match the model's {count} bands to those of the weights: pass their names, in order, in bands=."
        raise InputError(msg)
    if isinstance(given, str) or len(given) != count or len(set(given)) != count:
        msg = f"Cannot match bands={given!r} to a model of {count} bands: pass {count} names, each once."
        raise InputError(msg)
    return tuple(given)


def _first_convolution(body: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in body.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    msg = f"Cannot load weights into {type(body).__name__}: it has no convolution. Pass a model that begins with one."
    raise InputError(msg)


def _first(
    body: nn.Module, state: State, facts: Weights, bands: tuple[str, ...], *, missing: Missing, alias: Mapping[str, str]
) -> Adapted:
    """Adapt the first layer's kernels among the weights, in place."""
    name, convolution = _first_convolution(body)
    key = f"{name}.weight"
    of = facts.bands or ()
    kernels = state.get(key)
    if kernels is None or kernels.ndim != 4 or kernels.shape[1] != len(of):
        found = "no such tensor" if kernels is None else f"shape {tuple(kernels.shape)}"
        what = f"{key} should have {len(of)} bands, and the file has {found}"
        msg = f"Cannot load {facts.name!r}: {what}. Build timm's {facts.architecture!r}, or pass other weights=."
        raise InputError(msg)
    fresh = convolution.weight.detach().cpu()
    adapted = adapt(kernels.float(), of, bands, missing=missing, fresh=fresh, alias=alias)
    state[key] = adapted.kernels
    return adapted


def _sort(
    target: Mapping[str, Tensor], state: State
) -> tuple[State, tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return what can be loaded, what the weights lack, what the model lacks, and where shapes differ."""
    loaded = {key: value for key, value in state.items() if key in target and target[key].shape == value.shape}
    differ = [key for key in state if key in target and target[key].shape != state[key].shape]
    wrong = tuple((key, f"{tuple(state[key].shape)} for {tuple(target[key].shape)}") for key in differ)
    fresh = tuple(key for key in target if key not in loaded and not key.endswith("num_batches_tracked"))
    return loaded, fresh, tuple(key for key in state if key not in target), wrong


def _refuse(
    facts: Weights, fresh: Sequence[str], unused: Sequence[str], wrong: Sequence[tuple[str, str]], *, whole: bool
) -> None:
    """Raise where more than the last layers differ; an encoder without them may also leave out the weights' deepest."""
    lacking = [key for key in fresh if not _is_head(key)]
    left = [key for key in unused if not _is_head(key)] if whole else []
    shapes = [f"{key} ({found})" for key, found in wrong if not _is_head(key)]
    if not (lacking or left or shapes):
        return
    parts = [("the weights lack", lacking), ("the model lacks", left), ("shapes differ in", shapes)]
    found = "; ".join(f"{what} {_some(keys)}" for what, keys in parts if keys)
    msg = f"Cannot load {facts.name!r}: {found}. Build timm's {facts.architecture!r}, or pass strict=False."
    raise InputError(msg)


def _keeps_its_head(body: nn.Module) -> bool:
    return hasattr(body, "forward_head")


def _is_head(key: str) -> bool:
    return re.search(_HEADS, key) is not None


def _plain(key: str) -> str:
    """Undo what timm does to names where it gives features by level: `stages_0` for `stages.0`."""
    return re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key)


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more
