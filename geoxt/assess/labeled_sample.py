"""Accuracy and areas of a map from a labelled probability sample."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.assess.accuracy import AccuracyEstimate, accuracy_of
from geoxt.assess.continuous import ContinuousEstimate, continuous_estimate, mean_of_map
from geoxt.assess.design import REFERENCE, class_name
from geoxt.assess.map_strata import Strata, band_reader, class_codes, count_strata, legend_of
from geoxt.assess.proportion_intervals import Interval
from geoxt.assess.sample_checks import labeled_rows, require_sample
from geoxt.assess.sampled_pixels import compare_with_strata, pixel_positions, recording_reader, require_on_map
from geoxt.assess.survey import Survey, indices_of
from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.source import as_layer
from geoxt.source.stored_attrs import nodata_of
from geoxt.types import Floats

_MAX_UNNAMED = 256
"""Different integers up to which a map without names of classes holds codes."""


def estimate(
    sample: Any,
    map: xr.DataArray | xr.Dataset | None = None,  # noqa: A002 (the map to assess, as in the literature)
    *,
    reference: str = REFERENCE,
    unlabeled: str = "raise",
    cluster: str | None = None,
    interval: Interval = "jeffreys",
) -> AccuracyEstimate | ContinuousEstimate:
    """Return design-based accuracy and areas of a map from a labelled sample.

    Parameters
    ----------
    sample
        A GeoDataFrame from `sample_design` with its reference column filled, or the path of the file that holds it.
        Points in another CRS than the map are transformed.
    map
        Map to assess, which is read once: class codes (y, x) as integers, or a continuous variable as floating point
        numbers. By default the classes of the map that the sample was drawn from, in its column `map_class`. Another
        map is assessed by the same sample: its classes need not be the strata.
    reference
        Column of the reference: names or codes of classes; numbers for a continuous map.
    unlabeled
        "raise", or "exclude" to leave out pixels without a reference, with a warning that states their number in each
        stratum. Rows that are missing from the sample, by its column `probability`, are pixels without a reference.
    cluster
        Column of the cluster of each pixel, if pixels were drawn in clusters (such as all pixels of a drawn plot).
    interval
        Kind of the 95 % intervals `lower` to `upper` of a class map: "jeffreys", "exact", which are wider and rarely
        miss, or "normal", which are `value` ± `ci95` and miss rare classes and small counts more often; see
        `estimate_from_counts`. Those of continuous maps are normal.

    Returns
    -------
    AccuracyEstimate
        For class maps; areas in hectares on the ellipsoid.
    ContinuousEstimate
        For maps of floating point numbers: bias, RMSE, MAE, R², and the mean and total of the reference variable by the
        difference estimator. The mean of the map is that of its valid pixels, which have to be those of the strata.

    Raises
    ------
    InputError
        If columns are missing, ids are repeated, pixels have no reference, strata are missing, a cluster spans strata,
        the stratum "all" is not the only one, numbers in the reference are ambiguous (codes or names), or the area of
        a continuous map differs by more than 1 % from that of the strata.
    OverlapError
        If points lie outside the map or on nodata.
    CRSError
        If sample or map have no CRS.
    LabelError
        If a map with a legend holds no integers.

    Warns
    -----
    AssessmentWarning
        If pixels are excluded, the map has more or fewer valid pixels than the strata, the reference has classes that
        the map lacks or the reverse, or codes, taken as those of the map, or a stratum has a single pixel.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import assess
    >>> from geoxt.testing import make_layer
    >>> codes = (np.arange(10_000).reshape(100, 100) // 5000).astype("uint8")
    >>> land = make_layer(codes)
    >>> sample = assess.sample_design(land, 40, seed=1)
    >>> sample["reference"] = sample["map_class"]
    >>> assess.estimate(sample).overall.value
    1.0

    References
    ----------
    Stehman 2014. https://doi.org/10.1080/01431161.2014.930207
    """
    map = None if map is None else as_layer(map)  # noqa: A001 (the map to assess, as in the literature)
    frame = _read(sample)
    require_sample(frame, reference, cluster)
    numbers = ("stratum_pixels", "stratum_area", "pixel_area", "row", "col")  # text in CSV files
    frame = frame.assign(**{name: pd.to_numeric(frame[name]) for name in numbers if name in frame.columns})
    frame = labeled_rows(frame, reference, unlabeled, cluster)
    survey = _survey(frame, cluster)
    areas = frame["pixel_area"].to_numpy(float)
    total = float(frame.drop_duplicates("stratum")["stratum_area"].sum())
    if map is not None and map.dtype.kind == "f" and "flag_values" not in map.attrs:
        return _continuous(frame, survey, map, _numbers(frame, reference), areas, total)
    mapped, legend = _mapped_names(frame, map)
    names = _reference_names(frame[reference], mapped, legend)
    classes = _classes(mapped, names, legend)
    return accuracy_of(
        survey,
        indices_of(mapped, classes, "classes of the map"),
        indices_of(names, classes, "reference classes"),
        classes,
        interval=interval,
        areas=areas,
        total=total,
        unit="ha",
    )


def _read(sample: Any) -> Any:
    if not isinstance(sample, str) and not hasattr(sample, "__fspath__"):
        return sample
    with optional_import("geopandas", "assess", "read a sample"):
        import geopandas
    try:
        return geopandas.read_file(sample, layer=0)
    except (OSError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        problem = f"Cannot read the sample {str(sample)!r}: {error}."
        raise InputError(problem, remedy="Pass {sample} as a vector file.", argument="sample") from error


def _numbers(frame: Any, reference: str) -> Floats:
    """Return the reference numbers of a sample of a continuous map."""
    try:
        return np.asarray(frame[reference].to_numpy(float))
    except ValueError as error:
        problem = f"Cannot compare the numbers of the map with the column {reference!r} of the sample: {error}."
        raise InputError(problem, remedy="Pass a {map} of class codes.", argument="map") from error


def _survey(frame: Any, cluster: str | None) -> Survey:
    """Return the design that the columns of a sample state."""
    groups = frame.groupby("stratum", sort=True)
    per_stratum = groups["stratum_pixels"].agg(["first", "size"])
    strata = indices_of(frame["stratum"], list(per_stratum.index), "strata")
    sizes, counts = per_stratum["first"].to_numpy(float), per_stratum["size"].to_numpy(float)
    clusters = None if cluster is None else pd.factorize(frame[cluster])[0]
    units = counts if cluster is None else groups[cluster].nunique().to_numpy()
    single = [name for name, count, size in zip(per_stratum.index, units, sizes, strict=True) if count == 1 < size]
    if single:
        unit = "pixel" if cluster is None else "cluster"
        text = f"The strata {single} have one sampled {unit} each: no variance can be estimated, standard errors are "
        text += "NaN."
        warnings.warn(text, AssessmentWarning, stacklevel=3)
    fractions = None if cluster is not None else counts / sizes
    areas, weights = frame["pixel_area"].to_numpy(float), (sizes / counts)[strata]
    # the areas of the strata are known: weights are scaled so that sampled pixels add up to them
    weights = weights * (groups["stratum_area"].first().to_numpy(float) / np.bincount(strata, weights * areas))[strata]
    return Survey(weights=weights, strata=strata, sizes=sizes, fractions=fractions, clusters=clusters, areas=areas)


def _continuous(
    frame: Any, survey: Survey, map_layer: xr.DataArray, reference: Floats, areas: Floats, total: float
) -> ContinuousEstimate:
    """Return the errors of a continuous map, which is read once."""
    grid, nodata = grid_of(map_layer), nodata_of(map_layer)
    if nodata is not None and (count := int((reference == nodata).sum())):
        problem = f"Cannot estimate: {count} of {len(reference)} reference numbers are {nodata:g}, the nodata value of "
        problem += "the map."
        remedy = "Leave the reference empty where it is unknown, and pass {unlabeled:'exclude'}."
        raise InputError(problem, remedy=remedy, value=nodata, argument="unlabeled")
    row, col = pixel_positions(frame, grid)
    read, mapped, valid = recording_reader(band_reader(map_layer, "map"), row, col, np.float64)
    mean, pixels, area = mean_of_map(grid, read)
    require_on_map(valid, "on nodata")
    compare_with_strata(frame, row, col, pixels=pixels, area=area, continuous=True)
    return continuous_estimate(survey, reference, mapped, areas, map_mean=mean, total=total)


def _mapped_names(frame: Any, map_layer: xr.DataArray | None) -> tuple[list[str], Legend | None]:
    """Return the map's class of each sampled pixel, and the map's legend. The map is read once."""
    if map_layer is None:
        if "map_class" not in frame.columns or frame["map_class"].isna().any():
            problem = "Cannot estimate: the sample has no class of the map for each pixel."
            raise InputError(problem, remedy="Pass {map}.", argument="map")
        return [str(name) for name in frame["map_class"]], None
    legend = legend_of(map_layer)
    row, col = pixel_positions(frame, grid_of(map_layer))
    read, codes, valid = recording_reader(class_codes(map_layer, "map"), row, col, np.int64)
    strata = count_strata(map_layer, read, legend)
    require_on_map(valid, "on nodata")
    _require_few_codes(strata, legend)
    compare_with_strata(frame, row, col, pixels=int(strata.sizes.sum()), area=float(strata.areas.sum()))
    return [class_name(code, legend) for code in codes.tolist()], legend


def _require_few_codes(strata: Strata, legend: Legend | None) -> None:
    """Raise if a map of integers without names holds too many different numbers to be codes of classes."""
    if legend is None and len(strata.codes) > _MAX_UNNAMED:
        problem = f"Cannot estimate: the map has {len(strata.codes):,} different integers, without names of classes."
        remedy = "Pass {map} as floats if it is continuous: map.astype('float32'). Or pass a {map} with a legend."
        raise InputError(problem, remedy=remedy, value=len(strata.codes), argument="map")


def _reference_names(reference: Any, mapped: list[str], legend: Legend | None) -> list[str]:
    """Return the class name of each reference, and warn of references that are codes of the map's legend.

    Raises
    ------
    InputError
        If numbers are fractional, are both codes and names, or are codes while the legend is unknown.
    """
    texts = [_integer_text(value) for value in reference]
    names = {*mapped} if legend is None else {*legend.names}
    numbers = sorted({text for text in texts if _is_number(text)} - (names if legend is None else set()), key=float)
    fractions = [text for text in numbers if not text.lstrip("-").isdigit()]
    if fractions and not {*fractions} & names:
        problem = f"Cannot estimate: the map has classes, and the reference has fractions, such as {fractions[0]}."
        remedy = "Pass {map} as floats if it is continuous: map.astype('float32')."
        raise InputError(problem, remedy=remedy, value=fractions[0], argument="map")
    if legend is None:
        if numbers and not any(map(_is_number, mapped)):
            problem = (
                f"Cannot estimate: the reference has codes, such as {numbers[0]}, and the column map_class has names, "
            )
            problem += f"such as {mapped[0]!r}."
            raise InputError(problem, remedy="Pass {map}, whose legend names the codes.", argument="map")
        _require_common_names(texts, names)
        return texts
    by_code = {text: legend.name(int(text)) for text in numbers if int(text) in legend.codes}
    ambiguous = [text for text, name in by_code.items() if text in names and text != name]
    if ambiguous:
        problem = f"Cannot estimate: the reference {ambiguous[0]!r} is a name of the map's legend, and the code of "
        problem += f"{by_code[ambiguous[0]]!r}."
        raise InputError(problem, remedy="Rename classes of the map whose names are codes.", value=ambiguous[0])
    unknown = [text for text in numbers if text not in by_code and text not in names]
    if unknown:
        problem = f"Cannot estimate: the reference {unknown[0]} is neither a code nor a name of the map's legend."
        remedy = "Leave the reference empty where it is unknown. Or pass names of classes that the map lacks."
        raise InputError(problem, remedy=remedy, value=unknown[0])
    codes = {text: name for text, name in by_code.items() if text != name}
    if codes:
        text = ", ".join(f"{code} {name}" for code, name in codes.items())
        warnings.warn(f"The reference has codes, taken as those of the map: {text}.", AssessmentWarning, stacklevel=3)
    texts = [codes.get(text, text) for text in texts]
    _require_common_names(texts, names)
    return texts


def _require_common_names(reference: list[str], names: set[str]) -> None:
    """Raise if no reference class is in the map, or one differs from a map class in case or underscores only."""
    spellings = {_spelling(name): name for name in names}
    for text in sorted({*reference} - names):
        if _spelling(text) in spellings:
            problem = f"Cannot estimate: the reference {text!r} is spelled {spellings[_spelling(text)]!r} in the map."
            raise InputError(problem, remedy="Write the names of classes as in the map.", value=text)
    if not {*reference} & names:
        problem = f"Cannot estimate: no class of the reference, {sorted({*reference})[:5]}, is a class of the map, "
        problem += f"{sorted(names)[:5]}."
        raise InputError(problem, remedy="Write the names or codes of classes as in the map.")


def _spelling(name: str) -> str:
    return name.casefold().replace("_", " ")


def _integer_text(value: Any) -> str:
    """Return a value as text, a whole number without decimals: files may hold 1 as "1.0"."""
    text = str(value).strip()
    return str(int(float(text))) if _is_number(text) and float(text).is_integer() else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+(\.\d*)?", text) is not None


def _classes(mapped: list[str], reference: list[str], legend: Legend | None) -> list[str]:
    """Return the classes of map and reference in the order of the legend, and warn of differences."""
    present = {*mapped, *reference}
    for lacking, having, text in (
        (set(mapped), set(reference), "The reference has classes that the sampled pixels of the map lack"),
        (set(reference), set(mapped), "The map has classes that no reference has"),
    ):
        if having - lacking:
            warnings.warn(f"{text}: {sorted(having - lacking)}.", AssessmentWarning, stacklevel=3)
    order = [] if legend is None else [name for name in dict.fromkeys(legend.names) if name in present]
    return order + sorted(present - {*order})
