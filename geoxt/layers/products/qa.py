"""Quality bands: bit flags or classes, and the valid mask without excluded flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geoxt.errors import InputError
from geoxt.legend import Legend

_ALL = 0xFFFFFFFF
"""Mask of all bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A bit field."""

    name: str
    """Name of the flag."""
    bit: int
    """Lowest bit, from 0."""
    length: int = 1
    """Number of bits."""
    values: tuple[str, ...] = ()
    """Names of the values from 0, for a field of several bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qa:
    """A band whose pixels describe the quality of others: bit fields, or classes."""

    band: str
    """Name of the band."""
    flags: tuple[Flag, ...] = ()
    """Bit fields; empty for a band of classes."""
    legend: Legend | None = None
    """Classes; `None` for a band of bit fields."""
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Names that stand for several flags or classes: (name, members)."""
    fill: str | None = None
    """The flag or class of pixels without data; they are never valid."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names that can be excluded: groups, flags (`flag:value` for several bits) and classes."""
        groups = tuple(name for name, _ in self.groups)
        single = tuple(flag.name for flag in self.flags if flag.length == 1)
        several = tuple(f"{flag.name}:{value}" for flag in self.flags for value in flag.values)
        classes = tuple(_key(name) for name in self.legend.names) if self.legend else ()
        return (*groups, *single, *several, *classes)


def qa_tests(qa: Qa, exclude: str | Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """Return the bit tests of excluded pixels, as (bit, mask, value): `(pixel >> bit) & mask == value`.

    Raises
    ------
    InputError
        If the band has no such flag.

    Examples
    --------
    >>> qa_tests(Qa(band="QA", flags=(Flag(name="cloud", bit=3),)), "cloud")
    ((3, 1, 1),)
    """
    names = _members(qa, [exclude] if isinstance(exclude, str) else exclude)
    return tuple(dict.fromkeys(test for name in names for test in _tests(qa, name)))


def find_qa(bands: Sequence[Qa], exclude: str | Sequence[str], *, product: str = "") -> Qa:
    """Return the first quality band with all flags.

    Raises
    ------
    InputError
        If no band has them.
    """
    flags = {_key(name) for name in ([exclude] if isinstance(exclude, str) else exclude)}
    for qa in bands:
        if flags <= set(map(_key, qa.names)):
            return qa
    available = "; ".join(f"{qa.band}: {', '.join(qa.names)}" for qa in bands) or "no quality band"
    problem = f"Cannot exclude {', '.join(sorted(flags))} in {product or 'the product'}: it has {available}."
    raise InputError(problem, remedy="Pass {exclude} with flags of one band.", value=exclude, argument="exclude")


def _members(qa: Qa, names: Sequence[str]) -> list[str]:
    """Return the flags and classes to exclude: those of the names, of which some name groups, and the fill value."""
    groups, members = dict(qa.groups), [qa.fill] if qa.fill else []
    by_key = {_key(name): name for name in qa.names}
    for name in names:
        if _key(name) not in by_key:
            problem = f"Cannot exclude {name!r} by quality band {qa.band}: it has {', '.join(qa.names)}."
            raise InputError(problem, remedy="Pass {exclude} from these.", value=name, argument="exclude")
        members += groups.get(by_key[_key(name)], (by_key[_key(name)],))
    return members


def _tests(qa: Qa, name: str) -> list[tuple[int, int, int]]:
    """Return the tests of a flag or of a class."""
    if qa.legend:
        codes = zip(qa.legend.codes, qa.legend.names, strict=True)
        return [(0, _ALL, code) for code, class_name in codes if _key(class_name) == name]
    name, _, value = name.partition(":")
    flag = next(flag for flag in qa.flags if flag.name == name)
    code = flag.values.index(value) if value else 1
    return [(flag.bit, (1 << flag.length) - 1, code)]


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
