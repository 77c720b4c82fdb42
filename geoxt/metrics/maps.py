"""Scores of a map against labels, or against numbers, in a region such as the test part of a split."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr

from geoxt.alignment.scored_classes import scored_classes
from geoxt.errors import GridError, LabelWarning, OverlapError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.metrics.confusion import classification_scores, confusion_matrix
from geoxt.metrics.label_codes import IGNORE
from geoxt.metrics.regression import RegressionSums, regression_scores
from geoxt.metrics.scores import Scores
from geoxt.regions.geodesic_area import pixel_hectares
from geoxt.regions.region import GridRegion, region_of
from geoxt.reprs import abbreviate
from geoxt.samplers import Region
from geoxt.source import as_layer, is_categorical, view_of
from geoxt.windows import Window

BLOCK = 1024
"""Side in pixels of the blocks in which layers are read; a multiple of the cells of `pixel_hectares`."""


def score(
    predicted: xr.DataArray | xr.Dataset, labels: xr.DataArray | xr.Dataset, *, region: Region | None = None
) -> Scores:
    """Return the scores of a map against labels on the same grid.

    Reads both layers block by block.

    Parameters
    ----------
    predicted
        Classified map (y, x), in the class codes of the labels; or a continuous layer with the dims of `labels`.
    labels
        Class codes (y, x). Their classes are those of its legend, else those of the map. Negative codes and codes that
        the legend lacks, such as 255, are unknown and not scored, with a `LabelWarning` if the labels have no legend.
        Or a continuous layer of floats.
    region
        Pixels to score; all by default.

    Returns
    -------
    Scores
        For classes `accuracy`, `kappa`, `miou`, `macro_precision`, `macro_recall`, `macro_f1`, `majority_accuracy` (of
        predicting the most frequent class everywhere), and `pixels`, the number of pixels that are valid in both
        layers; by class name (`Legend.distinct_names`) `precision`, `recall`, `f1`, `iou`, `support`, `area` and
        `mapped_area`: geodesic hectares of these pixels by the labels and by the map. A predicted code that the legend
        lacks counts as wrong. For floats `bias`, `mae`, `rmse` and `r2`, also by band. `accuracy` differs slightly from
        that of `trainers.evaluate`: a map is blended from overlapping tiles that see beyond the edges of test blocks.

    Raises
    ------
    GridError
        If the layers are on different grids, or differ in bands or dates: a map of several dates needs labels of the
        same dates. A date of labels may differ from that of a single map. Class codes have one band.
    LabelError
        If the map holds no class codes, neither layer has a legend, or their legends give a code two names.
    OverlapError
        If no pixel of the region is valid in both layers.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import Legend
    >>> from geoxt.metrics import score
    >>> attrs = Legend([1, 2], ["forest", "water"]).attrs()
    >>> labels = make_layer(np.array([[1, 1], [2, 2]], dtype="uint8")).assign_attrs(attrs)
    >>> predicted = labels.copy(data=np.array([[1, 2], [2, 2]], dtype="uint8"))
    >>> scores = score(predicted, labels)
    >>> scores["accuracy"], scores["recall"]["forest"]
    (0.75, 0.5)
    >>> scores.to_dataframe()["support"].tolist()
    [2, 2]
    """
    predicted, labels = as_layer(predicted), as_layer(labels)
    _require_same_dates(labels, predicted)
    if labels.dtype.kind == predicted.dtype.kind == "f" and not is_categorical(labels) | is_categorical(predicted):
        return _regression(predicted, labels, region)
    legend, views = scored_classes(labels, predicted), (view_of(labels), view_of(predicted))
    classes = len(legend)
    matrix = torch.zeros(classes + 1, classes + 1, dtype=torch.int64)
    areas = np.zeros((2, classes + 1))
    scored = region_of(labels, region)
    left_out: Counter[int] = Counter()  # codes that the map lacks, of labels without a legend
    without_legend = not np.size(labels.attrs.get("flag_values", ()))
    for window in _blocks(scored):
        (label_codes, label_valid), (map_codes, map_valid) = (view.read(window) for view in views)
        target = np.where(label_valid & map_valid, legend.encode(label_codes, missing=IGNORE), IGNORE)
        if (
            without_legend
            and (other := label_codes[label_valid & map_valid & (target == IGNORE) & (label_codes >= 0)]).size
        ):
            codes, counts = np.unique(other, return_counts=True)
            left_out.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
        # the extra class counts codes that the legend lacks
        classified = legend.encode(map_codes, missing=classes)
        matrix += confusion_matrix(torch.from_numpy(classified), torch.from_numpy(target), classes + 1)
        valid = target != IGNORE
        hectares = np.broadcast_to(pixel_hectares(scored.grid, window), valid.shape)[valid]
        for row, codes in enumerate((target, classified)):
            areas[row] += np.bincount(codes[valid], hectares, minlength=classes + 1)
    if left_out:
        _warn_of_codes(left_out, legend)
    if not matrix.any():
        raise _no_pixel()
    matrix = matrix if matrix[:, classes].any() else matrix[:classes, :classes]
    area, mapped_area = torch.from_numpy(areas[:, :classes])
    return classification_scores(matrix, legend.distinct_names, area=area, mapped_area=mapped_area)


def _regression(predicted: xr.DataArray, labels: xr.DataArray, region: Region | None) -> Scores:
    """Return the scores of a continuous map."""
    bands = [layer.sizes.get("band", 1) for layer in (predicted, labels)]
    if grid_of(predicted) != grid_of(labels):
        msg = "Cannot score a map on another grid than the labels."
        raise GridError(msg, remedy="Align the labels first: labels.geoml.align(predicted).")
    if bands[0] != bands[1]:
        msg = f"Cannot score a map of {bands[0]} bands against labels of {bands[1]}."
        raise GridError(msg, remedy="Select the same bands of both by sel(band=).")
    views, sums = (view_of(predicted), view_of(labels)), RegressionSums(bands[0])
    for window in _blocks(region_of(labels, region)):
        (values, map_valid), (truth, valid) = (view.read(window) for view in views)
        scored = map_valid & valid & np.isfinite(values) & np.isfinite(truth)
        target = torch.from_numpy(np.where(scored, truth, np.nan))
        sums.update(torch.from_numpy(np.where(scored, values, 0)), target)
    if not sums.sums[0].any():
        raise _no_pixel()
    names = (
        labels["band"].to_numpy().reshape(-1)
        if "band" in labels.coords
        else ["labels" if labels.name is None else labels.name]
    )
    return regression_scores(sums.compute(), [str(name) for name in names])


def _warn_of_codes(counts: Counter[int], legend: Legend) -> None:
    """Warn of labeled pixels that are not scored, since the map has no class of their codes."""
    codes, classes = abbreviate(sorted(map(int, counts))), abbreviate(legend.codes)
    msg = (
        f"{counts.total()} pixels have the label {codes}, and are not scored: the classes of the map are {classes}. If "
    )
    msg += "the codes are classes, add them to the map's legend; if not, assign them to the labels as _FillValue."
    warnings.warn(msg, LabelWarning, stacklevel=3)


def _blocks(region: GridRegion) -> Iterator[Window]:
    """Yield the blocks of the rectangles of a region, row by row."""
    for window in region:
        for row in range(window.row, window.stop[0], BLOCK):
            for col in range(window.col, window.stop[1], BLOCK):
                yield Window(row, col, min(BLOCK, window.stop[0] - row), min(BLOCK, window.stop[1] - col))


def _no_pixel() -> OverlapError:
    msg = "Cannot score the map: no pixel of the region is valid in both the map and the labels."
    return OverlapError(msg, remedy="Pass another {region}, such as the test part of a split into smaller blocks.")


def _require_same_dates(labels: xr.DataArray, predicted: xr.DataArray) -> None:
    """Raise if a layer has several dates, and the other does not have the same dates in the same order."""
    sizes = [layer.sizes.get("time", 1) for layer in (predicted, labels)]
    dates = [layer.get_index("time") for layer in (predicted, labels) if "time" in layer.dims]
    if max(sizes) == 1 or (sizes[0] == sizes[1] and dates[0].equals(dates[1])):
        return
    counts = ["1 date" if size == 1 else f"{size} dates" for size in sizes]
    problem = f"Cannot score a map of {counts[0]} against labels of {counts[1]}"
    remedy = "Select the same dates of both by sel(time=), or label each date."
    raise GridError(f"{problem}{': their dates differ' if sizes[0] == sizes[1] else ''}.", remedy=remedy)
