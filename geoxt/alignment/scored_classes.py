"""Classes of a map and its labels that are compared with each other."""

from __future__ import annotations

import xarray as xr

from geoxt.alignment.label_roles import as_labels, require_codes
from geoxt.errors import GridError, LabelError
from geoxt.grid import grid_of
from geoxt.legend import Legend


def scored_classes(labels: xr.DataArray, predicted: xr.DataArray) -> Legend:
    """Return the classes to score: those of the labels, or of the map if the labels are codes without a legend.

    Raises
    ------
    GridError
        If the layers are on different grids, or have several bands.
    LabelError
        If the map holds no class codes, neither layer has a legend, or their legends give a code two names.
    """
    if grid_of(predicted) != grid_of(labels):
        msg = "Cannot score a map on another grid than the labels."
        raise GridError(msg, remedy="Align the labels first: labels.geoml.align(predicted).")
    for layer, name in ((labels, "labels"), (predicted, "predicted")):
        require_codes(layer, name if layer.name is None else layer.name)
    for layer, name in ((labels, "labels"), (predicted, "map")):
        if layer.sizes.get("band", 1) > 1:
            problem = (
                f"Cannot score {name if layer.name is None else layer.name!r}: it has {layer.sizes['band']} bands."
            )
            raise GridError(problem, remedy="Select one by isel(band=0).")
    legend = _classes(labels, predicted)
    if predicted.dtype.kind not in "iub":
        msg = f"Cannot score a map of dtype {predicted.dtype}: it holds no class codes."
        raise LabelError(msg, remedy="Predict with output='classes'.", value=predicted.dtype)
    if "flag_values" in predicted.attrs:
        of_map = Legend.of(predicted)
        require_same_names(of_map, legend)
        if is_unnamed(legend):
            legend = Legend(legend.codes, tuple(map(of_map.name, legend.codes)), legend.colors)
    return legend


def is_unnamed(legend: Legend) -> bool:
    """Return whether all classes are named by their codes."""
    return legend.names == tuple(map(str, legend.codes))


def _classes(labels: xr.DataArray, predicted: xr.DataArray) -> Legend:
    """Return the classes of the labels, or of the map if the labels have none; without negative codes."""
    legend = Legend.of(as_labels(labels, "mask"))
    if not legend and "flag_values" in predicted.attrs:
        legend = Legend.of(predicted)
    legend = legend.only(code for code in legend.codes if code >= 0)  # negative codes mark unknown pixels
    if not legend:
        msg = f"Cannot score a map against {labels.name!r}: neither states the classes of its codes."
        raise LabelError(msg, remedy="Assign them: labels.assign_attrs(geoxt.legend.Legend(codes, names).attrs()).")
    return legend


def require_same_names(of_map: Legend, of_labels: Legend) -> None:
    """Raise if a code has other names in both legends; a code that is named by its number has no name."""
    for code in of_map.codes:
        first, second = of_map.name(code).casefold(), of_labels.name(code).casefold()
        if first != second and str(code) not in {first, second}:
            msg = f"Cannot score the map: the code {code} is {of_map.name(code)!r} in the map, and "
            msg += f"{of_labels.name(code)!r} in the labels."
            raise LabelError(msg, remedy="Map the codes of one of them to those of the other.", value=code)
