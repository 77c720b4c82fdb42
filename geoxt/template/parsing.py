"""A template taken apart: its fields, its folder levels and the expression that recognises it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from geoxt.errors import InputError
from geoxt.template.fields import Field, parse_field

FOLDERS = "**/"
"""The part of a template that stands for any number of folders, also none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One folder level of a template."""

    literal: str | None
    """Its text where it has no field, `**/` for any folders; `None` where it has one."""
    regex: re.Pattern[str]
    """What its text looks like, taken alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A template taken apart."""

    parts: tuple[str | Field, ...]
    """Texts, `/`, `**/` and fields, as they stand."""
    fields: dict[str, Field]
    """Each field once, by name."""
    levels: tuple[Level, ...]
    """The folder levels, the last one the file's."""
    regex: str
    """What the whole path looks like; a field is a group of its name."""

    def texts(self, path: str, *, tail: bool) -> dict[str, str] | None:
        """Return the text of each field, or `None` where the path, or with `tail` its end, does not fit."""
        found = re.fullmatch(f"(?:(?s:.*)/)?{self.regex}" if tail else self.regex, path)
        texts = {name: found[name] for name in self.fields} if found else None
        return None if texts is None or any("/" in text for text in texts.values()) else texts


@lru_cache(maxsize=1024)
def parse(pattern: str) -> Parsed:
    """Take a template apart; `InputError` where it cannot be read."""
    fields: dict[str, Field] = {}
    parts = tuple(_known(part, fields, pattern) if isinstance(part, Field) else part for part in _pieces(pattern))
    levels = _split(parts)
    _check_levels(levels, pattern)
    seen: set[str] = set()
    whole = "".join(
        "(?:[^/]+/)*" if level == [FOLDERS] else _regex(level, seen) + ("/" if level is not levels[-1] else "")
        for level in levels
    )
    return Parsed(parts=parts, fields=fields, levels=tuple(_level(level) for level in levels), regex=whole)


def _pieces(pattern: str) -> Iterator[str | Field]:
    """Yield texts, `/`, `**` and fields as they stand in the template."""
    start = depth = 0
    for at, sign in enumerate(pattern):
        if sign == "{":
            if depth == 0:
                yield from _literals(pattern[start:at])
                start = at + 1
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield parse_field(pattern[start:at])
                start = at + 1
        if depth < 0:
            break
    if depth:
        msg = (
            f"Cannot read the template {pattern!r}: its braces do not pair. Write fields as {{name}} or {{name:form}}."
        )
        raise InputError(msg)
    yield from _literals(pattern[start:])


def _literals(text: str) -> Iterator[str]:
    return (piece for piece in re.split(r"(\*\*/|/)", text) if piece)


def _known(field: Field, fields: dict[str, Field], pattern: str) -> Field:
    """Return the field as it was first written; a repetition may leave its form out."""
    first = fields.setdefault(field.name, field)
    if field.form and field != first:
        msg = (
            f"Cannot read the template {pattern!r}: {{{field.name}}} has the forms {first.form!r} and {field.form!r}. "
            "Give a repeated field its form once, where it first stands."
        )
        raise InputError(msg)
    return first


def _split(parts: Iterable[str | Field]) -> list[list[str | Field]]:
    levels: list[list[str | Field]] = [[]]
    for part in parts:
        if part != "/":
            levels[-1].append(part)
        if part in {"/", FOLDERS}:
            levels.append([])
    return levels


def _check_levels(levels: list[list[str | Field]], pattern: str) -> None:
    for level in levels:
        whole = "".join(part if isinstance(part, str) else "{}" for part in level)
        if whole in {"", ".", ".."} or ("**" in whole and whole != FOLDERS):
            msg = (
                f"Cannot read the template {pattern!r}: {whole!r} cannot be one of its levels. "
                "Write a relative path to a file, as folder/{name}.tif or **/{name}.tif."
            )
            raise InputError(msg)


def _level(level: list[str | Field]) -> Level:
    literal = level[0] if len(level) == 1 and isinstance(level[0], str) else None
    return Level(literal=literal, regex=re.compile(_regex(level, set())))


def _regex(level: list[str | Field], seen: set[str]) -> str:
    """Return the expression of one level; fields seen before refer back to their first text."""
    pieces = []
    for at, part in enumerate(level):
        if isinstance(part, str):
            pieces.append(re.escape(part))
        elif part.name in seen:
            pieces.append(f"(?P={part.name})")
        else:
            hidden = "(?!\\.)" if at == 0 and part.kind == "text" else ""  # as in a shell, `*` finds no hidden file
            pieces.append(f"{hidden}(?P<{part.name}>{part.regex})")
            seen.add(part.name)
    return "".join(pieces)
