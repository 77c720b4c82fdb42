"""Things rather than pixels: detections and instances of a whole scene, as polygons on the ground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.features
import shapely
import torch
import xarray as xr
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from geoxt.errors import InputError, MissingDependency
from geoxt.grid import grid_of
from geoxt.inference.model_bands import choose_bands
from geoxt.inference.nms import suppress
from geoxt.inference.runner import Runner
from geoxt.inference.scene import network_of, parse_overlap
from geoxt.inference.thread_pool import prefetch
from geoxt.inference.tile_reader import Feed
from geoxt.inference.tiles import Lattice
from geoxt.legend import Legend
from geoxt.models.network import Network
from geoxt.source import view_of
from geoxt.types import Array, Mask, SomePath, SomeSize
from geoxt.windows import Window, parse_size
from geoxt.writers.progress import Bar

_EDGE = 1.5
"""Pixels: a box this close to its tile's edge is taken to be cut off by it."""
_INSIDE = 0.5
"""Probability above which a pixel belongs to an instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thing:
    """A detection."""

    shape: shapely.Geometry
    """Its outline, in pixels of the layer's grid (x is the column, y the row)."""
    score: float
    """How sure the model is."""
    label: int
    """The model's label."""
    cut: bool
    """Whether it reaches an edge of its tile beyond which the scene goes on."""
    tile: Window
    """The tile that shows it."""


def detect(
    layer: xr.DataArray,
    model: nn.Module | SomePath,
    *,
    size: SomeSize = 512,
    overlap: SomeSize | None = None,
    batch_size: int = 2,
    score: float = 0.5,
    iou: float = 0.5,
    agnostic: bool = False,
    bands: Mapping[str, str] | None = None,
    legend: Legend | None = None,
    progress: bool | None = None,
) -> Any:
    """Find things in a whole layer with a detector.

    Parameters
    ----------
    layer
        Dimensions (band, y, x) or (y, x).
    model
        A trained task, its network, or the path of its checkpoint; or any module that gives what torchvision's
        detectors give: for a list of images float32 (C, H, W) a list of dicts with `boxes` (M, 4) as left, top, right,
        bottom in pixels, `labels` (M,) from 1 on, `scores` (M,), and for instances `masks` (M, 1, H, W).
    size
        Height and width of the tiles that the model sees, in pixels.
    overlap
        Pixels that neighbouring tiles share, at least; by default a quarter of a tile. Where it is as large as the
        things are, each is seen whole in some tile.
    batch_size
        Tiles that run at once.
    score
        Least score of what is kept.
    iou
        Intersection over union above which two finds are the same thing; the better one stays. What its tile's edge
        cuts off gives way to what another tile saw whole.
    agnostic
        Whether finds of other classes are the same thing too: neighbouring tiles may see one thing and name it in two
        ways, and only the surer name stays. By default only those of one class are, as detectors themselves have it.
    bands
        The layer's name of a band by the model's name for it, where they differ.
    legend
        Codes and names of the labels 1, 2, ... in order; by default the model's own, or the labels themselves.
    progress
        Whether to show a progress bar; by default where standard error is a terminal.

    Returns
    -------
    GeoDataFrame
        `geometry` in the layer's CRS (boxes, or outlines of instances), `score`, `code` and `class` (name), best first.
        What has its middle on pixels that are not valid is left out.

    Raises
    ------
    InputError
        Where the layer lacks a band that the model wants, or the model gives something else.
    MissingDependency
        Where geopandas is not installed.
    """
    geopandas = _geopandas()
    network = network_of(model)
    card = network.card if isinstance(network, Network) else None
    view = view_of(choose_bands(layer, card, bands))
    if view.shape[0] != 1:
        msg = f"Cannot find things in {view.shape[0]} time steps at once: choose one, e.g. layer.isel(time=0)."
        raise InputError(msg)
    shape = parse_size(size)
    shared = (shape[0] // 4, shape[1] // 4) if overlap is None else parse_overlap(overlap)
    lattice = Lattice(shape=view.grid.shape.yx, size=shape, overlap=shared)
    runner = Runner.of(network, stage="raw", batch_size=batch_size)
    job = _Job(feed=Feed(view=view, series=False, factor=(1, 1)), model=runner.model, scene=lattice.shape, least=score)
    things = list(_things(job, lattice, batch_size, progress))
    labels = np.array([one.label for one in things], int)
    assert view.grid.crs is not None
    names = legend or (card.legend if card else _numbered(labels))
    if len(labels) and (labels.min() < 1 or labels.max() > len(names)):
        found = f"labels {labels.min()} to {labels.max()}"
        msg = f"Cannot name the {found} of the model by a legend of {len(names)} classes: pass legend=."
        raise InputError(msg)
    kept = _merged(things, labels, iou, agnostic=agnostic)
    places = labels[kept] - 1
    columns = {
        "score": np.array([things[one].score for one in kept], "float64"),
        "code": np.array(names.codes, int)[places] if len(places) else np.zeros(0, int),
        "class": np.array(names.distinct_names, object)[places] if len(places) else np.zeros(0, object),
    }
    return geopandas.GeoDataFrame(
        columns, geometry=_ground([things[one].shape for one in kept], grid_of(layer)), crs=view.grid.crs.to_wkt()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """Reads a batch of tiles, runs the model, and says what stands where in the scene."""

    feed: Feed
    """Reads the layer."""
    model: nn.Module
    """The detector."""
    scene: tuple[int, int]
    """Rows and columns of the scene."""
    least: float
    """Least score."""

    def __call__(self, tiles: Sequence[Window]) -> list[_Thing]:
        """Return what is found in some tiles."""
        held = self.feed.held([], 0)
        read = [(tile, *held.tile(tile)) for tile in tiles]
        read = [one for one in read if one[3].any()]
        if not read:
            return []
        found = self._run(np.stack([one[1] for one in read]), np.stack([one[2] for one in read]))
        return [
            thing
            for (tile, _, _, good), output in zip(read, found, strict=True)
            for thing in self._placed(tile, good, output)
        ]

    def _run(self, images: Array, known: Mask) -> list[Mapping[str, Array]]:
        device = next((weight.device for weight in self.model.parameters()), torch.device("cpu"))
        batch, valid = torch.from_numpy(images).to(device), torch.from_numpy(known).to(device)
        with torch.inference_mode():
            found = self.model(batch, valid) if isinstance(self.model, Network) else self.model(list(batch))
        if not _is_detection(found, len(images)):
            msg = f"Cannot find things with this model: it gives a {type(found).__name__}, not a list of dicts with "
            raise InputError(msg + "boxes, labels and scores for each image. Pass a detector.")
        return [{key: value.cpu().numpy() for key, value in one.items() if isinstance(value, Tensor)} for one in found]

    def _placed(self, tile: Window, good: Mask, found: Mapping[str, Array]) -> Iterator[_Thing]:
        for place in np.flatnonzero(found["scores"] >= self.least).tolist():
            left, top, right, bottom = (float(one) for one in found["boxes"][place])
            middle = int((top + bottom) / 2), int((left + right) / 2)
            inside = 0 <= middle[0] < tile.height and 0 <= middle[1] < tile.width
            if not inside or not good[middle] or right <= left or bottom <= top:
                continue
            shape = _outline(found["masks"][place, 0]) if "masks" in found else shapely.box(left, top, right, bottom)
            if shape is None:
                continue
            yield _Thing(
                shape=shapely.transform(shape, lambda points: points + np.array([tile.col, tile.row])),
                score=float(found["scores"][place]),
                label=int(found["labels"][place]),
                cut=self._is_cut(tile, (left, top, right, bottom)),
                tile=tile,
            )

    def _is_cut(self, tile: Window, box: tuple[float, float, float, float]) -> bool:
        """Tell whether a box reaches an edge of its tile that is no edge of the scene."""
        left, top, right, bottom = box
        return (
            (left < _EDGE and tile.col > 0)
            or (top < _EDGE and tile.row > 0)
            or (right > tile.width - _EDGE and tile.stop[1] < self.scene[1])
            or (bottom > tile.height - _EDGE and tile.stop[0] < self.scene[0])
        )


def _things(job: _Job, lattice: Lattice, batch_size: int, progress: bool | None) -> Iterator[_Thing]:  # noqa: FBT001
    tiles = list(lattice.touching(Window(0, 0, *lattice.shape)))
    batches = [tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size)]
    with Bar(len(batches), "detect", show=progress) as bar:
        for found in prefetch(job, batches):
            bar.step()
            yield from found


def _merged(things: Sequence[_Thing], labels: Array, iou: float, *, agnostic: bool) -> Array:
    """Return the positions of those that stay."""
    if not things:
        return np.zeros(0, int)
    shapes = np.array([one.shape for one in things], object)
    scores = np.array([one.score for one in things], "float64")
    cut = np.array([one.cut for one in things], bool)
    corners = [(one.tile.col, one.tile.row, one.tile.stop[1], one.tile.stop[0]) for one in things]
    tiles = shapely.box(*np.array(corners, "float64").T)
    return suppress(shapes, scores, labels, cut, threshold=iou, tiles=tiles, agnostic=agnostic)


def _outline(mask: Array) -> shapely.Geometry | None:
    """Return the outline of an instance, in pixels of the tile; `None` where no pixel belongs to it."""
    inside = mask > _INSIDE
    parts = [shapely.geometry.shape(one) for one, _ in rasterio.features.shapes(inside.astype("uint8"), mask=inside)]
    return shapely.union_all(parts) if parts else None


def _ground(shapes: Sequence[shapely.Geometry], grid: GeoBox) -> Array:
    """Return outlines in the layer's CRS."""
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    matrix, origin = np.array([[a, b], [d, e]]), np.array([c, f])
    found: Array = shapely.transform(np.array(shapes, object), lambda points: points @ matrix.T + origin)
    return found


def _is_detection(found: Any, count: int) -> bool:
    return (
        isinstance(found, (list, tuple))
        and len(found) == count
        and all(isinstance(one, Mapping) and {"boxes", "labels", "scores"} <= set(one) for one in found)
    )


def _numbered(labels: Array) -> Legend:
    codes = tuple(range(1, int(labels.max(initial=0)) + 1))
    return Legend(codes, tuple(map(str, codes)))


def _geopandas() -> Any:
    try:
        import geopandas
    except ImportError as error:
        msg = "Cannot find things without geopandas: pip install 'geoxt[vector]'."
        raise MissingDependency(msg) from error
    return geopandas
