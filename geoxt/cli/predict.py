"""`geoxt predict`: images and a checkpoint become a map in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from geoxt.cli.errors import for_the_shell
from geoxt.errors import InputError, OutputError
from geoxt.inference.detections import detect
from geoxt.inference.model_bands import choose_bands
from geoxt.inference.scene import predict
from geoxt.inference.time_series import open_dates, require_dates
from geoxt.layers import open_cogs
from geoxt.layers.files.paths import find
from geoxt.models.card import Card
from geoxt.models.network import from_checkpoint
from geoxt.writers.cog import to_cog
from geoxt.writers.staging import require_writable
from geoxt.writers.vector import DRIVERS, to_vector
from geoxt.writers.zarr import to_zarr

RASTERS = {".tif": to_cog, ".tiff": to_cog, ".zarr": to_zarr}
"""What writes a map, by the ending of its name."""
_OPTIONS = {name: f"--{name}" for name in ("size", "overlap", "blend", "output", "score", "bands")}
_OPTIONS |= {"batch_size": "--batch"}
"""Options of the command, by the arguments in Python that errors name."""
_REMEDY = (
    "Pass images of one grid, with a CRS: leave the others out, or bring them onto it first (gdalwarp; "
    "gdal_edit.py -a_srs EPSG:… gives a CRS to a file without one)."
)
"""What to do where images cannot be opened together, and Python has an argument for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What `geoxt predict` was asked to do."""

    images: tuple[str, ...]
    """Raster files or glob patterns, whose bands go by file or band name: together one image, or for a model of change
    or of time series an image of each date."""
    model: str
    """Path of the checkpoint."""
    out: str
    """Where to write: .tif, .zarr, or for things .gpkg, .geojson, .fgb, .shp."""
    output: str | None = None
    """The kind of map; by default what the model is for."""
    bands: Mapping[str, str] | None = None
    """The images' name of a band by the model's."""
    options: Mapping[str, Any]
    """`size`, `overlap`, `blend` and `batch_size`, where they were given."""
    score: float | None = None
    """Least score of things."""
    agnostic: bool = False
    """Whether things of several classes in one place are one, of the surest."""
    resume: bool = True
    """Whether finished regions are kept after an interrupt."""
    progress: bool | None = None
    """Whether to show a progress bar."""


def run(job: Job) -> Path:
    """Predict and write, and return the path.

    Raises
    ------
    GeoxtError
        Where an input or the output is at fault.
    """
    with for_the_shell(options=_OPTIONS):
        return _run(job)


def _run(job: Job) -> Path:
    network = from_checkpoint(job.model)
    task = network.card.kind
    things = task.target == "instances"
    write = _writer(job.out, things=things)
    _require_apart(job)
    if write is not to_zarr:
        require_writable(job.out)
    layer = _open(job, network.card)
    options = {key: value for key, value in job.options.items() if value is not None}
    if things:
        options.pop("blend", None)
        if job.score is not None:
            options["score"] = job.score
        found = detect(layer, network, progress=job.progress, agnostic=job.agnostic, **options)
        return to_vector(found, job.out)
    output: Any = job.output or task.output
    made = predict(layer, network, output=output, **options)
    return write(made, job.out, resume=job.resume, progress=job.progress)


def _require_apart(job: Job) -> None:
    """Refuse to write over what is read."""
    out = Path(job.out).resolve()
    for one in (*find(list(job.images), folders=True), job.model):
        if Path(one).resolve() == out:
            msg = f"Cannot write {job.out!r}: it is what the map is made from. Pass --out another path."
            raise OutputError(msg)


def _open(job: Job, card: Card) -> xr.DataArray:
    """Open the images: the model's bands, in its order and by its names."""

    def choose(layer: xr.DataArray, what: str) -> xr.DataArray:
        mend = "Pass images that hold them, or --bands MODEL=IMAGE pairs."
        found = choose_bands(layer, card, job.bands, what=what, mend=mend)
        return found.assign_coords(band=list(card.bands)) if "band" in found.dims else found

    if card.kind.takes_series:
        require_dates(card.task, job.images)
    with for_the_shell(_REMEDY, options=_OPTIONS):
        if card.kind.takes_series:
            return open_dates(job.images, choose)
        return choose(open_cogs(list(job.images)), "the layer")


def parse_bands(pairs: list[str]) -> dict[str, str]:
    """Return bands from `model=image` pairs.

    Raises
    ------
    InputError
        Where one is no such pair.
    """
    wrong = [pair for pair in pairs if pair.count("=") != 1]
    if wrong:
        msg = f"Cannot read --bands {wrong[0]!r}: pass pairs such as nir=B08, the model's name before the image's."
        raise InputError(msg)
    return dict(pair.split("=") for pair in pairs)


def _writer(out: str, *, things: bool) -> Callable[..., Path]:
    known: Mapping[str, Any] = dict.fromkeys(DRIVERS, to_vector) if things else RASTERS
    suffix = Path(out).suffix.lower()
    if suffix not in known:
        what = "finds things" if things else "maps pixels"
        msg = f"Cannot write {out!r}: the model {what}. Pass --out with one of {', '.join(known)}."
        raise InputError(msg)
    return known[suffix]
