"""The command-line interface: the parser of all commands, and how errors end them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from geoxt._version import __version__
from geoxt.cli.data_parsers import add_bench, add_cache, add_datasets, add_pack
from geoxt.cli.errors import command_parser, flags_of
from geoxt.cli.map_parsers import (
    add_assess,
    add_describe,
    add_device,
    add_opening,
    add_polygonize,
    add_predict,
    add_sample,
)
from geoxt.cli.probe_parser import add_probe
from geoxt.errors import GeoxtError, MissingDependency

FAILED = 2
"""Exit code of invalid input, as in argparse."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""
BROKEN_PIPE = 141
"""Exit code after the reader of the output closed it: 128 + SIGPIPE."""
COMMANDS = {
    "Data": {
        "describe": "show what files or STAC items are opened as, and why",
        "datasets": "list, describe, download and verify benchmark datasets",
    },
    "Training": {
        "fit": "train a model by a configuration file",
        "experiment": "train over a grid of settings and several seeds, and tabulate the scores",
        "probe": "score frozen encoders by nearest neighbors and linear probes",
        "export": "write a trained model as a torch.export or ONNX file",
        "score": "score a classifier on a folder of images",
    },
    "Maps": {
        "predict": "map images with a trained model",
        "sample": "draw a sample of a map's pixels, to be labeled by reference",
        "assess": "estimate accuracy and areas of a map with intervals, and write a report",
        "polygonize": "convert a class map to polygons",
        "demo": "train on labeled imagery, map the scene and score the map, in one go",
    },
    "Speed": {
        "bench": "measure how fast windows are read from files",
        "pack": "store the windows of images and labels, aligned, for training",
        "cache": "show or remove cached blocks of compressed files",
    },
}
"""One-line description of each command, by group."""
PRINTED = {
    "predict": ("geoxt.cli.predict", "predict_command"),
    "sample": ("geoxt.cli.map_commands", "sample_command"),
    "assess": ("geoxt.cli.map_commands", "assess_command"),
    "polygonize": ("geoxt.cli.map_commands", "polygonize_command"),
    "describe": ("geoxt.cli.open_images", "describe_images"),
    "pack": ("geoxt.cli.pack", "pack_command"),
}
"""Module and function of commands whose function takes the parsed arguments and returns the text to print."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    argv
        Arguments; by default those of the process.
    """
    top = parser()
    args, further = top.parse_known_args(argv)
    if further and args.command not in {"fit", "experiment"}:
        top.error(f"unrecognized arguments: {' '.join(further)}")
    args.further = further
    commands = {
        "demo": _demo,
        "fit": _fit,
        "experiment": _experiment,
        "probe": _probe,
        "export": _export,
        "score": _score,
        "datasets": _datasets,
        "bench": _bench,
        "cache": _cache,
    }
    try:
        if args.command in PRINTED:
            module, function = PRINTED[args.command]
            print(getattr(_module(module), function)(args))
        else:
            commands[args.command](args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except GeoxtError as error:
        path = [args.command, *([args.action] if "action" in args else [])]
        flags = flags_of(command_parser(top, *path))
        text = error.render(flags, otherwise=f"See geoxt {' '.join(path)} --help.")
        print(" ".join([f"geoxt: {text}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as error:
        print("; ".join(["geoxt: interrupted", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="geoxt",
        usage="geoxt COMMAND [options]",
        description="Deep learning on geospatial data, natively in xarray and STAC.",
        epilog="\n".join([*_list_commands(COMMANDS), "", "Options of a command: geoxt COMMAND --help"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"geoxt {__version__}")
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="geoxt", help=argparse.SUPPRESS
    )
    _add_demo(commands)
    _add_training(commands)
    add_probe(commands)
    _add_export(commands)
    add_predict(commands)
    add_sample(commands)
    add_assess(commands)
    add_polygonize(commands)
    add_describe(commands)
    add_datasets(commands)
    add_bench(commands)
    add_pack(commands)
    add_cache(commands)
    return top


def _list_commands(groups: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the lines that list commands by group."""
    for title, commands in groups.items():
        yield f"{title}:"
        yield from (f"  {name:<12}{text}" for name, text in commands.items())


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        description="Open an image and labels, align them, split them into blocks, train a U-Net, map the whole scene "
        "and score the map on held-out blocks. Without files, on a small generated world.",
    )
    demo.add_argument("--out", default="geoxt-demo", metavar="DIR", help="output folder (default: %(default)s)")
    demo.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="random seed of the world, split, windows, weights and augmentation (default: %(default)s)",
    )
    files = demo.add_argument_group("files")
    files.add_argument("--image", nargs="+", metavar="GLOB", help="raster files of the image, all bands")
    files.add_argument("--labels", metavar="FILE", help="raster of class codes, in any CRS and resolution")
    add_opening(files)
    files.add_argument("--classes", type=int, metavar="N", help="maximum number of classes (default: 64)")
    training = demo.add_argument_group("training")
    training.add_argument(
        "--epochs", type=int, default=15, metavar="N", help="passes over the training windows (default: %(default)s)"
    )
    training.add_argument("--model", default="unet", metavar="NAME", help="architecture (default: %(default)s)")
    training.add_argument(
        "--block",
        type=int,
        metavar="PIXELS",
        help="height and width of a block of the split (default: about 72 blocks)",
    )
    training.add_argument(
        "--size", type=int, metavar="PIXELS", help="height and width of a training window (default: 3/4 of a block)"
    )


def _device_options(args: argparse.Namespace) -> dict[str, Any]:
    return {"device": args.device, "precision": args.precision, "compile": args.compile}


def _add_training(commands: Any) -> None:
    commands.add_parser("fit", add_help=False)  # parse their own options, by the configuration schema
    commands.add_parser("experiment", add_help=False)
    score = commands.add_parser(
        "score",
        description="Print accuracy and per-class recall of a classifier on a folder or zip file of images.",
    )
    score.add_argument("model", metavar="MODEL", help="checkpoint of a classifier")
    score.add_argument("path", metavar="FOLDER", help="folder or zip file with a folder of images per class")
    score.add_argument("--size", type=int, metavar="PIXELS", help="height and width to which images are resized")
    add_device(score)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        description="Write a trained model to a file that runs without geoxt, with scaling and activation inside, and "
        "its STAC item (MLM) beside it.",
    )
    export.add_argument("model", metavar="MODEL", help="checkpoint written by geoxt")
    export.add_argument("--to", required=True, dest="path", metavar="FILE", help="output: .pt2 (torch.export) or .onnx")
    export.add_argument(
        "--compile", action="store_true", help="compile a .pt2 for this type of processor (AOTInductor)"
    )


def _export(args: argparse.Namespace) -> None:
    print(_module("geoxt.models").export(args.model, args.path, compile=args.compile))


def _fit(args: argparse.Namespace) -> None:
    _module("geoxt.cli.fit").fit_command(args.further or ["--help"], progress=_progress())


def _experiment(args: argparse.Namespace) -> None:
    _module("geoxt.cli.experiment").experiment_command(args.further or ["--help"], progress=_progress())


def _probe(args: argparse.Namespace) -> None:
    _module("geoxt.cli.probe").probe_command(args)


def _score(args: argparse.Namespace) -> None:
    print(_module("geoxt.trainers").score_images(args.path, args.model, size=args.size, **_device_options(args)))


def _progress() -> str:
    """Return the progress display: a bar in a terminal, else a line per epoch."""
    return "bar" if sys.stderr.isatty() else "lines"


def _fields(args: argparse.Namespace, job: Any) -> dict[str, Any]:
    """Return the arguments that are fields of a dataclass."""
    return {name: value for name, value in vars(args).items() if name in job.__dataclass_fields__}


def _demo(args: argparse.Namespace) -> None:
    demo = _module("geoxt.cli.demo")
    job = demo.Demo(
        **_fields(args, demo.Demo) | {"image": tuple(args.image) if args.image else None, "progress": _progress()}
    )
    report = demo.run(job, log=lambda line: print(line, flush=True))
    print()
    print(demo.describe(report))


def _datasets(args: argparse.Namespace) -> None:
    _module("geoxt.cli.datasets").run(args, print, progress=sys.stderr.isatty())


def _cache(args: argparse.Namespace) -> None:
    module = _module("geoxt.cli.caching")
    print((module.cache_info if args.action == "info" else module.cache_clear)(args.folder))


def _bench(args: argparse.Namespace) -> None:
    bench = _module("geoxt.cli.bench")
    options = {"image": tuple(args.image), "num_workers": tuple(args.num_workers) if args.num_workers else None}
    job = bench.Bench(**_fields(args, bench.Bench) | options)
    print(bench.describe(job, bench.run(job, log=lambda line: print(line, flush=True))))


def _module(name: str) -> Any:
    """Import the module of a command on demand: torch and Lightning take seconds to import."""
    # Idle OpenMP threads of torch spin by default, which slows training up to six times while another program uses
    # the cores. OpenMP reads this variable once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        msg = f"Cannot run this command without {error.name}."
        raise MissingDependency(msg, remedy="Run pip install 'geoxt[train,plot,assess]'.") from error
