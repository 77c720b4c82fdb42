"""Hash of a model: equal for equal weights, settings and code, in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from geoxt.models.card import Card
from geoxt.models.encoders.pretrained_encoder import Encoder

_PLAIN_TYPES = (bool, int, float, complex, str, bytes, type(None))


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-1 of everything that determines a model's output: classes, bytecode, settings and weights.

    Settings are the public attributes of modules that consist of plain values, and model cards.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    for name, module in model.named_modules():
        kind = type(module)
        digest.update(f"{name}:{kind.__module__}.{kind.__qualname__}".encode())
        digest.update(getattr(kind.forward, "__code__", compile("", "", "exec")).co_code)
        settings = {key: value for key, value in vars(module).items() if not key.startswith("_") and _is_plain(value)}
        digest.update(repr(sorted(settings.items())).encode())
    _add_weights(digest, model)
    return digest.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """Return the SHA-1 of the weights and buffers of a model, with any version of Python; "" if it has none.

    The digest of a pretrained encoder includes its normalization, but not the scale and offset of the layer.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    if isinstance(model, Encoder):
        digest.update(repr(_rounded([model.steps, model.channels, model.fill.flatten().tolist()])).encode())
        model = model.body
    _add_weights(digest, model)
    return digest.hexdigest() if model.state_dict() else ""


def _rounded(value: Any) -> Any:
    """Return nested values with numbers rounded to six digits, which are equal for any units of the layer."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return f"{value:.6g}" if isinstance(value, (int, float)) else value


def _add_weights(digest: Any, model: nn.Module) -> None:
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    return isinstance(value, (*_PLAIN_TYPES, Card))
