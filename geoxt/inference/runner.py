"""A frozen copy of a model for inference: numpy arrays in and out, in batches of one shape."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.inference.fingerprint import fingerprint
from geoxt.inference.model_output import model_output
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
        is_network = isinstance(self.model, Network) or getattr(self.model, "takes_valid", False)
        if is_network and not np.isfinite(result).any():
            raise InputError(
                f"Cannot predict with this model: none of its outputs for {count} tiles is finite.",
                remedy="Pass a {model} whose training did not diverge, or mark pixels of extreme values as nodata.",
                argument="model",
            )
        return result

    def _run(self, images: Array, valid: Mask) -> Tensor:
        with torch.inference_mode():
            device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
            tensors = torch.from_numpy(images).to(device), torch.from_numpy(valid).to(device)
            return model_output(self.model, *tensors, stage=self.stage, head=self.head)


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


def _restored(payload: bytes, digest: str, stage: Stage, head: str | int | None, batch_size: int) -> Runner:
    global LOADS  # noqa: PLW0603 (a count of this process)
    if digest not in LOADED:
        LOADS += 1
        while len(LOADED) >= _MAX_LOADED:
            LOADED.pop(next(iter(LOADED)))
        LOADED[digest] = cloudpickle.loads(payload)
    return Runner(model=LOADED[digest], digest=digest, stage=stage, head=head, batch_size=batch_size)
