"""`geoxt datasets`: list, describe, download and verify benchmark datasets."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

from geoxt.datasets.catalog import get, names
from geoxt.datasets.dataset import load
from geoxt.datasets.fetch import fetch
from geoxt.datasets.summary import describe, format_size
from geoxt.errors import DatasetWarning, InputError, ReadError
from geoxt.template import Value


def run(args: argparse.Namespace, log: Callable[[str], None], *, progress: bool = False) -> None:
    """Run an action, and print its result.

    Raises
    ------
    ReadError
        If the dataset on disk is incomplete.
    """
    match args.action:
        case "list":
            for name in names():
                spec = get(name)
                log(f"{name:<20} {spec.task:<16} {spec.samples or '':>8} {format_size(spec):>13}  {spec.title}")
        case "info":
            log(describe(args.name))
        case "fetch":
            root = fetch(
                args.name,
                args.root,
                **_part(args),
                checksum=args.checksum,
                progress=progress,
                force=args.force,
                keep_archives=args.keep_archives,
            )
            log(f"{get(args.name).title} is in {root}")
        case "verify":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DatasetWarning)  # stated by the report
                report = load(args.name, args.root, **_part(args), missing="skip").verify(deep=args.deep)
            log(str(report))
            if not report.ok:
                msg = f"{args.name!r} in {args.root!r} has {len(report.problems)} problems."
                raise ReadError(msg, remedy=f"Run geoxt datasets fetch {args.name} {args.root} --force.")
        case _:
            raise InputError(f"Cannot run {args.action!r}.", remedy="Pass list, info, fetch or verify.")


def _part(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `fetch` and `load` that select a part of a release."""
    where: dict[str, list[Value]] = {}
    for text in args.where or ():
        name, _, value = text.partition("=")
        if not name or not value:
            msg = f"Cannot select samples by {text!r}: it is not of the form FIELD=VALUE."
            raise InputError(msg, remedy="Pass {where} such as season=ROIs1158_spring.", value=text, argument="where")
        where.setdefault(name, []).append(value)
    return {"split": args.split, "assets": args.assets, "where": where or None}
