"""A model's fingerprint: the same for the same weights, settings and code, in any process."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def fingerprint(model: nn.Module) -> str:
    """Return a hash of what decides a model's output: its kind, code, settings and weights."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name, module in model.named_modules():
        kind = type(module)
        digest.update(f"{name}:{kind.__module__}.{kind.__qualname__}".encode())
        digest.update(getattr(kind.forward, "__code__", compile("", "", "exec")).co_code)
        settings = {key: value for key, value in vars(module).items() if not key.startswith("_") and _plain(value)}
        digest.update(repr(sorted(settings.items())).encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(_plain(one) for pair in value.items() for one in pair)
    return isinstance(value, _PLAIN)
