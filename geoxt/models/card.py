"""`Card`, the model card in a checkpoint: task, architecture, bands, scaling and legend of a trained model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.models.band_match import BandNames
from geoxt.reprs import abbreviate, html_table
from geoxt.tasks import TaskKind

_OPTIONAL = ("common_names", "wavelengths", "valid_max", "temperature", "target_mean", "target_std")
"""Fields that model cards of earlier versions lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Model card: task, architecture, bands, scaling and legend of a trained model.

    Raises
    ------
    InputError
        If the task is unknown, the numbers of bands, means, standard deviations and largest values differ, means or
        deviations are not finite, the scaling of targets does not fit the task, or the temperature is not above 0.
    """

    task: str
    """Name of the task, such as `"segmentation"`."""
    model: str
    """Name of the architecture in `geoxt.models`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture that differ from its defaults."""
    bands: tuple[str, ...]
    """Names of the input bands, in order."""
    mean: tuple[float, ...]
    """Mean of each band over the training pixels, in the units of the layer."""
    std: tuple[float, ...]
    """Standard deviation of each band, in the units of the layer."""
    codes: tuple[int, ...]
    """Class codes of the labels, in the order of the model's channels."""
    names: tuple[str, ...]
    """Class names, in the order of `codes`."""
    colors: tuple[str, ...]
    """Class colors, `"#rrggbb"`, in the order of `codes`."""
    nodata: int | None = None
    """Code of pixels without a label."""
    size: tuple[int, int]
    """Height and width of the training windows, in pixels."""
    common_names: tuple[str, ...] = ()
    """Common name of each band, "" for a band without one; empty if none is known."""
    wavelengths: tuple[float | None, ...] = ()
    """Center wavelength of each band in micrometres, `None` for a band without one; empty if none is known."""
    valid_max: tuple[float | None, ...] = ()
    """Largest valid value of each band in the units of the layer, 255 for 8-bit images; `None` or empty if unknown."""
    temperature: float = 1.0
    """Divisor of the logits before the softmax; 1 for a model that is not calibrated (`geoxt.assess.calibrate`)."""
    target_mean: tuple[float, ...] = ()
    """Mean of each regressed quantity over the training targets, in its unit; empty if the model's last layer is not
    trained on standardized targets."""
    target_std: tuple[float, ...] = ()
    """Standard deviation of each regressed quantity, in its unit."""

    def __post_init__(self) -> None:
        tasks.get(self.task)
        if not len(self.bands) == len(self.mean) == len(self.std):
            count = f"{len(self.bands)} bands, {len(self.mean)} means and {len(self.std)} standard deviations"
            msg = f"Cannot make a model card with {count}."
            raise InputError(msg, remedy="Pass {bands}, {mean} and {std} of equal length.")
        for band, mean, std in zip(self.bands, self.mean, self.std, strict=True):
            if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
                msg = f"Cannot scale the band {band!r} by a mean of {mean:g} and a standard deviation of {std:g}."
                raise InputError(
                    msg, remedy="Pass {mean} and {std}, finite numbers, and a deviation above 0.", value=band
                )
        if self.valid_max and len(self.valid_max) != len(self.bands):
            msg = f"Cannot make a model card with {len(self.bands)} bands and {len(self.valid_max)} largest values."
            raise InputError(msg, remedy="Pass {valid_max} of each band, or leave it out.", argument="valid_max")
        if self.target_mean or self.target_std:
            self._require_target_scale()
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            msg = f"Cannot divide logits by a temperature of {self.temperature!r}."
            remedy = "Pass {temperature:1.0}, or a finite number above 0."
            raise InputError(msg, remedy=remedy, value=self.temperature, argument="temperature")

    def _require_target_scale(self) -> None:
        means, deviations = self.target_mean, self.target_std
        finite = all(map(math.isfinite, (*means, *deviations))) and all(std > 0 for std in deviations)
        if not (finite and len(means) == len(deviations) == len(self.codes)) or self.kind.activation != "identity":
            msg = f"Cannot standardize the {len(self.codes)} targets of {self.task} by the means {means} and the "
            msg += f"standard deviations {deviations}."
            remedy = "Pass {target_mean} and {target_std} of a regression, finite, above 0 and one for each quantity."
            raise InputError(msg, remedy=remedy, argument="target_std")

    def __str__(self) -> str:
        rows = "; ".join(f"{name} {text}" for name, text in self._rows().items())
        return f"<Card: {rows}>"

    def _repr_html_(self) -> str:
        """Return the card as a table, with the legend below."""
        below = self.legend._repr_html_() if self.codes else ""
        return html_table("Model card", self._rows(), below=below)

    def _rows(self) -> dict[str, str]:
        """Return task, model, bands, classes and size as text."""
        rows = {"task": self.task, "model": self.model, "bands": abbreviate(self.bands)}
        rows |= {"classes": f"{len(self.codes)}: {abbreviate(self.names)}"} if self.codes else {}
        return rows | {"size": f"{self.size[0]} x {self.size[1]} px"}

    @property
    def band_names(self) -> BandNames:
        """Names, common names and wavelengths of the bands."""
        wavelengths = tuple(math.nan if wavelength is None else wavelength for wavelength in self.wavelengths)
        return BandNames(names=self.bands, common_names=self.common_names, wavelengths=wavelengths)

    @property
    def kind(self) -> TaskKind:
        """Target, activation, losses and scores of the task."""
        return tasks.get(self.task)

    @property
    def legend(self) -> Legend:
        """Codes, names and colors of the classes."""
        return Legend(self.codes, self.names, self.colors)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-compatible values, as a checkpoint holds them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Return the model card from the fields that `to_dict` returned.

        Raises
        ------
        InputError
            If a field is missing.
        """
        try:
            names = [item.name for item in fields(cls) if item.name in values or item.name not in _OPTIONAL]
            named = {name: values[name] for name in names}
        except KeyError as error:
            msg = f"Cannot read a model card without the field {error.args[0]!r}."
            raise InputError(msg, remedy="Pass a checkpoint written by geoxt.", value=error.args[0]) from error
        tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in named.items()}
        return cls(**tuples)
