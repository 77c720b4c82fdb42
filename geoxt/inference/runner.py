"""A frozen copy of a model for inference: numpy arrays in and out, in batches of one shape."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.inference.fingerprint import fingerprint
from geoxt.inference.output_kinds import Stage
from geoxt.models.network import Network
from geoxt.types import Array, Mask

LOADED: dict[str, nn.Module] = {}
"""Unpickled models of this process by fingerprint: each is unpickled once for all dask tasks."""
LOADS = 0
"""Number of models that this process unpickled."""
_MAX_LOADED = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """A frozen copy of a model, in evaluation mode."""

    model: nn.Module
    """Takes images (N, C, H, W), or (N, T, C, H, W) for series; a `Network` also takes their valid mask, without C."""
    digest: str
    """Fingerprint of the model."""
    stage: Stage
    """Stage at which its output is taken."""
    head: str | int | None
    """Key or index of one of several outputs."""
    batch_size: int
    """Tiles per batch."""

    @classmethod
    def of(cls, model: nn.Module, *, stage: Stage, batch_size: int, head: str | int | None = None) -> Runner:
        """Return a runner of a copy of a model in its current state, so that further training does not change maps."""
        if batch_size < 1:
            raise InputError(f"Cannot predict in batches of {batch_size} tiles.", remedy="Pass {batch_size:1} or more.")
        _require_finite_weights(model)
        frozen = copy.deepcopy(model).eval()
        return cls(model=frozen, digest=fingerprint(frozen), stage=stage, head=head, batch_size=batch_size)

    def __reduce__(self) -> Any:
        """Pickle the model as bytes, which a process unpickles only once."""
        return _restored, (cloudpickle.dumps(self.model), self.digest, self.stage, self.head, self.batch_size)

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the output."""
        return "Runner", self.digest, self.stage, self.head, self.batch_size

    def probe(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the channels, height and width of the model's output for one image of a shape (…, C, H, W).

        Raises
        ------
        InputError
            If the output is neither a map nor a vector.
        """
        valid = np.ones((1, *shape[:-3], *shape[-2:]), bool)
        output = self._run(np.zeros((1, *shape), np.float32), valid).shape
        if len(output) != 4 or output[0] != 1:
            raise InputError(
                f"Cannot map with this model: for images of {shape[-2:]} pixels its output has the shape {output[1:]}.",
                remedy="Pass a {model} whose output is (channels, height, width).",
            )
        return int(output[1]), int(output[2]), int(output[3])

    def __call__(self, images: Array, valid: Mask) -> Array:
        """Return the output float32 (N, K, h, w) of images (N, …, C, H, W) and their valid masks (N, …, H, W).

        A batch shorter than `batch_size` is padded: on CPUs the last bits of a convolution depend on the number of
        images in a batch, and the result must not depend on how a scene is divided into blocks.
        """
        count, missing = len(images), self.batch_size - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            valid = np.concatenate([valid, np.zeros((missing, *valid.shape[1:]), bool)])
        result: Array = self._run(images, valid)[:count].float().cpu().numpy()
        if isinstance(self.model, Network) and not np.isfinite(result).any():
            raise InputError(
                f"Cannot predict with this model: none of its outputs for {count} tiles is finite.",
                remedy="Pass a {model} whose training did not diverge, or mark pixels of extreme values as nodata.",
                argument="model",
            )
        return result

    def _run(self, images: Array, valid: Mask) -> Tensor:
        with torch.inference_mode():
            device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
            output = self._forward(torch.from_numpy(images).to(device), torch.from_numpy(valid).to(device))
        return output[:, :, None, None] if output.ndim == 2 else output  # a vector is a map of one pixel

    def _forward(self, images: Tensor, valid: Tensor) -> Tensor:
        network = self.model if isinstance(self.model, Network) else None
        if self.stage == "embeddings":
            return self._select(_embed(self.model, images, valid))
        output = self._select(self.model(images, valid) if network is not None else self.model(images))
        match self.stage:
            case "raw":
                return output
            case "activated":
                return output if network is None else network.activate(output)
            case "probabilities":
                return _softmax(output) if network is None else network.activate(output)
            case _:
                raise InputError(f"Cannot take a model's output at stage {self.stage!r}.")

    def _select(self, output: Any) -> Tensor:
        """Return the tensor of a model with one output, or the one of several that `head` selects."""
        if isinstance(output, Tensor) and self.head is None:
            return output
        outputs: dict[str | int, Any] = {}
        if isinstance(output, Mapping):
            outputs = dict(output)
        elif isinstance(output, (tuple, list)):
            outputs = dict(enumerate(output))
        if self.head is None and len(outputs) == 1:
            return self._tensor(next(iter(outputs.values())))
        if self.head not in outputs:
            names = ", ".join(map(repr, outputs))
            available = f"the outputs {names}" if names else "one output"
            raise InputError(
                f"Cannot take the output {self.head!r} of a model with {available}.",
                remedy=f"Pass {{head}}, one of {names}." if names else "Leave {head} out.",
            )
        return self._tensor(outputs[self.head])

    def _tensor(self, output: Any) -> Tensor:
        if isinstance(output, Tensor):
            return output
        raise InputError(
            f"Cannot map with this model: its output is a {type(output).__name__}.",
            remedy="Pass a {model} whose outputs are tensors. Or pass {head} to select one.",
        )


def _require_finite_weights(model: nn.Module) -> None:
    """Raise if a weight of a model is NaN or infinite, as after a training that diverged."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise InputError(
                f"Cannot predict with this model: its weights {name!r} are not finite.",
                remedy="Train it again with a lower learning rate, and pass that {model}.",
                value=name,
                argument="model",
            )


def _softmax(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        raise InputError(
            "Cannot compute probabilities of 1 channel.",
            remedy="Pass {output:'values'} or {output:'regression'}. Or pass a {model} with one channel per class.",
        )
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


def _restored(payload: bytes, digest: str, stage: Stage, head: str | int | None, batch_size: int) -> Runner:
    global LOADS  # noqa: PLW0603 (a count of this process)
    if digest not in LOADED:
        LOADS += 1
        while len(LOADED) >= _MAX_LOADED:
            LOADED.pop(next(iter(LOADED)))
        LOADED[digest] = cloudpickle.loads(payload)
    return Runner(model=LOADED[digest], digest=digest, stage=stage, head=head, batch_size=batch_size)
