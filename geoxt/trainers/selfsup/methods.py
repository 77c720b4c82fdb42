"""Self-supervised methods as modules: projection heads, loss and momentum update of each."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.trainers.selfsup.contrastive_losses import byol_loss, info_nce_loss, nt_xent_loss, triplet_loss
from geoxt.trainers.selfsup.encoder import Encoder
from geoxt.trainers.selfsup.masking import MAE


class Method(Protocol):
    """Interface of self-supervised methods, which are also `torch.nn.Module` instances."""

    views: int
    """Number of views per sample."""

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch of views, each (N, C, H, W)."""

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Update the state of the method after an optimizer step; `progress` is the fraction of all steps, 0 to 1."""


def mlp(width: int, hidden: int, out: int) -> nn.Sequential:
    """Return two linear layers with batch normalization and ReLU between them."""
    return nn.Sequential(
        nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out)
    )


class BYOL(nn.Module):
    """BYOL: predict the target network's projection of the other view.

    Parameters
    ----------
    encoder
        Online encoder; the target network starts as its copy.
    width
        Length of its embeddings.
    hidden, out
        Hidden and output widths of the projector and the predictor.
    decay
        Initial EMA decay of the target network; it rises to 1 by a cosine schedule.

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
        """Return the symmetric loss of a batch of two views."""
        first, second = views
        with torch.no_grad():
            targets = self.target(first), self.target(second)
        predictions = [self.predictor(self.projector(encoder(view))) for view in (first, second)]
        return byol_loss(predictions[0], targets[1]) + byol_loss(predictions[1], targets[0])

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Update the target network."""
        # tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2, as in the implementation details of the paper.
        decay = 1 - (1 - self.decay) * (math.cos(math.pi * progress) + 1) / 2
        update_ema(self.target, nn.Sequential(encoder, self.projector), decay)


class SimCLR(nn.Module):
    """Contrast the two views of each image with all other views of the batch.

    Parameters
    ----------
    encoder, width
        As for `BYOL`.
    hidden, out
        Hidden and output widths of the projector.
    temperature
        Divisor of the similarities.

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
        """Return the loss of a batch of two views."""
        first, second = (self.projector(encoder(view)) for view in views)
        return nt_xent_loss(first, second, self.temperature)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


class MoCo(nn.Module):
    """Momentum contrast v2 (MoCo): contrast queries and keys with a queue of the keys of earlier batches.

    Parameters
    ----------
    encoder, width
        As for `BYOL`.
    hidden, out
        Hidden and output widths of the projector.
    queue
        Number of keys in the queue.
    decay
        EMA decay of the key encoder.
    temperature
        Divisor of the similarities.

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
        self.queue_pointer: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(queue, out), dim=1))
        self.register_buffer("queue_pointer", torch.zeros((), dtype=torch.int64))
        self._keys: Tensor | None = None

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the loss of a batch of two views: queries from the first, keys from the second."""
        first, second = views
        with torch.no_grad():
            keys = F.normalize(self.target(second), dim=1)
        self._keys = keys if self.training else None
        # after_step changes the queue in place, but the backward pass needs the values of this forward pass.
        return info_nce_loss(self.projector(encoder(first)), keys, self.queue.clone(), self.temperature)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Update the key encoder, and replace the oldest keys of the queue by those of the batch."""
        del progress
        update_ema(self.target, nn.Sequential(encoder, self.projector), self.decay)
        if self._keys is not None:
            rows = (self.queue_pointer + torch.arange(len(self._keys), device=self.queue.device)) % len(self.queue)
            self.queue[rows] = self._keys.to(self.queue.dtype)
            self.queue_pointer.add_(len(self._keys)).remainder_(len(self.queue))
            self._keys = None


class Tile2Vec(nn.Module):
    """Tile2Vec: triplet loss of an anchor tile, a neighbor and a distant tile, in this order.

    Parameters
    ----------
    encoder, width
        As for `BYOL`; not used.
    margin, penalty
        As for `geoxt.trainers.selfsup.contrastive_losses.triplet_loss`.

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
        anchor, neighbor, distant = (encoder(view) for view in views)
        return triplet_loss(anchor, neighbor, distant, margin=self.margin, penalty=self.penalty)

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


METHODS: Mapping[str, type[BYOL | SimCLR | MoCo | Tile2Vec | MAE]] = {
    "byol": BYOL,
    "simclr": SimCLR,
    "moco": MoCo,
    "tile2vec": Tile2Vec,
    "mae": MAE,
}
"""Methods by name."""


@torch.no_grad()
def update_ema(target: nn.Module, model: nn.Module, decay: float) -> None:
    """Update the EMA of a model's parameters inplace; buffers, as of batch normalization, stay unchanged."""
    for average, parameter in zip(target.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter.detach(), 1 - decay)
