"""Accuracy of a classified map against labels, in a region such as the test part of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from geoxt.alignment.scored_classes import scored_classes
from geoxt.errors import GridError, OverlapError
from geoxt.metrics.confusion import confusion_matrix, segmentation_scores
from geoxt.metrics.label_codes import IGNORE
from geoxt.regions.region import region_of
from geoxt.samplers import Region
from geoxt.source import as_layer, view_of


def score(
    predicted: xr.DataArray | xr.Dataset, labels: xr.DataArray | xr.Dataset, *, region: Region | None = None
) -> dict[str, Any]:
    """Return the scores of a classified map against labels on the same grid.

    Reads both layers window by window.

    Parameters
    ----------
    predicted
        Classified map (y, x), in the class codes of the labels.
    labels
        Class codes (y, x). Their classes are those of its legend, else those of the map. Negative codes and codes that
        the legend lacks, such as 255, are unknown and not scored.
    region
        Pixels to score; all by default.

    Returns
    -------
    dict
        `accuracy`, `miou`, `majority_accuracy` (of predicting the most frequent class everywhere), `iou` by class name
        (`Legend.distinct_names`), and `pixels`, the number of pixels that are valid in both layers. A predicted code
        that the legend lacks counts as wrong. `accuracy` differs slightly from the `test/accuracy` of a training: a map
        is blended from overlapping tiles that see beyond the edges of test blocks.

    Raises
    ------
    GridError
        If the layers are on different grids, have several bands, or differ in dates: a map of several dates needs
        labels of the same dates. A date of labels may differ from that of a single map.
    LabelError
        If the map holds no class codes, neither layer has a legend, or their legends give a code two names.
    OverlapError
        If no pixel of the region is valid in both layers.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> from geoxt import Legend
    >>> from geoxt.metrics import score
    >>> attrs = Legend([1, 2], ["forest", "water"]).attrs()
    >>> labels = wrap_xr(np.array([[1, 1], [2, 2]], dtype="uint8"), make_grid((2, 2))).assign_attrs(attrs)
    >>> predicted = labels.copy(data=np.array([[1, 2], [2, 2]], dtype="uint8"))
    >>> score(predicted, labels)["accuracy"]
    0.75
    """
    predicted, labels = as_layer(predicted), as_layer(labels)
    _require_same_dates(labels, predicted)
    legend, views = scored_classes(labels, predicted), (view_of(labels), view_of(predicted))
    classes = len(legend)
    matrix = torch.zeros(classes + 1, classes + 1, dtype=torch.int64)
    for window in region_of(labels, region):
        (label_codes, label_valid), (map_codes, map_valid) = (view.read(window) for view in views)
        target = np.where(label_valid & map_valid, legend.encode(label_codes, missing=IGNORE), IGNORE)
        # the extra class counts codes that the legend lacks
        classified = legend.encode(map_codes, missing=classes)
        matrix += confusion_matrix(torch.from_numpy(classified), torch.from_numpy(target), classes + 1)
    if not matrix.any():
        msg = "Cannot score the map: no pixel of the region is valid in both the map and the labels."
        raise OverlapError(msg, remedy="Pass another {region}, such as the test part of a split into smaller blocks.")
    return segmentation_scores(matrix, legend.distinct_names)


def _require_same_dates(labels: xr.DataArray, predicted: xr.DataArray) -> None:
    """Raise if one layer has several dates, and the other has not the same in the same order."""
    sizes = [layer.sizes.get("time", 1) for layer in (predicted, labels)]
    dates = [layer.get_index("time") for layer in (predicted, labels) if "time" in layer.dims]
    if max(sizes) == 1 or (sizes[0] == sizes[1] and dates[0].equals(dates[1])):
        return
    of = ["1 date" if size == 1 else f"{size} dates" for size in sizes]
    problem = f"Cannot score a map of {of[0]} against labels of {of[1]}"
    remedy = "Select the same dates of both by sel(time=), or label each date."
    raise GridError(f"{problem}{': their dates differ' if sizes[0] == sizes[1] else ''}.", remedy=remedy)
