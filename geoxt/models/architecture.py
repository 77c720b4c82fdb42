"""`Architecture`: one row of the registry, with tasks, options, input and output shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture of the registry."""

    name: str
    """Name that `create` takes."""
    task: str
    """Main task, such as `"segmentation"`."""
    other_tasks: tuple[str, ...] = ()
    """Other tasks that it serves without changes."""
    build: Callable[..., nn.Module]
    """Builds the module from `in_chans`, `num_classes` and the options."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options and their defaults, as JSON-compatible values that a checkpoint can hold."""
    accepts_options: bool = False
    """Whether `build` passes further options on to its library."""
    input_shape: str
    """Shape of the input: N images, T dates, C bands, H x W pixels."""
    output_shape: str
    """Shape of the output: K classes or quantities, F features."""
    headless: bool = False
    """Whether it can be built without classes and then returns features."""
    export: Literal["export", "script"] = "export"
    """Serialization without Python code: `torch.export` or `torch.jit.script`."""
    reference: str
    """Publication."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that it serves."""
        return (self.task, *self.other_tasks)
