"""Vector files, written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from geoxt.errors import InputError, OutputError
from geoxt.types import SomePath
from geoxt.writers.staging import require_writable

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
"""GDAL's name of each format, by the ending of a file's name."""
_SHAPEFILE = {"shx", "dbf", "prj", "cpg"}


def to_vector(frame: Any, path: SomePath) -> Path:
    """Write a GeoDataFrame into a vector file.

    Parameters
    ----------
    frame
        What `detect` gives, or any other.
    path
        Where to write; its ending tells the format: .gpkg, .geojson, .fgb or .shp. GeoJSON is in WGS 84, as RFC 7946
        wants it. An older file of that name is replaced, once the new one is whole.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        Where the ending is of no known format.
    OutputError
        Where the file cannot be written.
    """
    path = Path(path)
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        msg = f"Cannot write {str(path)!r}: {path.suffix!r} is no vector format. Pass one of {', '.join(DRIVERS)}."
        raise InputError(msg)
    require_writable(path)
    frame = frame.to_crs("EPSG:4326") if driver == "GeoJSON" and len(frame) else frame
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        new = folder / path.name
        frame.to_file(new, driver=driver, engine="pyogrio")
        for one in sorted(folder.iterdir()):
            if one != new:
                one.replace(path.with_name(one.name))
        new.replace(path)
    except (OSError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        msg = f"Cannot write {str(path)!r}: {error}. Free space there, or pass another path."
        raise OutputError(msg) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path
