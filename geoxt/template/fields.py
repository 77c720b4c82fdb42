"""One field of a path template: its regular expression, parsing and formatting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from geoxt.errors import InputError

Value = str | int | datetime
"""Value of a field: text, an integer or a date (naive, UTC)."""
Interval = tuple[datetime, datetime]
"""First and last instant, both included, in microseconds (UTC)."""
Kind = Literal["text", "choice", "date", "integer", "regex"]

_DIGITS = {"Y": 4, "y": 2, "m": 2, "d": 2, "j": 3, "H": 2, "M": 2, "S": 2, "f": 6}
_STEPS = {
    "S": timedelta(seconds=1),
    "M": timedelta(minutes=1),
    "H": timedelta(hours=1),
    "d": timedelta(days=1),
    "j": timedelta(days=1),
}
_MICROSECOND = timedelta(microseconds=1)
_REGEX_CHARACTERS = frozenset("\\[](){}*?^$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A named field of a path."""

    name: str
    """Python identifier; with a leading `_`, matches do not return the field."""
    form: str
    """Text after the colon; empty for any text."""
    kind: Kind
    """Kind of form."""
    regex: str
    """Regular expression of the text."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Choices of a field of kind "choice", else empty."""
        return tuple(self.form.split("|")) if self.kind == "choice" else ()

    def read(self, text: str) -> Value:
        """Return the value of a matching text; raises ValueError for an impossible date such as February 30."""
        match self.kind:
            case "date":
                return datetime.strptime(text, self.form)  # noqa: DTZ007 - dates in names are naive, in UTC
            case "integer":
                return int(text)
            case _:
                return text

    def write(self, value: Value | date) -> str:
        """Return the text whose value is `value`; raises InputError if the value has no text."""
        text = self._text(value)
        if text is None or "/" in text or not re.fullmatch(self.regex, text) or self.read(text) != _as_datetime(value):
            form = repr(self.form) if self.form else "text within one folder level"
            problem = f"Cannot write {value!r} as {{{self.name}}}: its form is {form}."
            raise InputError(problem, remedy=f"Pass a value of {self.name!r} in that form.")
        return text

    def _text(self, value: Value | date) -> str | None:
        match self.kind:
            case "date":
                return value.strftime(self.form) if isinstance(value, date) else None
            case "integer":
                is_integer = isinstance(value, int) and not isinstance(value, bool)
                return f"{value:0{self.form[:-1] or 1}d}" if is_integer else None
            case _:
                return value if isinstance(value, str) else None


def parse_field(text: str) -> Field:
    """Return the field of a text between braces, such as `time:%Y%m%d`."""
    name, _, form = text.partition(":")
    if not name.isidentifier():
        problem = f"Cannot parse the field {{{text}}}: {name!r} is not an identifier."
        raise InputError(problem, remedy="Write {{name}} or {{name:form}}.")
    kind = _kind(form)
    return Field(name=name, form=form, kind=kind, regex=_regex(form, kind, text))


def date_interval(field: Field, value: Value) -> Interval:
    """Return the interval of a date: a whole day if the form ends with the day, and so on."""
    if not isinstance(value, datetime):
        problem = f"Cannot convert {{{field.name}}}={value!r} to an interval."
        raise InputError(problem, remedy="Pass a datetime.")
    unit = next(code for code in "fSMHdjmYy" if f"%{code}" in field.form)
    return value, _end(value, unit) - _MICROSECOND if unit != "f" else value


def _end(value: datetime, unit: str) -> datetime:
    """Return the first instant after the second, minute, hour, day, month or year that begins at `value`."""
    if unit in _STEPS:
        return value + _STEPS[unit]
    if unit == "m" and value.month < 12:
        return value.replace(month=value.month + 1)
    return value.replace(year=value.year + 1, month=1)


def _as_datetime(value: Value | date) -> Value:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - dates in names are naive, in UTC
    return value


def _kind(form: str) -> Kind:
    if not form:
        return "text"
    if "%" in form:
        return "date"
    if re.fullmatch(r"[1-9]?[0-9]*d", form):
        return "integer"
    return "regex" if _REGEX_CHARACTERS & set(form) else "choice"


def _regex(form: str, kind: Kind, text: str) -> str:
    match kind:
        case "text":
            return "[^/]+?"
        case "choice":
            return "|".join(re.escape(choice) for choice in form.split("|"))
        case "integer":
            return f"[0-9]{{{form[:-1]}}}" if form != "d" else "0|[1-9][0-9]*"
        case "date":
            return _date_regex(form, text)
        case "regex":
            return _custom_regex(form, text)
        case _:
            raise AssertionError(kind)


def _date_regex(form: str, text: str) -> str:
    codes = re.findall("%(.)", form)
    if not set(codes) <= set(_DIGITS) or not {"Y", "y"} & set(codes) or len(set(codes)) < len(codes):
        known = " ".join(f"%{code}" for code in _DIGITS)
        problem = f"Cannot parse the date of {{{text}}}."
        raise InputError(problem, remedy=f"Write a year (%Y or %y) and smaller units, each once, from {known}.")
    pieces = re.split("(%.)", form)
    return "".join(f"[0-9]{{{_DIGITS[p[1]]}}}" if p.startswith("%") else re.escape(p) for p in pieces)


def _custom_regex(form: str, text: str) -> str:
    try:
        groups = re.compile(form).groupindex
    except re.error as error:
        problem = f"Cannot compile the regular expression of {{{text}}}: {error}."
        raise InputError(problem, remedy="Correct it, or escape special characters with a backslash.") from error
    if groups:
        problem = f"Cannot use named groups in {{{text}}}: found {', '.join(groups)}."
        raise InputError(problem, remedy="Make them fields of the template.")
    return form
