"""Errors and warnings that geoxt raises on purpose.

An error has fields, so that the CLI and a configuration file can show the same remedy by their own option names:

- `problem`: what cannot be done, the value found, and where (scene, file, sample). Shown unchanged.
- `remedy`: what to do about it, in whole sentences. A function argument stands in braces: `{crs}` reads `crs=` in
  Python and `--crs` in the CLI; with a value after a colon, `{crs:'native'}` reads `crs='native'` and `--crs native`.

Raise them so::

    raise CRSError(
        f"Cannot choose one CRS: scene {scene.id!r} is in EPSG:32632, the others in EPSG:32633.",
        remedy="Pass {crs:'native'} for one grid per CRS. Or pass {crs}.",
        argument="crs",
    )

- Name arguments of the Python function, never CLI flags. Values go into `problem`, where braces are literal.
- Write one sentence per alternative: the CLI leaves out a sentence whose argument the command lacks.
- In an f-string, double the braces: `f"Pass {{bands}}, some of {names}."`. In the rendered remedy, `{{x}}` is `{x}`.
- A remedy needs no argument: `remedy="Put the .MTL file beside the bands."`
- To add context: `raise ReadError(f"{path}: {error.problem}", remedy=error.remedy) from error`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

_ARGUMENT = re.compile(r"\{\{|\}\}|\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<value>[^{}]*))?\}")
"""A placeholder of a remedy, or a doubled (literal) brace."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


class GeoxtError(Exception):
    """Base of all errors raised on purpose by geoxt.

    Parameters
    ----------
    problem
        What cannot be done, the value found, and where.
    remedy
        What to do, with function arguments in braces: `"Pass {crs:'native'}."`
    value
        The value at fault, for programs that catch the error.
    argument
        Name of the function argument at fault, for programs that catch the error.

    Examples
    --------
    >>> error = GeoxtError("Cannot make tiles of size 0.", remedy="Pass {size:256}.", value=0, argument="size")
    >>> str(error)
    'Cannot make tiles of size 0. Pass size=256.'
    >>> error.render({"size": "--size"})
    'Cannot make tiles of size 0. Pass --size 256.'
    """

    def __init__(
        self, problem: object = "", *, remedy: str = "", value: object = None, argument: str | None = None
    ) -> None:
        super().__init__(problem)
        self.problem = str(problem)
        self.remedy = remedy
        self.value = value
        self.argument = argument

    def __str__(self) -> str:
        """Return the problem and the remedy, with arguments as in Python."""
        return self.render()

    def render(
        self, flags: Mapping[str, str] | Callable[[str], str | None] | None = None, *, otherwise: str = ""
    ) -> str:
        """Return the problem and the remedy, with arguments by the names of a CLI or a configuration file.

        Parameters
        ----------
        flags
            Option by function argument, such as `{"crs": "--crs"}`, or a function that returns it (None for an
            argument without an option). A sentence of the remedy that names an argument without an option is left
            out. By default arguments are shown as in Python.
        otherwise
            Remedy to show if every sentence is left out.
        """
        if not self.remedy:
            return self.problem
        sentences = _SENTENCE_END.split(self.remedy.strip())
        if flags is not None:
            option = flags if callable(flags) else flags.get
            sentences = [s for s in sentences if all(option(name) is not None for name in arguments_of(s))]
            sentences = _capitalize(sentences) or ([otherwise] if otherwise else [])
            rendered = [_ARGUMENT.sub(lambda match: _as_option(match, option), sentence) for sentence in sentences]
        else:
            rendered = [_ARGUMENT.sub(_as_python, sentence) for sentence in sentences]
        problem = self.problem.rstrip()
        return " ".join([problem if problem.endswith((".", "!", "?")) else f"{problem}.", *rendered])


class InputError(GeoxtError, ValueError):
    """An argument or a layer is invalid."""


class CRSError(InputError):
    """A coordinate reference system is missing, or several disagree."""


class GridError(InputError):
    """Coordinates or a grid are irregular, or do not fit the request."""


class OverlapError(InputError):
    """Layers or regions do not intersect."""


class LabelError(InputError):
    """Class codes, names or colors contradict each other or the pixels."""


class ReadError(GeoxtError, OSError):
    """A file cannot be opened or read."""


class ResourceError(GeoxtError, OSError):
    """The process has no free file descriptor; never treated as nodata."""


class CatalogError(ReadError):
    """The grid or type of a file differs from its catalog or cached header; never treated as nodata."""


class OutputError(GeoxtError, OSError):
    """An output cannot be written."""


class ProcessError(GeoxtError, RuntimeError):
    """Another process of a run in several processes has ended or does not answer."""


class MissingDependency(GeoxtError, ImportError):
    """An optional package is not installed."""


@contextmanager
def optional_import(package: str, extra: str, action: str) -> Iterator[None]:
    """Raise `MissingDependency` if an import in the `with` block fails.

    Parameters
    ----------
    package
        Name of the package in the error.
    extra
        Extra of geoxt that installs it.
    action
        Purpose of the import, after "Cannot".

    Examples
    --------
    >>> with optional_import("nosuchpackage", "train", "build this model"):
    ...     import nosuchpackage
    Traceback (most recent call last):
        ...
    geoxt.errors.MissingDependency: Cannot build this model without nosuchpackage. Run: pip install 'geoxt[train]'.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependency(
            f"Cannot {action} without {package}.", remedy=f"Run: pip install 'geoxt[{extra}]'."
        ) from error


class GeoxtWarning(UserWarning):
    """Base of all warnings issued by geoxt."""


class ReadWarning(GeoxtWarning):
    """A scene cannot be read and is treated as nodata, as requested."""


class DatasetWarning(GeoxtWarning):
    """A dataset on disk lacks files of its release, or a split is used for training and for scores."""


class AssessmentWarning(GeoxtWarning):
    """A part of an accuracy assessment that its sample does not support."""


class NodataWarning(GeoxtWarning):
    """Points or polygons lie outside a layer or on nodata, or rows of a table have no pixels."""


class OverflowWarning(GeoxtWarning):
    """Arithmetic of stored integers may have exceeded the range of their type."""


class DeviceWarning(GeoxtWarning):
    """A model runs in smaller batches, as the memory of a device is exhausted, or in a slow, emulated precision."""


class ScaleWarning(GeoxtWarning):
    """An image has other values than those on which its model was trained."""


class CatalogWarning(GeoxtWarning):
    """An ItemCollection is one page of a longer list, whose other items are not opened, or items share an id."""


class LabelWarning(GeoxtWarning):
    """Labels without a class are ignored."""


def arguments_of(remedy: str) -> list[str]:
    """Return the function arguments that a remedy names, in order.

    Examples
    --------
    >>> arguments_of("Pass {crs:'native'}. Or pass {grid}.")
    ['crs', 'grid']
    """
    return [match["name"] for match in _ARGUMENT.finditer(remedy) if match["name"]]


def did_you_mean(name: str, known: Iterable[str], *, count: int = 3, cutoff: float = 0.6) -> str:
    """Return a question with the known names that are most similar to a name; empty if none is similar.

    Parameters
    ----------
    name
        The unknown name.
    known
        Known names; a mapping gives the text to show of each.
    count
        Maximum number of names in the question.
    cutoff
        Minimum similarity, 0 to 1, of `difflib.get_close_matches`.

    Examples
    --------
    >>> did_you_mean("landsat-8", ["landsat8", "naip"])
    'Did you mean landsat8?'
    """
    texts = known if isinstance(known, Mapping) else {key: key for key in known}
    close = difflib.get_close_matches(name, texts, n=count, cutoff=cutoff)
    return f"Did you mean {' or '.join(texts[key] for key in close)}?" if close else ""


def _capitalize(sentences: list[str]) -> list[str]:
    """Return sentences of which the first does not begin with the "Or" of a second alternative."""
    if not sentences or not sentences[0].startswith("Or "):
        return sentences
    first = sentences[0].removeprefix("Or ")
    return [first[:1].upper() + first[1:], *sentences[1:]]


def _as_python(match: re.Match[str]) -> str:
    return match[0][0] if match["name"] is None else f"{match['name']}={match['value'] or ''}"


def _as_option(match: re.Match[str], option: Callable[[str], str | None]) -> str:
    if match["name"] is None:
        return match[0][0]
    value = (match["value"] or "").strip("'\"")
    return f"{option(match['name'])} {value}".rstrip()
