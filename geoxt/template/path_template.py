"""The template of a path: match, fill and find."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoxt.errors import InputError
from geoxt.template.fields import Field, Interval, Value, date_interval
from geoxt.template.parsing import FOLDERS, Level, Parsed, parse
from geoxt.types import SomePath

Fields = dict[str, Value]
"""The fields of one path by name, in the order of the template."""


@dataclass(frozen=True, slots=True)
class Template:
    """A path relative to some root, with fields in braces; `geoxt.template` lists their forms.

    Examples
    --------
    >>> template = Template("{split:train|test}/{area}_{id:3d}.tif")
    >>> template.match("train/harbour_007.tif")
    {'split': 'train', 'area': 'harbour', 'id': 7}
    >>> template.fill({"split": "test", "area": "town", "id": 12})
    'test/town_012.tif'
    """

    pattern: str
    """The template as written, with `/` between folders."""

    def __post_init__(self) -> None:
        parse(self.pattern)

    def __str__(self) -> str:
        return self.pattern

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields that a match returns, in order."""
        return tuple(name for name in parse(self.pattern).fields if not name.startswith("_"))

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the fields that `fill` needs, in order: those that a match passes over too."""
        return tuple(parse(self.pattern).fields)

    def form(self, name: str) -> str:
        """Return what the template says after the colon of a field; empty for any text, and for no field of it."""
        fields = parse(self.pattern).fields
        return fields[name].form if name in fields else ""

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the texts that a field of alternatives may have; none for a field of another form."""
        fields = parse(self.pattern).fields
        return fields[name].choices if name in fields else ()

    def match(self, path: SomePath, *, tail: bool = False) -> Fields | None:
        """Return the fields of a path, or `None` where it does not fit.

        Parameters
        ----------
        path
            A path relative to the root; with `tail`, a path or URL of which the end has to fit.
        tail
            Let any folders stand before the template.
        """
        parsed = parse(self.pattern)
        texts = parsed.texts(_posix(path), tail=tail)
        if texts is None:
            return None
        try:
            return {name: parsed.fields[name].read(text) for name, text in texts.items() if not name.startswith("_")}
        except ValueError:  # digits in the shape of a date that no calendar has
            return None

    def fill(self, fields: Mapping[str, Value]) -> str:
        """Return the path that has these fields: `match` of it returns them again.

        Folders written `**` are left out; a passed-over field needs a value too.

        Raises
        ------
        InputError
            If a field is missing, unknown or of a wrong form, or if the path would be read differently.
        """
        parsed = parse(self.pattern)
        self._require(parsed, fields)
        texts = {name: field.write(fields[name]) for name, field in parsed.fields.items()}
        path = _joined((part for part in parsed.parts if part != FOLDERS), texts)
        if parsed.texts(path, tail=False) != texts:
            msg = (
                f"Cannot fill {self.pattern!r} with {texts}: {path!r} would be read as other fields. "
                "Pass values without the template's own separators, or give its fields a form."
            )
            raise InputError(msg)
        return path

    def glob(self, fields: Mapping[str, Value] | None = None) -> str:
        """Return a pattern for `glob` that finds the paths; fields without a value become `*`.

        It may find more than what fits: pass what it finds to `match`.
        """
        parsed = parse(self.pattern)
        given = {name: glob.escape(parsed.fields[name].write(value)) for name, value in (fields or {}).items()}
        pieces: list[str] = []
        for part in parsed.parts:
            if isinstance(part, Field):
                piece = given.get(part.name, "*")
                pieces += [piece] if pieces[-1:] != ["*"] or piece != "*" else []  # `**` would mean folders
            else:
                pieces.append(part if part == FOLDERS else glob.escape(part))
        return "".join(pieces)

    def find(self, root: SomePath, *, listed: Callable[[str], None] | None = None) -> Iterator[tuple[Path, Fields]]:
        """Yield every path under a folder that fits, with its fields, in the order of names.

        Folders are listed only where the template leaves their names open.

        Parameters
        ----------
        root
            The folder.
        listed
            Called with each folder that is listed, relative to `root`: what was found holds while these stay as they
            are.

        Raises
        ------
        InputError
            If the folder does not exist.
        """
        folder = Path(root)
        return ((folder / relative, fields) for relative, fields in self.below(folder, listed=listed))

    def below(self, root: SomePath, *, listed: Callable[[str], None] | None = None) -> Iterator[tuple[str, Fields]]:
        """Yield what `find` does, with paths as text relative to the folder: for very many, a fifth quicker."""
        folder = Path(root)
        if not folder.is_dir():
            msg = f"Cannot look for {self.pattern!r} in {str(folder)!r}: it is not a folder. Pass one that exists."
            raise InputError(msg)
        for relative in _walk(str(folder), "", parse(self.pattern).levels, listed or _nothing):
            fields = self.match(relative)
            if fields is not None:
                yield relative, fields

    def interval(self, fields: Mapping[str, Value]) -> Interval | None:
        """Return the time that a path's first date covers, or `None` without one.

        A date given to the day covers that day, one given to the year that year. Where
        the template has a second date named `stop`, the interval ends with that one.
        """
        dates = [field for name, field in parse(self.pattern).fields.items() if field.kind == "date" and name in fields]
        if not dates:
            return None
        last = next((field for field in dates if field.name == "stop"), dates[0])
        return date_interval(dates[0], fields[dates[0].name])[0], date_interval(last, fields[last.name])[1]

    def _require(self, parsed: Parsed, fields: Mapping[str, Value]) -> None:
        if missing := [name for name in parsed.fields if name not in fields]:
            msg = f"Cannot fill {self.pattern!r}: no value for {', '.join(missing)}. Pass one for each field."
            raise InputError(msg)
        if unknown := [name for name in fields if name not in parsed.fields]:
            msg = (
                f"Cannot fill {self.pattern!r}: no field named {', '.join(unknown)}. It has {', '.join(parsed.fields)}."
            )
            raise InputError(msg)


def _joined(parts: Iterable[str | Field], texts: Mapping[str, str]) -> str:
    return "".join(texts[part.name] if isinstance(part, Field) else part for part in parts)


def _posix(path: SomePath) -> str:
    text = os.fspath(path)
    return text.replace(os.sep, "/") if os.sep != "/" else text


def _nothing(_: str) -> None:
    """Do nothing."""


def _walk(root: str, above: str, levels: tuple[Level, ...], listed: Callable[[str], None]) -> Iterator[str]:
    """Yield the relative paths of which each level fits, taken alone."""
    level, below = levels[0], levels[1:]
    if level.literal == FOLDERS:
        yield from _walk(root, above, below, listed)
        listed(above)
        for name in _listed(root, above, folders=True):
            yield from _walk(root, f"{above}{name}/", levels, listed)
        return
    if level.literal is None:
        listed(above)
    if level.literal is not None:
        names = [level.literal] if os.path.lexists(f"{root}/{above}{level.literal}") else []
    else:
        names = [name for name in _listed(root, above, folders=bool(below)) if level.regex.fullmatch(name)]
    for name in names:
        if below:
            yield from _walk(root, f"{above}{name}/", below, listed)
        else:
            yield f"{above}{name}"


def _listed(root: str, above: str, *, folders: bool) -> list[str]:
    try:
        with os.scandir(f"{root}/{above}") as entries:
            return sorted(entry.name for entry in entries if not folders or entry.is_dir())
    except NotADirectoryError:
        return []
