"""Class names of raster files that GDAL keeps beside the pixels: raster attribute tables and category names.

rasterio reads neither. GDAL's persistent auxiliary metadata (PAM, `.aux.xml`) holds them for most formats, the ERDAS
Imagine format (`.img`) in itself; a VRT of a file, which holds no pixels, states both. Esri writes a dBASE table
(`.vat.dbf`), which GDAL reads from version 3.11 on.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree as ET

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

_VALUE, _NAME, _COLORS = ("5", "3"), "2", ("6", "7", "8")
"""GDALRATFieldUsage: minimum and maximum or minimum of a class, its name, red, green and blue."""
_TEXT = "2"
"""GDALRATFieldType of text."""
_CLASS_TITLES = ("class_name", "classname", "class_names", "name", "class", "label", "category", "description")
"""Titles of the column of class names of an Esri attribute table with several columns of text."""
_VALUE_NAMES = {"value", "code", "class", "classid", "id"}


def class_tags(file: rasterio.DatasetReader, href: str) -> dict[str, str]:
    """Return the classes of a file's first band as CF tags (`flag_values`, …); empty if it states no class names.

    Parameters
    ----------
    file
        Open file.
    href
        Its path. Sidecars on a server are not read, as each would take a request.
    """
    if file.count != 1 or not file.dtypes[0].startswith(("int", "uint")):
        return {}
    if "://" in href or href.startswith("/vsi"):
        return {}
    if file.driver == "HFA":
        return _tags(_describe(href))
    try:
        tags = _tags(Path(f"{href}.aux.xml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):  # mostly FileNotFoundError
        tags = {}
    return tags or _cf_tags(_dbase_rows(Path(f"{href}.vat.dbf")))


def _describe(href: str) -> str:
    """Return the VRT document of a file."""
    with MemoryFile(filename=f"{uuid4().hex}.vrt") as memory:
        try:
            rasterio.shutil.copy(href, memory.name, driver="VRT")
        except RasterioError:
            return ""
        return memory.read().decode("utf-8", "replace")


def _tags(document: str) -> dict[str, str]:
    try:
        root = ET.fromstring(document)  # noqa: S314 (Python's expat limits the expansion of entities)
    except ET.ParseError:
        return {}
    bands = [band for band in root if band.tag.endswith("RasterBand") and band.get("band", "1") == "1"]
    return _cf_tags(next((rows for band in bands if (rows := _attribute_table(band) or _categories(band))), {}))


def _cf_tags(rows: Mapping[int, tuple[str, str]]) -> dict[str, str]:
    """Return the CF tags of name and color by code."""
    if not rows:
        return {}
    names = " ".join("_".join(name.split()) for name, _ in rows.values())
    tags = {"flag_values": " ".join(map(str, rows)), "flag_meanings": names}
    colors = [color for _, color in rows.values() if color]
    return tags | ({"flag_colors": " ".join(colors)} if len(colors) == len(rows) else {})


def _attribute_table(band: ET.Element) -> Mapping[int, tuple[str, str]]:
    """Return name and color by code of a raster attribute table; the row number is the code without a value column."""
    table = band.find("GDALRasterAttributeTable")
    if table is None:
        return {}
    columns = [
        (field.findtext("Usage", "0"), field.findtext("Name", "").strip().lower(), field.findtext("Type", "0"))
        for field in table.findall("FieldDefn")
    ]
    name = next((i for i, (usage, _, kind) in enumerate(columns) if usage == _NAME and kind == _TEXT), None)
    if name is None:
        return {}
    value = next((i for i, (usage, _, _) in enumerate(columns) if usage in _VALUE), None)
    if value is None:
        value = next((i for i, (_, title, _) in enumerate(columns) if title in _VALUE_NAMES), None)
    colors = [next((i for i, (usage, _, _) in enumerate(columns) if usage == color), None) for color in _COLORS]
    rows = {}
    for position, row in enumerate(table.findall("Row")):
        cells = [cell.text or "" for cell in row.findall("F")]
        try:
            code = float(cells[value]) if value is not None else position
            if cells[name].strip() and code == int(code):
                rows[int(code)] = cells[name], _color([cells[i] for i in colors if i is not None])
        except (ValueError, IndexError, OverflowError):
            return {}  # ranges of values, or a damaged table
    return rows


def _dbase_rows(path: Path) -> Mapping[int, tuple[str, str]]:
    """Return name and color by code of an Esri attribute table; empty if no or several text columns may be the name.

    https://www.clicketyclick.dk/databases/xbase/format/dbf.html
    """
    try:
        content = path.read_bytes()
        count, start, width = struct.unpack_from("<IHH", content, 4)
        columns, position = {}, 1  # the first byte of a row marks a deleted row
        for offset in range(32, start - 31, 32):
            title, kind, size = struct.unpack_from("<11sc4xB", content, offset)
            if title[:1] == b"\r":
                break
            columns[title.split(b"\0")[0].decode("latin-1").strip().lower()] = kind, slice(position, position + size)
            position += size
        texts = [title for title, (kind, _) in columns.items() if kind == b"C"]
        names = [title for title in texts if title in _CLASS_TITLES] or (texts if len(texts) == 1 else [])
        if not names:
            return {}
        colors = next((rgb for rgb in (("red", "green", "blue"), ("r", "g", "b")) if columns.keys() >= set(rgb)), ())
        rows = {}
        for offset in range(start, start + count * width, width):
            row = content[offset : offset + width]
            value, name, *color = (row[columns[t][1]].decode().strip() for t in ("value", names[0], *colors))
            if name and row[:1] != b"*":
                rows[int(float(value))] = name, _color(color)
    except (OSError, struct.error, KeyError, ValueError, OverflowError):  # mostly FileNotFoundError
        return {}
    return rows


def _color(cells: list[str]) -> str:
    numbers = [float(cell) for cell in cells if cell.strip()]
    parts = [int(number) for number in numbers if number.is_integer()]  # tables may hold fractions of 1 instead
    return "#{:02x}{:02x}{:02x}".format(*parts) if len(parts) == 3 and all(0 <= part < 256 for part in parts) else ""


def _categories(band: ET.Element) -> Mapping[int, tuple[str, str]]:
    """Return the category names, whose position is the code."""
    names = [category.text or "" for category in band.findall("CategoryNames/Category")]
    return {code: (name, "") for code, name in enumerate(names) if name.strip()}
