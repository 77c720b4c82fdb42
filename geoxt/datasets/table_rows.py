"""Tables as rows of fields: CSV, plain lists, Parquet and lists in JSON, read by name or by place of the column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from geoxt.datasets.assets import Rows
from geoxt.errors import MissingDependency, ReadError
from geoxt.template import Fields, Template


def read_rows(path: Path, columns: Rows, *, separator: str = ",") -> Iterator[tuple[Fields, Mapping[Any, Any]]]:
    """Yield the fields that each row names, and the row; rows of other names are passed over.

    Raises
    ------
    ReadError
        Where the file cannot be read, or lacks a column.
    """
    header = isinstance(columns, Mapping)
    keys = columns.items() if isinstance(columns, Mapping) else enumerate(columns)
    templates = [(key, Template(pattern)) for key, pattern in keys]
    for row in _rows(path, separator, header=header):
        fields: Fields = {}
        for key, template in templates:
            if key not in row:
                raise ReadError(_lacks(path, key, row))
            found = template.match(str(row[key]).strip().removeprefix("./"))
            if found is None:
                break
            fields |= found
        else:
            yield fields, row


def read_object(path: Path) -> Mapping[str, Any]:
    """Return the object that a JSON file holds.

    Raises
    ------
    ReadError
        Where there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        msg = f"Cannot read the labels in {str(path)!r}: {error}. Fetch the dataset again."
        raise ReadError(msg) from error
    if not isinstance(found, dict):
        msg = f"Cannot read the labels in {str(path)!r}: it holds a {type(found).__name__}, not an object."
        raise ReadError(msg + " Fetch the dataset again.")
    return found


def _rows(path: Path, separator: str, *, header: bool) -> Iterator[Mapping[Any, Any]]:
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter=separator)
            names = [name.strip() for name in next(lines, [])] if header else None
            for line in lines:
                if line:
                    yield dict(zip(names, line, strict=False)) if names else dict(enumerate(line))
    except (OSError, ValueError, csv.Error) as error:  # ValueError: Unicode, and what pyarrow says
        msg = f"Cannot read the table {str(path)!r}: {error}. Fetch the dataset again."
        raise ReadError(msg) from error


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        msg = f"Cannot read {str(path)!r} without pyarrow: pip install 'geoxt[datasets]'."
        raise MissingDependency(msg) from error
    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _lacks(path: Path, key: object, row: Mapping[Any, Any]) -> str:
    return (
        f"Cannot read the table {str(path)!r}: it has no column {key!r}, but {', '.join(map(str, row))}. "
        "Fetch the dataset again, or take the release that its homepage describes."
    )
