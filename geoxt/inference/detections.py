"""Detect objects in a scene: boxes or instances of all tiles, merged, as polygons in the CRS of the layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.grid import grid_of
from geoxt.inference.devices import SomeDevice, parse_options
from geoxt.inference.model_bands import select_bands
from geoxt.inference.networks import network_of
from geoxt.inference.nms import nms
from geoxt.inference.output_grid import parse_overlap
from geoxt.inference.runner import Runner, device_of
from geoxt.inference.thread_pool import prefetch
from geoxt.inference.tile_reader import TileReader
from geoxt.inference.tiles import Lattice
from geoxt.legend import Legend
from geoxt.models.network import Network
from geoxt.progress import progress_bar
from geoxt.source import stack_bands, view_of
from geoxt.types import Array, Mask, Precision, SomePath, SomeSize
from geoxt.windows import Window, parse_size

_EDGE = 1.5
"""Maximum distance in pixels from an edge of the tile at which a box counts as truncated."""
_MASK_THRESHOLD = 0.5
"""Probability above which a pixel belongs to an instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Detection:
    """A detection in one tile."""

    polygon: shapely.Geometry
    """Its box or outline, in pixels of the layer's grid (x is the column, y the row)."""
    score: float
    """Confidence of the model."""
    label: int
    """Label of the model, from 1."""
    truncated: bool
    """Whether it reaches an edge of its tile that is not an edge of the scene."""
    tile: Window
    """The tile."""


def detect(
    layer: xr.DataArray | xr.Dataset,
    model: nn.Module | SomePath,
    *,
    size: SomeSize = 512,
    overlap: SomeSize | None = None,
    batch_size: int = 2,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.5,
    class_agnostic: bool = False,
    bands: Mapping[str, str] | None = None,
    legend: Legend | None = None,
    progress: bool | None = None,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> Any:
    """Detect objects in a layer with a detector.

    Parameters
    ----------
    layer
        Dimensions (band, y, x) or (y, x). Or a Dataset of one variable per band.
    model
        A trained task, its network, or the path of its checkpoint. Or any module with the interface of torchvision's
        detectors: for a list of images float32 (C, H, W) it returns a list of dicts with `boxes` (M, 4) as left, top,
        right, bottom in pixels, `labels` (M,) from 1, `scores` (M,), and for instances `masks` (M, 1, H, W).
    size
        Height and width of the tiles in pixels.
    overlap
        Minimum overlap of neighbouring tiles in pixels. Default: a quarter of a tile. If it is as large as the objects,
        each is complete in some tile.
    batch_size
        Tiles per batch.
    score_threshold
        Minimum score of a detection.
    iou_threshold
        IoU threshold for non-maximum suppression (NMS). Detections truncated by the edge of their tile are suppressed
        by complete ones of other tiles.
    class_agnostic
        Class-agnostic NMS: of overlapping detections of different classes only the one with the highest score remains,
        as neighbouring tiles may classify an object differently. Default: NMS per class, as in detectors.
    bands
        Band names of the layer by those of the model, where they differ.
    legend
        Codes and names of the labels 1, 2, … in order. Default: those of the model, or the labels themselves.
    progress
        Whether to show a progress bar; by default if standard error is a terminal.
    device, precision, compile
        Device and precision of the model, and whether to compile it, as for `predict`; of several devices the first.

    Returns
    -------
    GeoDataFrame
        `geometry` in the CRS of the layer (boxes, or outlines of instances), `score`, `code` and `class` (name), by
        descending score. Detections centred on pixels that are not valid are left out.

    Raises
    ------
    InputError
        If the layer lacks a band of the model or has several time steps, the model is not a detector, this process has
        no such device, or the device does not compute in the precision.
    MissingDependency
        If geopandas is not installed.

    Examples
    --------
    >>> objects = detect(scene, "detector.ckpt", score_threshold=0.6)  # doctest: +SKIP
    >>> objects.to_file("objects.gpkg")  # doctest: +SKIP
    """
    geopandas = _geopandas()
    network = network_of(model)
    card = network.card if isinstance(network, Network) else None
    layer = stack_bands(layer) if isinstance(layer, xr.Dataset) else layer
    view = view_of(select_bands(layer, card, bands))
    if view.shape[0] != 1:
        msg = f"Cannot detect objects in {view.shape[0]} time steps at once."
        raise InputError(msg, remedy="Select one, e.g. layer.isel(time=0).")
    height, width = parse_size(size)
    tile_overlap = (height // 4, width // 4) if overlap is None else parse_overlap(overlap)
    lattice = Lattice(shape=view.grid.shape.yx, size=(height, width), overlap=tile_overlap)
    options = parse_options(device, precision, compile, model_device=device_of(network))
    runner = Runner.of(network, stage="raw", batch_size=batch_size, options=options)
    reader = TileReader(view=view, series=False, factor=(1, 1))
    detector = _TileDetector(reader=reader, runner=runner, scene_shape=lattice.shape, min_score=score_threshold)
    detections = list(_detect_tiles(detector, lattice, batch_size, progress))
    labels = np.array([detection.label for detection in detections], int)
    assert view.grid.crs is not None
    classes = legend or (card.legend if card else Legend(tuple(range(1, int(labels.max(initial=0)) + 1))))
    if len(labels) and (labels.min() < 1 or labels.max() > len(classes)):
        msg = f"Cannot name the labels {labels.min()} to {labels.max()} of the model by a legend of {len(classes)}"
        msg += " classes."
        raise InputError(msg, remedy="Pass {legend} with a class for each label.")
    indices = _merge(detections, labels, iou_threshold, class_agnostic=class_agnostic)
    class_indices = labels[indices] - 1
    columns = {
        "score": np.array([detections[index].score for index in indices], "float64"),
        "code": np.array(classes.codes, int)[class_indices] if len(indices) else np.zeros(0, int),
        "class": np.array(classes.distinct_names, object)[class_indices] if len(indices) else np.zeros(0, object),
    }
    polygons = _to_crs([detections[index].polygon for index in indices], grid_of(layer))
    return geopandas.GeoDataFrame(columns, geometry=polygons, crs=view.grid.crs.to_wkt())


@dataclass(frozen=True, slots=True, kw_only=True)
class _TileDetector:
    """Reads a batch of tiles, runs the model, and returns its detections in scene coordinates."""

    reader: TileReader
    """Reads the layer."""
    runner: Runner
    """The detector."""
    scene_shape: tuple[int, int]
    """Rows and columns of the scene."""
    min_score: float
    """Minimum score."""

    def __call__(self, tiles: Sequence[Window]) -> list[_Detection]:
        """Return the detections of tiles; the model does not run on tiles without valid pixels."""
        step_reader = self.reader.step_reader([], 0)
        reads = [(tile, *step_reader.read_tile(tile)) for tile in tiles]
        reads = [read for read in reads if read[3].any()]
        if not reads:
            return []
        outputs = self._run(
            np.stack([image for _, image, _, _ in reads]), np.stack([valid for _, _, valid, _ in reads])
        )
        return [
            detection
            for (tile, _, _, valid), output in zip(reads, outputs, strict=True)
            for detection in self._detections(tile, valid, output)
        ]

    def _run(self, images: Array, valid: Mask) -> list[Mapping[str, Array]]:
        outputs = self.runner.objects(images, valid)
        if not _is_detector_output(outputs, len(images)):
            raise InputError(
                f"Cannot detect objects with this model: its output is a {type(outputs).__name__}, not a list of dicts"
                " with boxes, labels and scores for each image.",
                remedy="Pass a detector as {model}.",
            )
        return [{key: _on_host(value) for key, value in o.items() if isinstance(value, Tensor)} for o in outputs]

    def _detections(self, tile: Window, valid: Mask, output: Mapping[str, Array]) -> Iterator[_Detection]:
        for index in np.flatnonzero(output["scores"] >= self.min_score).tolist():
            left, top, right, bottom = map(float, output["boxes"][index])
            row, col = int((top + bottom) / 2), int((left + right) / 2)
            inside = 0 <= row < tile.height and 0 <= col < tile.width
            if not inside or not valid[row, col] or right <= left or bottom <= top:
                continue
            has_mask = "masks" in output
            polygon = _outline(output["masks"][index, 0]) if has_mask else shapely.box(left, top, right, bottom)
            if polygon is None:
                continue
            yield _Detection(
                polygon=shapely.transform(polygon, lambda points: points + np.array([tile.col, tile.row])),
                score=float(output["scores"][index]),
                label=int(output["labels"][index]),
                truncated=self._is_truncated(tile, (left, top, right, bottom)),
                tile=tile,
            )

    def _is_truncated(self, tile: Window, box: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = box
        return (
            (left < _EDGE and tile.col > 0)
            or (top < _EDGE and tile.row > 0)
            or (right > tile.width - _EDGE and tile.stop[1] < self.scene_shape[1])
            or (bottom > tile.height - _EDGE and tile.stop[0] < self.scene_shape[0])
        )


def _detect_tiles(
    detector: _TileDetector,
    lattice: Lattice,
    batch_size: int,
    progress: bool | None,  # noqa: FBT001
) -> Iterator[_Detection]:
    tiles = list(lattice.touching(Window(0, 0, *lattice.shape)))
    batches = [tiles[start : start + batch_size] for start in range(0, len(tiles), batch_size)]
    with progress_bar(len(batches), "detect", unit="batch", progress=progress) as bar:
        for detections in prefetch(detector, batches):
            bar.update()
            yield from detections


def _merge(detections: Sequence[_Detection], labels: Array, iou_threshold: float, *, class_agnostic: bool) -> Array:
    """Return the indices of the detections that remain after NMS."""
    if not detections:
        return np.zeros(0, int)
    polygons = np.array([detection.polygon for detection in detections], object)
    scores = np.array([detection.score for detection in detections], "float64")
    truncated = np.array([detection.truncated for detection in detections], bool)
    corners = [(d.tile.col, d.tile.row, d.tile.stop[1], d.tile.stop[0]) for d in detections]
    tiles = shapely.box(*np.array(corners, "float64").T)
    return nms(
        polygons, scores, labels, truncated, iou_threshold=iou_threshold, tiles=tiles, class_agnostic=class_agnostic
    )


def _outline(mask: Array) -> shapely.Geometry | None:
    """Return the outline of an instance mask in pixels of the tile; `None` if it is empty."""
    inside = mask > _MASK_THRESHOLD
    # rasterio warns of an identity transform
    outlines = rasterio.features.shapes(inside.astype("uint8"), mask=inside, transform=Affine.scale(2))
    parts = [shapely.geometry.shape(part) for part, _ in outlines]
    return shapely.transform(shapely.union_all(parts), lambda points: points / 2) if parts else None


def _to_crs(polygons: Sequence[shapely.Geometry], grid: GeoBox) -> Array:
    """Return polygons in pixels of a grid in its CRS."""
    a, b, c, d, e, f = tuple(grid.affine)[:6]
    matrix, origin = np.array([[a, b], [d, e]]), np.array([c, f])
    transformed: Array = shapely.transform(np.array(polygons, object), lambda points: points @ matrix.T + origin)
    return transformed


def _on_host(values: Tensor) -> Array:
    values = values.cpu()
    return (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16


def _is_detector_output(outputs: Any, count: int) -> bool:
    return (
        isinstance(outputs, (list, tuple))
        and len(outputs) == count
        and all(isinstance(output, Mapping) and {"boxes", "labels", "scores"} <= set(output) for output in outputs)
    )


def _geopandas() -> Any:
    with optional_import("geopandas", "vector", "detect objects"):
        import geopandas
    return geopandas
