"""Quality bands: what their bits or classes mean, and the pixels that remain when some are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoxt.errors import InputError
from geoxt.legend import Legend
from geoxt.types import Array, Mask

_ALL = 0xFFFFFFFF
"""A mask that leaves all bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One field of bits."""

    name: str
    """What it says of a pixel where it is set."""
    bit: int
    """Its lowest bit, counted from 0."""
    length: int = 1
    """Its number of bits."""
    values: tuple[str, ...] = ()
    """Names of its values from 0 up, where it has several bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qa:
    """A band whose pixels describe the quality of others: bit fields, or classes."""

    band: str
    """The band's name in its layer."""
    flags: tuple[Flag, ...] = ()
    """Its bit fields; none for a band of classes."""
    legend: Legend | None = None
    """Its classes; `None` for a band of bits."""
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Names that stand for several flags or classes: (name, members)."""
    fill: str | None = None
    """The flag or class of pixels without data; they are never valid."""

    @property
    def names(self) -> tuple[str, ...]:
        """What can be taken out: groups, flags (`flag:value` for those of several bits) and classes."""
        groups = tuple(name for name, _ in self.groups)
        single = tuple(flag.name for flag in self.flags if flag.length == 1)
        several = tuple(f"{flag.name}:{value}" for flag in self.flags for value in flag.values)
        classes = tuple(_key(name) for name in self.legend.names) if self.legend else ()
        return (*groups, *single, *several, *classes)


def qa_valid(values: Array, qa: Qa, what: str | Sequence[str]) -> Mask:
    """Tell which pixels remain when some are taken out.

    Parameters
    ----------
    values
        Pixels of the quality band, whole numbers of any shape.
    qa
        What they mean.
    what
        What to take out: one or several of `qa.names`, as "clouds" or ("clouds", "snow").

    Returns
    -------
    numpy.ndarray
        Of the same shape; true where a pixel has data and is none of `what`.

    Raises
    ------
    InputError
        If the band does not tell that.

    Examples
    --------
    >>> cloud = Qa(band="QA", flags=(Flag(name="fill", bit=0), Flag(name="cloud", bit=3)), fill="fill")
    >>> qa_valid(np.array([0, 1, 8, 64]), cloud, "cloud")
    array([ True, False, False,  True])
    """
    numbers = np.asarray(values).astype("int64")
    good = np.ones(numbers.shape, dtype=bool)
    for bit, mask, value in qa_tests(qa, what):
        good &= (numbers >> bit) & mask != value
    return good


def qa_tests(qa: Qa, what: str | Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """Return what `qa_valid` takes out, as (bit, mask, value): numbers where `(number >> bit) & mask == value`.

    Raises
    ------
    InputError
        If the band does not tell that.

    Examples
    --------
    >>> qa_tests(Qa(band="QA", flags=(Flag(name="cloud", bit=3),)), "cloud")
    ((3, 1, 1),)
    """
    names = _members(qa, [what] if isinstance(what, str) else what)
    return tuple(dict.fromkeys(test for name in names for test in _tests(qa, name)))


def find_qa(bands: Sequence[Qa], what: str | Sequence[str], *, product: str = "") -> Qa:
    """Return the first quality band that tells all of `what`; `InputError` where none does."""
    wanted = {_key(name) for name in ([what] if isinstance(what, str) else what)}
    for qa in bands:
        if wanted <= set(map(_key, qa.names)):
            return qa
    known = "; ".join(f"{qa.band}: {', '.join(qa.names)}" for qa in bands) or "no quality band"
    msg = (
        f"Cannot exclude {', '.join(sorted(wanted))} in {product or 'the product'}: no one band tells. "
        f"It has {known}. Pass exclude= of one of them."
    )
    raise InputError(msg)


def _members(qa: Qa, what: Sequence[str]) -> list[str]:
    """Return flags and classes for names that may be groups, and the fill."""
    groups, members = dict(qa.groups), [qa.fill] if qa.fill else []
    spelt = {_key(name): name for name in qa.names}
    for name in what:
        if _key(name) not in spelt:
            msg = f"Cannot tell {name!r} from {qa.band}: it tells {', '.join(qa.names)}. Pass one or several of these."
            raise InputError(msg)
        members += groups.get(spelt[_key(name)], (spelt[_key(name)],))
    return members


def _tests(qa: Qa, name: str) -> list[tuple[int, int, int]]:
    """Return the tests of a flag or of a class."""
    if qa.legend:
        codes = zip(qa.legend.codes, qa.legend.names, strict=True)
        return [(0, _ALL, code) for code, known in codes if _key(known) == name]
    name, _, value = name.partition(":")
    flag = next(flag for flag in qa.flags if flag.name == name)
    wanted = flag.values.index(value) if value else 1
    return [(flag.bit, (1 << flag.length) - 1, wanted)]


def _key(name: str) -> str:
    return name.strip().lower().replace(" ", "_")
