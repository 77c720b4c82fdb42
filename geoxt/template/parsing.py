"""Parsing of path templates into fields, folder levels and a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from geoxt.errors import InputError
from geoxt.template.fields import Field, parse_field

FOLDERS = "**/"
"""Part of a template that matches any number of folders, including none."""
_ABOVE = "(?:(?s:.*)/)?"
"""Regular expression of any folders before a template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One folder level of a template."""

    literal: str | None
    """Text of a level without fields, `**/` for any folders; `None` for a level with fields."""
    regex: re.Pattern[str]
    """Regular expression of this level alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A parsed template."""

    parts: tuple[str | Field, ...]
    """Texts, `/`, `**/` and fields, in order."""
    fields: dict[str, Field]
    """Unique fields by name."""
    levels: tuple[Level, ...]
    """Folder levels; the last is the file name."""
    regex: str
    """Regular expression of the whole path, with fields as named groups."""

    def texts(self, path: str, *, tail: bool) -> dict[str, str] | None:
        """Return the text of each field of a path (with `tail` of its end), or `None` without a match."""
        match = re.fullmatch(f"{_ABOVE}{self.regex}" if tail else self.regex, path)
        texts = {name: match[name] for name in self.fields} if match else None
        return None if texts is None or any("/" in text for text in texts.values()) else texts


@lru_cache(maxsize=1024)
def parse(pattern: str) -> Parsed:
    """Parse a template; raises InputError if it is invalid."""
    fields: dict[str, Field] = {}
    parts = tuple(
        _first_occurrence(part, fields, pattern) if isinstance(part, Field) else part for part in _split_fields(pattern)
    )
    levels = _split_levels(parts)
    _check_levels(levels, pattern)
    named: set[str] = set()
    regex = "".join(
        "(?:[^/]+/)*" if level == [FOLDERS] else _regex(level, named) + ("/" if level is not levels[-1] else "")
        for level in levels
    )
    return Parsed(parts=parts, fields=fields, levels=tuple(_level(level) for level in levels), regex=regex)


@lru_cache(maxsize=16)
def any_regex(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Return the regular expression of all paths whose end matches a template; it also matches some others."""
    # The fields of templates have the same names.
    regexes = (re.sub(r"(?<!\\)\(\?P([<=])", rf"(?P\1t{i}_", parse(text).regex) for i, text in enumerate(patterns))
    return re.compile(f"{_ABOVE}(?:{'|'.join(regexes)})")


def _split_fields(pattern: str) -> Iterator[str | Field]:
    """Yield texts, `/`, `**/` and fields in order."""
    start = depth = 0
    for position, character in enumerate(pattern):
        if character == "{":
            if depth == 0:
                yield from _split_text(pattern[start:position])
                start = position + 1
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                yield parse_field(pattern[start:position])
                start = position + 1
        if depth < 0:
            break
    if depth:
        problem = f"Cannot parse the template {pattern!r}: its braces are not balanced."
        raise InputError(problem, remedy="Write fields as {{name}} or {{name:form}}.")
    yield from _split_text(pattern[start:])


def _split_text(text: str) -> Iterator[str]:
    return (piece for piece in re.split(r"(\*\*/|/)", text) if piece)


def _first_occurrence(field: Field, fields: dict[str, Field], pattern: str) -> Field:
    """Return the first occurrence of a field; repetitions may omit its form."""
    first = fields.setdefault(field.name, field)
    if field.form and field != first:
        forms = f"{first.form!r} and {field.form!r}"
        problem = f"Cannot parse the template {pattern!r}: {{{field.name}}} has the forms {forms}."
        raise InputError(problem, remedy="Write the form of a repeated field once, at its first occurrence.")
    return first


def _split_levels(parts: Iterable[str | Field]) -> list[list[str | Field]]:
    levels: list[list[str | Field]] = [[]]
    for part in parts:
        if part != "/":
            levels[-1].append(part)
        if part in {"/", FOLDERS}:
            levels.append([])
    return levels


def _check_levels(levels: list[list[str | Field]], pattern: str) -> None:
    for level in levels:
        text = "".join(part if isinstance(part, str) else "{}" for part in level)
        if text in {"", ".", ".."} or ("**" in text and text != FOLDERS):
            problem = f"Cannot parse the template {pattern!r}: {text!r} is not a folder or file name."
            remedy = "Write a relative path to a file, such as folder/{{name}}.tif or **/{{name}}.tif."
            raise InputError(problem, remedy=remedy)


def _level(level: list[str | Field]) -> Level:
    literal = level[0] if len(level) == 1 and isinstance(level[0], str) else None
    return Level(literal=literal, regex=re.compile(_regex(level, set())))


def _regex(level: list[str | Field], named: set[str]) -> str:
    """Return the regular expression of one level; repeated fields become back-references."""
    pieces = []
    for position, part in enumerate(level):
        if isinstance(part, str):
            pieces.append(re.escape(part))
        elif part.name in named:
            pieces.append(f"(?P={part.name})")
        else:
            # As in a shell, where `*` does not match hidden files.
            not_hidden = "(?!\\.)" if position == 0 and part.kind == "text" else ""
            pieces.append(f"{not_hidden}(?P<{part.name}>{part.regex})")
            named.add(part.name)
    return "".join(pieces)
