"""Path templates: match a path, fill in fields, find files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from geoxt.errors import InputError, ReadError
from geoxt.template.fields import Field, Interval, Value, date_interval
from geoxt.template.parsing import FOLDERS, Level, Parsed, parse
from geoxt.types import SomePath

Fields = dict[str, Value]
"""Field values of one path by name, in the order of the template."""


@dataclass(frozen=True, slots=True)
class Template:
    """A path relative to a root folder, with fields in braces; `geoxt.template` lists their forms.

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
        """Names of the fields that `fill` needs, in order, including those with a leading underscore."""
        return tuple(parse(self.pattern).fields)

    def form(self, name: str) -> str:
        """Return the form of a field, the text after its colon; empty for any text and for unknown fields."""
        fields = parse(self.pattern).fields
        return fields[name].form if name in fields else ""

    def choices(self, name: str) -> tuple[str, ...]:
        """Return the choices of a field; empty for fields of another form."""
        fields = parse(self.pattern).fields
        return fields[name].choices if name in fields else ()

    def match(self, path: SomePath, *, tail: bool = False) -> Fields | None:
        """Return the fields of a path, or `None` if it does not match.

        Parameters
        ----------
        path
            Path relative to the root; with `tail`, a path or URL whose end must match.
        tail
            Allow any folders before the template.
        """
        parsed = parse(self.pattern)
        texts = parsed.texts(_posix(path), tail=tail)
        if texts is None:
            return None
        try:
            return {name: parsed.fields[name].read(text) for name, text in texts.items() if not name.startswith("_")}
        except ValueError:  # digits that are not a date, such as 20230230
            return None

    def fill(self, fields: Mapping[str, Value]) -> str:
        """Return the path of some fields: the inverse of `match`.

        Folders written `**` are omitted; fields with a leading underscore need a value too.

        Raises
        ------
        InputError
            If a field is missing, unknown or of a wrong form, or if the path would be parsed differently.
        """
        parsed = parse(self.pattern)
        self._check_names(parsed, fields)
        texts = {name: field.write(fields[name]) for name, field in parsed.fields.items()}
        path = _join_texts((part for part in parsed.parts if part != FOLDERS), texts)
        if parsed.texts(path, tail=False) != texts:
            problem = f"Cannot fill {self.pattern!r} with {texts}: {path!r} would be parsed as other fields."
            remedy = "Pass values without the template's separators, or give its fields a form."
            raise InputError(problem, remedy=remedy)
        return path

    def glob(self, fields: Mapping[str, Value] | None = None) -> str:
        """Return a `glob` pattern of the paths; fields without a value become `*`.

        It may match other paths too: filter them by `match`.
        """
        parsed = parse(self.pattern)
        texts = {name: glob.escape(parsed.fields[name].write(value)) for name, value in (fields or {}).items()}
        pieces: list[str] = []
        for part in parsed.parts:
            if isinstance(part, Field):
                piece = texts.get(part.name, "*")
                pieces += [piece] if pieces[-1:] != ["*"] or piece != "*" else []  # `**` would mean folders
            else:
                pieces.append(part if part == FOLDERS else glob.escape(part))
        return "".join(pieces)

    def find(self, root: SomePath, *, listed: Callable[[str], None] | None = None) -> Iterator[tuple[Path, Fields]]:
        """Yield each matching path below a folder with its fields, sorted by name.

        Only folders whose name contains a field are listed.

        Parameters
        ----------
        root
            Folder to search.
        listed
            Called with each listed folder, relative to `root`: a cached result is valid until one of these changes.

        Raises
        ------
        InputError
            If the folder does not exist.
        ReadError
            If a folder may not be listed.
        """
        folder = Path(root)
        return ((folder / relative, fields) for relative, fields in self.below(folder, listed=listed))

    def below(self, root: SomePath, *, listed: Callable[[str], None] | None = None) -> Iterator[tuple[str, Fields]]:
        """Yield the results of `find` with paths as text relative to the folder, which takes 20% less time."""
        folder = Path(root)
        if not folder.is_dir():
            problem = f"Cannot find {self.pattern!r} in {str(folder)!r}: it is not a folder."
            raise InputError(problem, remedy="Pass an existing folder.")
        for relative in _walk(str(folder), "", parse(self.pattern).levels, listed or _ignore):
            fields = self.match(relative)
            if fields is not None:
                yield relative, fields

    def interval(self, fields: Mapping[str, Value]) -> Interval | None:
        """Return the interval of a path's first date, or `None` without a date.

        A date with a day covers that day, a date with a year only that year. If the template has a second date named
        `stop`, the interval ends with that date.
        """
        dates = [field for name, field in parse(self.pattern).fields.items() if field.kind == "date" and name in fields]
        if not dates:
            return None
        last = next((field for field in dates if field.name == "stop"), dates[0])
        return date_interval(dates[0], fields[dates[0].name])[0], date_interval(last, fields[last.name])[1]

    def _check_names(self, parsed: Parsed, fields: Mapping[str, Value]) -> None:
        if missing := [name for name in parsed.fields if name not in fields]:
            problem = f"Cannot fill {self.pattern!r}: no value for {', '.join(missing)}."
            raise InputError(problem, remedy="Pass a value for each field.")
        if unknown := [name for name in fields if name not in parsed.fields]:
            problem = f"Cannot fill {self.pattern!r}: no field named {', '.join(unknown)}."
            raise InputError(problem, remedy=f"Pass values of {', '.join(parsed.fields)}.")


def _join_texts(parts: Iterable[str | Field], texts: Mapping[str, str]) -> str:
    return "".join(texts[part.name] if isinstance(part, Field) else part for part in parts)


def _posix(path: SomePath) -> str:
    text = os.fspath(path)
    return text.replace(os.sep, "/") if os.sep != "/" else text


def _ignore(_: str) -> None:
    """Do nothing."""


def _walk(root: str, above: str, levels: tuple[Level, ...], listed: Callable[[str], None]) -> Iterator[str]:
    """Yield the relative paths whose levels match one by one."""
    level, below = levels[0], levels[1:]
    if level.literal == FOLDERS:
        yield from _walk(root, above, below, listed)
        listed(above)
        for name in _list_folder(root, above, folders=True):
            yield from _walk(root, f"{above}{name}/", levels, listed)
        return
    if level.literal is not None:
        names = [level.literal] if _exists(root, f"{above}{level.literal}") else []
    else:
        listed(above)
        names = [name for name in _list_folder(root, above, folders=bool(below)) if level.regex.fullmatch(name)]
    for name in names:
        if below:
            yield from _walk(root, f"{above}{name}/", below, listed)
        else:
            yield f"{above}{name}"


def _list_folder(root: str, above: str, *, folders: bool) -> list[str]:
    try:
        with os.scandir(f"{root}/{above}") as entries:
            return sorted(entry.name for entry in entries if not folders or entry.is_dir())
    except NotADirectoryError:
        return []
    except PermissionError as error:
        raise _unreadable(f"{root}/{above}", error) from error


def _exists(root: str, path: str) -> bool:
    """Return whether a path exists; `os.path.lexists` also returns False in a folder without search permission."""
    try:
        os.lstat(f"{root}/{path}")
    except PermissionError as error:
        raise _unreadable(f"{root}/{path.rpartition('/')[0]}", error) from error
    except (OSError, ValueError):
        return False
    return True


def _unreadable(folder: str, error: OSError) -> ReadError:
    text = str(Path(folder))
    return ReadError(
        f"Cannot list the folder {text!r}: {error.strerror}.", remedy="Grant read and search permission for it."
    )
