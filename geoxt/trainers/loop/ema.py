"""A running average of the weights: validated and kept in place of the last ones, which jump about."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from geoxt.models.network import PREFIX

_RAW = "raw_network"
_STEPS = "averaged_steps"


class WeightAverage(pl.Callback):
    """Keeps an exponential moving average of a task's network.

    Validation and test see the average, checkpoints hold it (and the raw weights beside it), and at the end of training
    the model has it. Lightning 2.6 has such a callback; this one also serves older releases.

    Parameters
    ----------
    decay
        Share of the average that stays at each step. It rises to this over the first steps, so that the random weights
        of the start are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.average: AveragedModel | None = None
        self._saved: tuple[dict[str, Tensor], Tensor] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the first weights, or where a checkpoint left off: with its average, and its raw weights."""
        del trainer
        if self.average is None:
            self.average = AveragedModel(_network(pl_module), avg_fn=self._step, use_buffers=True)
        if self._saved is not None:
            raw, steps = self._saved
            self.average.n_averaged.copy_(steps)
            _network(pl_module).load_state_dict(raw)
            self._saved = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the weights of a step."""
        del trainer, outputs, batch, batch_idx
        assert self.average is not None
        self.average.update_parameters(_network(pl_module))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in place."""
        if trainer.training or trainer.validating:
            self._swap(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the raw weights back."""
        if trainer.training or trainer.validating:
            self._swap(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model."""
        del trainer
        self._swap(pl_module)
        self.average = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the average where a checkpoint's weights are read from."""
        del trainer, pl_module
        if self.average is None:
            return
        state = checkpoint["state_dict"]
        averaged = {f"{PREFIX}{name}": value for name, value in self.average.module.state_dict().items()}
        checkpoint[_RAW] = {name: state[name] for name in averaged}
        checkpoint[_STEPS] = self.average.n_averaged.clone()
        checkpoint["state_dict"] = state | averaged

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember the raw weights; the module itself has been given the average."""
        del trainer, pl_module
        if _RAW in checkpoint:
            raw = {name.removeprefix(PREFIX): value for name, value in checkpoint[_RAW].items()}
            self._saved = raw, checkpoint[_STEPS]

    def _step(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Return the next average of one tensor, after `count` steps."""
        if not average.is_floating_point():
            return current
        decay = min(self.decay, (1 + int(count)) / (10 + int(count)))
        return average.lerp(current, 1 - decay)

    def _swap(self, module: pl.LightningModule) -> None:
        if self.average is None:
            return
        raw, average = _network(module).state_dict(), self.average.module.state_dict()
        with torch.no_grad():
            for name, value in raw.items():
                kept = value.clone()
                value.copy_(average[name])
                average[name].copy_(kept)


def _network(module: pl.LightningModule) -> nn.Module:
    network = module.network
    assert isinstance(network, nn.Module)
    return network
