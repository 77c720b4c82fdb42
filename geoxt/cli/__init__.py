"""The command line: `geoxt demo`, `geoxt fit`, `geoxt experiment`, `geoxt predict`, `geoxt datasets`, `geoxt bench`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, get_args

from geoxt import __version__
from geoxt.errors import GeoxtError, InputError, MissingDependency
from geoxt.tasks import Output

FAILED = 2
"""Exit code where the input was at fault; argparse has the same."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""
CUT = 141
"""Exit code where the output was closed before its end, as shells give it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Parameters
    ----------
    argv
        The arguments; those of the process by default.
    """
    args, further = parser().parse_known_args(argv)
    if further and args.command != "fit":
        parser().error(f"unrecognized arguments: {' '.join(further)}")
    args.further = further
    commands = {
        "demo": _demo,
        "fit": _fit,
        "experiment": _experiment,
        "predict": _predict,
        "datasets": _datasets,
        "bench": _bench,
    }
    try:
        commands[args.command](args)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads the output has enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CUT
    except GeoxtError as error:
        print(" ".join([f"geoxt: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as error:
        print("; ".join(["geoxt: interrupted", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return INTERRUPTED
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="geoxt", description="Deep learning on geospatial data, natively in xarray and STAC."
    )
    top.add_argument("--version", action="version", version=f"geoxt {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="train a model on labelled imagery and map the whole scene",
        description="Open an image and labels, align them, split them in space, train a U-Net, map the whole scene and "
        "score the map on held-out blocks. Without files, on a small world made for it.",
    )
    demo.add_argument("--out", default="geoxt-demo", metavar="DIR", help="where to write (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="same seed, same result (default: %(default)s)")
    files = demo.add_argument_group("your own files")
    files.add_argument("--image", nargs="+", metavar="GLOB", help="raster files of the image, all bands")
    files.add_argument("--labels", metavar="FILE", help="raster of class codes, in any CRS and resolution")
    files.add_argument("--classes", type=int, metavar="N", help="how many classes the labels may have (default: 64)")
    training = demo.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=15, metavar="N", help="(default: %(default)s)")
    training.add_argument("--model", default="unet", metavar="NAME", help="an architecture (default: %(default)s)")
    training.add_argument("--block", type=int, metavar="PIXELS", help="side of the blocks that are held out whole")
    training.add_argument("--size", type=int, metavar="PIXELS", help="side of the training windows")
    _add_training(commands)
    _add_predict(commands)
    _add_datasets(commands)
    _add_bench(commands)
    return top


def _add_training(commands: Any) -> None:
    commands.add_parser(
        "fit",
        add_help=False,
        help="train as a configuration says, with Lightning's command line",
        description="Takes --config FILE, --out DIR and every option of Lightning's command line.",
    )
    experiment = commands.add_parser(
        "experiment",
        help="run a grid of settings, repeat the best over seeds, and tabulate; or score a model on chips",
        description="Run what a configuration describes. An experiment that was cut off goes on at the same step.",
    )
    what = experiment.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", metavar="FILE", help="YAML: data, learning, training, grid, seeds, compare")
    what.add_argument("--score", metavar="CHIPS", help="score --model on the chips of a folder or zip instead")
    experiment.add_argument("--out", default="geoxt-experiment", metavar="DIR", help="results (default: %(default)s)")
    experiment.add_argument("--model", metavar="FILE", help="with --score: a checkpoint")
    experiment.add_argument("--size", type=int, metavar="PIXELS", help="with --score: side to which chips are scaled")


def _fit(args: argparse.Namespace) -> None:
    _module("geoxt.cli.fit").fit_command(args.further or ["--help"])


def _experiment(args: argparse.Namespace) -> None:
    commands = _module("geoxt.cli.fit")
    if args.score is None:
        commands.experiment_command(args.config, args.out, progress="bar" if sys.stderr.isatty() else "lines")
        return
    if args.model is None:
        msg = "Cannot score chips without a model: pass --model, a checkpoint."
        raise InputError(msg)
    commands.score_command(args.model, args.score, side=args.size)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="map images with a trained model",
        description="Map whole images with a checkpoint, in overlapping tiles, whatever their size. An interrupted "
        "run goes on where it stopped.",
    )
    predict.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="raster files or patterns: all bands of one image; for a model of change or of time series one argument a "
        "date, in order, patterns in quotes (later dates are brought onto the grid of the first)",
    )
    predict.add_argument("--model", required=True, metavar="FILE", help="a checkpoint that geoxt wrote")
    predict.add_argument("--out", required=True, metavar="FILE", help=".tif (COG) or .zarr; for detectors .gpkg, ...")
    predict.add_argument("--bands", nargs="+", metavar="MODEL=IMAGE", help="the images' names of the model's bands")
    predict.add_argument("--output", choices=get_args(Output), help="what to map")
    tiles = predict.add_argument_group("tiles")
    tiles.add_argument("--size", type=int, metavar="PIXELS", help="side of the tiles")
    tiles.add_argument("--overlap", type=int, metavar="PIXELS", help="what neighbours share (default: a quarter)")
    tiles.add_argument("--blend", choices=["linear", "gaussian", "hann", "none"], help="how they are weighted there")
    tiles.add_argument("--batch", type=int, metavar="N", help="tiles that run at once")
    predict.add_argument("--score", type=float, metavar="X", help="least score of what a detector finds")
    predict.add_argument("--agnostic", action="store_true", help="keep the surest class alone of a detector's finds")
    predict.add_argument("--no-resume", action="store_true", help="start anew, and keep nothing after Ctrl-C")


def _predict(args: argparse.Namespace) -> None:
    command = _module("geoxt.cli.predict")
    job = command.Job(
        images=tuple(args.images),
        model=args.model,
        out=args.out,
        output=args.output,
        bands=command.parse_bands(args.bands) if args.bands else None,
        options={"size": args.size, "overlap": args.overlap, "blend": args.blend, "batch_size": args.batch},
        score=args.score,
        agnostic=args.agnostic,
        resume=not args.no_resume,
    )
    print(command.run(job))


def _demo(args: argparse.Namespace) -> None:
    demo = _module("geoxt.cli.demo")
    job = demo.Demo(
        out=args.out,
        seed=args.seed,
        image=tuple(args.image) if args.image else None,
        labels=args.labels,
        classes=args.classes,
        epochs=args.epochs,
        model=args.model,
        block=args.block,
        size=args.size,
        progress="bar" if sys.stderr.isatty() else "lines",
    )
    report = demo.run(job, say=lambda line: print(line, flush=True))
    print()
    print(demo.describe(report))


def _add_datasets(commands: Any) -> None:
    datasets = commands.add_parser("datasets", help="list, describe, fetch and verify benchmark datasets")
    actions = datasets.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="name all datasets")
    info = actions.add_parser("info", help="say what is known of one")
    fetch = actions.add_parser("fetch", help="download, verify and extract one")
    fetch.add_argument("--no-checksum", dest="checksum", action="store_false", help="trust what comes")
    fetch.add_argument("--again", action="store_true", help="extract anew, over what is broken or missing")
    verify = actions.add_parser("verify", help="compare files with what the dataset should have")
    verify.add_argument("--deep", action="store_true", help="read every sample too")
    for action in (info, fetch, verify):
        action.add_argument("name", metavar="NAME", help="as `geoxt datasets list` has it")
    for action in (fetch, verify):
        action.add_argument("root", metavar="DIR", help="folder of its files")


def _datasets(args: argparse.Namespace) -> None:
    _module("geoxt.cli.datasets").run(args, print, progress=sys.stderr.isatty())


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser(
        "bench",
        help="measure how fast windows come from your files",
        description="Read windows of your own files through the loader, and time each mix of workers and threads.",
    )
    bench.add_argument("image", nargs="+", metavar="IMAGE", help="raster files or patterns, all bands")
    bench.add_argument("--labels", metavar="FILE", help="raster of class codes, put on the image's grid")
    bench.add_argument("--product", metavar="NAME", help="known product of the image, such as landsat8")
    bench.add_argument("--size", type=int, default=256, metavar="PIXELS", help="of a window (default: %(default)s)")
    bench.add_argument("--batch", type=int, default=32, metavar="N", help="windows in a batch (default: %(default)s)")
    bench.add_argument("--batches", type=int, default=16, metavar="N", help="that are timed (default: %(default)s)")
    bench.add_argument("--grid", action="store_true", help="read windows side by side rather than at random")
    bench.add_argument("--num-workers", type=int, nargs="+", metavar="N", help="to try (default: 0, 1, 2, 4, ...)")
    bench.add_argument("--repeats", type=int, default=3, metavar="N", help="medians of (default: %(default)s)")


def _bench(args: argparse.Namespace) -> None:
    bench = _module("geoxt.cli.bench")
    given = {name: value for name, value in vars(args).items() if name in bench.Bench.__dataclass_fields__}
    given |= {"image": tuple(args.image), "num_workers": tuple(args.num_workers) if args.num_workers else None}
    job = bench.Bench(**given)
    print(bench.describe(job, bench.run(job, say=lambda line: print(line, flush=True))))


def _module(name: str) -> Any:
    """Load what a command needs only when it is asked for: torch and Lightning take seconds.

    Threads of torch that wait shall sleep: where they spin, as is the default, training takes up to six times as long
    while any other program uses the cores. OpenMP reads this once, when torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        msg = f"Cannot run this command without {error.name}: pip install 'geoxt[train,plot]'."
        raise MissingDependency(msg) from error


if __name__ == "__main__":
    sys.exit(main())
