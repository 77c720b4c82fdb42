"""Methods that compare views: what each adds to the encoder, its loss, and what it does after a step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.trainers.selfsup import contrastive_losses
from geoxt.trainers.selfsup.encoder import Encoder
from geoxt.trainers.selfsup.masking import MAE


class Method(Protocol):
    """What `SelfSupervised` wants of a method; a torch module as well."""

    views: int
    """How many views of a place it compares."""

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch of views, each (N, C, H, W)."""

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do what follows a step of the optimiser; `progress` goes from 0 to 1 over the training."""


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return two linear layers with batch normalisation and ReLU between them."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


class BYOL(nn.Module):
    """Bootstrap your own latent: predict what a slowly moving copy of the encoder makes of the other view.

    Parameters
    ----------
    encoder
        Trained; the copy starts from it.
    width
        Length of its embeddings.
    hidden, out
        Widths of the projector and the predictor.
    decay
        Of the moving copy at the start; it rises to 1 along half a cosine.

    References
    ----------
    Grill et al. 2020, https://arxiv.org/abs/2006.07733
    """

    views = 2

    def __init__(
        self, encoder: Encoder, width: int, *, hidden: int = 4096, out: int = 256, decay: float = 0.996
    ) -> None:
        super().__init__()
        self.decay = decay
        self.projector, self.predictor = mlp(width, hidden, out), mlp(out, hidden, out)
        self.target = nn.Sequential(copy.deepcopy(encoder), copy.deepcopy(self.projector)).requires_grad_(False)

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the symmetric loss of two views."""
        first, second = views
        with torch.no_grad():
            targets = self.target(first), self.target(second)
        found = [self.predictor(self.projector(encoder(view))) for view in (first, second)]
        return contrastive_losses.byol(found[0], targets[1]) + contrastive_losses.byol(found[1], targets[0])

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Move the copy."""
        decay = 1 - (1 - self.decay) * (math.cos(math.pi * progress) + 1) / 2
        follow(self.target, nn.Sequential(encoder, self.projector), decay)


class SimCLR(nn.Module):
    """Find each view's other view among those of the whole batch.

    References
    ----------
    Chen et al. 2020, https://arxiv.org/abs/2002.05709
    """

    views = 2

    def __init__(
        self, encoder: Encoder, width: int, *, hidden: int = 2048, out: int = 128, temperature: float = 0.1
    ) -> None:
        super().__init__()
        del encoder
        self.temperature = temperature
        self.projector = mlp(width, hidden, out)

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of two views."""
        first, second = (self.projector(encoder(view)) for view in views)
        return contrastive_losses.nt_xent(first, second, self.temperature)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


class MoCo(nn.Module):
    """Momentum contrast, version 2: find each view's other view among keys of earlier batches.

    Parameters
    ----------
    encoder, width
        As for `BYOL`.
    hidden, out
        Widths of the projector.
    queue
        How many keys are kept.
    decay
        Of the moving copy that makes keys.
    temperature
        Divides similarities.

    References
    ----------
    He et al. 2020, https://arxiv.org/abs/1911.05722; Chen et al. 2020, https://arxiv.org/abs/2003.04297
    """

    views = 2

    def __init__(
        self,
        encoder: Encoder,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        queue: int = 4096,
        decay: float = 0.999,
        temperature: float = 0.2,
    ) -> None:
        super().__init__()
        self.decay, self.temperature = decay, temperature
        self.projector = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
        self.target = nn.Sequential(copy.deepcopy(encoder), copy.deepcopy(self.projector)).requires_grad_(False)
        self.queue: Tensor
        self.place: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(queue, out), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self._keys: Tensor | None = None

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of two views: queries of the first, keys of the second."""
        first, second = views
        with torch.no_grad():
            keys = F.normalize(self.target(second), dim=1)
        self._keys = keys if self.training else None
        return contrastive_losses.info_nce(self.projector(encoder(first)), keys, self.queue.clone(), self.temperature)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Move the copy, and put the batch's keys in place of the oldest."""
        del progress
        follow(self.target, nn.Sequential(encoder, self.projector), self.decay)
        if self._keys is not None:
            places = (self.place + torch.arange(len(self._keys), device=self.queue.device)) % len(self.queue)
            self.queue[places] = self._keys.to(self.queue.dtype)
            self.place.add_(len(self._keys)).remainder_(len(self.queue))
            self._keys = None


class Tile2Vec(nn.Module):
    """Keep a place's neighbour closer to it than a distant place; views are anchor, neighbour and distant one.

    References
    ----------
    Jean et al. 2019, https://arxiv.org/abs/1805.02855
    """

    views = 3

    def __init__(self, encoder: Encoder, width: int, *, margin: float = 10.0, penalty: float = 0.01) -> None:
        super().__init__()
        del encoder, width
        self.margin, self.penalty = margin, penalty

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch of triplets."""
        anchor, neighbour, distant = (encoder(view) for view in views)
        return contrastive_losses.triplet(anchor, neighbour, distant, margin=self.margin, penalty=self.penalty)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


METHODS: Mapping[str, type[BYOL | SimCLR | MoCo | Tile2Vec | MAE]] = {
    "byol": BYOL,
    "simclr": SimCLR,
    "moco": MoCo,
    "tile2vec": Tile2Vec,
    "mae": MAE,
}
"""All methods, by name."""


@torch.no_grad()
def follow(copied: nn.Module, model: nn.Module, decay: float) -> None:
    """Move a copy's weights towards a model's; its buffers (means of normalisation) are its own."""
    for own, other in zip(copied.parameters(), model.parameters(), strict=True):
        own.lerp_(other.detach(), 1 - decay)
