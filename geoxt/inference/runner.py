"""A model as prediction uses it: numpy in, numpy out, batches of one shape, nothing that training may still change."""

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
"""Models that came to this process pickled, by fingerprint: each is loaded once, for however many tasks."""
LOADS = 0
"""How often this process loaded one."""
_MOST_LOADED = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """A frozen copy of a model, in evaluation mode."""

    model: nn.Module
    """Takes images (N, C, H, W), or (N, T, C, H, W) for series; a `Network` also takes validity, without C."""
    digest: str
    """Fingerprint of the model."""
    stage: Stage
    """How far its output is taken."""
    head: str | int | None
    """Which output is taken, of a model that gives several."""
    batch_size: int
    """Tiles that run at once."""

    @classmethod
    def of(cls, model: nn.Module, *, stage: Stage, batch_size: int, head: str | int | None = None) -> Runner:
        """Return a runner of a copy of a model as it is now."""
        if batch_size < 1:
            msg = f"Cannot predict with batch_size={batch_size}: pass 1 or more."
            raise InputError(msg)
        frozen = copy.deepcopy(model).eval()
        return cls(model=frozen, digest=fingerprint(frozen), stage=stage, head=head, batch_size=batch_size)

    def __reduce__(self) -> Any:
        """Pickle the model as bytes that are loaded only where no process-mate has it yet."""
        return _restored, (cloudpickle.dumps(self.model), self.digest, self.stage, self.head, self.batch_size)

    def __dask_tokenize__(self) -> Any:
        """Return what decides the output."""
        return "Runner", self.digest, self.stage, self.head, self.batch_size

    def probe(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the channels, height and width that the model gives for one image of a shape (..., C, H, W).

        Raises
        ------
        InputError
            Where it gives neither a map nor one vector for the image.
        """
        valid = np.ones((1, *shape[:-3], *shape[-2:]), bool)
        found = self._run(np.zeros((1, *shape), np.float32), valid).shape
        if len(found) != 4 or found[0] != 1:
            msg = f"Cannot map with this model: for images of {shape[-2:]} pixels it gives the shape {found[1:]}. "
            raise InputError(msg + "Pass one that gives (channels, height, width).")
        return int(found[1]), int(found[2]), int(found[3])

    def __call__(self, images: Array, valid: Mask) -> Array:
        """Return the output float32 (N, K, h, w) for images (N, ..., C, H, W) and their validity (N, ..., H, W).

        A batch shorter than `batch_size` is filled up: on CPUs the last bits of a convolution depend on the number of
        images in a batch, and the result must not depend on how a scene was cut.
        """
        count, missing = len(images), self.batch_size - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            valid = np.concatenate([valid, np.zeros((missing, *valid.shape[1:]), bool)])
        result: Array = self._run(images, valid)[:count].float().cpu().numpy()
        return result

    def _run(self, images: Array, valid: Mask) -> Tensor:
        with torch.inference_mode():
            device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
            output = self._forward(torch.from_numpy(images).to(device), torch.from_numpy(valid).to(device))
        return output[:, :, None, None] if output.ndim == 2 else output

    def _forward(self, images: Tensor, valid: Tensor) -> Tensor:
        network = self.model if isinstance(self.model, Network) else None
        if self.stage == "embeddings":
            return self._chosen(_embedded(self.model, images, valid))
        output = self._chosen(self.model(images, valid) if network is not None else self.model(images))
        match self.stage:
            case "raw":
                return output
            case "activated":
                return output if network is None else network.activate(output)
            case "probabilities":
                return _softmax(output) if network is None else network.activate(output)
            case _:
                msg = f"Cannot run a model to stage={self.stage!r}."
                raise InputError(msg)

    def _chosen(self, output: Any) -> Tensor:
        """Return the one tensor of a model's output, or the one that `head` names among several."""
        if isinstance(output, Tensor) and self.head is None:
            return output
        named: dict[str | int, Any] = {}
        if isinstance(output, Mapping):
            named = dict(output)
        elif isinstance(output, (tuple, list)):
            named = dict(enumerate(output))
        if self.head is None and len(named) == 1:
            return self._tensor(next(iter(named.values())))
        if self.head not in named:
            found = ", ".join(map(repr, named)) or "one output alone"
            msg = f"Cannot take head={self.head!r} of a model that gives {found}: pass head= one of these."
            raise InputError(msg if named else f"Cannot take head={self.head!r} of a model that gives {found}.")
        return self._tensor(named[self.head])

    def _tensor(self, output: Any) -> Tensor:
        if isinstance(output, Tensor):
            return output
        msg = f"Cannot map with this model: it gives a {type(output).__name__}. Pass one that gives tensors, or head=."
        raise InputError(msg)


def _softmax(logits: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        msg = "Cannot make probabilities of 1 channel: pass output='values' or 'regression', or a model that gives "
        raise InputError(msg + "a channel for each class.")
    return logits.softmax(dim=1)


def _embedded(model: nn.Module, images: Tensor, valid: Tensor) -> Any:
    """Return features: of `embed`, of `forward_features` (timm) or of the encoder's last step, else the output."""
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
    return body(images)


def _restored(payload: bytes, digest: str, stage: Stage, head: str | int | None, batch_size: int) -> Runner:
    global LOADS  # noqa: PLW0603 (a count of this process)
    if digest not in LOADED:
        LOADS += 1
        while len(LOADED) >= _MOST_LOADED:
            LOADED.pop(next(iter(LOADED)))
        LOADED[digest] = cloudpickle.loads(payload)
    return Runner(model=LOADED[digest], digest=digest, stage=stage, head=head, batch_size=batch_size)
