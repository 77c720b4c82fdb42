"""Losses of self-supervision, as functions of embeddings (N, D)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def byol(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean square distance of normalised embeddings: two less twice their cosine (equation 2).

    References
    ----------
    Grill et al. 2020, https://arxiv.org/abs/2006.07733
    """
    return (2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=1)).mean()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the mean cross entropy of finding each view's other view among all others of the batch (equation 1).

    References
    ----------
    Chen et al. 2020, SimCLR, https://arxiv.org/abs/2002.05709
    """
    both = F.normalize(torch.cat([first, second]), dim=1)
    alike = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    count = len(first)
    other = torch.arange(2 * count, device=both.device).roll(count)
    return F.cross_entropy(alike, other)


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return the mean cross entropy of finding each query's key among negatives (K, D), all normalised (equation 1).

    References
    ----------
    He et al. 2020, MoCo, https://arxiv.org/abs/1911.05722
    """
    query, key = F.normalize(query, dim=1), F.normalize(key.detach(), dim=1)
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def triplet(anchor: Tensor, neighbour: Tensor, distant: Tensor, *, margin: float, penalty: float) -> Tensor:
    """Return how much closer than a distant tile a neighbour ought to be, and a penalty on the embeddings' length.

    Parameters
    ----------
    anchor, neighbour, distant
        Embeddings.
    margin
        By how much the distance to the distant tile should exceed that to the neighbour.
    penalty
        Weight of the mean length of the embeddings, which keeps them from growing.

    References
    ----------
    Jean et al. 2019, Tile2Vec, https://arxiv.org/abs/1805.02855 (equations 1 and 2)
    """
    near, far = (torch.linalg.vector_norm(anchor - other, dim=1) for other in (neighbour, distant))
    lengths = [torch.linalg.vector_norm(one, dim=1).mean() for one in (anchor, neighbour, distant)]
    return F.relu(near - far + margin).mean() + penalty * torch.stack(lengths).sum()


def masked_error(predicted: Tensor, patches: Tensor, hidden: Tensor, *, normalise: bool) -> Tensor:
    """Return the mean square error of the hidden patches.

    Parameters
    ----------
    predicted, patches
        (N, L, P): of each patch its pixels.
    hidden
        bool (N, L).
    normalise
        Whether each patch is to be predicted less its own mean, in units of its own deviation.

    References
    ----------
    He et al. 2022, MAE, https://arxiv.org/abs/2111.06377
    """
    if normalise:
        patches = (patches - patches.mean(dim=-1, keepdim=True)) / (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    each = ((predicted - patches) ** 2).mean(dim=-1)
    return (each * hidden).sum() / hidden.sum().clamp(min=1)
