"""The one LightningModule that learns from targets: a card says what is learnt, a recipe says how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric

from geoxt.errors import InputError
from geoxt.metrics.label_codes import Codes
from geoxt.models import Card, Network
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import STREAMS, restore_rng, states, transformed
from geoxt.trainers.loop.optimizers import configure
from geoxt.trainers.tasks.class_weights import balanced, class_counts
from geoxt.trainers.tasks.detection_targets import Instances, detection_targets, turn
from geoxt.trainers.tasks.flips import dihedral, turn_and_flip
from geoxt.trainers.tasks.losses import Loss
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trainers.tasks.targets import Batch, entry, mask_nonfinite, validity

Transform = Callable[[Batch], Batch]
"""Changes a batch of training samples, such as an augmentation of `geoxt.transforms`."""

_WEIGHTS = "class_weights"
"""Where a checkpoint keeps the weights of classes."""


class Task(pl.LightningModule):
    """Trains and runs a model on images in their own units and labels in their own codes.

    Parameters
    ----------
    card
        Kind of task, architecture, bands, scaling and classes (or the names of what is measured, in the order of the
        model's channels).
    recipe
        Loss, optimiser and schedule.
    seed
        Seed of the initial weights.
    names
        Where samples have other names than the kind of task: `{"image": …, "target": …}`.
    transform
        Takes the place of flips and turns as augmentation of training batches.
    """

    def __init__(
        self,
        card: Card,
        recipe: Recipe | None = None,
        *,
        seed: int = 0,
        names: Mapping[str, str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        self.card = card
        self.recipe = recipe or Recipe()
        self.supervision = supervision_of(card.task)
        self.kind = self.supervision.kind
        keys = {"image": "image", "target": self.kind.key or "", **(names or {})}
        self.image_key, self.target_key = keys["image"], keys["target"]
        self.transform = transform
        self.loss = self._loss_by_name()
        self.network = Network(card, seed=seed)
        if self.recipe.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.codes = Codes(card.codes, nodata=card.nodata)
        self.val: Metric = self.supervision.metric(len(card.codes))
        self.test: Metric = self.supervision.metric(len(card.codes))
        self.class_weights = self._given_weights()  # no buffer: averaged copies of the module would lack it
        self._weighed = False

    @property
    def monitor(self) -> str:
        """The score by which the best epoch is chosen."""
        return self.recipe.monitor or str(self.kind.monitor)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the model's output for images in the units of the layer; see `Network`.

        Images are (N, C, H, W), or (N, T, C, H, W) for several times; a dimension of one band may be left out.
        """
        whole = 5 if self.kind.takes_series else 4
        image = image if image.ndim == whole else image.unsqueeze(-3)
        if self.recipe.channels_last and not self.kind.takes_series:
            image = image.contiguous(memory_format=torch.channels_last)
        output: Tensor = self.network(image, valid)
        return output

    def target(self, batch: Batch) -> Tensor:
        """Return what shall be learnt of a batch: `IGNORE` or NaN where image or label is not valid."""
        assert self.supervision.target is not None
        return self.supervision.target(batch, self.image_key, self.target_key, self.codes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, whose samples are augmented first."""
        del batch_idx
        batch = mask_nonfinite(batch, self.image_key)
        if self.transform is not None:
            codes = self.target_key if self.kind.target == "pixels" and self.kind.is_categorical else None
            batch = transformed(self.transform, batch, image=self.image_key, target=codes)
        if self.kind.target == "instances":
            return self._loss_of_things(batch)
        try:
            return self._loss(self._augment(batch) if self._turns else batch, "train")[0]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm
                raise
            msg = f"Cannot normalise a batch of one image of {self.card.size} pixels: {self.card.model!r} makes "
            raise InputError(msg + "one value a channel of it. Pass batch_size=2 or more, or a larger size.") from error

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what is right and wrong in a batch of the validation part."""
        del batch_idx
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Count what is right and wrong in a batch of the test part."""
        del batch_idx
        self._score(batch, "test")

    def on_fit_start(self) -> None:
        """Weigh classes by their shares of the training part, where the recipe says so; going on, as before."""
        if self.recipe.class_weights == "balanced" and self._weighed:
            self._weighed = False
        elif self.recipe.class_weights == "balanced":
            trainer: Any = self.trainer
            source = trainer.datamodule
            with torch.random.fork_rng():
                counts = class_counts(
                    source.train_dataloader(), lambda b: self.target(_here(b, self.device)), self._many
                )
            self.class_weights = balanced(counts)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the validation part."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the test part."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the recipe's optimiser and schedule."""
        steps = int(self.trainer.estimated_stepping_batches)
        watched = "val/loss" if self.kind.target != "instances" else "train/loss"
        return configure(self.recipe, self.network.parameters(), steps=steps, monitor=watched)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the card in the checkpoint, and the STAC item that says the same."""
        checkpoint[CARD] = self.card.to_dict()
        checkpoint[MLM] = to_stac(self.card, weights=sum(one.numel() for one in self.network.parameters()))
        if self.class_weights is not None:
            checkpoint[_WEIGHTS] = self.class_weights
        if self.transform is not None:
            checkpoint[STREAMS] = states(self.transform)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over class weights, as the windows left in an epoch would give others, and where transforms drew."""
        if _WEIGHTS in checkpoint:
            self.class_weights = checkpoint[_WEIGHTS].cpu()
            self._weighed = True
        if STREAMS in checkpoint or self.transform is not None:
            restore_rng(self.transform, checkpoint.get(STREAMS, ()))

    @property
    def _turns(self) -> bool:
        return self.recipe.augment and self.transform is None

    @property
    def _many(self) -> int:
        return len(self.card.codes)

    def _loss_by_name(self) -> Loss | None:
        losses, name = self.supervision.losses, self.recipe.loss
        if not losses and name is None:
            return None
        if name is not None and name not in losses:
            of = ", ".join(losses) or "no loss at all: the model has its own"
            msg = f"Cannot train {self.card.task} with loss={name!r}: pass one of {of}."
            raise InputError(msg)
        return losses[name or next(iter(losses))]

    def _given_weights(self) -> Tensor | None:
        given, classes = self.recipe.class_weights, self._many
        if given is None or given == "balanced":
            if given and self.kind.activation not in {"softmax", "sigmoid"}:
                msg = f"Cannot weigh the classes of {self.card.task}: it has none. Pass class_weights=None."
                raise InputError(msg)
            return None
        if isinstance(given, str) or len(given) != classes:
            msg = f"Cannot weigh {classes} classes by class_weights={given!r}: pass as many numbers, or 'balanced'."
            raise InputError(msg)
        return torch.tensor(given, dtype=torch.float32)

    def _augment(self, batch: Batch) -> Batch:
        layers = (self.image_key, self.target_key) if self.kind.target == "pixels" else (self.image_key,)
        keys = [key for layer in layers for key in (layer, f"{layer}_valid") if key in batch]
        return {**batch, **dict(zip(keys, turn_and_flip([batch[key] for key in keys]), strict=True))}

    def _loss(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor, Tensor]:
        assert self.loss is not None
        output = self._output(entry(batch, self.image_key), validity(batch, self.image_key), stage)
        target = self.target(batch)
        smoothing = self.recipe.label_smoothing if stage == "train" else 0.0
        weights = None if self.class_weights is None else self.class_weights.to(output.device)
        loss = self.loss(output, target, smoothing, weights)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(target))
        return loss, output, target

    def _output(self, image: Tensor, valid: Tensor | None, stage: str) -> Tensor:
        """Return the output for images; in tests, if the recipe says so, the mean over all flips and turns.

        Of classes, probabilities are averaged, and their logarithms returned.
        """
        if stage != "test" or not self.recipe.test_time_augmentation:
            output: Tensor = self(image, valid)
            return output
        found = []
        for turns, flip in product(range(4), (False, True)):
            moved = None if valid is None else dihedral(valid, turns=turns, flip=flip)
            output = self(dihedral(image, turns=turns, flip=flip), moved)
            output = output.softmax(dim=1) if self.kind.is_categorical else output
            if self.kind.target == "pixels":
                output = torch.rot90(output, -turns, (-2, -1))
                output = output.flip(-1) if flip else output
            found.append(output)
        mean = torch.stack(found).mean(dim=0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log() if self.kind.is_categorical else mean

    def _loss_of_things(self, batch: Batch) -> Tensor:
        """Return the sum of the losses that a detector itself gives."""
        images, there = self._scaled(batch), detection_targets(batch, self.codes, masks=self.kind.has_masks)
        if self._turns:
            images, there = turn(images, there)
        losses = self.network.body(list(images), there)
        loss: Tensor = sum(losses.values(), start=images.new_zeros(()))
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def _scaled(self, batch: Batch) -> Tensor:
        images: Tensor = (entry(batch, self.image_key) - self.network.mean) / self.network.std
        valid = validity(batch, self.image_key)
        return images if valid is None else images.where(valid[:, None], 0)

    def _score(self, batch: Batch, stage: str) -> None:
        tally, batch = self._tally(stage), mask_nonfinite(batch, self.image_key)
        if self.kind.target == "instances":
            found: list[Instances] = self.network.body(list(self._scaled(batch)))
            tally.update(found, detection_targets(batch, self.codes, masks=self.kind.has_masks))
            return
        _, output, target = self._loss(batch, stage)
        tally.update(output.argmax(dim=1) if self.kind.is_categorical else output, target)

    def _tally(self, stage: str) -> Metric:
        return self.val if stage == "val" else self.test

    def _log_scores(self, stage: str) -> None:
        tally = self._tally(stage)
        found = _here(tally.compute(), torch.device("cpu"))
        scores = self.supervision.report(found, self.card.legend.distinct_names)
        self.log_dict({f"{stage}/{name}": value for name, value in scores.items()})
        tally.reset()


def _here(values: Any, device: torch.device) -> Any:
    """Return tensors, or a mapping of them, on a device."""
    if isinstance(values, Tensor):
        return values.to(device)
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()}
