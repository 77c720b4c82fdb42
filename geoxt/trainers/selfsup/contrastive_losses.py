"""Loss functions of embeddings (N, D) for contrastive and self-distillation learning."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def byol_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared distance of L2-normalized embeddings, without gradient in the targets (equation 2).

    References
    ----------
    Grill et al. 2020, BYOL, https://arxiv.org/abs/2006.07733
    """
    # ||p/|p| - t/|t|||^2 = 2 - 2 cos(p, t)
    return (2 - 2 * F.cosine_similarity(predictions, targets.detach(), dim=1)).mean()


def nt_xent_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the normalized temperature-scaled cross entropy of pairs of views (equation 1).

    The positive of a view is the second view of the same image; all other views of the batch are negatives.

    References
    ----------
    Chen et al. 2020, SimCLR, https://arxiv.org/abs/2002.05709
    """
    embeddings = F.normalize(torch.cat([first, second]), dim=1)
    # A view is not a candidate for itself, hence -inf on the diagonal.
    logits = (embeddings @ embeddings.T / temperature).fill_diagonal_(-torch.inf)
    count = len(first)
    positives = torch.arange(2 * count, device=embeddings.device).roll(count)
    return F.cross_entropy(logits, positives)


def info_nce_loss(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return the InfoNCE loss of queries and their keys against negatives (equation 1).

    Parameters
    ----------
    queries, keys
        (N, D); L2-normalized here. Keys get no gradient.
    negatives
        (K, D), L2-normalized.
    temperature
        Divisor of the similarities.

    References
    ----------
    He et al. 2020, MoCo, https://arxiv.org/abs/1911.05722
    """
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys.detach(), dim=1)
    logits = torch.cat([(queries * keys).sum(dim=1, keepdim=True), queries @ negatives.T], dim=1) / temperature
    # The key is the candidate in column 0.
    return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))


def triplet_loss(anchor: Tensor, neighbor: Tensor, distant: Tensor, *, margin: float, penalty: float) -> Tensor:
    """Return the triplet margin loss plus a penalty on the norm of the embeddings (equations 1 and 2).

    Parameters
    ----------
    anchor, neighbor, distant
        Embeddings (N, D).
    margin
        Margin by which the distance to the distant tile should exceed the distance to the neighbor.
    penalty
        Weight of the mean L2 norm of the embeddings.

    References
    ----------
    Jean et al. 2019, Tile2Vec, https://arxiv.org/abs/1805.02855
    """
    near, far = (torch.linalg.vector_norm(anchor - other, dim=1) for other in (neighbor, distant))
    norms = [torch.linalg.vector_norm(embedding, dim=1).mean() for embedding in (anchor, neighbor, distant)]
    return F.relu(near - far + margin).mean() + penalty * torch.stack(norms).sum()
