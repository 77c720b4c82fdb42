"""A model as prediction uses it: numpy in, numpy out, batches of one shape, nothing that training may still change."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.network import Network
from geoxt.types import Array, Mask


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """A frozen copy of a model, in evaluation mode."""

    model: nn.Module
    """Takes images (N, C, H, W); a `Network` also takes validity (N, H, W)."""
    activate: bool
    """Whether the output is turned into probabilities."""
    batch_size: int
    """Tiles that run at once."""

    @classmethod
    def of(cls, model: nn.Module, *, activate: bool, batch_size: int) -> Runner:
        """Return a runner of a copy of a model as it is now."""
        if batch_size < 1:
            msg = f"Cannot predict with batch_size={batch_size}: pass 1 or more."
            raise InputError(msg)
        return cls(model=copy.deepcopy(model).eval(), activate=activate, batch_size=batch_size)

    def __dask_tokenize__(self) -> Any:
        """Return what decides the output: the kind of model and a hash of its weights."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return "Runner", repr(self.model), digest.hexdigest(), self.activate, self.batch_size

    def channels(self, bands: int, size: tuple[int, int]) -> int:
        """Return the number of channels that the model gives for images of a shape.

        Raises
        ------
        InputError
            Where it does not give an image of the size that went in.
        """
        image = np.zeros((1, bands, *size), np.float32)
        shape = self(image, np.ones((1, *size), bool)).shape
        if len(shape) != 4 or shape[-2:] != size:
            msg = f"Cannot map with this model: for images of {size} pixels it gives the shape {shape[1:]}. "
            raise InputError(msg + "Pass one that gives (channels, height, width).")
        return int(shape[1])

    def __call__(self, images: Array, valid: Mask) -> Array:
        """Return the output float32 (N, K, H, W) for images (N, C, H, W) and their validity (N, H, W).

        A batch shorter than `batch_size` is filled up: on CPUs the last bits of a convolution depend on the number of
        images in a batch, and the result must not depend on how a scene was cut.
        """
        count, missing = len(images), self.batch_size - len(images)
        images = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)))
        valid = np.pad(valid, ((0, missing), (0, 0), (0, 0)))
        with torch.inference_mode():
            output = self._forward(torch.from_numpy(images), torch.from_numpy(valid))
        result: Array = output[:count].float().cpu().numpy()
        return result

    def _forward(self, images: Tensor, valid: Tensor) -> Tensor:
        device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
        images, valid = images.to(device), valid.to(device)
        if isinstance(self.model, Network):
            logits: Tensor = self.model(images, valid)
            return self.model.activate(logits) if self.activate else logits
        output: Tensor = self.model(images)
        return output.softmax(dim=1) if self.activate else output
