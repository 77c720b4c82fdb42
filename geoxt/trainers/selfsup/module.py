"""The LightningModule of all methods of self-supervision: images in their own units, views, loss, encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from geoxt.errors import InputError
from geoxt.models import Card, Network
from geoxt.models.network import CARD
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import STREAMS, restore_rng, states, transformed
from geoxt.trainers.loop.optimizers import configure
from geoxt.trainers.selfsup.encoder import Encoder
from geoxt.trainers.selfsup.methods import METHODS, Method
from geoxt.trainers.selfsup.views import Views
from geoxt.trainers.tasks.targets import Batch, entry, validity

Positives = Literal["same", "times", "neighbours"]
"""Which two images show the same: one image twice; a place at two times; a place and its neighbour."""

EMBEDDING = "embedding"
"""The one class name on the card of a model that gives features alone."""


class SelfSupervised(pl.LightningModule):
    """Trains an encoder on images without labels.

    Parameters
    ----------
    card
        Architecture, bands and scaling; classes do not matter.
    method
        One of "byol", "simclr", "moco", "mae", "tile2vec".
    positives
        Which images show the same. "same": batches `image` (N, C, H, W). "times": (N, 2, C, H, W), windows that take
        two time steps (`Times(take=2)`), such as two seasons. "neighbours": (3 N, C, H, W) of a `TripletSampler`, of
        which the distant ones are only used by Tile2Vec, which wants this.
    recipe
        Optimiser and schedule.
    views
        How images are changed; `None` leaves them as they are but for flips and turns.
    transform
        Changes training batches before views are made of them.
    options
        The method's own options.
    seed
        Of the initial weights.

    Notes
    -----
    The checkpoint is one that `geoxt.models.from_checkpoint` takes; `encoder_weights` writes the encoder alone, for
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
        self.card, self.recipe = card, recipe or Recipe(ema_decay=None)
        self.positives: Positives = positives or ("neighbours" if method == "tile2vec" else "same")
        self.views = views or Views(crop=1, brightness=0, contrast=0, drop=0, noise=0)
        self._require(method)
        self.network = Network(card, seed=seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            encoder = self.encoder
            width = encoder.width(len(card.bands), card.size)
            self.method: Any = METHODS[method](encoder, width, **dict(options or {}))

    @property
    def encoder(self) -> Encoder:
        """The trained encoder: embeddings (N, F) of scaled images."""
        return Encoder(self.network.body)

    @property
    def monitor(self) -> str | None:
        """The score by which the best epoch is chosen; by default none, and the last one is kept."""
        return self.recipe.monitor

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return embeddings (N, F) of images (N, C, H, W) in the units of the layer."""
        found: Tensor = self.encoder(self._scaled(image, valid))
        return found

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of views of a batch."""
        del batch_idx
        if self.transform is not None:
            batch = transformed(self.transform, batch, image="image")
        return self._loss(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of a batch of the validation part."""
        del batch_idx
        self._loss(batch, "val")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Make a step, and let the method follow the encoder."""
        super().optimizer_step(*args, **kwargs)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        method: Method = self.method
        method.after_step(self.encoder, min(self.trainer.global_step / steps, 1.0))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the recipe's optimiser and schedule, for the encoder and what the method trains beside it."""
        steps = int(self.trainer.estimated_stepping_batches)
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        return configure(self.recipe, trained, steps=steps, monitor="train/loss")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the card in the checkpoint."""
        checkpoint[CARD] = self.card.to_dict()
        if self.transform is not None:
            checkpoint[STREAMS] = states(self.transform)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over where transforms drew."""
        if STREAMS in checkpoint or self.transform is not None:
            restore_rng(self.transform, checkpoint.get(STREAMS, ()))

    def _require(self, method: str) -> None:
        if method not in METHODS:
            msg = f"Cannot train by method={method!r}: pass one of {', '.join(METHODS)}."
            raise InputError(msg)
        if method == "tile2vec" and self.positives != "neighbours":
            msg = f"Cannot train Tile2Vec on positives={self.positives!r}: pass 'neighbours', and the "
            raise InputError(msg + "windows of a TripletSampler.")
        if self.positives not in {"same", "times", "neighbours"}:
            msg = f"Cannot take positives={self.positives!r}: pass 'same', 'times' or 'neighbours'."
            raise InputError(msg)

    def _scaled(self, image: Tensor, valid: Tensor | None) -> Tensor:
        scaled = (image - self.network.mean) / self.network.std
        return scaled if valid is None else scaled.where(valid.unsqueeze(-3), 0)

    def _loss(self, batch: Batch, stage: str) -> Tensor:
        image = entry(batch, "image")
        places = self._places(self._scaled(image, validity(batch, "image")))
        loss: Tensor = self.method.loss(self.encoder, [self.views(place) for place in places])
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(places[0]))
        return loss

    def _places(self, images: Tensor) -> list[Tensor]:
        """Return as many images of each place as the method compares."""
        wanted = self.method.views
        match self.positives:
            case "same":
                found = [images] * wanted
            case "times":
                if images.ndim != 5 or images.shape[1] < 2:
                    shape = tuple(images.shape)
                    msg = f"Cannot take images {shape} as two times of places: pass windows with times=Times(take=2)."
                    raise InputError(msg)
                found = [images[:, step] for step in range(2)]
            case "neighbours":
                if images.ndim != 4 or len(images) % 3:
                    msg = f"Cannot take images {tuple(images.shape)} as triplets: pass a TripletSampler's windows in "
                    raise InputError(msg + "batches of a multiple of 3.")
                found = [images[part::3] for part in range(3)]
            case _:
                msg = f"Cannot take positives={self.positives!r}."
                raise InputError(msg)
        return found[:wanted]
