"""Errors in the CLI: remedies that name its flags."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from geoxt.errors import GeoxtError, arguments_of

FLAGS = {"max_codes": "--classes", "folder": "--out"}
"""Flags whose names differ from those of the function arguments; used if the command has the flag."""
FILES = (
    "with a CRS and of one grid: leave the others out, or warp them to it (gdalwarp). A file without a CRS gets one by "
    "gdal_edit.py -a_srs EPSG:…"
)
"""Requirements on input files, for commands without options to assign a CRS or choose a grid."""


def command_parser(top: argparse.ArgumentParser, *commands: str) -> argparse.ArgumentParser:
    """Return the parser of a command or subcommand."""
    parser = top
    for command in commands:
        actions = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
        parser = actions.choices[command]
    return parser


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the flags of a command, or the metavars of positional arguments, by function argument.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("images", metavar="IMAGE")
    >>> _ = parser.add_argument("--batch-size")
    >>> flags_of(parser)
    {'help': '--help', 'images': 'IMAGE', 'batch_size': '--batch-size'}
    """
    actions = parser._actions  # noqa: SLF001
    flags = {a.dest: a.option_strings[-1] if a.option_strings else str(a.metavar or a.dest) for a in actions}
    return flags | {name: flag for name, flag in FLAGS.items() if flag in flags.values()}


@contextmanager
def replaced_remedy(remedy: str, *, flags: Collection[str] = ()) -> Iterator[None]:
    """Replace the remedy of an error that names a function argument without a flag.

    Parameters
    ----------
    remedy
        Replacement.
    flags
        Function arguments that have a flag.
    """
    try:
        yield
    except GeoxtError as error:
        if set(arguments_of(error.remedy)) - set(flags):
            error.remedy = remedy
        raise
