"""Output of a model for a batch of tiles, at a stage: raw, activated, as probabilities, or as features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.inference.output_kinds import Stage
from geoxt.models.network import Network


def model_output(model: nn.Module, images: Tensor, valid: Tensor, *, stage: Stage, head: str | int | None) -> Tensor:
    """Return the output (N, K, h, w) of images (N, …, C, H, W); vectors (N, K) become maps of one pixel.

    Parameters
    ----------
    model
        Takes images; a `Network`, and a module with the attribute `takes_valid`, also their valid mask (N, …, H, W).
    images, valid
        Pixels and valid mask.
    stage
        Stage at which the output is taken.
    head
        Key or index of one of several outputs.

    Raises
    ------
    InputError
        If the model has no such output.
    """
    output = _at_stage(model, images, valid, stage, head)
    return output[:, :, None, None] if output.ndim == 2 else output


def _at_stage(model: nn.Module, images: Tensor, valid: Tensor, stage: Stage, head: str | int | None) -> Tensor:
    network = model if isinstance(model, Network) else None
    if stage == "embeddings":
        return _select(_embed(model, images, valid), head)
    takes_valid = network is not None or getattr(model, "takes_valid", False)
    output = _select(model(images, valid) if takes_valid else model(images), head)
    match stage:
        case "raw":
            return output
        case "activated":
            return output if network is None else network.activate(output)
        case "probabilities":
            return _softmax(output) if network is None else network.activate(output)
        case _:
            raise InputError(f"Cannot take a model's output at stage {stage!r}.")


def _select(output: Any, head: str | int | None) -> Tensor:
    """Return the tensor of a model with one output, or the one of several that `head` selects."""
    if isinstance(output, Tensor) and head is None:
        return output
    outputs: dict[str | int, Any] = {}
    if isinstance(output, Mapping):
        outputs = dict(output)
    elif isinstance(output, (tuple, list)):
        outputs = dict(enumerate(output))
    if head is None and len(outputs) == 1:
        return _tensor(next(iter(outputs.values())))
    if head not in outputs:
        names = ", ".join(map(repr, outputs))
        available = f"the outputs {names}" if names else "one output"
        msg = f"Cannot take the output {head!r} of a model with {available}."
        raise InputError(msg, remedy=f"Pass {{head}}, one of {names}." if names else "Leave {head} out.")
    return _tensor(outputs[head])


def _tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    msg = f"Cannot map with this model: its output is a {type(output).__name__}."
    raise InputError(msg, remedy="Pass a {model} whose outputs are tensors. Or pass {head} to select one.")


def _softmax(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        msg = "Cannot compute probabilities of 1 channel."
        remedy = "Pass {output:'values'} or {output:'regression'}. Or pass a {model} with one channel per class."
        raise InputError(msg, remedy=remedy)
    return logits.softmax(dim=1)


def _embed(model: nn.Module, images: Tensor, valid: Tensor) -> Any:
    """Return features: of `embed`, `forward_features` (timm), the encoder's last stage, `features`, else the output."""
    body: Any = model
    if isinstance(model, Network):
        if hasattr(model, "embed"):
            return body.embed(images, valid)
        body = model.body
        images = ((images - model.mean) / model.std).where(valid[..., None, :, :], 0)
    for name in ("embed", "forward_features"):
        if hasattr(body, name):
            return getattr(body, name)(images)
    if hasattr(body, "encoder"):
        features = body.encoder(images)
        return features[-1] if isinstance(features, (list, tuple)) else features
    return body.features(images) if callable(getattr(body, "features", None)) else body(images)
