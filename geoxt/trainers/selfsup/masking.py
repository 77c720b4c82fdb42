"""Masked autoencoder (MAE): a vision transformer encodes a quarter of the patches, a decoder predicts the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.trainers.selfsup.encoder import Encoder


class MAE(nn.Module):
    """Masked autoencoder over a vision transformer of timm.

    Parameters
    ----------
    encoder
        Encoder around a timm vision transformer with a class token and learned position embeddings.
    width
        Length of its embeddings; not used.
    mask_ratio
        Fraction of the patches that is masked.
    decoder_depth, decoder_heads, decoder_width
        Layers, attention heads and embedding length of the decoder.
    normalize_targets
        Whether the pixels of each target patch are standardized by the mean and standard deviation of the patch.

    Raises
    ------
    InputError
        If the encoder is not such a vision transformer.

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
        mask_ratio: float = 0.75,
        decoder_depth: int = 2,
        decoder_heads: int = 4,
        decoder_width: int = 128,
        normalize_targets: bool = True,
    ) -> None:
        super().__init__()
        del width
        vit = vision_transformer(encoder)
        self.mask_ratio, self.normalize_targets = mask_ratio, normalize_targets
        patches, pixels = vit.patch_embed.num_patches, vit.patch_embed.proj.weight[0].numel()
        layer = nn.TransformerEncoderLayer(
            decoder_width,
            decoder_heads,
            4 * decoder_width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder_embed = nn.Linear(vit.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, patches, decoder_width))
        self.decoder = nn.TransformerEncoder(
            layer, decoder_depth, norm=nn.LayerNorm(decoder_width), enable_nested_tensor=False
        )
        self.decoder_pred = nn.Linear(decoder_width, pixels)

    def loss(self, encoder: Encoder, views: Sequence[Tensor]) -> Tensor:
        """Return the mean squared error of the masked patches of a batch of images."""
        (image,) = views
        vit = vision_transformer(encoder)
        patches = patchify(image, vit.patch_embed.patch_size)
        visible, restore, masked = random_masking(len(image), patches.shape[1], self.mask_ratio, image.device)

        # Only the visible patches and the class token pass the encoder.
        tokens = vit.patch_embed(image).flatten(1, -2) + vit.pos_embed[:, vit.num_prefix_tokens :]
        tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1]))
        class_token = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(image), -1, -1)
        latent = vit.norm(vit.blocks(vit.norm_pre(torch.cat([class_token, tokens], dim=1))))
        latent = self.decoder_embed(latent)[:, 1:]

        # The decoder gets the patches in their order in the image, with the mask token for masked patches.
        mask_tokens = self.mask_token.to(latent.dtype).expand(len(image), patches.shape[1] - latent.shape[1], -1)
        latent = torch.cat([latent, mask_tokens], dim=1)
        latent = latent.gather(1, restore[..., None].expand(-1, -1, latent.shape[-1])) + self.positions
        return masked_mse(
            self.decoder_pred(self.decoder(latent)), patches, masked, normalize_targets=self.normalize_targets
        )

    def after_step(self, encoder: Encoder, progress: float) -> None:
        """Do nothing."""


def masked_mse(predictions: Tensor, patches: Tensor, masked: Tensor, *, normalize_targets: bool) -> Tensor:
    """Return the mean squared error of the masked patches.

    Parameters
    ----------
    predictions, patches
        (N, L, P): predicted and true pixels of each patch.
    masked
        bool (N, L), True for masked patches.
    normalize_targets
        Whether the pixels of each true patch are standardized by the mean and standard deviation of the patch.

    References
    ----------
    He et al. 2022, MAE, https://arxiv.org/abs/2111.06377
    """
    if normalize_targets:
        patches = (patches - patches.mean(dim=-1, keepdim=True)) / (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    errors = ((predictions - patches) ** 2).mean(dim=-1)
    return (errors * masked).sum() / masked.sum().clamp(min=1)


def vision_transformer(encoder: Encoder) -> Any:
    """Return the vision transformer of an encoder.

    Raises
    ------
    InputError
        If the encoder is not a timm vision transformer with one class token and learned position embeddings.
    """
    vit: Any = getattr(encoder.body, "backbone", encoder.body)
    required = ("patch_embed", "pos_embed", "cls_token", "blocks", "norm_pre", "norm")
    missing = [name for name in required if getattr(vit, name, None) is None]
    if missing or vit.num_prefix_tokens != 1 or vit.no_embed_class:
        reason = f"no {missing[0]}" if missing else "other position embeddings or prefix tokens"
        msg = f"Cannot mask patches of {type(vit).__name__}: it has {reason}."
        remedy = "Pass {model:'timm/vit_small_patch16_224'} or another timm vision transformer, with the size of the "
        remedy += "images as its option img_size."
        raise InputError(msg, remedy=remedy)
    return vit


def patchify(image: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Return the patches (N, L, C * P * P) of images (N, C, H, W) in row-major order."""
    patch_height, patch_width = patch_size
    count, bands, height, width = image.shape
    patches = image.reshape(count, bands, height // patch_height, patch_height, width // patch_width, patch_width)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)


def random_masking(images: int, patches: int, mask_ratio: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Draw the masked patches of each image from torch's global generator.

    Returns
    -------
    visible
        int64 (N, K): indices of the visible patches.
    restore
        int64 (N, L): position of each patch in the sequence of visible, then masked patches.
    masked
        bool (N, L), True for masked patches.
    """
    count = max(1, round(patches * (1 - mask_ratio)))
    order = torch.rand(images, patches, device=device).argsort(dim=1)
    restore = order.argsort(dim=1)  # the inverse permutation
    return order[:, :count], restore, restore >= count
