"""`geoxt predict`: map images with a checkpoint, and write the map."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import suppress
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
_TILING = ("tile_crs", "part", "num_workers", "retries")
"""Options of `geoxt.to_tiles`."""


def predict_command(args: argparse.Namespace) -> Path | TileEstimate:
    """Predict, write the map or detections, and return the path; or return an estimate of the map tiles.

    Raises
    ------
    GeoxtError
        If an input or the output is invalid.
    """
    checkpoints = _checkpoints(args)
    if not checkpoints:
        problem = "Cannot predict without a model."
        raise InputError(problem, remedy="Pass {model}. Or pass {members}.", argument="model")
    _require_tiles(args)
    parse_bands(args.bands or [])  # raises before the model is read
    network = from_file(checkpoints[0])
    if args.tiles is not None:
        return _write_tiles(args, network)
    is_detector = network.card.kind.target == "instances"
    if is_plain(args.out) or is_detector:
        _require_one_prediction(args)
    if is_plain(args.out):
        return predict_plain(args.images, args.out, network, _options(args))
    write = _writer(args.out, is_detector=is_detector)
    _require_other_path(args)
    if write is not to_zarr:
        require_writable(args.out)
    layer = _open(args, network.card)
    if is_detector:
        options = _options(args)
        options.pop("blend", None)
        if args.score_threshold is not None:
            options["score_threshold"] = args.score_threshold
        return to_vector(detect(layer, network, class_agnostic=args.class_agnostic, **options), args.out)
    return write(_predict(args, network, layer), args.out, resume=not args.no_resume)


def _predict(args: argparse.Namespace, network: Any, layer: xr.DataArray) -> xr.DataArray:
    """Return the lazy map of a layer."""
    options = {name: getattr(args, name) for name in ("output", "members", "num_mc_samples", "tta", "seed")}
    return predict(layer, network if args.model is not None else None, **options, **_options(args))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return tiles, device and precision of the model, without options that are not set."""
    names = ("size", "overlap", "blend", "batch_size", "device", "precision", "compile")
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def _require_tiles(args: argparse.Namespace) -> None:
    """Raise if options of map tiles are passed without their size."""
    for name in (*_TILING, "dry_run", "rate"):
        value = getattr(args, name)
        if args.tiles is None and value is not None and value is not False:
            problem = f"Cannot apply {name.replace('_', ' ')} to a map in one file."
            raise InputError(problem, remedy="Pass {tiles}.", value=value, argument=name)


def _write_tiles(args: argparse.Namespace, network: Any) -> Path | TileEstimate:
    """Write a folder of map tiles and return its path, or return their estimate."""
    if network.card.kind.target == "instances":
        msg = "Cannot write detections as map tiles."
        raise InputError(msg, remedy="Leave {tiles} out, and pass {out:detections.gpkg}.")
    prediction = _predict(args, network, _open(args, network.card))
    tiles: Any = args.tiles
    options = {name: value for name in _TILING if (value := getattr(args, name)) is not None}
    with suppress(ValueError):
        tiles = float(tiles)
        tiles = int(tiles) if tiles.is_integer() else tiles
    if args.dry_run:
        return estimate_tiles(prediction, tiles=tiles, tile_crs=args.tile_crs, rate=args.rate)
    to_tiles(prediction, args.out, tiles=tiles, model=args.model, **options)
    return Path(args.out)


def _checkpoints(args: argparse.Namespace) -> list[str]:
    return [path for path in (args.model, *args.members) if path is not None]


def _require_one_prediction(args: argparse.Namespace) -> None:
    """Raise if several predictions are to be averaged to an output other than a map."""
    for name in ("members", "num_mc_samples", "tta"):
        if getattr(args, name):
            problem = "Cannot average predictions of objects or of images without georeference."
            raise InputError(problem, remedy="Pass {model} only.", value=getattr(args, name), argument=name)


def _require_other_path(args: argparse.Namespace) -> None:
    """Raise if the output is one of the inputs."""
    out = Path(args.out).resolve()
    for path in (*expand_paths(list(args.images), folders=True), *_checkpoints(args)):
        if Path(path).resolve() == out:
            msg = f"Cannot write {args.out!r}: the map is made from this file."
            raise OutputError(msg, remedy="Pass another {out}.", value=args.out)


def _open(args: argparse.Namespace, card: Card) -> xr.DataArray:
    """Open the images, with the model's bands in its order."""

    def choose(layer: xr.DataArray, title: str) -> xr.DataArray:
        remedy = "Pass images with them. Or pass {product}, if the files are of a known one, or {bands} MODEL=IMAGE."
        selected = select_bands(layer, card, parse_bands(args.bands or []), title=title, remedy=remedy)
        return selected.assign_coords(band=list(card.bands)) if "band" in selected.dims else selected

    options: dict[str, Any] = {"product": args.product, "crs": args.crs}
    if card.kind.takes_series:
        require_dates(card.task, args.images)
    with replaced_remedy(f"Pass images {FILES}.", flags=("bands", "product", "crs")):
        if card.kind.takes_series:
            return open_dates(args.images, choose, **options)
        return choose(open_images(args.images, **options), "the layer")


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
