"""The training loop: reproducible, resumable, and leaving the module with the weights of its best epoch."""

from __future__ import annotations

import inspect
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar

from geoxt.bridge.malloc import keep_freed_memory
from geoxt.errors import InputError
from geoxt.progress import shows_bars
from geoxt.storage import atomic_write, remove_stale, temporary_prefix
from geoxt.trainers.config.unknown_keys import require_known
from geoxt.trainers.loop.callbacks import History, Trainable, best_checkpoint, early_stopping, weight_averaging
from geoxt.trainers.loop.checkpoint_files import require_plain, write_error
from geoxt.trainers.loop.determinism import compiled, deterministic, quiet_lightning
from geoxt.trainers.loop.interrupts import interruptible
from geoxt.trainers.loop.results import LAST, lock_folder
from geoxt.trainers.loop.resume import ResumeCheckpoint
from geoxt.trainers.tasks.module import Task
from geoxt.types import Precision, SomePath

Progress = Literal["bar", "lines", "none"]
"""A progress bar and a line of scores per epoch, the lines alone, or nothing."""

SET_BY_FIT: Mapping[str, str] = {
    "accelerator": "accelerator",
    "accumulate_grad_batches": "accumulate_grad_batches",
    "callbacks": "callbacks",
    "default_root_dir": "resume",
    "deterministic": "seed",
    "devices": "devices",
    "enable_checkpointing": "checkpoint",
    "enable_progress_bar": "progress",
    "gradient_clip_val": "max_gradient_norm",
    "max_epochs": "epochs",
    "precision": "precision",
}
"""Arguments of Lightning's Trainer that `fit` sets, and the argument of `fit` that sets each."""

_TRAINER_DEFAULTS: Mapping[str, Any] = {"logger": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
"""Arguments of Lightning's Trainer that `fit(trainer=)` can replace."""
_PRECISION: Mapping[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    *,
    epochs: int,
    seed: int = 0,
    checkpoint: SomePath | None = None,
    resume: SomePath | None = None,
    checkpoint_every: int = 0,
    progress: Progress = "bar",
    accelerator: str = "auto",
    devices: int = 1,
    precision: Precision = "32",
    accumulate_grad_batches: int = 1,
    max_gradient_norm: float | None = None,
    patience: int | None = None,
    torch_compile: bool = False,
    callbacks: Sequence[pl.Callback] = (),
    trainer: Mapping[str, Any] | None = None,
) -> list[dict[str, float]]:
    """Train a module, and load the weights of its best epoch.

    Parameters
    ----------
    task
        A `Task` or `SelfSupervised`; changed in place.
    data
        Training and validation samples.
    epochs
        Passes over the training part.
    seed
        Seed of augmentation and dropout. On a CPU the same seed gives the same weights, bit for bit.
    checkpoint
        Path of the checkpoint of the best epoch; its folder must exist.
    resume
        Folder for `last.ckpt`, from which an interrupted run is resumed, and `best.ckpt`, its best epoch. Call `fit`
        again with the same arguments to resume.
    checkpoint_every
        Optimizer steps between checkpoints for resuming; 0 for one checkpoint per epoch.
    progress
        `"bar"` for a progress bar (in a terminal or notebook) and a line of scores per epoch, `"lines"` for the lines
        alone, or `"none"`.
    accelerator
        Hardware by Lightning's name: `"auto"`, `"cpu"`, `"gpu"`, `"mps"`.
    devices
        Number of devices; only 1 is supported so far.
    precision
        `"32"`, or mixed precision with `"bf16"` or `"16"`.
    accumulate_grad_batches
        Batches whose gradients are summed for one optimizer step.
    max_gradient_norm
        Maximum gradient norm (gradient clipping).
    patience
        Epochs without a better validation score after which training stops early.
    torch_compile
        Whether to compile the network by `torch.compile`, which needs a C++ compiler.
    callbacks
        Further Lightning callbacks.
    trainer
        Further arguments of `pytorch_lightning.Trainer`.

    Returns
    -------
    list of dict
        Scores of each epoch by name, and its number as `epoch`.

    Raises
    ------
    InputError
        If there is no epoch to train, several devices are requested, the recipe monitors a score that validation does
        not log, the loss is not finite, or the checkpoint in `resume` belongs to other arguments.
    OutputError
        If the folder `resume` cannot be written, or another run is writing there.

    Examples
    --------
    >>> task = Task(data.card(model="unet"))  # doctest: +SKIP
    >>> history = fit(task, data, epochs=15, checkpoint="model.ckpt", resume="run")  # doctest: +SKIP
    """
    keep_freed_memory()
    module = cast("Trainable", task)
    _require_positive(
        epochs=epochs, accumulate_grad_batches=accumulate_grad_batches, patience=1 if patience is None else patience
    )
    require_trainer_options(trainer or {})
    _require_one_device(devices)
    task.train()  # an earlier fit or evaluate left it in evaluation mode, and Lightning does not reset modules
    history = History(lines=progress != "none")
    bar = [TQDMProgressBar(leave=False)] if progress == "bar" and shows_bars(sys.stdout) else []
    with _folder(resume, checkpoint) as folder:
        best, last = best_checkpoint(folder, module), folder / LAST
        if last.exists():
            require_plain(last)
        resumable = [] if resume is None else [ResumeCheckpoint(last, every=checkpoint_every, seed=seed)]
        with (
            quiet_lightning(),
            deterministic(seed),
            compiled(module.network, enabled=torch_compile),
            interruptible() as interrupts,
        ):
            lightning = pl.Trainer(
                accelerator=accelerator,
                devices=devices,
                max_epochs=epochs,
                # the average must be in place before checkpoints are saved
                callbacks=[
                    *weight_averaging(module.recipe),
                    history,
                    *early_stopping(module, patience),
                    best,
                    *resumable,
                    *bar,
                    *callbacks,
                    interrupts,
                ],
                enable_progress_bar=bool(bar),
                precision=_PRECISION[precision],
                accumulate_grad_batches=accumulate_grad_batches,
                gradient_clip_val=max_gradient_norm,
                **{**_TRAINER_DEFAULTS, **(trainer or {})},
            )
            _require_one_process(lightning)
            # None of torch before 2.6 would run code of the checkpoint
            lightning.fit(task, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
        _load_best(task, Path(best.best_model_path), checkpoint)
    return history.epochs


def require_trainer_options(options: Mapping[str, Any]) -> None:
    """Raise if options are not further arguments of Lightning's Trainer.

    Raises
    ------
    InputError
        If an option is unknown, or is set by an argument of `fit`.
    """
    for name in options:
        if name in SET_BY_FIT:
            msg = f"Cannot pass {name!r} to Lightning's Trainer: geoxt sets it."
            raise InputError(msg, remedy=f"Pass {{{SET_BY_FIT[name]}}} instead.", argument=name)
    require_known(options, set(inspect.signature(pl.Trainer).parameters) - set(SET_BY_FIT), prefix="trainer.")


def evaluate(task: pl.LightningModule, data: pl.LightningDataModule, *, accelerator: str = "auto") -> dict[str, float]:
    """Return a task's scores on the test part of its data, by name; empty if there is no test part.

    Parameters
    ----------
    task
        A trained `Task`.
    data
        Data module with a test part.
    accelerator
        Hardware by Lightning's name, as for `fit`.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> scores = trainers.evaluate(task, data)  # doctest: +SKIP
    >>> scores["miou"]  # doctest: +SKIP
    """
    if not isinstance(task, Task) or not len(data.test_dataloader()):
        return {}
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with quiet_lightning(), torch.random.fork_rng(), interruptible() as interrupts:
        trainer = pl.Trainer(accelerator=accelerator, devices=1, callbacks=[interrupts], **options)
        (scores,) = trainer.test(task, datamodule=data, verbose=False)
    task.eval()
    return {name: float(value) for name, value in scores.items()}


def _require_positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            msg = f"Cannot train with {name}={value}."
            raise InputError(msg, remedy=f"Pass {{{name}:1}} or more.", value=value, argument=name)


def _require_one_device(devices: Any) -> None:
    """Raise unless one device is requested: checkpoints, scores and samplers are those of a single process."""
    if devices != 1:
        msg = f"Cannot train on devices={devices!r}: training on several devices is not supported."
        raise InputError(msg, remedy="Pass {devices:1}.", value=devices, argument="devices")


def _require_one_process(trainer: pl.Trainer) -> None:
    """Raise if Lightning would train in several processes, as of several nodes or of a cluster's environment."""
    if trainer.world_size != 1:
        msg = f"Cannot train in {trainer.world_size} processes: training on several devices is not supported."
        raise InputError(msg, remedy="Start one process, without num_nodes or strategy.", value=trainer.world_size)


@contextmanager
def _folder(resume: SomePath | None, checkpoint: SomePath | None) -> Iterator[Path]:
    """Yield the folder of checkpoints: that to resume from, or a temporary one beside the final checkpoint."""
    if resume is None:
        parent = Path(checkpoint).parent if checkpoint else None
        if parent is not None:
            remove_stale(parent)
        with tempfile.TemporaryDirectory(dir=parent, prefix=temporary_prefix("fit")) as name:
            yield Path(name)
        return
    with lock_folder(Path(resume)):
        yield Path(resume)


def _load_best(task: pl.LightningModule, best: Path, checkpoint: SomePath | None) -> None:
    """Load the weights of the best epoch, and copy its checkpoint to `checkpoint` if that is given."""
    if not best.is_file():  # no epoch has ended
        return
    task.load_state_dict(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    task.eval()
    if checkpoint is None:
        return
    try:
        with atomic_write(checkpoint) as temporary:
            shutil.copyfile(best, temporary)
    except OSError as error:
        raise write_error(Path(checkpoint), error) from error
