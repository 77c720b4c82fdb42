"""Vector files, complete or absent."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyproj
import xarray as xr

from geoxt.crs import crs_name, parse_crs
from geoxt.errors import InputError, OutputError
from geoxt.storage import atomic_write, temporary_prefix
from geoxt.types import SomePath
from geoxt.writers.polygons import polygonize
from geoxt.writers.staging import require_writable

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON", ".json": "GeoJSON", ".fgb": "FlatGeobuf", ".shp": "ESRI Shapefile"}
"""GDAL driver by file suffix."""

_JOURNALS = ("-wal", "-shm", "-journal")
"""Suffixes of the files with unfinished changes of a GeoPackage, which SQLite would apply to the new file."""
_INDEXES = (".qix", ".sbn", ".sbx", ".ain", ".aih", ".idm", ".ind", ".prj", ".cpg")
"""Extensions of the indexes, the CRS and the encoding of a Shapefile, some of which a new one lacks."""


def to_vector(data: Any, path: SomePath, **options: Any) -> Path:
    """Write a GeoDataFrame, or a class map as polygons, to a vector file.

    Parameters
    ----------
    data
        A GeoDataFrame, such as `detect` returns, or a class map (y, x).
    path
        Output file; its suffix selects the format: .gpkg, .geojson, .fgb or .shp. GeoJSON is in WGS 84 (RFC 7946). An
        existing file is replaced once the new one is complete.
    options
        For a map: `min_area` (hectares), `simplify`, `connectivity` and `probability` of `polygonize`.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        If the suffix is of no known format.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.writers import to_vector
    >>> land = make_layer(np.ones((64, 64), "uint8"))
    >>> to_vector(land, Path(tempfile.mkdtemp(), "land.gpkg"), min_area=0.5).name
    'land.gpkg'
    """
    path = Path(path)
    driver = DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise InputError(
            f"Cannot write {str(path)!r}: {path.suffix!r} is not a vector format.",
            remedy=f"Pass a path that ends in one of {', '.join(DRIVERS)}.",
        )
    require_writable(path)
    frame = polygonize(data, **options) if isinstance(data, xr.DataArray) else data
    frame = frame.to_crs("EPSG:4326") if driver == "GeoJSON" and len(frame) else frame
    if frame.crs is not None:
        frame = frame.set_crs(_ExactCRS(frame.crs), allow_override=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=temporary_prefix(path.name)) as folder:
            companions: dict[Path, Path] = {}
            try:
                with atomic_write(path) as temporary:
                    frame.to_file(temporary, driver=driver, engine="pyogrio")
                    companions = _set_aside(path, driver, Path(folder))
            except BaseException:  # the former file remains, and with it the changes in its journal
                for companion, moved in companions.items():
                    moved.replace(companion)
                raise
    except (OSError, RuntimeError) as error:  # pyogrio's errors are RuntimeErrors
        raise OutputError(
            f"Cannot write {str(path)!r}: {error}.", remedy="Free space there. Or pass another path."
        ) from error
    return path


def _set_aside(path: Path, driver: str, folder: Path) -> dict[Path, Path]:
    """Move the files that would change the content of a new vector file to a folder; return new by former paths."""
    names = [f"{path.name}{suffix}" for suffix in _JOURNALS] if driver == "GPKG" else []
    names += [f"{path.stem}{suffix}" for suffix in _INDEXES] if driver == "ESRI Shapefile" else []
    return {file: file.rename(folder / name) for name in names if (file := path.with_name(name)).exists()}


class _ExactCRS(pyproj.CRS):
    """A CRS that has an EPSG code only if it equals the CRS of that code; pyogrio writes the code of a 70 % match."""

    def to_epsg(self, min_confidence: int = 70) -> int | None:  # noqa: ARG002 (pyproj's signature)
        """Return the EPSG code of an equal CRS."""
        name = crs_name(parse_crs(self.to_wkt()))
        return int(name.removeprefix("EPSG:")) if name.startswith("EPSG:") else None
