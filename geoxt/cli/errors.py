"""Errors retold for the command line: by its options, where functions name their arguments in Python."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from geoxt.errors import GeoxtError

_ASIDE = re.compile(r"; [a-z_]+=[^;()]*(?=\))")
"""An argument that an error proposes in brackets, beside its remedy."""
_ARGUMENT = re.compile(r"\b[a-z_]+=")
"""An argument in Python; a command's own pairs are written in capitals."""


@contextmanager
def for_the_shell(remedy: str | None = None, *, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """Give errors in terms of a command; what was noted beside them stays.

    Parameters
    ----------
    remedy
        Takes the place of one that names an argument which the command lacks.
    options
        The command's options, by the name of the argument in Python.
    """
    try:
        yield
    except GeoxtError as error:
        text = _ASIDE.sub("", str(error))
        for name, option in (options or {}).items():
            text = re.sub(rf"\b{name}= ?", f"{option} ", text)
        found, _, told = text.rpartition(" Pass ")
        if remedy is not None and _ARGUMENT.search(told):
            text = f"{found} {remedy}"
        if text == str(error):
            raise
        again = type(error)(text)
        for note in getattr(error, "__notes__", ()):
            again.add_note(note)
        raise again from error
