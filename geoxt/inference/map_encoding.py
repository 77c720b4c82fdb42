"""Channels of a model as bands or codes of a map: legend, measures of uncertainty, dtype and nodata."""

from __future__ import annotations

import numpy as np

from geoxt.errors import InputError
from geoxt.inference.accumulator import MapEncoding
from geoxt.inference.ensemble import Ensemble
from geoxt.inference.output_kinds import OutputKind
from geoxt.inference.runner import Runner
from geoxt.inference.uncertainty import Measures
from geoxt.legend import Legend
from geoxt.models.card import Card


def legend_of_map(kind: OutputKind, legend: Legend | None, card: Card | None, channels: int) -> Legend:
    """Return the classes of a model's channels: `legend`, else those of the model card, else numbers.

    Raises
    ------
    InputError
        If their number is not that of the channels.
    """
    classes = legend or (card.legend if card and kind.classes else Legend(tuple(range(channels))))
    if (kind.classes or legend) and len(classes) != channels:
        msg = f"Cannot name the {channels} channels of the model by a legend of {len(classes)} classes."
        raise InputError(msg, remedy=f"Pass {{legend}} with {channels} classes.")
    return classes


def measures_of(kind: OutputKind, runner: Runner, card: Card | None, channels: int) -> Measures | None:
    """Return the measures of a map of uncertainty, `None` for other maps."""
    if kind.name != "uncertainty":
        return None
    if isinstance(runner.model, Ensemble) and not runner.model.classes:
        named = card is not None and len(card.names) == channels
        return Measures.of_quantities(card.names if card is not None and named else tuple(map(str, range(channels))))
    return Measures.of_classes(channels, sampled=isinstance(runner.model, Ensemble))


def encoding_of(
    kind: OutputKind, classes: Legend, channels: int, card: Card | None, measures: Measures | None
) -> MapEncoding:
    """Return dtype, nodata and bands of a map."""
    if not kind.argmax:
        return MapEncoding(
            channels=channels,
            codes=None,
            dtype=np.dtype("float32"),
            nodata=np.nan,
            all_finite=kind.classes and (measures is None or measures.classes > 0),
            measures=measures,
        )
    nodata = _nodata(classes, card)
    values = [*classes.codes, nodata]
    dtype = np.result_type(np.min_scalar_type(min(values)), np.min_scalar_type(max(values)))
    codes = np.array(classes.codes, dtype)
    return MapEncoding(channels=channels, codes=codes, dtype=dtype, nodata=nodata, all_finite=True)


def _nodata(classes: Legend, card: Card | None) -> int:
    """Return the code of pixels without a prediction: that of the labels, else 255, else the smallest free one."""
    of_labels = () if card is None or card.nodata is None else (card.nodata,)
    return next(code for code in (*of_labels, 255, *range(len(classes) + 1)) if code not in classes.codes)
