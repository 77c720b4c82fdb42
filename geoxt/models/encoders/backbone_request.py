"""Configuration from which the backbone of an encoder is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.encoders.feature_backbone import FeatureBackbone, load_state
from geoxt.models.encoders.layer_inputs import Context, LayerInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneRequest:
    """Configuration of the backbone of an encoder."""

    name: str
    """Name of the weights."""
    options: Mapping[str, Any]
    """Options of the weights in the table: variant, and options of the family."""
    names: tuple[str, ...]
    """Bands of the model in order; for a model of any bands, the bands of the layer."""
    inputs: LayerInputs
    """Bands of the layer."""
    context: Context
    """Date, location and resolution."""
    size: int
    """Side of the images in pixels."""
    dates: int
    """Number of time steps."""
    out_indices: Sequence[int] | None
    """Blocks whose outputs are the feature maps, `None` for the default."""
    pretrained: bool = True
    """Whether to load pretrained weights; `False` for the encoder of a checkpoint."""

    def load(
        self,
        model: nn.Module,
        state: dict[str, Tensor],
        *,
        allow_missing: Sequence[str] = (),
        allow_unexpected: Sequence[str] = (),
    ) -> None:
        """Load weights into a model, as `load_state` does."""
        if self.pretrained:
            load_state(model, state, name=self.name, allow_missing=allow_missing, allow_unexpected=allow_unexpected)

    def gsd(self) -> float:
        """Return the ground sample distance in metres."""
        if self.context.gsd is None:
            raise self._unknown("resolution", "gsd", "the ground sample distance in metres")
        return self.context.gsd

    def location(self) -> tuple[float, float]:
        """Return longitude and latitude in degrees."""
        if self.context.location is None:
            raise self._unknown("location", "location", "(longitude, latitude) in degrees")
        return self.context.location

    def time(self) -> tuple[str, ...]:
        """Return the date of each time step."""
        if len(self.context.time) != self.dates:
            raise self._unknown("dates", "time", f"{self.dates} dates such as '2024-06-30'")
        return self.context.time

    def _unknown(self, name: str, argument: str, example: str) -> InputError:
        msg = f"Cannot load {self.name!r} without {name}: the layer states none for {self.dates} time steps."
        return InputError(msg, remedy=f"Pass {{{argument}}}, {example}.", argument=argument)


Builder = Callable[[BackboneRequest, dict[str, Tensor]], FeatureBackbone]
"""Function that builds the backbone of a model family and loads weights into it."""


def day_of_year(date: str) -> int:
    """Return the day of the year of an ISO 8601 date, 1 for January 1.

    Examples
    --------
    >>> day_of_year("2024-02-01")
    32
    """
    day = np.datetime64(date, "D")
    return int((day - day.astype("datetime64[Y]")).astype(int)) + 1


def year_and_month(date: str) -> tuple[int, int]:
    """Return year and month of an ISO 8601 date, 1 for January.

    Examples
    --------
    >>> year_and_month("2024-02-01")
    (2024, 2)
    """
    months = int(np.datetime64(date, "M").astype(int))
    return 1970 + months // 12, months % 12 + 1
