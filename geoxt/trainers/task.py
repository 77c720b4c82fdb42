"""The one LightningModule: a card says what is learnt, a recipe says how."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from geoxt.errors import InputError
from geoxt.models import Card, Network
from geoxt.models.network import CARD
from geoxt.trainers.augment import turn_and_flip
from geoxt.trainers.codes import IGNORE, Codes
from geoxt.trainers.kinds import kind_of
from geoxt.trainers.recipe import Recipe
from geoxt.trainers.scores import Confusion, flatten, summarise

Batch = dict[str, Any]
"""A batch of samples, as the bridge's loader makes it."""


class Task(pl.LightningModule):
    """Trains and runs a model on images in their own units and labels in their own codes.

    Parameters
    ----------
    card
        Architecture, bands, scaling and classes.
    recipe
        Loss, optimiser and schedule.
    seed
        Seed of the initial weights.
    """

    def __init__(self, card: Card, recipe: Recipe | None = None, *, seed: int = 0) -> None:
        super().__init__()
        self.card = card
        self.recipe = recipe or Recipe()
        self.kind = kind_of(card.task)
        if self.recipe.loss not in self.kind.losses:
            msg = f"Cannot train {card.task} with loss={self.recipe.loss!r}: pass one of {', '.join(self.kind.losses)}."
            raise InputError(msg)
        self.network = Network(card, seed=seed)
        self.codes = Codes(card.codes)
        self.val = Confusion(len(card.codes))
        self.test = Confusion(len(card.codes))

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) in the units of the layer; see `Network`."""
        logits: Tensor = self.network(image if image.ndim == 4 else image[:, None], valid)
        return logits

    def target(self, batch: Batch) -> Tensor:
        """Return class indices (N, H, W); `IGNORE` where image or label is not valid or the code is of no class."""
        known = batch[f"{self.kind.target}_valid"] & batch[f"{self.kind.image}_valid"]
        indices: Tensor = self.codes(batch[self.kind.target].long())
        return indices.where(known, IGNORE)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, whose samples are turned and flipped first."""
        del batch_idx
        return self._loss(self._augment(batch) if self.recipe.augment else batch, "train")[0]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what is right and wrong in a batch of the validation part."""
        del batch_idx
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what is right and wrong in a batch of the test part."""
        del batch_idx
        self._score(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation part."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test part."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW and the recipe's schedule."""
        recipe = self.recipe
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        match recipe.schedule:
            case "constant":
                return optimizer
            case "plateau":
                plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}
            case "one-cycle":
                steps = max(int(self.trainer.estimated_stepping_batches), 2)
                cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.2)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}
            case _:
                msg = f"Cannot train with schedule={recipe.schedule!r}: pass 'one-cycle', 'plateau' or 'constant'."
                raise InputError(msg)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the card in the checkpoint."""
        checkpoint[CARD] = self.card.to_dict()

    def _augment(self, batch: Batch) -> Batch:
        keys = [key for layer in (self.kind.image, self.kind.target) for key in (layer, f"{layer}_valid")]
        return {**batch, **dict(zip(keys, turn_and_flip([batch[key] for key in keys]), strict=True))}

    def _loss(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor, Tensor]:
        logits = self(batch[self.kind.image], batch[f"{self.kind.image}_valid"])
        target = self.target(batch)
        loss = self.kind.losses[self.recipe.loss](logits, target, self.recipe.smoothing if stage == "train" else 0.0)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(target))
        return loss, logits, target

    def _score(self, batch: Batch, stage: str) -> None:
        _, logits, target = self._loss(batch, stage)
        self._counts(stage).update(logits.argmax(dim=1), target)

    def _counts(self, stage: str) -> Confusion:
        return self.val if stage == "val" else self.test

    def _log_scores(self, stage: str) -> None:
        counts = self._counts(stage)
        self.log_dict(flatten(summarise(counts.compute().cpu(), self.card.legend.distinct_names), stage))
        counts.reset()
