"""A row of the registry of architectures: what one model is for, what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the registry knows of one architecture."""

    name: str
    """The name that `create` takes."""
    task: str
    """The kind of task it is made for, such as `"segmentation"`."""
    also: tuple[str, ...] = ()
    """Other tasks for which it serves as it is."""
    build: Callable[..., nn.Module]
    """Makes the module: takes `in_chans`, `classes` and the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Every option and its default. Values are plain, so that a checkpoint can carry them."""
    open: bool = False
    """Whether `build` takes options beyond these and hands them on to its library."""
    takes: str
    """Shape of the input: N images, T dates, C bands, H x W pixels."""
    gives: str
    """Shape of the output: K classes or numbers, F features."""
    headless: bool = False
    """Whether it can be built without classes, to give features alone."""
    export: Literal["export", "script"] = "export"
    """What writes it to a file without its code: `torch.export` or `torch.jit.script`."""
    reference: str
    """Where it was published."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks it serves."""
        return (self.task, *self.also)
