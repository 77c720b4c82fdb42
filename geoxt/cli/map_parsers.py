"""Parsers of the commands that make and assess maps."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from geoxt.tasks import Output
from geoxt.types import Precision


def add_opening(command: Any) -> None:
    """Add the options with which every command opens image files."""
    command.add_argument("--product", metavar="NAME", help="known product of the image, such as landsat8")
    command.add_argument("--crs", type=_crs, metavar="CRS", help="CRS onto which images of several CRSs are resampled")


def _crs(text: str) -> str:
    if text == "native":
        msg = "'native' gives one grid per CRS, and the command needs one grid; name a CRS such as EPSG:32633"
        raise argparse.ArgumentTypeError(msg)
    return text


def add_device(command: Any) -> None:
    """Add the options of every command that runs a trained model."""
    group = command.add_argument_group("device")
    group.add_argument(
        "--device",
        nargs="+",
        default=["auto"],
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:1, mps, or several (default: CUDA, else MPS, else the CPU)",
    )
    group.add_argument(
        "--precision", choices=get_args(Precision), default="32", help="precision of the computations (default: 32)"
    )
    group.add_argument("--compile", action="store_true", help="compile the model by torch.compile")


def add_predict(commands: Any) -> None:
    """Add the parser of `geoxt predict`."""
    predict = commands.add_parser(
        "predict",
        description="Map whole images of any size with a checkpoint, in overlapping tiles. The same command resumes an "
        "interrupted run.",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="raster files or patterns: all bands of one image; images without georeference, or folders of these; for "
        "change detection and time series one argument per date, in order, with patterns in quotes (later dates are "
        "aligned to the first); or one file of STAC items (.json, .parquet)",
    )
    predict.add_argument("--model", metavar="FILE", help="checkpoint; or ONNX, .pt2 or TorchScript file with MLM item")
    predict.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help="output: .tif (COG) or .zarr; of detectors .gpkg, .geojson, .fgb, .shp; of images without georeference "
        ".csv or .parquet (classes), or a folder (PNG masks); with --tiles a folder",
    )
    predict.add_argument(
        "--bands",
        nargs="+",
        metavar="MODEL=IMAGE",
        help="band names of the image by band name of the model (default: by name, common name or wavelength)",
    )
    add_opening(predict)
    predict.add_argument("--output", choices=get_args(Output), help="kind of map (default: by the model's task)")
    ensemble = predict.add_argument_group("ensembles")
    ensemble.add_argument("--members", nargs="+", metavar="FILE", default=(), help="checkpoints to average, or --model")
    ensemble.add_argument("--num-mc-samples", type=int, metavar="N", help="samples of Monte Carlo dropout")
    ensemble.add_argument("--tta", action="store_true", help="average over flips and rotations of each tile")
    ensemble.add_argument("--seed", type=int, default=0, metavar="N", help="seed of dropout (default: 0)")
    _add_map_tiles(predict)
    tiles = predict.add_argument_group("tiles of inference")
    tiles.add_argument("--size", type=int, metavar="PIXELS", help="height and width of a tile")
    tiles.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="pixels that neighboring tiles share (default: a quarter)"
    )
    tiles.add_argument(
        "--blend", choices=["linear", "gaussian", "hann", "none"], help="weights of overlapping tiles (default: linear)"
    )
    tiles.add_argument("--batch-size", type=int, metavar="N", help="tiles per batch")
    add_device(predict)
    detections = predict.add_argument_group("detections")
    detections.add_argument("--score-threshold", type=float, metavar="X", help="minimum confidence (default: 0.5)")
    detections.add_argument(
        "--class-agnostic", action="store_true", help="apply non-maximum suppression across classes"
    )
    predict.add_argument(
        "--no-resume", action="store_true", help="discard finished parts of an interrupted run, and keep none"
    )


def _add_map_tiles(predict: argparse.ArgumentParser) -> None:
    """Add the options of a map that is written in map tiles."""
    group = predict.add_argument_group(
        "map tiles",
        "One COG per tile in the folder --out, with a manifest, STAC items and map.vrt; see geoxt.to_tiles.",
    )
    group.add_argument(
        "--tiles", metavar="N|MGRS|FILE", help="side of square map tiles in pixels, MGRS, or a vector file of polygons"
    )
    group.add_argument("--tile-crs", metavar="CRS", help="CRS in whose units --tiles is the side, such as EPSG:3035")
    group.add_argument("--part", metavar="i/n", help="write every n-th tile from the i-th on, as one of n jobs")
    group.add_argument("--num-workers", type=int, metavar="N", help="processes of this machine (default: this one)")
    group.add_argument("--retries", type=int, metavar="N", help="further attempts at failed tiles (default: 2)")
    group.add_argument("--dry-run", action="store_true", help="print tiles, scenes, bytes and hours, and write no file")
    group.add_argument(
        "--rate", type=float, metavar="X", help="pixels per second for --dry-run (default: measured on three tiles)"
    )


def add_describe(commands: Any) -> None:
    """Add the parser of `geoxt describe`."""
    describe = commands.add_parser(
        "describe",
        description="Show what files are opened as: product, bands, dates, CRS, grid, nodata, class codes, and "
        "why. Only headers are read.",
    )
    describe.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="raster files, patterns or folders; or one Zarr store, NetCDF file or file of STAC items",
    )
    describe.add_argument("--product", metavar="NAME", help="known product of the files, such as landsat8")
    describe.add_argument("--pattern", metavar="FORM", help="form of file names, such as {band}.tif; needs --product")
    describe.add_argument("--bands", nargs="+", metavar="NAME", help="bands to open (default: those of the product)")
    describe.add_argument("--crs", metavar="CRS", help="CRS of the layer (default: one layer for each CRS)")
    describe.add_argument("--resolution", type=float, metavar="X", help="pixel size (default: the finest)")


def add_sample(commands: Any) -> None:
    """Add the parser of `geoxt sample`."""
    sample = commands.add_parser(
        "sample",
        description="Draw a probability sample of a map's pixels, and write it as a GeoPackage that QGIS opens with a "
        "form for the column 'reference'. Label it, and pass it to geoxt assess.",
    )
    sample.add_argument("map", metavar="MAP", help="map of class codes: a raster file or Zarr store")
    sample.add_argument("--out", dest="path", required=True, metavar="FILE", help="output, ending in .gpkg")
    size = sample.add_mutually_exclusive_group(required=True)
    size.add_argument("--n", type=int, metavar="N", help="number of pixels")
    size.add_argument(
        "--target-se",
        type=float,
        metavar="X",
        help="standard error of overall accuracy to reach, such as 0.01, instead of --n; needs --expected",
    )
    sample.add_argument(
        "--strata", metavar="FILE", help="raster of integer strata, or 'none' (default: the classes of the map)"
    )
    sample.add_argument(
        "--allocation",
        default="proportional",
        choices=["proportional", "equal", "neyman", "optimal for one class"],
        help="pixels by stratum (default: %(default)s)",
    )
    sample.add_argument("--target-class", metavar="NAME", help="class for --allocation 'optimal for one class'")
    sample.add_argument(
        "--measure",
        default="all",
        choices=["all", "area", "users", "producers"],
        help="estimate of the class whose variance is to be small (default: all, the sum of their variances)",
    )
    sample.add_argument(
        "--min-per-class",
        type=int,
        default=2,
        metavar="N",
        help="minimum number of pixels of each stratum (default: %(default)s)",
    )
    sample.add_argument(
        "--expected",
        nargs="+",
        metavar="STRATUM=X",
        help="expected proportion of each stratum, such as its user's accuracy, for --target-se and neyman; for "
        "'optimal for one class' the proportion of the class",
    )
    sample.add_argument("--systematic", action="store_true", help="draw at equal distances from a random start")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draw (default: %(default)s)")


def add_assess(commands: Any) -> None:
    """Add the parser of `geoxt assess`."""
    assess = commands.add_parser(
        "assess",
        description="Estimate accuracy and areas of a map, with 95 % intervals, from a labeled sample or a raster of "
        "labels, and write a report: report.html (one page without references to other files), report.md, report.json.",
    )
    assess.add_argument("--map", required=True, metavar="FILE", help="map: class codes, or numbers")
    assess.add_argument(
        "--reference",
        dest="sample",
        required=True,
        metavar="FILE",
        help="sample of geoxt sample with labels (.gpkg), or a raster of class codes, aligned to the map",
    )
    assess.add_argument("--out", dest="folder", required=True, metavar="DIR", help="folder of the report")
    assess.add_argument("--model", metavar="FILE", help="checkpoint whose model card is described")
    assess.add_argument(
        "--metadata", nargs="+", metavar="NAME=TEXT", help="texts to state in the report, such as: dates=2021-05-03"
    )
    assess.add_argument("--title", default="Map assessment", help="heading of the report (default: %(default)s)")
    sample = assess.add_argument_group("labeled sample")
    sample.add_argument(
        "--column",
        dest="reference",
        default="reference",
        metavar="NAME",
        help="column of labels (default: %(default)s)",
    )
    sample.add_argument(
        "--unlabeled",
        default="raise",
        choices=["raise", "exclude"],
        help="pixels without a label: an error, or excluded with a note (default: %(default)s)",
    )
    sample.add_argument("--cluster", metavar="NAME", help="column of the cluster of each pixel")
    sample.add_argument(
        "--interval",
        default="jeffreys",
        choices=["jeffreys", "exact", "normal"],
        help="kind of the 95 %% intervals; exact ones are wider, normal ones (1.96 standard errors) too narrow for "
        "rare classes (default: %(default)s)",
    )
    labels = assess.add_argument_group("raster of labels")
    labels.add_argument(
        "--block",
        type=int,
        metavar="PIXELS",
        help="side of the blocks of the bootstrap, more than the distance up to which errors are alike (default: a "
        "tenth of the shorter side of the map)",
    )
    labels.add_argument(
        "--n-boot", type=int, default=1000, metavar="N", help="draws of the bootstrap (default: %(default)s)"
    )
    labels.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws (default: %(default)s)")
    labels.add_argument(
        "--alpha", type=float, default=0.1, metavar="X", help="error rate of conformal sets (default: %(default)s)"
    )
    image = assess.add_argument_group("image of the map")
    image.add_argument(
        "--image",
        nargs="+",
        metavar="GLOB",
        help="image of the map: adds calibration and conformal sets of --model on a raster of "
        "held-out labels, and the area of applicability of --training",
    )
    add_opening(image)
    image.add_argument(
        "--training", metavar="FILE", help="points of the training pixels (.gpkg): adds the area of applicability"
    )
    image.add_argument(
        "--folds", metavar="NAME", help="column of the fold of each training point (default: each point alone)"
    )


def add_polygonize(commands: Any) -> None:
    """Add the parser of `geoxt polygonize`."""
    polygonize = commands.add_parser(
        "polygonize",
        description="Convert a class map to polygons with code, class and area in hectares, without seams.",
    )
    polygonize.add_argument("map", metavar="MAP", help="map of class codes: a raster file or Zarr store")
    polygonize.add_argument("--out", dest="path", required=True, metavar="FILE", help=".gpkg, .geojson, .fgb or .shp")
    polygonize.add_argument(
        "--min-area",
        type=float,
        metavar="HECTARES",
        help="minimum mapping unit: smaller polygons are joined to their largest neighbor",
    )
    polygonize.add_argument(
        "--simplify", type=float, metavar="X", help="tolerance in units of the CRS; shared borders stay shared"
    )
    polygonize.add_argument(
        "--connectivity",
        type=int,
        default=4,
        choices=[4, 8],
        help="4: pixels are connected along sides; 8: also at corners (default: %(default)s)",
    )
    polygonize.add_argument(
        "--probability", metavar="FILE", help="raster on the grid of the map, to be averaged over each polygon"
    )
