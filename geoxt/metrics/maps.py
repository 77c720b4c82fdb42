"""Score a map against labels, in the places that were kept for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from geoxt.errors import GridError, OverlapError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.metrics.confusion import confusion, summarise
from geoxt.metrics.label_codes import IGNORE
from geoxt.regions.region import region_of
from geoxt.samplers import Region
from geoxt.source import view_of


def score(found: xr.DataArray, labels: xr.DataArray, *, region: Region | None = None) -> dict[str, Any]:
    """Compare a map of classes with labels on the same grid.

    Parameters
    ----------
    found
        The map, (y, x), in the codes of the labels.
    labels
        Categorical, (y, x).
    region
        Where to compare; everywhere by default.

    Returns
    -------
    dict
        `accuracy`, `miou`, `majority` (what calling every pixel the most frequent class would score), `iou` by class
        name (`Legend.distinct_names`), and the number of `pixels`: those where both are valid. A predicted code that is
        no class counts as wrong.

    Raises
    ------
    GridError
        Where the layers lie on different grids.
    OverlapError
        Where no pixel can be compared.
    """
    if grid_of(found) != grid_of(labels):
        msg = "Cannot score a map on another grid than the labels: align them first, labels.geoml.align(found)."
        raise GridError(msg)
    legend, views = Legend.of(labels), (view_of(labels), view_of(found))
    count = len(legend)
    counts = torch.zeros(count + 1, count + 1, dtype=torch.int64)
    for window in region_of(labels, region):
        (truth, known), (guess, valid) = (view.read(window) for view in views)
        target = np.where(known & valid, legend.encode(truth, missing=IGNORE), IGNORE)
        predicted = legend.encode(guess, missing=count)
        counts += confusion(torch.from_numpy(predicted), torch.from_numpy(target), count + 1)
    if not counts.any():
        msg = (
            "Cannot score the map: where it was held out there are no labels. Split into smaller blocks, or otherwise."
        )
        raise OverlapError(msg)
    return summarise(counts, legend.distinct_names)
