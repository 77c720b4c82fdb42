"""Checks of a labelled sample: its columns, its strata, and its missing rows and references."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from geoxt.assess.design import POPULATION, REFERENCE, SIMPLE
from geoxt.errors import AssessmentWarning, InputError
from geoxt.types import Mask

COLUMNS = ("stratum", "stratum_pixels", "stratum_area", "pixel_area", REFERENCE)
DESIGN = {*COLUMNS[:-1], POPULATION, "map_class", "probability", "id", "row", "col"}
"""Columns that hold no reference."""
_MISSING_TEXTS = ("", "nan", "NaN", "<NA>", "None")
"""Texts of missing values, as `astype(str)` writes them."""
_MAX_AREA_RATIO = 5
"""Maximum ratio of the mean pixel area of a stratum to the sampled pixel areas, or the reverse, in equal units."""
_MAX_SHOWN = 5
"""Strata, ids or values that a message names."""


def require_sample(frame: Any, reference: str, cluster: str | None) -> None:
    """Raise if the columns of a sample are missing, or their values contradict each other.

    Raises
    ------
    InputError
        If they do.
    """
    _require_columns(frame, reference, cluster)
    repeats = 0 if cluster or not {"row", "col"} <= {*frame.columns} else int(frame.duplicated(["row", "col"]).sum())
    if repeats:
        problem = f"Cannot estimate: {repeats} of {len(frame)} rows repeat the pixel of another row."
        raise InputError(problem, remedy="Remove repeated pixels from the table.", value=repeats)
    for name in ("stratum_pixels", "stratum_area", "pixel_area"):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = ~((numbers > 0) & np.isfinite(numbers))
        if wrong.any():
            value, count = frame[name][wrong].iloc[0], f"{int(wrong.sum())} of {len(frame)} rows"
            problem = f"Cannot estimate: {count} have no positive {name}, such as {str(value)!r}."
            raise InputError(problem, remedy=f"Restore the column {name} of the sample.", value=value)
    _require_strata(frame, cluster)
    _require_areas(frame)


def _require_columns(frame: Any, reference: str, cluster: str | None) -> None:
    if not isinstance(frame, pd.DataFrame):
        problem = f"Cannot estimate from a {type(frame).__name__}: it is not a table of sampled pixels."
        raise InputError(problem, remedy="Pass {sample}, a GeoDataFrame or the path of its file.", argument="sample")
    missing = [name for name in (*COLUMNS[:-1], reference) if name not in frame.columns]
    if missing:
        problem = f"Cannot estimate from a sample without the columns {missing}: the design is unknown."
        remedy = "Pass a sample drawn by assess.sample_design. Or pass {reference} for another column of labels."
        raise InputError(problem, remedy=remedy, value=missing, argument="reference")
    if reference in DESIGN:
        problem = f"Cannot take the column {reference!r} as the reference: it belongs to the design or the map."
        raise InputError(problem, remedy="Pass {reference} for another column.", value=reference, argument="reference")
    if "id" in frame.columns and frame["id"].duplicated().any():
        repeated = sorted(frame.loc[frame["id"].duplicated(), "id"].unique().tolist())
        problem = f"Cannot estimate: the ids {repeated[:_MAX_SHOWN]} are repeated."
        raise InputError(problem, remedy="Remove repeated rows from the table.", value=repeated)
    if not len(frame):
        raise InputError("Cannot estimate from a sample without pixels.", remedy="Pass another {sample}.")
    if cluster is not None and (cluster not in frame.columns or frame[cluster].isna().any()):
        lacking = "it has no such column" if cluster not in frame.columns else "some pixels have none"
        problem = f"Cannot take clusters of pixels from the column {cluster!r} of the sample: {lacking}."
        raise InputError(problem, remedy="Pass {cluster} for another column.", value=cluster, argument="cluster")


def _require_strata(frame: Any, cluster: str | None) -> None:
    """Raise if rows have no stratum, or strata contradict each other or are missing."""
    if frame["stratum"].isna().any():
        problem = f"Cannot estimate: {int(frame['stratum'].isna().sum())} of {len(frame)} rows have no stratum."
        raise InputError(problem, remedy="Restore the column stratum of the sample.")
    groups = frame.groupby("stratum", sort=True)
    several = groups["stratum_pixels"].nunique().gt(1) | groups["stratum_area"].nunique().gt(1)
    if several.any():
        names = several.index[several].tolist()
        problem = f"Cannot estimate: the strata {names} have several sizes in the sample."
        raise InputError(problem, remedy="Pass one sample at a time.", value=names)
    if len(several) > 1 and SIMPLE in several.index:
        problem = (
            f"Cannot estimate: the sample has a stratum {SIMPLE!r} of all pixels beside {len(several) - 1} others."
        )
        raise InputError(problem, remedy="Pass one sample at a time.", value=SIMPLE)
    sizes = groups["stratum_pixels"].first().astype(float)
    excess = groups.size().gt(sizes)
    if excess.any():
        names = excess.index[excess].tolist()
        problem = f"Cannot estimate: the strata {names} have more sampled pixels than pixels."
        raise InputError(problem, remedy="Restore the column stratum_pixels of the sample.", value=names)
    _require_all_strata(frame, sizes)
    if cluster is not None and (spread := frame.groupby(cluster)["stratum"].nunique().gt(1)).any():
        name = spread.index[spread][0]
        names = sorted(frame.loc[frame[cluster] == name, "stratum"].unique().tolist())
        problem = f"Cannot estimate: {int(spread.sum())} clusters span strata, such as {str(name)!r} with {names}."
        remedy = "Draw clusters within strata, or with strata=None."
        raise InputError(problem, remedy=remedy, value=name, argument="cluster")


def _require_areas(frame: Any) -> None:
    """Raise if the areas of strata and of their pixels are in different units."""
    pixels, areas, pixel = (
        pd.to_numeric(frame[name]).to_numpy(float) for name in ("stratum_pixels", "stratum_area", "pixel_area")
    )
    mean = areas / pixels
    wrong = (mean > _MAX_AREA_RATIO * pixel.max()) | (mean * _MAX_AREA_RATIO < pixel.min())
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        problem = (
            f"Cannot estimate: the stratum {str(frame['stratum'].iloc[k])!r} has {pixels[k]:,.0f} pixels and a "
            f"stratum_area of {areas[k]:,.6g} ha, and a pixel_area is {pixel[k]:,.6g} ha."
        )
        raise InputError(problem, remedy="Restore both columns, in hectares.", value=areas[k])


def _require_all_strata(frame: Any, sizes: pd.Series) -> None:
    """Raise if the strata of the sample have fewer pixels than the population that it was drawn from."""
    if POPULATION not in frame.columns:
        return
    populations = pd.to_numeric(frame[POPULATION], errors="coerce").unique().tolist()
    if len(populations) > 1:
        problem = f"Cannot estimate: the column {POPULATION} has several values, such as {populations[:2]}."
        raise InputError(problem, remedy="Pass one sample at a time.", value=populations[:_MAX_SHOWN])
    total = float(sizes.sum())
    if total != populations[0]:
        problem = (
            f"Cannot estimate: the strata {_shown(sizes.index.tolist())} have {total:,.0f} pixels, and the sample "
        )
        problem += f"was drawn from {populations[0]:,.0f}: rows of whole strata are missing, or were added."
        raise InputError(problem, remedy="Pass all rows of the sample.", value=total)


def labeled_rows(frame: Any, reference: str, unlabeled: str, cluster: str | None) -> Any:
    """Return the rows with a reference; missing rows of strata are counted as pixels without a reference.

    Raises
    ------
    InputError
        If pixels have no reference and `unlabeled` is "raise", all of a stratum have none, or strata have more rows
        than their inclusion probability states.
    """
    if unlabeled not in {"raise", "exclude"}:
        problem = f"Cannot treat pixels without a reference by {unlabeled!r}."
        raise InputError(
            problem, remedy="Pass {unlabeled:'exclude'} or 'raise'.", value=unlabeled, argument="unlabeled"
        )
    lacking = _without_reference(frame, reference)
    rows = frame.groupby("stratum", sort=True).size()
    drawn = rows if cluster is not None else _drawn_pixels(frame, rows)
    present = frame[~lacking].groupby("stratum").size().reindex(rows.index, fill_value=0)
    excluded = drawn - present
    if not excluded.any():
        return frame
    text = f"{excluded.sum()} of {drawn.sum()} sampled pixels have no reference"
    if (removed := int((drawn - rows).sum())) > 0:
        text += f" ({removed} of their rows are missing from the sample)"
    counts = [f"{excluded[name]} of {drawn[name]} in {str(name)!r}" for name in rows.index[excluded > 0]]
    by_stratum = ", ".join(counts[:_MAX_SHOWN]) + (", …" if len(counts) > _MAX_SHOWN else "")
    if unlabeled == "raise" or not present.any():
        problem = f"Cannot estimate: {text}: {by_stratum}."
        remedy = "Label them. Or pass {unlabeled:'exclude'}, if references are missing at random."
        raise InputError(problem, remedy=remedy, argument="unlabeled")
    if (present == 0).any():
        lost = rows.index[present == 0].tolist()
        problem = f"Cannot estimate: {text}, among them all of the strata {lost}."
        raise InputError(problem, remedy="Label some pixels of each stratum.", value=lost)
    text += f" and are excluded: {by_stratum}. The estimates assume that references are missing at random in strata."
    warnings.warn(text, AssessmentWarning, stacklevel=3)
    return frame[~lacking]


def _without_reference(frame: Any, reference: str) -> Mask:
    """Return whether references are missing, blank, or the text of a missing value that is no class of the map."""
    values = frame[reference]
    classes = {*frame["map_class"].astype(str)} if "map_class" in frame.columns else set()
    texts = [text for text in _MISSING_TEXTS if text not in classes]
    return np.asarray(values.isna() | values.astype(str).str.strip().isin(texts), dtype=bool)


def _drawn_pixels(frame: Any, rows: pd.Series) -> pd.Series:
    """Return the number of pixels that were drawn in each stratum, from their inclusion probability."""
    if "probability" not in frame.columns:
        return rows
    probability = pd.to_numeric(frame["probability"], errors="coerce").groupby(frame["stratum"], sort=True)
    sizes = frame.groupby("stratum", sort=True)["stratum_pixels"].first().astype(float)
    number = probability.first() * sizes
    drawn = number.round()
    wrong = ~(probability.max() - probability.min() <= 1e-9) | ~((number - drawn).abs() <= 0.01) | (drawn < rows)
    if wrong.any():
        name = rows.index[wrong][0]
        problem = (
            f"Cannot estimate: the inclusion probability {probability.first()[name]:.6g} contradicts the {rows[name]} "
            f"sampled pixels and {sizes[name]:,.0f} pixels of the stratum {str(name)!r}."
        )
        remedy = "Pass one sample at a time. Or restore the column probability: sampled pixels / stratum_pixels."
        raise InputError(problem, remedy=remedy, value=name)
    return drawn.astype(int)


def _shown(values: list[Any]) -> str:
    return "[" + ", ".join(map(repr, values[:_MAX_SHOWN])) + (", …]" if len(values) > _MAX_SHOWN else "]")
