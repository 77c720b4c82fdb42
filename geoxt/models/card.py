"""A model card: what a checkpoint says of itself, so that a model meets the bands and classes it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.tasks import TaskKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Architecture, input bands, scaling and classes of a trained model."""

    task: str
    """Name of the task, such as `"segmentation"`."""
    model: str
    """Name of the architecture in `geoxt.models`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture that differ from its defaults."""
    bands: tuple[str, ...]
    """Names of the input bands, in order."""
    mean: tuple[float, ...]
    """Mean of each band over the training pixels, in the layer's own units."""
    std: tuple[float, ...]
    """Standard deviation of each band, in the layer's own units."""
    codes: tuple[int, ...]
    """Class codes as they stand in the labels; the model's channels follow this order."""
    names: tuple[str, ...]
    """Class names, in the order of `codes`."""
    colors: tuple[str, ...]
    """Class colours, `"#rrggbb"`, in the order of `codes`."""
    nodata: int | None = None
    """The code that stands for "no label" in the labels."""
    size: tuple[int, int]
    """Height and width of the training windows, in pixels."""

    def __post_init__(self) -> None:
        tasks.get(self.task)
        if not len(self.bands) == len(self.mean) == len(self.std):
            count = f"{len(self.bands)} bands, {len(self.mean)} means and {len(self.std)} deviations"
            msg = f"Cannot make a card with {count}: pass as many of each."
            raise InputError(msg)

    @property
    def kind(self) -> TaskKind:
        """Facts of the task."""
        return tasks.get(self.task)

    @property
    def legend(self) -> Legend:
        """Codes, names and colours of the classes."""
        return Legend(self.codes, self.names, self.colors)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, as a checkpoint or JSON holds them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Return the card of which `to_dict` made `values`.

        Raises
        ------
        InputError
            Where a field is missing.
        """
        try:
            found = {one.name: values[one.name] for one in fields(cls)}
        except KeyError as error:
            msg = f"Cannot read a model card: it has no field {error.args[0]!r}. Pass a checkpoint that geoxt wrote."
            raise InputError(msg) from error
        tuples: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in found.items()}
        return cls(**tuples)
