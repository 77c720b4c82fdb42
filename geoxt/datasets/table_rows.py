"""Read tables as rows of fields: CSV, plain lists and Parquet, by name or position of the column, and JSON objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from geoxt.datasets.assets import FETCH_AGAIN, Columns
from geoxt.errors import ReadError, optional_import
from geoxt.template import Fields, Template


def read_rows(path: Path, columns: Columns, *, separator: str = ",") -> Iterator[tuple[Fields, Mapping[Any, Any]]]:
    """Yield the fields of each row, and the row; skip rows that do not match the templates.

    Raises
    ------
    ReadError
        If the file cannot be read, lacks a column or has one twice, or a row has more values than there are columns.
    """
    header = isinstance(columns, Mapping)
    keys = columns.items() if isinstance(columns, Mapping) else enumerate(columns)
    templates = [(key, Template(pattern)) for key, pattern in keys]
    for row in _rows(path, separator, header=header):
        fields: Fields = {}
        for key, template in templates:
            if key not in row:
                msg = f"Cannot read the table {str(path)!r}: it has no column {key!r}, but {', '.join(map(str, row))}."
                remedy = "Fetch the dataset again with force=True, or use the release that its homepage describes."
                raise ReadError(msg, remedy=remedy)
            matched = template.match(str(row[key]).strip().removeprefix("./"))
            if matched is None:
                break
            fields |= matched
        else:
            yield fields, row


def read_object(path: Path) -> Mapping[str, Any]:
    """Return the object of a JSON file.

    Raises
    ------
    ReadError
        If the file cannot be read, or has no object at its top level.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ReadError(f"Cannot read the labels in {str(path)!r}: {error}.", remedy=FETCH_AGAIN) from error
    if not isinstance(content, dict):
        msg = f"Cannot read the labels in {str(path)!r}: the JSON value is a {type(content).__name__}, not an object."
        raise ReadError(msg, remedy=FETCH_AGAIN)
    return content


def _rows(path: Path, separator: str, *, header: bool) -> Iterator[Mapping[Any, Any]]:
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=separator)
            names = [name.strip() for name in next(lines, [])] if header else None
            _require_unique(names or [])
            for line in lines:
                if line:
                    yield _by_name(names, line, lines.line_num) if names else dict(enumerate(line))
    except (OSError, ValueError, csv.Error) as error:  # UnicodeDecodeError and ArrowInvalid are ValueErrors
        raise ReadError(f"Cannot read the table {str(path)!r}: {error}.", remedy=FETCH_AGAIN) from error


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    with optional_import("pyarrow", "datasets", f"read {str(path)!r}"):
        import pyarrow.parquet as pq
    file = pq.ParquetFile(path)
    _require_unique(file.schema_arrow.names)
    for batch in file.iter_batches():
        yield from batch.to_pylist()


def _by_name(names: Sequence[str], line: Sequence[str], number: int) -> dict[str, str]:
    """Return the values of a line by column; raise if values remain that are not empty."""
    if any(line[len(names) :]):
        msg = f"line {number} has {len(line)} values for {len(names)} columns"
        raise ValueError(msg)
    return dict(zip(names, line, strict=False))


def _require_unique(names: Sequence[str]) -> None:
    """Raise if two columns have the same name; columns without a name may repeat."""
    for index, name in enumerate(names):
        if name and name in names[:index]:
            msg = f"two columns have the name {name!r}"
            raise ValueError(msg)
