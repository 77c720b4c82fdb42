"""The encoder that self-supervision trains: features of images, and the file in which they are handed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, OutputError
from geoxt.models import Card, Weights
from geoxt.models.registry import TIMM
from geoxt.types import SomePath


class Encoder(nn.Module):
    """Embeddings (N, F) by a model of `geoxt.models` that has `features`; those with pixels are averaged over them.

    Parameters
    ----------
    body
        The model.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(body, "features", None)):
            msg = f"Cannot take features of {type(body).__name__}: it has none. Pass a model that has `features`."
            raise InputError(msg)
        self.body: Any = body

    def forward(self, image: Tensor) -> Tensor:
        """Return the embeddings of images (N, C, H, W), scaled."""
        found: Tensor = self.body.features(image)
        return found.flatten(2).mean(dim=2) if found.ndim > 2 else found

    def width(self, bands: int, size: tuple[int, int]) -> int:
        """Return F, for images of a number of bands and a size."""
        training = self.training
        self.eval()
        with torch.no_grad():
            found = int(self(torch.zeros(1, bands, *size)).shape[1])
        self.train(training)
        return found


def encoder_weights(body: nn.Module, card: Card, path: SomePath, *, method: str | None = None) -> Weights:
    """Write a model's encoder to a file, and return the facts with which `geoxt.models.load` takes it.

    Parameters
    ----------
    body
        What `geoxt.models.create` made, such as `task.network.body`.
    card
        Its bands and scaling.
    path
        The file; written under another name first.
    method
        How it was trained.

    Examples
    --------
    >>> facts = encoder_weights(task.network.body, task.card, "encoder.pt")  # doctest: +SKIP
    >>> load(create("resnet50", bands=["B4", "B8"], classes=5), facts, file="encoder.pt")  # doctest: +SKIP
    """
    backbone = getattr(body, "backbone", None)
    if not isinstance(backbone, nn.Module):
        msg = (
            f"Cannot write the encoder of {type(body).__name__}: it has no part named backbone. Pass a model with one."
        )
        raise InputError(msg)
    target = Path(path)
    half = target.with_name(f".{target.name}")
    try:
        torch.save({name: value.cpu() for name, value in backbone.state_dict().items()}, half)
        half.replace(target)
    except (OSError, RuntimeError) as error:
        msg = (
            f"Cannot write the encoder to {str(target)!r}: {error}. Pass the path of a file in a folder that is there."
        )
        raise OutputError(msg) from error
    return Weights(
        name=target.stem,
        family="own",
        architecture=card.model.removeprefix(TIMM),
        timm=True,
        bands=card.bands,
        steps=({"op": "normalize", "mean": list(card.mean), "std": list(card.std)},),
        method=method,
        license=None,
        url=None,
        file=target.name,
    )
