"""Samples as GeoPackages that QGIS opens with colours by stratum and a list of classes to choose from."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from geoxt.assess.design import REFERENCE
from geoxt.errors import InputError, OutputError
from geoxt.legend import Legend, palette
from geoxt.storage import atomic_write
from geoxt.types import SomePath
from geoxt.writers import require_writable, to_vector

STYLE_TABLE = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT,
  f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT,
  owner TEXT, ui TEXT, update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""
"""The table in which QGIS looks for the styles of a GeoPackage's layers."""


def write_sample(sample: Any, path: SomePath, *, classes: Sequence[str] | Legend | None = None) -> Path:
    """Write a sample as a GeoPackage to be labelled in QGIS.

    QGIS opens it with a colour for each stratum, and the form of a point offers the classes for the column `reference`.

    Parameters
    ----------
    sample
        A GeoDataFrame from `sample_design`.
    path
        Output file, ending in .gpkg. An existing file is replaced once the new one is complete.
    classes
        Classes to choose from: names, or a legend, whose colours are used. By default the classes of the map in the
        sample.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the path is not a GeoPackage.
    OutputError
        If the file cannot be written.

    See Also
    --------
    estimate : Accuracy and areas from the labelled file.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from geoxt import assess
    >>> from geoxt.testing import make_layer
    >>> land = make_layer(np.eye(50, dtype="uint8"))
    >>> path = assess.write_sample(assess.sample_design(land, 10), tempfile.mkdtemp() + "/sample.gpkg")
    >>> path.name
    'sample.gpkg'

    References
    ----------
    GeoPackage 1.3 (https://www.geopackage.org/spec130/); the `layer_styles` table and QML are those of QGIS 3.
    """
    path = Path(path)
    if path.suffix.lower() != ".gpkg":
        problem = f"Cannot write a sample to {str(path)!r}: it is not a GeoPackage."
        raise InputError(problem, remedy="Pass {path} ending in .gpkg.", value=str(path), argument="path")
    require_writable(path)
    colors = {}
    if isinstance(classes, Legend):
        colors = dict(zip(classes.names, classes.colors, strict=True))
        classes = list(colors)
    names = list(classes or sorted(sample["map_class"].dropna().unique()))
    strata = sorted(map(str, sample["stratum"].unique()))
    colors = dict(zip(strata, palette(len(strata)), strict=True)) | {k: v for k, v in colors.items() if k in strata}
    with atomic_write(path) as temporary:
        to_vector(sample.astype({REFERENCE: "string"}), temporary)
        try:
            _add_style(temporary, _style(colors, [str(name) for name in names]))
        except sqlite3.Error as error:
            problem = f"Cannot write {str(path)!r}: {error}."
            raise OutputError(problem, remedy="Free space there. Or pass another {path}.") from error
    return path


def _add_style(path: Path, style: str) -> None:
    with sqlite3.connect(path) as database:
        (table, column) = database.execute("SELECT table_name, column_name FROM gpkg_geometry_columns").fetchone()
        database.execute(STYLE_TABLE)
        contents = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)"
        database.execute(contents, ("layer_styles", "layer_styles"))
        columns = "f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD"
        database.execute(
            f"INSERT INTO layer_styles ({columns}, useAsDefault) VALUES ('', '', ?, ?, 'strata', ?, '', 1)",  # noqa: S608
            (table, column, style),
        )
    database.close()


def _style(colors: dict[str, str], classes: Sequence[str]) -> str:
    """Return a QGIS style: a symbol for each stratum, and a list of classes for the reference."""
    root = ET.Element("qgis", version="3.22.0", styleCategories="Symbology|Fields|Forms")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="stratum", enableorderby="0")
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for index, (stratum, color) in enumerate(colors.items()):
        text = str(index)
        ET.SubElement(categories, "category", value=stratum, label=stratum, symbol=text, render="true", type="string")
        symbol = ET.SubElement(symbols, "symbol", name=text, type="marker", alpha="1")
        layer = ET.SubElement(symbol, "layer", attrib={"class": "SimpleMarker", "enabled": "1", "locked": "0"})
        red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
        options = ET.SubElement(layer, "Option", type="Map")
        for name, value in {"color": f"{red},{green},{blue},255", "name": "circle", "size": "3"}.items():
            ET.SubElement(options, "Option", name=name, value=value, type="QString")
    fields = ET.SubElement(root, "fieldConfiguration")
    field = ET.SubElement(fields, "field", name=REFERENCE)
    widget = ET.SubElement(field, "editWidget", type="ValueMap")
    config = ET.SubElement(ET.SubElement(widget, "config"), "Option", type="Map")
    choices = ET.SubElement(config, "Option", name="map", type="List")
    for name in classes:
        choice = ET.SubElement(choices, "Option", type="Map")
        ET.SubElement(choice, "Option", name=name, value=name, type="QString")
    return ET.tostring(root, encoding="unicode", xml_declaration=False)
