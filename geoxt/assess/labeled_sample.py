"""Accuracy and areas of a map from a labelled probability sample."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.assess.accuracy import AccuracyEstimate, accuracy_of
from geoxt.assess.continuous import ContinuousEstimate, continuous_estimate
from geoxt.assess.design import REFERENCE, SIMPLE, map_classes
from geoxt.assess.map_strata import class_codes, legend_of
from geoxt.assess.proportion_intervals import Interval
from geoxt.assess.survey import Survey, indices_of
from geoxt.errors import AssessmentWarning, CRSError, InputError, OverlapError, optional_import
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.source import as_layer, view_of
from geoxt.types import Array, Floats
from geoxt.windows import Window

COLUMNS = ("stratum", "stratum_pixels", "stratum_area", "pixel_area", REFERENCE)


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
        Map to assess: class codes (y, x), or numbers for continuous variables. By default the classes of the map that
        the sample was drawn from, in its column `map_class`. Another map is assessed by the same sample: its classes
        need not be the strata.
    reference
        Column of the reference: names or codes of classes; numbers for a continuous map.
    unlabeled
        "raise", or "exclude" to leave out pixels without a reference, with a warning that states their number.
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
        difference estimator.

    Raises
    ------
    InputError
        If columns are missing, ids are repeated, pixels have no reference, a cluster spans strata, or a stratum "all"
        stands beside others.
    OverlapError
        If points lie outside the map or on nodata.
    CRSError
        If sample or map have no CRS.
    LabelError
        If the map holds no class codes.

    Warns
    -----
    AssessmentWarning
        If pixels are excluded, the reference has classes that the map lacks or the reverse, or codes, taken as those of
        the map, or a stratum has a single pixel.

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
    _check(frame, reference, cluster)
    frame = _labeled(frame, reference, unlabeled)
    survey = _survey(frame, cluster)
    areas = frame["pixel_area"].to_numpy(float)
    total = float(frame.drop_duplicates("stratum")["stratum_area"].sum())
    if map is not None and map.dtype.kind == "f":
        return continuous_estimate(survey, _numbers(frame, reference), map, _values_at(frame, map), areas, total)
    mapped, legend = _mapped_names(frame, map)
    names = _reference_names(frame[reference], legend)
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


def _check(frame: Any, reference: str, cluster: str | None) -> None:
    if not isinstance(frame, pd.DataFrame):
        problem = f"Cannot estimate from a {type(frame).__name__}: it is not a table of sampled pixels."
        raise InputError(problem, remedy="Pass {sample}, a GeoDataFrame or the path of its file.", argument="sample")
    missing = [name for name in (*COLUMNS[:-1], reference) if name not in frame.columns]
    if missing:
        problem = f"Cannot estimate from a sample without the columns {missing}: the design is unknown."
        remedy = "Pass a sample drawn by assess.sample_design. Or pass {reference} for another column of labels."
        raise InputError(problem, remedy=remedy, value=missing, argument="reference")
    if "id" in frame.columns and frame["id"].duplicated().any():
        repeated = sorted(frame.loc[frame["id"].duplicated(), "id"].unique().tolist())
        problem = f"Cannot estimate: the ids {repeated[:5]} are repeated."
        raise InputError(problem, remedy="Remove repeated rows from the table.", value=repeated)
    if not len(frame):
        raise InputError("Cannot estimate from a sample without pixels.", remedy="Pass another {sample}.")
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
    if cluster is not None and (cluster not in frame.columns or frame[cluster].isna().any()):
        lacking = "it has no such column" if cluster not in frame.columns else "some pixels have none"
        problem = f"Cannot take clusters of pixels from the column {cluster!r} of the sample: {lacking}."
        raise InputError(problem, remedy="Pass {cluster} for another column.", value=cluster, argument="cluster")


def _labeled(frame: Any, reference: str, unlabeled: str) -> Any:
    """Return the rows with a reference."""
    values = frame[reference]
    missing = values.isna() | values.astype(str).str.strip().eq("")
    if not missing.any():
        return frame
    if unlabeled not in {"raise", "exclude"}:
        problem = f"Cannot treat pixels without a reference by {unlabeled!r}."
        raise InputError(
            problem, remedy="Pass {unlabeled:'exclude'} or 'raise'.", value=unlabeled, argument="unlabeled"
        )
    text = f"{int(missing.sum())} of {len(frame)} sampled pixels have no reference"
    if unlabeled == "raise" or missing.all():
        problem = f"Cannot estimate: {text}."
        remedy = "Label them. Or pass {unlabeled:'exclude'}, if they lack it at random."
        raise InputError(problem, remedy=remedy, argument="unlabeled")
    lost = sorted({*frame["stratum"]} - {*frame["stratum"][~missing]})
    if lost:
        problem = f"Cannot estimate: {text}, among them all of the strata {lost}."
        raise InputError(problem, remedy="Label some pixels of each stratum.", value=lost)
    warnings.warn(f"{text} and are excluded.", AssessmentWarning, stacklevel=3)
    return frame[~missing]


def _numbers(frame: Any, reference: str) -> Floats:
    """Return the reference numbers of a sample of a continuous map."""
    try:
        return np.asarray(frame[reference].to_numpy(float))
    except ValueError as error:
        problem = f"Cannot compare the numbers of the map with the column {reference!r} of the sample: {error}."
        raise InputError(problem, remedy="Pass a {map} of class codes.", argument="map") from error


def _survey(frame: Any, cluster: str | None) -> Survey:
    """Return the design that the columns of a sample state."""
    if frame["stratum"].isna().any():
        problem = f"Cannot estimate: {int(frame['stratum'].isna().sum())} of {len(frame)} rows have no stratum."
        raise InputError(problem, remedy="Restore the column stratum of the sample.")
    groups = frame.groupby("stratum", sort=True)
    per_stratum = groups["stratum_pixels"].agg(["first", "size"])
    several = groups["stratum_pixels"].nunique().gt(1) | groups["stratum_area"].nunique().gt(1)
    if several.any():
        names = per_stratum.index[several].tolist()
        problem = f"Cannot estimate: the strata {names} have several sizes in the sample."
        raise InputError(problem, remedy="Pass one sample at a time.", value=names)
    if len(per_stratum) > 1 and SIMPLE in per_stratum.index:
        problem = (
            f"Cannot estimate: the sample has a stratum {SIMPLE!r} of all pixels beside {len(per_stratum) - 1} others."
        )
        raise InputError(problem, remedy="Pass one sample at a time.", value=SIMPLE)
    if cluster is not None and (spread := frame.groupby(cluster)["stratum"].nunique().gt(1)).any():
        name = spread.index[spread][0]
        names = sorted(frame.loc[frame[cluster] == name, "stratum"].unique().tolist())
        problem = f"Cannot estimate: {int(spread.sum())} clusters span strata, such as {str(name)!r} with {names}."
        remedy = "Draw clusters within strata, or with strata=None."
        raise InputError(problem, remedy=remedy, value=name, argument="cluster")
    strata = indices_of(frame["stratum"], list(per_stratum.index), "strata")
    sizes, counts = per_stratum["first"].to_numpy(float), per_stratum["size"].to_numpy(float)
    if (counts > sizes).any():
        names = per_stratum.index[counts > sizes].tolist()
        problem = f"Cannot estimate: the strata {names} have more sampled pixels than pixels."
        raise InputError(problem, remedy="Restore the column stratum_pixels of the sample.", value=names)
    clusters = None if cluster is None else pd.factorize(frame[cluster])[0]
    units = counts if cluster is None else frame.groupby("stratum", sort=True)[cluster].nunique().to_numpy()
    single = [name for name, count, size in zip(per_stratum.index, units, sizes, strict=True) if count == 1 < size]
    if single:
        unit = "pixel" if cluster is None else "cluster"
        text = f"The strata {single} have one sampled {unit} each: no variance can be estimated, standard errors are "
        text += "NaN."
        warnings.warn(text, AssessmentWarning, stacklevel=3)
    fractions = None if cluster is not None else counts / sizes
    return Survey(weights=(sizes / counts)[strata], strata=strata, sizes=sizes, fractions=fractions, clusters=clusters)


def _mapped_names(frame: Any, map_layer: xr.DataArray | None) -> tuple[list[str], Legend | None]:
    """Return the map's class of each sampled pixel, and the map's legend."""
    if map_layer is None:
        if "map_class" not in frame.columns or frame["map_class"].isna().any():
            problem = "Cannot estimate: the sample has no class of the map for each pixel."
            raise InputError(problem, remedy="Pass {map}.", argument="map")
        return [str(name) for name in frame["map_class"]], None
    legend = legend_of(map_layer)
    row, col = _positions(frame, map_layer)
    names = map_classes(class_codes(map_layer, "map"), legend, row, col)
    _require_on_map(np.array([name is not None for name in names]), "on nodata")
    return names.tolist(), legend


def _values_at(frame: Any, map_layer: xr.DataArray) -> Floats:
    """Return the map's number at each sampled pixel."""
    row, col = _positions(frame, map_layer)
    view = view_of(map_layer)
    values, valid = np.empty(len(row)), np.empty(len(row), bool)
    for index, (r, c) in enumerate(zip(row.tolist(), col.tolist(), strict=True)):
        pixel, ok = view.read(Window(r, c, 1, 1))
        values[index], valid[index] = pixel.ravel()[0], ok.ravel()[0]
    _require_on_map(valid, "on nodata")
    return values


def _positions(frame: Any, map_layer: xr.DataArray) -> tuple[Array, Array]:
    """Return row and column of the pixels that the points lie in.

    Raises
    ------
    CRSError
        If sample or map have no CRS.
    OverlapError
        If points lie outside the map.
    """
    grid = grid_of(map_layer)
    if not hasattr(frame, "geometry") or frame.geometry.is_empty.any() or frame.geometry.isna().any():
        problem = "Cannot find the pixels of a sample: rows have no point."
        raise InputError(problem, remedy="Pass {sample} as a GeoDataFrame with a point in each row.", argument="sample")
    if frame.crs is None or grid.crs is None:
        problem = "Cannot find the pixels of a sample: the sample or the map has no CRS."
        raise CRSError(problem, remedy="Set it: sample.set_crs('EPSG:…').")
    geom_types = sorted({str(geom_type) for geom_type in frame.geometry.geom_type.dropna()} - {"Point"})
    if geom_types:
        problem = f"Cannot find the pixels of a sample: its geometries are {', '.join(geom_types)}."
        raise InputError(problem, remedy="Pass {sample} of points.", argument="sample")
    points = frame.geometry if frame.crs == grid.crs.to_wkt() else frame.geometry.to_crs(grid.crs.to_wkt())
    col, row = ~grid.affine @ np.stack([points.x.to_numpy(), points.y.to_numpy()])
    row, col = np.floor(row + 1e-6).astype(np.int64), np.floor(col + 1e-6).astype(np.int64)
    height, width = grid.shape
    _require_on_map((row >= 0) & (row < height) & (col >= 0) & (col < width), "outside the map")
    return row, col


def _require_on_map(inside: Array, where: str) -> None:
    if not inside.all():
        problem = f"Cannot estimate: {int((~inside).sum())} of {len(inside)} sampled pixels lie {where}."
        raise OverlapError(problem, remedy="Pass the map that the sample was drawn from. Or remove those pixels.")


def _reference_names(reference: Any, legend: Legend | None) -> list[str]:
    """Return the class names of a reference, and warn of codes, which are those of the map's legend."""
    texts = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v).strip() for v in reference]
    if legend is None:
        return texts
    codes = {text for text in texts if text.lstrip("-").isdigit() and text not in legend.names}
    names = {text: legend.name(int(text)) for text in sorted(codes, key=int) if int(text) in legend.codes}
    if names:
        text = ", ".join(f"{code} {name}" for code, name in names.items())
        warnings.warn(f"The reference has codes, taken as those of the map: {text}.", AssessmentWarning, stacklevel=3)
    return [names.get(text, text) for text in texts]


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
