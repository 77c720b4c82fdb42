"""The LightningModule of supervised training: a model card names task and model, a recipe the hyperparameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from geoxt.errors import InputError, LabelError, LabelWarning
from geoxt.metrics.label_codes import Codes
from geoxt.metrics.scores import Scores
from geoxt.models import Card, Network
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD
from geoxt.models.scale_check import ScaleCheck
from geoxt.reprs import abbreviate, html_table
from geoxt.torch_devices import forked_rng, same_device
from geoxt.trainers.config.recipe import Recipe
from geoxt.trainers.config.transforms import RNG_STATES, apply_transform, restore_rng, rng_states
from geoxt.trainers.loop.finite_loss import FiniteLoss, require_finite
from geoxt.trainers.loop.optimizers import configure, parameter_groups
from geoxt.trainers.tasks.class_weights import balanced, class_counts
from geoxt.trainers.tasks.detection_targets import Instances, detection_targets, flip_instances
from geoxt.trainers.tasks.flips import dihedral, turn_and_flip
from geoxt.trainers.tasks.losses import Loss, MeanLoss
from geoxt.trainers.tasks.registry import supervision_of
from geoxt.trainers.tasks.targets import Batch, entry, known_count, mask_nonfinite, validity

Transform = Callable[[Batch], Batch]
"""Augmentation of training batches, such as a module of `geoxt.transforms`."""

MIN_CLASSES = 2
"""Minimum number of mutually exclusive classes."""
_WEIGHTS = "class_weights"
"""Checkpoint key of the class weights."""


class Task(pl.LightningModule):
    """Trains and evaluates a model on images in the units of their layer and labels in their class codes.

    Parameters
    ----------
    card
        Task, architecture, bands, scaling and legend (of classes, or of regressed quantities in channel order). Or a
        network with its weights, such as `geoxt.models.EncoderDecoder`.
    recipe
        Training recipe: loss, optimizer, learning rate schedule and other hyperparameters.
    seed
        Seed of the initial weights.
    names
        Sample keys of image and labels, if they differ from those of the task: `{"image": …, "target": …}`.
    transform
        Augmentation of training batches, in place of random flips and turns.

    Raises
    ------
    InputError
        If the recipe's loss or class weights do not fit the task, or no model can be built from the card.
    """

    def __init__(
        self,
        card: Card | Network,
        recipe: Recipe | None = None,
        *,
        seed: int = 0,
        names: Mapping[str, str] | None = None,
        transform: Transform | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(card, Card | Network):
            remedy = "Pass {card}: data.card(), or a network with a card, Network(card, body=module)."
            raise InputError(f"Cannot make a task of a {type(card).__name__}.", remedy=remedy, argument="card")
        network, card = (card, card.card) if isinstance(card, Network) else (None, card)
        self.recipe = recipe or Recipe()
        if card.target_mean and not self.recipe.standardize_targets:
            if network is not None:
                msg = f"Cannot train a {type(network).__name__} whose model card standardizes targets without that."
                remedy = "Pass a network of a {card} without target_mean and target_std, as dataclasses.replace makes."
                raise InputError(msg, remedy=remedy, argument="card")
            card = replace(card, target_mean=(), target_std=())
        self.card = card
        self.supervision = supervision_of(card.task)
        self.kind = self.supervision.kind
        if self.kind.is_categorical and len(card.codes) < MIN_CLASSES:
            classes = ", ".join(card.names) or "none"
            msg = f"Cannot train {card.task} on the classes {classes}: training needs two or more."
            remedy = "Pass labels of two classes or more, such as a class for everything else."
            raise LabelError(msg, remedy=remedy, value=card.codes)
        if self.kind.is_categorical and min(card.codes) < 0:
            msg = f"Cannot train on the class {min(card.codes)}: negative codes mark pixels of unknown class."
            remedy = "Leave it out of the card's codes, or give the class another code."
            raise LabelError(msg, remedy=remedy, value=min(card.codes))
        keys = {"image": "image", "target": self.kind.key or "", **(names or {})}
        self.image_key, self.target_key = keys["image"], keys["target"]
        self.transform = transform
        self.loss = self._loss_by_name()
        self.network = Network(card, seed=seed) if network is None else network.train()
        if self.recipe.channels_last:
            self.network.to(memory_format=torch.channels_last)
        self.codes = Codes(card.codes, nodata=card.nodata)
        self.val: Metric = self.supervision.metric(len(card.codes))
        self.test: Metric = self.supervision.metric(len(card.codes))
        self.losses = nn.ModuleDict({"val": MeanLoss(), "test": MeanLoss()})
        """Mean loss of the validation and the test part."""
        self.class_weights = self._parse_class_weights()  # no buffer: averaged copies of the module would lack it
        self._weights_restored = False
        self.scores = Scores()
        """Scores of the latest evaluation."""

    def __repr__(self) -> str:
        return f"<Task: {'; '.join(f'{name} {text}' for name, text in self._rows().items())}>"

    def _repr_html_(self) -> str:
        """Return task, model, bands and recipe as a table, with the legend below."""
        below = self.card.legend._repr_html_() if self.card.codes else ""
        return html_table("Task", self._rows(), below=below)

    def _rows(self) -> dict[str, str]:
        """Return the model card, the number of parameters and the recipe as text."""
        card, weights = self.card, sum(parameter.numel() for parameter in self.network.parameters())
        rows = {"task": card.task, "model": f"{card.model} ({weights:,} parameters)", "bands": abbreviate(card.bands)}
        rows |= {"classes": f"{len(card.codes)}: {abbreviate(card.names)}"} if card.codes else {}
        loss = self.recipe.loss or next(iter(self.supervision.losses), "of the model")
        return rows | {"recipe": f"loss {loss}, {self.recipe.optimizer}, learning rate {self.recipe.lr:g}"}

    @property
    def monitor(self) -> str:
        """The score of model selection, such as `val/miou`."""
        return self.recipe.monitor or str(self.kind.monitor)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the model's output for images in the units of the layer, as `Network` does.

        Parameters
        ----------
        image
            (N, C, H, W), or (N, T, C, H, W) for time series; the band dimension may be missing for one band.
        valid
            Valid pixels, bool, of the shape of `image` without bands.
        """
        ndim = 5 if self.kind.takes_series else 4
        image = image if image.ndim == ndim else image.unsqueeze(-3)
        if self.recipe.channels_last and not self.kind.takes_series:
            image = image.contiguous(memory_format=torch.channels_last)
        output: Tensor = self.network(image, valid)
        return output

    def target(self, batch: Batch) -> Tensor:
        """Return the target of a batch; `IGNORE` or NaN where image or labels are invalid."""
        assert self.supervision.target is not None
        return self.supervision.target(batch, self.image_key, self.target_key, self.codes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch after augmentation."""
        del batch_idx
        batch = mask_nonfinite(batch, self.image_key)
        if self.transform is not None:
            codes = self.target_key if self.kind.target == "pixels" and self.kind.is_categorical else None
            batch = apply_transform(self.transform, batch, image=self.image_key, target=codes)
        if self.kind.target == "instances":
            return self._detector_loss(batch)
        try:
            return self._loss(self._augment(batch) if self._turns else batch, "train")[0]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch's batch norm
                raise
            msg = f"Cannot apply batch normalization to one image of {self.card.size} pixels: {self.card.model!r} "
            msg += "reduces it to one value per channel."
            raise InputError(msg, remedy="Pass {batch_size:2} or more, or a larger {size}.") from error

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the validation metric with a batch."""
        del batch_idx
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the test metric with a batch; warn if the images have another scale than those of the training."""
        image, valid = batch.get(self.image_key), batch.get(f"{self.image_key}_valid")
        if batch_idx == 0 and isinstance(image, Tensor):
            ScaleCheck(self.network)(image.cpu().numpy(), None if valid is None else valid.cpu().numpy())
        self._score(batch, "test")

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return the callback that raises if a loss is not finite."""
        return [FiniteLoss()]

    def on_fit_start(self) -> None:
        """Compute balanced class weights if the recipe requests them and no checkpoint has restored them."""
        if self.recipe.class_weights == "balanced" and self._weights_restored:
            self._weights_restored = False
        elif self.recipe.class_weights == "balanced":
            trainer: Any = self.trainer
            self.class_weights = balanced(self._class_counts(trainer.datamodule))

    def _class_counts(self, data: Any) -> Tensor:
        """Return the labeled pixels or images of each class: of the whole training part, or of one epoch's samples."""
        if self.kind.target == "pixels" and hasattr(data, "class_counts"):
            counts: Tensor = data.class_counts(self.target_key, self.card.legend)
        else:
            with forked_rng():
                counts = class_counts(
                    data.train_dataloader(), lambda batch: self.target(_to_device(batch, self.device)), self._classes
                )
            counts = self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum").cpu()  # of all processes
        names = self.card.legend.distinct_names
        absent = [name for name, count in zip(names, counts.tolist(), strict=True) if not count]
        if absent and len(absent) < len(names):
            msg = (
                f"The training part has no labels of the classes {', '.join(absent)}: the model cannot learn them, and "
            )
            msg += "their weight is 1. Split with labels=, so that each part has its fraction of every class."
            warnings.warn(msg, LabelWarning, stacklevel=2)
        return counts

    def on_validation_epoch_end(self) -> None:
        """Log the validation scores."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the test scores."""
        self._log_scores("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the recipe's optimizer and learning rate schedule."""
        steps = int(self.trainer.estimated_stepping_batches)
        monitor = "val/loss" if self.kind.target != "instances" else "train/loss"
        return configure(self.recipe, parameter_groups(self.recipe, self.network), steps=steps, monitor=monitor)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the model card to the checkpoint, also as a STAC item, class weights and the states of transforms."""
        checkpoint[CARD] = self.card.to_dict()
        checkpoint[MLM] = to_stac(self.card, weights=sum(parameter.numel() for parameter in self.network.parameters()))
        if self.class_weights is not None:
            checkpoint[_WEIGHTS] = self.class_weights
        if self.transform is not None:
            checkpoint[RNG_STATES] = rng_states(self.transform)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore class weights and the random states of transforms.

        Raises
        ------
        InputError
            If the checkpoint has other bands or classes than the module.
        """
        stored = Card.from_dict(checkpoint[CARD])
        for name in ("task", "model", "bands", "codes", "names"):
            before, now = getattr(stored, name), getattr(self.card, name)
            if before != now:
                msg = f"Cannot resume from the checkpoint: its {name} are {before!r}, those of the data {now!r}."
                raise InputError(msg, remedy="Pass the same data. Or pass another folder.", value=before)
        if bool(stored.target_mean) != bool(self.card.target_mean):
            state = "standardized" if stored.target_mean else "not standardized"
            msg = f"Cannot resume from the checkpoint: its targets are {state}, unlike those of this run."
            raise InputError(msg, remedy="Pass another folder, or a recipe with the other standardize_targets.")
        if _WEIGHTS in checkpoint:
            self.class_weights = checkpoint[_WEIGHTS].cpu()
            self._weights_restored = True
        if RNG_STATES in checkpoint or self.transform is not None:
            restore_rng(self.transform, checkpoint.get(RNG_STATES, ()))

    @property
    def _turns(self) -> bool:
        return self.recipe.augment and self.transform is None

    @property
    def _classes(self) -> int:
        return len(self.card.codes)

    def _loss_by_name(self) -> Loss | None:
        losses, name = self.supervision.losses, self.recipe.loss
        if not losses and name is None:
            return None
        if name is not None and name not in losses:
            msg = f"Cannot train {self.card.task} with loss={name!r}."
            remedy = f"Pass {{loss}}, one of {', '.join(losses)}." if losses else "Leave {loss} out."
            raise InputError(msg, remedy=remedy, value=name, argument="loss")
        return losses[name or next(iter(losses))]

    def _parse_class_weights(self) -> Tensor | None:
        class_weights, classes = self.recipe.class_weights, self._classes
        if class_weights is None or class_weights == "balanced":
            if class_weights and self.kind.activation not in {"softmax", "sigmoid"}:
                msg = f"Cannot balance class weights for {self.card.task}: its loss takes none."
                raise InputError(
                    msg, remedy="Pass {class_weights:None}.", value=class_weights, argument="class_weights"
                )
            return None
        if isinstance(class_weights, str) or len(class_weights) != classes:
            msg = f"Cannot weight {classes} classes by class_weights={class_weights!r}."
            remedy = f"Pass {{class_weights}} with {classes} numbers, or {{class_weights:'balanced'}}."
            raise InputError(msg, remedy=remedy, value=class_weights, argument="class_weights")
        weights = torch.tensor(class_weights, dtype=torch.float32)
        if not bool(weights.isfinite().all()) or float(weights.min()) < 0 or not bool(weights.any()):
            msg = f"Cannot weight classes by class_weights={class_weights!r}."
            remedy = "Pass {class_weights}, finite numbers of 0 or more, not all 0. Or pass {class_weights:'balanced'}."
            raise InputError(msg, remedy=remedy, value=class_weights, argument="class_weights")
        return weights

    def _augment(self, batch: Batch) -> Batch:
        layers = (self.image_key, self.target_key) if self.kind.target == "pixels" else (self.image_key,)
        keys = [key for layer in layers for key in (layer, f"{layer}_valid") if key in batch]
        return {**batch, **dict(zip(keys, turn_and_flip([batch[key] for key in keys]), strict=True))}

    def _loss(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor, Tensor]:
        assert self.loss is not None
        target = self.target(batch)  # before the forward pass: looking for codes of no class waits for the device
        output = self._output(entry(batch, self.image_key), validity(batch, self.image_key), stage)
        smoothing = self.recipe.label_smoothing if stage == "train" else 0.0
        weights = None if self.class_weights is None else same_device(self.class_weights, output)
        standardized = self.network.standardized
        loss = self.loss(standardized(output), standardized(target), smoothing, weights)
        # The mean over an evaluation is that over its labels; counting them would make training steps wait for the GPU.
        if stage == "train":
            self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(target), sync_dist=True)
        else:
            mean: Any = self.losses[stage]
            mean.update(loss, known_count(target))
        return loss, output, target

    def _output(self, image: Tensor, valid: Tensor | None, stage: str) -> Tensor:
        """Return the output for images; with test-time augmentation the mean over all flips and turns.

        For classes, returns the logarithms of the mean probabilities.
        """
        if stage != "test" or not self.recipe.tta:
            output: Tensor = self(image, valid)
            return output
        outputs = []
        for turns, flip in product(range(4), (False, True)):
            moved = None if valid is None else dihedral(valid, turns=turns, flip=flip)
            output = self(dihedral(image, turns=turns, flip=flip), moved)
            output = output.softmax(dim=1) if self.kind.is_categorical else output
            if self.kind.target == "pixels":
                output = torch.rot90(output, -turns, (-2, -1))
                output = output.flip(-1) if flip else output
            outputs.append(output)
        mean = torch.stack(outputs).mean(dim=0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log() if self.kind.is_categorical else mean

    def _detector_loss(self, batch: Batch) -> Tensor:
        """Return the sum of the losses that a detector computes itself."""
        images, targets = self._masked_images(batch), detection_targets(batch, self.codes, masks=self.kind.has_masks)
        if self._turns:
            images, targets = flip_instances(images, targets)
        losses = self.network.body(list(images), targets)
        loss: Tensor = sum(losses.values(), start=images.new_zeros(()))
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _masked_images(self, batch: Batch) -> Tensor:
        images: Tensor = (entry(batch, self.image_key) - self.network.mean) / self.network.std
        valid = validity(batch, self.image_key)
        return images if valid is None else images.where(valid[:, None], 0)

    def _score(self, batch: Batch, stage: str) -> None:
        if not batch:  # this process has no part of the evaluation
            return
        metric, batch = self._metric(stage), mask_nonfinite(batch, self.image_key)
        if self.kind.target == "instances":
            detections: list[Instances] = self.network.body(list(self._masked_images(batch)))
            metric.update(detections, detection_targets(batch, self.codes, masks=self.kind.has_masks))
            return
        _, output, target = self._loss(batch, stage)
        metric.update(output.argmax(dim=1) if self.kind.is_categorical else output, target)

    def _metric(self, stage: str) -> Metric:
        return self.val if stage == "val" else self.test

    def _log_scores(self, stage: str) -> None:
        metric = self._metric(stage)
        value = _to_device(metric.compute(), torch.device("cpu"))
        scores = self.supervision.scores(value, self.card.legend.distinct_names)
        self.log_dict({f"{stage}/{name}": value for name, value in self.supervision.flat(scores).items()})
        metric.reset()
        if self.kind.target != "instances":
            mean: Any = self.losses[stage]
            loss, labels = mean.compute()
            require_finite(loss, stage, labels=int(labels))
            self.log(f"{stage}/loss", loss)
            mean.reset()
            scores = replace(scores, overall={**scores.overall, "loss": float(loss)})
        self.scores = scores


def _to_device(values: Any, device: torch.device) -> Any:
    """Return a tensor, or the tensors of a mapping, on a device."""
    if isinstance(values, Tensor):
        return values.to(device)
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in values.items()}
