"""Encoder trained by self-supervision, and its weights file for `geoxt.models.load`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, OutputError
from geoxt.models import Card, Weights
from geoxt.models.registry import TIMM
from geoxt.storage import atomic_write
from geoxt.types import SomePath


class Encoder(nn.Module):
    """Embeddings (N, F) from the `features` of a model; feature maps (N, F, H, W) are averaged over pixels.

    Parameters
    ----------
    body
        Model of `geoxt.models` with a method `features`.

    Raises
    ------
    InputError
        If the model has no method `features`.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(body, "features", None)):
            problem = f"Cannot compute features of {type(body).__name__}: it has no method features."
            raise InputError(problem, remedy="Pass {body}, a model with the method features.")
        self.body: Any = body

    def forward(self, image: Tensor) -> Tensor:
        """Return the embeddings (N, F) of normalized images (N, C, H, W)."""
        features: Tensor = self.body.features(image)
        return features.flatten(2).mean(dim=2) if features.ndim > 2 else features

    def width(self, bands: int, size: tuple[int, int]) -> int:
        """Return the length F of the embeddings of images with a number of bands and a size (H, W)."""
        training = self.training
        self.eval()
        with torch.no_grad():
            width = int(self(torch.zeros(1, bands, *size)).shape[1])
        self.train(training)
        return width


def encoder_weights(body: nn.Module, card: Card, path: SomePath, *, method: str | None = None) -> Weights:
    """Write the encoder of a model to a weights file, and return its entry for `geoxt.models.load`.

    Parameters
    ----------
    body
        Model of `geoxt.models.create` with an encoder `backbone`, such as `task.network.body`.
    card
        Model card, with the bands and their scaling.
    path
        Path of the weights file. An existing file is replaced.
    method
        Name of the training method.

    Raises
    ------
    InputError
        If the model has no `backbone`.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> weights = encoder_weights(task.network.body, task.card, "encoder.pt")  # doctest: +SKIP
    >>> load(create("resnet50", bands=["B4", "B8"], num_classes=5), weights, file="encoder.pt")  # doctest: +SKIP
    """
    backbone = getattr(body, "backbone", None)
    if not isinstance(backbone, nn.Module):
        problem = f"Cannot write the encoder of {type(body).__name__}: it has no backbone."
        raise InputError(problem, remedy="Pass {body}, a model with a module named backbone.")
    target = Path(path)
    try:
        with atomic_write(target) as temporary:
            torch.save({name: value.cpu() for name, value in backbone.state_dict().items()}, temporary)
    except (OSError, RuntimeError) as error:
        problem = f"Cannot write the encoder to {str(target)!r}: {error}."
        raise OutputError(problem, remedy="Pass {path}, a file in an existing folder.") from error
    return Weights(
        name=target.stem,
        architecture=card.model.removeprefix(TIMM),
        timm=True,
        bands=card.bands,
        steps=({"op": "normalize", "mean": list(card.mean), "std": list(card.std)},),
        method=method,
        license=None,
        url=None,
        file=target.name,
    )
