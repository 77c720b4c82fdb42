"""The training loop: reproducible, resumable, and leaving the module with the weights of its best epoch."""

from __future__ import annotations

import copy
import inspect
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.strategies import Strategy

from geoxt.bridge.malloc import keep_freed_memory
from geoxt.errors import InputError
from geoxt.metrics.scores import Scores
from geoxt.models import Network, from_checkpoint
from geoxt.progress import shows_bars
from geoxt.storage import atomic_write, remove_stale, temporary_prefix
from geoxt.torch_devices import forked_rng
from geoxt.trainers.config.unknown_keys import require_known_keys
from geoxt.trainers.loop.callbacks import (
    History,
    TestHistory,
    Trainable,
    best_checkpoint,
    early_stopping,
    weight_averaging,
)
from geoxt.trainers.loop.checkpoint_files import require_plain, write_error
from geoxt.trainers.loop.data_files import require_same_files, write_files
from geoxt.trainers.loop.determinism import compiled, deterministic, quiet_lightning
from geoxt.trainers.loop.interrupts import interruptible
from geoxt.trainers.loop.processes import HistoryFile, Ranks, create_trainer, lost_processes
from geoxt.trainers.loop.results import LAST, lock_folder
from geoxt.trainers.loop.resume import ResumableDataModule, ResumeCheckpoint
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
    "num_nodes": "num_nodes",
    "precision": "precision",
    "strategy": "strategy",
}
"""Arguments of Lightning's Trainer that `fit` sets, and the argument of `fit` that sets each."""

_TRAINER_DEFAULTS: Mapping[str, Any] = {"logger": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
"""Arguments of Lightning's Trainer that `fit(trainer=)` can replace."""


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
    devices: int | str | list[int] = 1,
    strategy: str | Strategy = "auto",
    num_nodes: int = 1,
    precision: Precision = "32",
    accumulate_grad_batches: int = 1,
    max_gradient_norm: float | None = None,
    patience: int | None = None,
    compile: bool = False,
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
        Number of devices on a node, their indices, or `"auto"` for all of them. Each is used by a process, which reads
        its part of the batches.
    strategy
        Strategy of training on several devices, by Lightning's name: `"auto"`, `"ddp"`, `"ddp_fork"`, `"ddp_spawn"` or
        `"ddp_notebook"`; or a `DDPStrategy`.
    num_nodes
        Number of machines; they must share the folders of `checkpoint` and `resume`.
    precision
        `"32"`, or mixed precision with `"bf16"` or `"16"`.
    accumulate_grad_batches
        Batches whose gradients are averaged for one optimizer step.
    max_gradient_norm
        Maximum gradient norm (gradient clipping).
    patience
        Epochs without a better validation score after which training stops early.
    compile
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
        If there is no epoch to train, a device is missing, the data has fewer batches than there are processes or does
        not divide its samples among them, the recipe monitors a score that validation does
        not log, the loss is not finite, or the checkpoint in `resume` belongs to other arguments or to local files of
        the data that have changed since.
    OutputError
        If the folder `resume` cannot be written, or another run is writing there.
    ProcessError
        If another process of the run has ended or does not answer.

    Notes
    -----
    On several devices `batch_size` of the data is that of each process, and gradients are averaged over the processes:
    n devices give the weights of one device with `accumulate_grad_batches` n times as large, up to rounding, unless the
    network has batch normalization or random numbers are drawn. Scores are those of all processes together.

    Examples
    --------
    >>> task = Task(data.card(model="unet"))  # doctest: +SKIP
    >>> history = fit(task, data, epochs=15, checkpoint="model.ckpt", resume="run")  # doctest: +SKIP
    """
    keep_freed_memory()
    _require_task(task)
    module = cast("Trainable", task)
    _require_positive(
        epochs=epochs, accumulate_grad_batches=accumulate_grad_batches, patience=1 if patience is None else patience
    )
    require_trainer_options(trainer or {})
    task.train()  # an earlier fit or evaluate left it in evaluation mode, and Lightning does not reset modules
    history = History(lines=progress != "none")
    bar = [TQDMProgressBar(leave=False)] if progress == "bar" and shows_bars(sys.stdout) else []
    folder = _folder(resume, checkpoint)
    best, last = best_checkpoint(folder, module), folder / LAST
    resumable = [] if resume is None else [ResumeCheckpoint(last, every=checkpoint_every, seed=seed)]
    history_file = HistoryFile(history, folder / ".history.json")
    with (
        quiet_lightning(),
        deterministic(seed, accelerator),
        compiled(module.network, enabled=compile),
        interruptible() as interrupts,
    ):
        lightning = create_trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            num_nodes=num_nodes,
            max_epochs=epochs,
            default_root_dir=folder,
            # the average must be in place before checkpoints are saved
            callbacks=[
                *weight_averaging(module.recipe),
                Ranks(seed),
                history,
                *early_stopping(module, patience),
                best,
                *resumable,
                *bar,
                *callbacks,
                history_file,
                interrupts,
            ],
            enable_progress_bar=bool(bar),
            precision=precision,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=max_gradient_norm,
            **{**_TRAINER_DEFAULTS, **(trainer or {}), "use_distributed_sampler": False},
        )
        _require_distributed(lightning, data, trainer or {})
        with _open_folder(folder, temporary=resume is None, writes=lightning.is_global_zero):
            if resume is not None:
                _check_files(last, data, writes=lightning.is_global_zero)
            if last.exists():
                require_plain(last)
            elif isinstance(data, ResumableDataModule):
                data.rewind()
            with lost_processes(folder):
                # None of torch before 2.6 would run code of the checkpoint
                lightning.fit(task, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
            epochs_scores = history_file.read(lightning)
            _load_best(lightning, task, Path(best.best_model_path), checkpoint)
    return epochs_scores


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
    require_known_keys(options, set(inspect.signature(pl.Trainer).parameters) - set(SET_BY_FIT), prefix="trainer.")


def evaluate(
    task: pl.LightningModule | Network | SomePath,
    data: pl.LightningDataModule,
    *,
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    strategy: str | Strategy = "auto",
    num_nodes: int = 1,
) -> Scores:
    """Return a task's scores on the test part of its data; empty if there is no test part.

    Parameters
    ----------
    task
        A trained `Task`, its network, or the path of its checkpoint.
    data
        Data module with a test part.
    accelerator, devices, strategy, num_nodes
        Hardware, as for `fit`: every test sample is evaluated once, by one of the processes.

    Returns
    -------
    Scores
        `loss`, the scores over all classes and by class, and for classes the confusion matrix: the scores of
        `geoxt.metrics.score`, without areas. For regression bias, MAE, RMSE and R².

    Raises
    ------
    InputError
        If `task` is no task of geoxt, a device is missing, or the data does not divide its samples among several
        processes.
    ProcessError
        If another process has ended or does not answer.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> scores = trainers.evaluate(task, data)  # doctest: +SKIP
    >>> scores["miou"], scores["iou"]["forest"]  # doctest: +SKIP
    >>> scores.to_dataframe(), scores.plot()  # doctest: +SKIP
    """
    if isinstance(task, str | PathLike):
        task = from_checkpoint(task)
    if isinstance(task, Network):
        task = Task(copy.deepcopy(task))  # a task sets its network to training mode
    _require_task(task)
    if not isinstance(task, Task) or not len(data.test_dataloader()):  # self-supervision has no scores
        return Scores()
    history = TestHistory()
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with (
        quiet_lightning(),
        forked_rng(),
        interruptible() as interrupts,
        tempfile.TemporaryDirectory() as folder,
    ):
        history_file = HistoryFile(history, Path(folder) / "scores.json")
        trainer = create_trainer(
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            num_nodes=num_nodes,
            callbacks=[history, history_file, interrupts],
            enable_checkpointing=False,
            use_distributed_sampler=False,
            **options,
        )
        _require_distributed(trainer, data, {})
        with lost_processes(Path()):
            trainer.test(task, datamodule=data, verbose=False)
        (scores,) = history_file.read(trainer)
    task.eval()
    return Scores.from_dict(scores)


def _require_task(task: object) -> None:
    """Raise if a module is not a geoxt task, such as a torch module or another LightningModule."""
    if all(hasattr(task, name) for name in ("monitor", "network", "recipe")):
        return
    problem = f"Cannot fit a {type(task).__name__}: it is not a geoxt task."
    remedy = "Pass Task(Network(card, body=module)) as {task} to train a torch module"
    if isinstance(task, pl.LightningModule):
        remedy = "Train other LightningModules by Lightning: Trainer().fit(module, datamodule=data)"
    raise InputError(problem, remedy=f"{remedy}.", argument="task")


def _require_positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            msg = f"Cannot train with {name}={value}."
            raise InputError(msg, remedy=f"Pass {{{name}:1}} or more.", value=value, argument=name)


def _require_distributed(trainer: pl.Trainer, data: pl.LightningDataModule, trainer_options: Mapping[str, Any]) -> None:
    """Raise if a data module may not divide its samples among the processes, unless the caller states that it does."""
    divides = isinstance(data, ResumableDataModule) or trainer_options.get("use_distributed_sampler") is False
    if divides or trainer.world_size == 1:
        return
    msg = f"Cannot train in {trainer.world_size} processes on a {type(data).__name__}: it may not divide its samples "
    msg += "among them. Lightning would score some samples twice, and each process would read all samples of an "
    msg += "iterable-style dataset."
    remedy = "Pass a WindowDataModule or SampleDataModule. Or divide the samples by data.trainer.global_rank, and pass "
    raise InputError(msg, remedy=remedy + "{trainer:{'use_distributed_sampler': False}}.", argument="data")


def _folder(resume: SomePath | None, checkpoint: SomePath | None) -> Path:
    """Return the folder of checkpoints: `resume`, or a temporary folder beside the final checkpoint."""
    if resume is not None:
        return Path(resume)
    parent = Path(checkpoint).parent if checkpoint else Path(tempfile.gettempdir())
    return parent / f"{temporary_prefix('fit')}{uuid.uuid4().hex[:8]}"


@contextmanager
def _open_folder(folder: Path, *, temporary: bool, writes: bool) -> Iterator[None]:
    """Create and lock the folder of checkpoints in the process that writes them; remove a temporary one at the end."""
    if not writes:
        yield
    elif temporary:
        remove_stale(folder.parent)
        folder.mkdir(mode=0o700)
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        with lock_folder(folder):
            yield


def _check_files(last: Path, data: pl.LightningDataModule, *, writes: bool) -> None:
    """Raise if files of the data have changed since the checkpoint's run was started; record them for a new run."""
    if isinstance(data, ResumableDataModule):
        if last.exists():
            require_same_files(last.parent, data.file_versions())
        elif writes:
            write_files(last.parent, data.file_versions())


def _load_best(trainer: pl.Trainer, task: pl.LightningModule, best: Path, checkpoint: SomePath | None) -> None:
    """Load the weights of the best epoch in all processes, and copy its checkpoint to `checkpoint`, if not `None`."""
    weights = None
    if trainer.is_global_zero and best.is_file():  # else no epoch has ended
        weights = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        if checkpoint is not None:
            try:
                with atomic_write(checkpoint) as temporary:
                    shutil.copyfile(best, temporary)
            except OSError as error:
                raise write_error(Path(checkpoint), error) from error
    weights = trainer.strategy.broadcast(weights)
    if weights is not None:
        task.load_state_dict(weights)
        task.eval()
