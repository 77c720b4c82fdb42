"""LightningModule of self-supervised training: normalization, views, loss and encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from geoxt.errors import InputError
from geoxt.models import Card, Network
from geoxt.models.network import CARD
from geoxt.torch_devices import forked_rng
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import RNG_STATES, apply_transform, restore_rng, rng_states
from geoxt.trainers.loop.finite_loss import FiniteLoss
from geoxt.trainers.loop.optimizers import configure
from geoxt.trainers.selfsup.encoder import Encoder
from geoxt.trainers.selfsup.methods import METHODS, Method
from geoxt.trainers.selfsup.views import Views
from geoxt.trainers.tasks.targets import Batch, entry, mask_nonfinite, validity

Positives = Literal["same", "times", "neighbours"]
"""Positive pairs: two views of one image, two times of one location, or two neighboring locations."""

EMBEDDING = "embedding"
"""Class name on the model card of an encoder, which has no classes."""


class SelfSupervised(pl.LightningModule):
    """LightningModule that trains an encoder on unlabeled images.

    Parameters
    ----------
    card
        Model card with architecture, bands and scaling; its classes are not used.
    method
        "byol", "simclr", "moco", "mae" or "tile2vec".
    positives
        Positive pairs. "same": two views of each image, batches `image` (N, C, H, W). "times": two time steps of a
        location, such as two seasons; (N, 2, C, H, W), from windows with `Times(take=2)`, or two random ones of more.
        "neighbours": two neighboring locations; (3 N, C, H, W), from windows of a `TripletSampler`, whose distant
        images only Tile2Vec uses. By default "neighbours" for Tile2Vec, else "same".
    recipe
        Optimizer and learning rate schedule; by default without EMA.
    views
        Random augmentations. `None` for flips and quarter turns only.
    transform
        Transform of training batches, applied before the views.
    options
        Keyword arguments of the method's class, such as `{"temperature": 0.2}`.
    seed
        Seed of the initial weights.

    Raises
    ------
    InputError
        If the method or the positives are unknown, or do not fit each other or the model.

    Notes
    -----
    `geoxt.models.from_checkpoint` loads the checkpoint; `encoder_weights` writes the encoder to a file for
    `geoxt.models.load`.
    """

    def __init__(
        self,
        card: Card,
        method: str = "byol",
        *,
        positives: Positives | None = None,
        recipe: Recipe | None = None,
        views: Views | None = Views(),  # noqa: B008 (a frozen value)
        transform: Callable[[Batch], Batch] | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.transform = transform
        card = replace(card, task="self-supervised")  # its head is not trained: predict maps embeddings
        self.card, self.recipe = card, recipe or Recipe(ema_decay=None)
        self.positives: Positives = positives or ("neighbours" if method == "tile2vec" else "same")
        self.views = views or Views(crop=1, brightness=0, contrast=0, band_dropout=0, noise=0)
        self._check_method(method)
        self.network = Network(card, seed=seed)
        with forked_rng():
            torch.manual_seed(seed)
            encoder = self.encoder
            width = encoder.width(len(card.bands), card.size)
            self.method: Any = METHODS[method](encoder, width, **dict(options or {}))

    @property
    def encoder(self) -> Encoder:
        """Encoder from normalized images to embeddings (N, F)."""
        return Encoder(self.network.body)

    @property
    def monitor(self) -> str | None:
        """Metric that selects the best epoch; `None` for the last epoch."""
        return self.recipe.monitor

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return embeddings (N, F) of images (N, C, H, W) in the units of the layer."""
        embeddings: Tensor = self.encoder(self._normalize(image, valid))
        return embeddings

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a training batch."""
        del batch_idx
        if self.transform is not None:
            batch = apply_transform(self.transform, batch, image="image")
        return self._loss(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of a validation batch."""
        del batch_idx
        self._loss(batch, "val")

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the callback that raises if a loss is not finite."""
        return [FiniteLoss()]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take an optimizer step, then update the state of the method, such as a momentum encoder."""
        super().optimizer_step(*args, **kwargs)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        method: Method = self.method
        method.after_step(self.encoder, min(self.trainer.global_step / steps, 1.0))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return optimizer and schedule of the recipe, for the parameters of the encoder and the method."""
        steps = int(self.trainer.estimated_stepping_batches)
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return configure(self.recipe, parameters, steps=steps, monitor="train/loss")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the model card and the random states of the transforms to the checkpoint."""
        checkpoint[CARD] = self.card.to_dict()
        if self.transform is not None:
            checkpoint[RNG_STATES] = rng_states(self.transform)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random states of the transforms."""
        if RNG_STATES in checkpoint or self.transform is not None:
            restore_rng(self.transform, checkpoint.get(RNG_STATES, ()))

    def _check_method(self, method: str) -> None:
        if method not in METHODS:
            problem = f"Cannot train with method={method!r}: no method has this name."
            raise InputError(
                problem, remedy=f"Pass {{method}}, one of {', '.join(METHODS)}.", value=method, argument="method"
            )
        if method == "tile2vec" and self.positives != "neighbours":
            problem = f"Cannot train Tile2Vec with positives={self.positives!r}: it needs triplets of windows."
            remedy = "Pass {positives:'neighbours'}, with windows of a TripletSampler."
            raise InputError(problem, remedy=remedy, value=self.positives, argument="positives")
        if self.positives not in {"same", "times", "neighbours"}:
            problem = f"Cannot train with positives={self.positives!r}: no kind of positives has this name."
            remedy = "Pass {positives}, one of same, times, neighbours."
            raise InputError(problem, remedy=remedy, value=self.positives, argument="positives")

    def _normalize(self, image: Tensor, valid: Tensor | None) -> Tensor:
        """Return images normalized by the model card, with invalid pixels at the mean, 0."""
        normalized = (image - self.network.mean) / self.network.std
        return normalized if valid is None else normalized.where(valid.unsqueeze(-3), 0)

    def _loss(self, batch: Batch, stage: str) -> Tensor:
        batch = mask_nonfinite(batch, "image")
        image = entry(batch, "image")
        sources = self._view_sources(self._normalize(image, validity(batch, "image")))
        loss: Tensor = self.method.loss(self.encoder, [self.views(source) for source in sources])
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(sources[0]), sync_dist=True)
        return loss

    def _view_sources(self, images: Tensor) -> list[Tensor]:
        """Return the source images (N, C, H, W) of each view of the method."""
        count: int = self.method.views
        match self.positives:
            case "same":
                return [images] * count
            case "times":
                if images.ndim != 5 or images.shape[1] < 2:
                    problem = f"Cannot take two times of images of shape {tuple(images.shape)}."
                    raise InputError(problem, remedy="Pass windows with {times:Times(take=2)}.")
                steps = torch.randperm(images.shape[1])[:2].tolist() if images.shape[1] > 2 else [0, 1]
                return [images[:, step] for step in steps][:count]
            case "neighbours":
                if images.ndim != 4 or len(images) % 3:
                    problem = f"Cannot split images of shape {tuple(images.shape)} into triplets."
                    remedy = "Pass windows of a TripletSampler, and {batch_size}, a multiple of 3."
                    raise InputError(problem, remedy=remedy)
                return [images[part::3] for part in range(3)][:count]
