"""MAE: a vision transformer sees a quarter of an image's patches, and a small decoder draws the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.trainers.selfsup import contrastive_losses
from geoxt.trainers.selfsup.encoder import Encoder


class MAE(nn.Module):
    """Masked autoencoder over a vision transformer of timm.

    Parameters
    ----------
    encoder
        Around a vision transformer of timm with a class token and learnt positions.
    width
        Length of its embeddings.
    hidden
        Share of the patches that is hidden.
    depth, heads, decoder
        Layers of the decoder, their heads and their width.
    normalise
        Whether patches are predicted less their own mean, in units of their own deviation.

    References
    ----------
    He et al. 2022, https://arxiv.org/abs/2111.06377
    """

    views = 1

    def __init__(
        self,
        encoder: Encoder,
        width: int,
        *,
        hidden: float = 0.75,
        depth: int = 2,
        heads: int = 4,
        decoder: int = 128,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        del width
        vit = transformer_of(encoder)
        self.hidden, self.normalise = hidden, normalise
        count, pixels = vit.patch_embed.num_patches, vit.patch_embed.proj.weight[0].numel()
        layer = nn.TransformerEncoderLayer(
            decoder, heads, 4 * decoder, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.enter = nn.Linear(vit.embed_dim, decoder)
        self.unseen = nn.Parameter(torch.zeros(1, 1, decoder))
        self.positions = nn.Parameter(0.02 * torch.randn(1, count, decoder))
        self.decoder = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(decoder), enable_nested_tensor=False)
        self.draw = nn.Linear(decoder, pixels)

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the mean square error of the hidden patches of a batch of images."""
        (image,) = views
        vit = transformer_of(encoder)
        patches = cut(image, vit.patch_embed.patch_size)
        kept, back, hidden = choose(len(image), patches.shape[1], self.hidden, image.device)
        tokens = vit.patch_embed(image).flatten(1, -2) + vit.pos_embed[:, vit.num_prefix_tokens :]
        seen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        lead = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(image), -1, -1)
        found = self.enter(vit.norm(vit.blocks(vit.norm_pre(torch.cat([lead, seen], dim=1)))))[:, 1:]
        unseen = self.unseen.to(found.dtype).expand(len(image), patches.shape[1] - found.shape[1], -1)
        whole = torch.cat([found, unseen], dim=1)
        whole = whole.gather(1, back[..., None].expand(-1, -1, whole.shape[-1])) + self.positions
        return contrastive_losses.masked_error(
            self.draw(self.decoder(whole)), patches, hidden, normalise=self.normalise
        )

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


def transformer_of(encoder: Encoder) -> Any:
    """Return the vision transformer in an encoder.

    Raises
    ------
    InputError
        Where there is none, or one of another kind.
    """
    vit: Any = getattr(encoder.body, "backbone", encoder.body)
    wanted = ("patch_embed", "pos_embed", "cls_token", "blocks", "norm_pre", "norm")
    lacking = [name for name in wanted if getattr(vit, name, None) is None]
    if lacking or vit.num_prefix_tokens != 1 or vit.no_embed_class:
        found = f"no {lacking[0]}" if lacking else "other positions or prefix tokens"
        msg = f"Cannot hide patches from {type(vit).__name__}: it has {found}. Pass a vision transformer of timm, such "
        raise InputError(msg + "as model='timm/vit_small_patch16_224' with the images' size in options img_size.")
    return vit


def cut(image: Tensor, patch: tuple[int, int]) -> Tensor:
    """Return patches (N, L, C * P * P) of images (N, C, H, W), row by row."""
    high, wide = patch
    count, bands, height, width = image.shape
    pieces = image.reshape(count, bands, height // high, high, width // wide, wide)
    return pieces.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)


def choose(images: int, patches: int, hidden: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Choose at random which patches of each image are seen.

    Returns
    -------
    kept
        int64 (N, K): the seen patches.
    back
        int64 (N, L): where each patch stands after the seen ones have been put first.
    hidden
        bool (N, L): which are not seen.
    """
    count = max(1, round(patches * (1 - hidden)))
    order = torch.rand(images, patches, device=device).argsort(dim=1)
    back = order.argsort(dim=1)
    return order[:, :count], back, back >= count
