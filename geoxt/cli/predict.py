"""`geoxt predict`: map images with a checkpoint, and write the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.cli.errors import FILES, replaced_remedy
from geoxt.cli.open_images import open_images
from geoxt.cli.predict_plain import is_plain, predict_plain
from geoxt.errors import InputError, OutputError
from geoxt.inference.detections import detect
from geoxt.inference.model_bands import select_bands
from geoxt.inference.scene import predict
from geoxt.inference.time_series import open_dates, require_dates
from geoxt.layers.files.paths import expand_paths
from geoxt.models.card import Card
from geoxt.models.model_file import from_file
from geoxt.tiling import TileEstimate, estimate_tiles, to_tiles
from geoxt.writers.cog import to_cog
from geoxt.writers.staging import require_writable
from geoxt.writers.vector import DRIVERS, to_vector
from geoxt.writers.zarr import to_zarr

RASTERS = {".tif": to_cog, ".tiff": to_cog, ".zarr": to_zarr}
"""Writer of a map by file extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Arguments of `geoxt predict`."""

    images: tuple[str, ...]
    """Raster files or glob patterns: all bands of one image, or for change detection and time series an image per
    date."""
    model: str | None = None
    """Path of the checkpoint; `None` for the first of `members`."""
    out: str
    """Path of the output: .tif or .zarr; of a detector .gpkg, .geojson, .fgb or .shp; of plain images .csv, .parquet or
    a folder."""
    output: str | None = None
    """Kind of map; by default that of the model's task."""
    members: tuple[str, ...] = ()
    """Paths of the checkpoints of an ensemble."""
    num_mc_samples: int | None = None
    """Samples of Monte Carlo dropout."""
    tta: bool = False
    """Whether to average over flips and rotations of each tile."""
    seed: int = 0
    """Seed of the masks of dropout."""
    bands: Mapping[str, str] | None = None
    """Band name of the images by band name of the model."""
    product: str | None = None
    """Known product of the images, such as "landsat8"."""
    crs: str | None = None
    """CRS of the map, onto which images of several CRSs are resampled."""
    options: Mapping[str, Any]
    """`size`, `overlap`, `blend` and `batch_size`; None takes the default."""
    device: Mapping[str, Any] = field(default_factory=dict)
    """`device`, `precision` and `compile`, as for `geoxt.predict`."""
    score_threshold: float | None = None
    """Minimum confidence of a detection."""
    class_agnostic: bool = False
    """Whether to apply non-maximum suppression across classes."""
    tiles: str | None = None
    """Side of map tiles, or path of their polygons: `out` is then their folder; `None` writes one file."""
    tiling: Mapping[str, Any] = field(default_factory=dict)
    """`tile_crs`, `part`, `num_workers` and `retries`, as for `geoxt.to_tiles`."""
    dry_run: bool = False
    """Whether to estimate the map tiles instead of writing them."""
    rate: float | None = None
    """Pixels per second of the estimate; measured by default."""
    resume: bool = True
    """Whether an interrupted run keeps its finished regions."""
    progress: bool | None = None
    """Whether to show a progress bar; by default in a terminal."""


def run(job: Job) -> Path | TileEstimate:
    """Predict, write the map or detections, and return the path; or return an estimate of the map tiles.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid.
    """
    checkpoints = _checkpoints(job)
    if not checkpoints:
        problem = "Cannot predict without a model."
        raise InputError(problem, remedy="Pass {model}. Or pass {members}.", argument="model")
    _require_tiles(job)
    network = from_file(checkpoints[0])
    if job.tiles is not None:
        return _write_tiles(job, network)
    if is_plain(job.out) or network.card.kind.target == "instances":
        _require_one_prediction(job)
    if is_plain(job.out):
        return predict_plain(job, network)
    task = network.card.kind
    is_detector = task.target == "instances"
    write = _writer(job.out, is_detector=is_detector)
    _require_other_path(job)
    if write is not to_zarr:
        require_writable(job.out)
    layer = _open(job, network.card)
    if is_detector:
        options = _options(job)
        options.pop("blend", None)
        if job.score_threshold is not None:
            options["score_threshold"] = job.score_threshold
        detections = detect(layer, network, progress=job.progress, class_agnostic=job.class_agnostic, **options)
        return to_vector(detections, job.out)
    return write(_predict(job, network, layer), job.out, resume=job.resume, progress=job.progress)


def _predict(job: Job, network: Any, layer: xr.DataArray) -> xr.DataArray:
    """Return the lazy map of a layer."""
    output: Any = job.output
    return predict(
        layer,
        network if job.model is not None else None,
        output=output,
        members=job.members,
        num_mc_samples=job.num_mc_samples,
        tta=job.tta,
        seed=job.seed,
        **_options(job),
    )


def _options(job: Job) -> dict[str, Any]:
    return {**{key: value for key, value in job.options.items() if value is not None}, **job.device}


def _require_tiles(job: Job) -> None:
    """Raise if options of map tiles are passed without their size."""
    options = {**job.tiling, "dry_run": job.dry_run or None, "rate": job.rate}
    for name, value in options.items():
        if job.tiles is None and value is not None:
            problem = f"Cannot apply {name.replace('_', ' ')} to a map in one file."
            raise InputError(problem, remedy="Pass {tiles}.", value=value, argument=name)


def _write_tiles(job: Job, network: Any) -> Path | TileEstimate:
    """Write a folder of map tiles and return its path, or return their estimate."""
    if network.card.kind.target == "instances":
        msg = "Cannot write detections as map tiles."
        raise InputError(msg, remedy="Leave {tiles} out, and pass {out:detections.gpkg}.")
    prediction = _predict(job, network, _open(job, network.card))
    tiles: Any = job.tiles
    options = {name: value for name, value in job.tiling.items() if value is not None}
    with suppress(ValueError):
        tiles = float(tiles)
        tiles = int(tiles) if tiles.is_integer() else tiles
    if job.dry_run:
        return estimate_tiles(prediction, tiles=tiles, tile_crs=options.get("tile_crs"), rate=job.rate)
    to_tiles(prediction, job.out, tiles=tiles, model=job.model, progress=job.progress, **options)
    return Path(job.out)


def _checkpoints(job: Job) -> list[str]:
    return [path for path in (job.model, *job.members) if path is not None]


def _require_one_prediction(job: Job) -> None:
    """Raise if several predictions are to be averaged to an output other than a map."""
    for name in ("members", "num_mc_samples", "tta"):
        if getattr(job, name):
            problem = "Cannot average predictions of objects or of images without georeference."
            raise InputError(problem, remedy="Pass {model} only.", value=getattr(job, name), argument=name)


def _require_other_path(job: Job) -> None:
    """Raise if the output is one of the inputs."""
    out = Path(job.out).resolve()
    for path in (*expand_paths(list(job.images), folders=True), *_checkpoints(job)):
        if Path(path).resolve() == out:
            msg = f"Cannot write {job.out!r}: the map is made from this file."
            raise OutputError(msg, remedy="Pass another {out}.", value=job.out)


def _open(job: Job, card: Card) -> xr.DataArray:
    """Open the images, with the model's bands in its order."""

    def choose(layer: xr.DataArray, title: str) -> xr.DataArray:
        remedy = "Pass images with them. Or pass {product}, if the files are of a known one, or {bands} MODEL=IMAGE."
        selected = select_bands(layer, card, job.bands, title=title, remedy=remedy)
        return selected.assign_coords(band=list(card.bands)) if "band" in selected.dims else selected

    options: dict[str, Any] = {"product": job.product, "crs": job.crs}
    if card.kind.takes_series:
        require_dates(card.task, job.images)
    with replaced_remedy(f"Pass images {FILES}.", flags=("bands", "product", "crs")):
        if card.kind.takes_series:
            return open_dates(job.images, choose, **options)
        return choose(open_images(job.images, **options), "the layer")


def parse_bands(pairs: list[str]) -> dict[str, str]:
    """Return band names by `model=image` pairs.

    Raises
    ------
    InputError
        If a value is not a pair.
    """
    for pair in pairs:
        if pair.count("=") != 1:
            msg = f"Cannot read the band names {pair!r}."
            remedy = "Pass {bands} as pairs such as nir=B08, the model's name before the image's."
            raise InputError(msg, remedy=remedy, value=pair, argument="bands")
    return dict(pair.split("=") for pair in pairs)


def _writer(out: str, *, is_detector: bool) -> Callable[..., Path]:
    writers: Mapping[str, Any] = dict.fromkeys(DRIVERS, to_vector) if is_detector else RASTERS
    suffix = Path(out).suffix.lower()
    if suffix not in writers:
        output = "detections" if is_detector else "a raster map"
        msg = f"Cannot write {out!r}: the output of the model is {output}."
        remedy = f"Pass {{out}} with an extension of {', '.join(writers)}; for plain images .csv or a folder."
        raise InputError(msg, remedy=remedy, value=out, argument="out")
    return writers[suffix]
