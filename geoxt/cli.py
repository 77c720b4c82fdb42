"""The command line: `geoxt demo`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from geoxt import __version__
from geoxt.errors import GeoxtError, MissingDependency

FAILED = 2
"""Exit code where the input was at fault; argparse has the same."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Parameters
    ----------
    argv
        The arguments; those of the process by default.
    """
    args = parser().parse_args(argv)
    try:
        _demo(args)
    except GeoxtError as error:
        print(f"geoxt: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("geoxt: interrupted", file=sys.stderr)
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
    return top


def _demo(args: argparse.Namespace) -> None:
    demo = _module("geoxt.demo")
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
