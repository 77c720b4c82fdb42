"""Errors of configurations in `geoxt fit` and `geoxt experiment`: one line that names configuration keys."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from geoxt.errors import GeoxtError, InputError
from geoxt.trainers.config.parser import GROUPS
from geoxt.trainers.loop.determinism import LIGHTNING_WARNINGS

_KEYS = {f.name: f"{group}.{f.name}" for group, cls in GROUPS.items() for f in fields(cls)}
"""Key of a configuration by argument of the Python functions, where they differ."""
_CONFIGURATION_ERRORS = {"ArgumentError", "NSKeyError", "MisconfigurationException"}
"""Errors of jsonargparse and Lightning about a configuration."""


def key(argument: str) -> str:
    """Return the configuration key of a function argument.

    Examples
    --------
    >>> key("epochs"), key("labels")
    ('training.epochs:', 'labels:')
    """
    return f"{_KEYS.get(argument, argument)}:"


@contextmanager
def configuration_errors(command: str) -> Iterator[None]:
    """Translate errors within the context into one line that names configuration keys instead of arguments.

    Parameters
    ----------
    command
        Name of the command, such as "fit".
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=r"(?s).*(JSONARGPARSE_DEPRECATION_WARNINGS|deprecated.*jsonargparse)"
            )
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="jsonargparse|pytorch_lightning")
            for message in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    except GeoxtError as error:
        raise _by_keys(error) from error
    except SystemExit as stop:
        if stop.code in {0, None}:  # after --help
            raise
        raise KeyboardInterrupt from stop  # Lightning turns KeyboardInterrupt into SystemExit
    except Exception as error:
        if (cause := _cause(error)) is not None:
            raise _by_keys(cause) from error
        if type(error).__name__ not in _CONFIGURATION_ERRORS:
            raise
        text = f"{error}\n{error.__cause__ or ''}"
        msg = f"Cannot {command} by this configuration: {_message(text)}."
        raise InputError(msg, remedy=f"See geoxt {command} --help.") from error


def _by_keys(error: GeoxtError) -> GeoxtError:
    """Return an error that names configuration keys instead of function arguments."""
    renamed = type(error)(error.render(key), value=error.value, argument=error.argument)
    for note in getattr(error, "__notes__", ()):
        renamed.add_note(note)
    return renamed


def _cause(error: BaseException) -> GeoxtError | None:
    """Return the error of geoxt that jsonargparse has wrapped."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, GeoxtError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _message(text: str) -> str:
    """Return jsonargparse's message in one line; of a class's arguments, that below all the types it has tried."""
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines[:-1]):
        if line.startswith("Problem with given class_path"):
            return f"{line.removeprefix('Problem with given ').rstrip(':')}: {lines[index + 1]}".rstrip(".:")
    return ". ".join(lines[:3]).rstrip(".:")
