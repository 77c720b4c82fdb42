"""`geoxt datasets`: list, describe, download and verify benchmark datasets."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

from geoxt.datasets.catalog import get, names
from geoxt.datasets.dataset import load
from geoxt.datasets.fetch import fetch
from geoxt.datasets.summary import describe, size_words
from geoxt.errors import DatasetWarning, InputError, ReadError


def run(args: argparse.Namespace, say: Callable[[str], None], *, progress: bool = False) -> None:
    """Run an action, and print its result.

    Raises
    ------
    ReadError
        The dataset on disk is incomplete.
    """
    match args.action:
        case "list":
            for name in names():
                spec = get(name)
                say(f"{name:<20} {spec.task:<16} {spec.samples or '':>8} {size_words(spec):>13}  {spec.title}")
        case "info":
            say(describe(args.name))
        case "fetch":
            root = fetch(args.name, args.root, checksum=args.checksum, progress=progress, again=args.again)
            say(f"{get(args.name).title} is in {root}")
        case "verify":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DatasetWarning)  # stated by the report
                report = load(args.name, args.root, missing="skip").verify(deep=args.deep)
            say(str(report))
            if not report.ok:
                raise ReadError(
                    f"{args.name!r} in {args.root!r} has {len(report.problems)} problems.",
                    remedy=f"Run geoxt datasets fetch {args.name} {args.root} --again.",
                )
        case _:
            raise InputError(f"Cannot run {args.action!r}.", remedy="Pass list, info, fetch or verify.")
