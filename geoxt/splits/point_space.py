"""Points, and their distances on the ground or in a projection."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyproj
from odc.geo import CRS

from geoxt.crs import parse_crs, transformer
from geoxt.errors import AssessmentWarning, CRSError, InputError, optional_import
from geoxt.samplers.points import parse_points
from geoxt.splits.prediction_points import prediction_points
from geoxt.types import Array, Floats

_GEOD = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True, kw_only=True)
class PointSpace:
    """Points in coordinates whose Euclidean distances order them like their distances on the ground."""

    xy: Floats
    """Coordinates in the CRS, or longitude and latitude for geodesic distances. Shape (n, 2)."""
    crs: CRS
    """CRS of the points."""
    geodesic: bool
    """Whether distances are those on the ellipsoid."""

    @property
    def coordinates(self) -> Floats:
        """Coordinates for trees and clusters: x and y, or geocentric. Shape (n, 2 or 3)."""
        return self.embed(self.xy)

    @property
    def unit(self) -> str:
        """Unit of distances."""
        if self.geodesic:
            return "m"
        unit = self.crs.proj.axis_info[0].unit_name
        return "m" if unit == "metre" else unit

    def embed(self, xy: Floats) -> Floats:
        """Return x and y, or geocentric coordinates on the ellipsoid for geodesic distances."""
        if not self.geodesic:
            return xy
        lon, lat = np.deg2rad(xy).T
        radius = _GEOD.a / np.sqrt(1 - _GEOD.es * np.sin(lat) ** 2)
        polar = radius * (1 - _GEOD.es) * np.sin(lat)
        return np.stack([radius * np.cos(lat) * np.cos(lon), radius * np.cos(lat) * np.sin(lon), polar], axis=1)

    def lengths(self, a: Floats, b: Floats) -> Floats:
        """Return the distances between pairs of points (n, 2)."""
        if not self.geodesic:
            return np.hypot(*(a - b).T)
        return np.asarray(_GEOD.inv(a[:, 0], a[:, 1], b[:, 0], b[:, 1])[2])

    def nearest(self, xy: Floats) -> Floats:
        """Return the distance from other points to the nearest point."""
        with optional_import("scipy", "assess", "find nearest points"):
            from scipy.spatial import cKDTree
        return self.lengths(xy, self.xy[cKDTree(self.coordinates).query(self.embed(xy))[1]])

    def between(self, labels: Array) -> Floats:
        """Return the distance from each point to the nearest point of other folds."""
        with optional_import("scipy", "assess", "find nearest points"):
            from scipy.spatial import cKDTree
        coordinates, count = self.coordinates, len(labels)
        nearest = np.empty(count, np.int64)
        if labels.max() == count - 1:  # each point is a fold: the nearest other point
            pairs = cKDTree(coordinates).query(coordinates, k=2)[1]
            nearest = np.where(pairs[:, 0] == np.arange(count), pairs[:, 1], pairs[:, 0])
            return self.lengths(self.xy, self.xy[nearest])
        for fold in range(int(labels.max()) + 1):
            inside = labels == fold
            others = np.flatnonzero(~inside)
            nearest[inside] = others[cKDTree(coordinates[others]).query(coordinates[inside])[1]]
        return self.lengths(self.xy, self.xy[nearest])


def point_space(
    points: Any, prediction: Any, *, geodesic: bool | None, samples: int, seed: int
) -> tuple[PointSpace, Floats]:
    """Return the points, and prediction points in the same coordinates."""
    xy, crs = parse_points(points)
    if crs is None:
        problem = "Cannot measure distances between points without a CRS."
        raise CRSError(problem, remedy="Pass {points:(x and y, crs)}, or a GeoDataFrame with a CRS.", argument="points")
    crs = parse_crs(crs)
    geodesic = crs.geographic if geodesic is None else geodesic
    target = parse_crs("EPSG:4326") if geodesic else crs
    predicted, of_predicted = prediction_points(prediction, samples, seed)
    xy = _transform(xy, crs, target, "points")
    others = _transform(predicted, of_predicted, target, "prediction")
    space = PointSpace(xy=xy, crs=target, geodesic=geodesic)
    _warn_of_far_points(space, others)
    return space, others


def _warn_of_far_points(space: PointSpace, predicted: Floats) -> None:
    """Warn of points that are farther from the prediction points than the extent of the prediction points."""
    embedded = space.embed(predicted)
    extent = float(np.linalg.norm(np.ptp(embedded, axis=0)))
    distances = replace(space, xy=predicted).nearest(space.xy)
    far = distances > extent
    if extent > 0 and far.any():
        text = f"{int(far.sum())} of {len(far)} points are up to {distances.max():,.0f} {space.unit} from the nearest "
        text += f"prediction point, which is more than the extent of these points, {extent:,.0f} {space.unit}. "
        text += "Check their coordinates and CRS."
        warnings.warn(text, AssessmentWarning, stacklevel=4)


def _transform(xy: Floats, source: CRS, target: CRS, name: str) -> Floats:
    if source != target:
        xy = np.stack(transformer(source, target).transform(xy[:, 0], xy[:, 1]), axis=1)
    finite = np.isfinite(xy).all(1)
    if not finite.all():
        problem = f"Cannot measure distances: {int((~finite).sum())} of {len(xy)} {name} have no finite coordinates."
        raise InputError(problem, remedy=f"Leave them out of {{{name}}}.", argument=name)
    return xy
