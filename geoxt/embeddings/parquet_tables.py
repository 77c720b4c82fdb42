"""Tables of embeddings from GeoParquet files: a vector and a footprint per row, as of Major TOM and Clay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoxt.errors import InputError, ReadError, optional_import
from geoxt.layers.area import Area, SomeBounds, area_of
from geoxt.source.embedding_attrs import NAMES, common_embedding_attrs
from geoxt.types import Floats, SomePath

_VECTORS = ("embedding", "embeddings")
"""Columns of vectors: of Major TOM and Earth Index, and of Clay."""
_TIMES = ("timestamp", "date", "datetime")
"""Columns of dates: of Major TOM, of Clay v0 and of Clay v1.5."""
_CENTERS = ["centre_lon", "centre_lat"]
"""Columns of the centers of footprints of Major TOM, in degrees."""
_MAJOR_TOM = re.compile(r"Core-[\w-]+", re.IGNORECASE)
_CLAY = re.compile(r"clay-(?:model-)?v(\d+(?:-\d+)?)(?![\d])", re.IGNORECASE)


def read_parquet(
    paths: SomePath | Sequence[SomePath],
    *,
    bbox: SomeBounds | None = None,
    model: str | None = None,
    version: str | None = None,
) -> Any:
    """Return a table of embeddings from GeoParquet files, such as those of Major TOM and Clay.

    Parameters
    ----------
    paths
        File, folder of `.parquet` and `.gpq` files, or a list of these.
    bbox
        West, south, east and north in degrees: only rows whose footprints intersect it.
    model, version
        Name and version of the model that computed the embeddings. Default: as the file states by `table.to_parquet`,
        else by the folder of the collection, such as `Core-S2L1C-SSL4EO` (Major TOM) or `clay-v1-5-naip-2` (Clay).

    Returns
    -------
    geopandas.GeoDataFrame
        As `geoxt.extract` returns tables, for `knn`, `linear_probe`, `random_forest`, `similar` and `build_index`: the
        other columns of the files, the footprints as geometry, "time" (UTC) if a date is stated, and a float32 column
        for each component, which `attrs["bands"]` lists: with the names of bands in tables that `table.to_parquet`
        wrote, else "embedding_0", "embedding_1", …. `attrs` name the model and its version, if known.

    Raises
    ------
    InputError
        If a file has no column "embedding" or "embeddings", vectors differ in length or names, or files are of
        different models or versions.
    ReadError
        If a file cannot be read.
    MissingDependency
        If geopandas or pyarrow is not installed.

    Notes
    -----
    As an array of the dimensions sample and feature:
    `xarray.DataArray(table[table.attrs["bands"]].to_numpy(), dims=("sample", "feature"))`.

    Examples
    --------
    >>> import geopandas, shapely, tempfile
    >>> frame = geopandas.GeoDataFrame(
    ...     {"embedding": [[1.0, 0.0], [0.6, 0.8]], "timestamp": ["2020-05-01", "2020-06-01"]},
    ...     geometry=[shapely.box(0, 0, 1, 1), shapely.box(5, 5, 6, 6)],
    ...     crs="EPSG:4326",
    ... )
    >>> folder = Path(tempfile.mkdtemp(), "Core-S2L1C-SSL4EO")
    >>> folder.mkdir()
    >>> frame.to_parquet(folder / "part_1.parquet")
    >>> table = read_parquet(folder, bbox=(4, 4, 7, 7))
    >>> table[table.attrs["bands"]].to_numpy().tolist(), table.attrs["model"]
    ([[0.6000000238418579, 0.800000011920929]], 'Major-TOM/Core-S2L1C-SSL4EO')
    """
    with optional_import("geopandas", "vector", "read tables of embeddings"):
        import geopandas as gpd
    files = _files(paths)
    overrides = {name: value for name, value in (("model", model), ("version", version)) if value is not None}
    area = area_of(bbox, None)
    frames = [_read(path, area, gpd) for path in files]
    attrs = common_embedding_attrs(
        {repr(str(path)): _attrs_of(path, frame) | overrides for path, frame in zip(files, frames, strict=True)}
    )
    vectors = [_vectors(frame, path) for path, frame in zip(files, frames, strict=True)]
    lengths = {rows.shape[1]: path for rows, path in zip(vectors, files, strict=True) if len(rows)}
    if len(lengths) > 1:
        (first, path), (second, other), *_ = lengths.items()
        msg = f"Cannot make one table: vectors of {str(path)!r} have {first} numbers, those of {str(other)!r} {second}."
        raise InputError(msg, remedy="Pass {paths} of one model.", argument="paths")
    columns = _columns(frames, next(iter(lengths), 0))
    table = pd.concat([_without_vectors(frame) for frame in frames], ignore_index=True)
    numbers = pd.DataFrame(
        np.concatenate([rows for rows in vectors if len(rows)] or [np.empty((0, 0))]), columns=columns
    )
    table = gpd.GeoDataFrame(pd.concat([table, numbers.set_axis(table.index)], axis=1), geometry="geometry")
    table.attrs = {"bands": columns, **{name: attrs[name] for name in NAMES if name in attrs}}
    return table


def _columns(frames: Sequence[Any], count: int) -> list[str]:
    """Return the names of the columns of vectors: of tables that were written with them, else "embedding_0", ….

    Raises
    ------
    InputError
        If two tables differ in them.
    """
    written = [tuple(map(str, f.attrs["bands"])) for f in frames if f.attrs.get("bands") and _column_of(f) is None]
    if len(set(written)) > 1:
        first, other = list(dict.fromkeys(written))[:2]
        msg = f"Cannot make one table: its files have the bands {list(first)[:4]} and {list(other)[:4]}."
        raise InputError(msg, remedy="Pass {paths} of one model.", argument="paths")
    all_named = len(written) == len(frames) and written
    return list(written[0]) if all_named else [f"embedding_{number}" for number in range(count)]


def _column_of(frame: Any) -> str | None:
    """Return the name of the column of vectors, `None` without one."""
    return next((name for name in _VECTORS if name in frame.columns), None)


def _files(paths: Any) -> list[Path]:
    roots = [Path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    files = [
        file
        for path in roots
        for file in (sorted([*path.rglob("*.parquet"), *path.rglob("*.gpq")]) if path.is_dir() else [path])
    ]
    if not files:
        msg = f"Cannot read tables of embeddings: there is no .parquet or .gpq file in {[str(path) for path in roots]}."
        raise InputError(msg, remedy="Pass {paths} of files.", value=paths, argument="paths")
    return files


def _read(path: Path, area: Area | None, gpd: Any) -> Any:
    """Return the rows of a file with footprints that intersect an area."""
    try:
        try:
            frame = gpd.read_parquet(path)
        except ValueError as error:
            if "geo" not in str(error).lower():
                raise
            frame = pd.read_parquet(path)  # without metadata of geometries
    except Exception as error:  # pyarrow raises many classes
        msg = f"Cannot read {str(path)!r}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ReadError(msg.rstrip(": .") + ".", remedy="Check that the file is complete GeoParquet.") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        if not set(_CENTERS) <= set(frame.columns):
            msg = f"Cannot take {str(path)!r} as embeddings with footprints: it has no geometries."
            raise InputError(msg, remedy="Write it as GeoParquet: frame.to_parquet of geopandas.", argument="paths")
        points = gpd.points_from_xy(frame[_CENTERS[0]], frame[_CENTERS[1]], crs="EPSG:4326")
        attrs, frame = frame.attrs, gpd.GeoDataFrame(frame, geometry=points)
        frame.attrs = attrs
    frame = frame.rename_geometry("geometry") if frame.geometry.name != "geometry" else frame
    frame = frame.set_crs("EPSG:4326") if frame.crs is None else frame
    if area is None:
        return frame
    attrs = frame.attrs
    frame = frame[frame.geometry.to_crs("EPSG:4326").intersects(area.shape)]
    frame.attrs = attrs
    return frame


def _attrs_of(path: Path, frame: Any) -> dict[str, str]:
    """Return model and version: of a table that was written with them, else by the folder of the collection."""
    attrs = {name: str(frame.attrs[name]) for name in NAMES if name in frame.attrs}
    for part in reversed(path.resolve().parts) if not attrs else ():
        if _MAJOR_TOM.fullmatch(part):
            return {"model": f"Major-TOM/{part}"}
        if match := _CLAY.search(part):
            return {"model": "https://huggingface.co/made-with-clay/Clay", "version": match[1].replace("-", ".")}
    return attrs


def _vectors(frame: Any, path: Path) -> Floats:
    """Return the vectors of rows (n, components), float32."""
    column = _column_of(frame)
    if column is None:
        bands = list(frame.attrs.get("bands", ()))
        if bands and set(bands) <= set(frame.columns):
            return np.asarray(frame[bands].to_numpy(np.float32))
        msg = f"Cannot take {str(path)!r} as embeddings: its columns are {[str(name) for name in frame.columns]}."
        raise InputError(msg, remedy="Rename the column of vectors to 'embedding'.", argument="paths")
    missing = int(frame[column].isna().sum())
    if missing:
        msg = f"Cannot take {str(path)!r} as embeddings: {missing} of {len(frame)} rows have no vector."
        raise InputError(msg, remedy=f"Leave these rows out: frame.dropna(subset=[{column!r}]).", argument="paths")
    try:
        rows = [np.asarray(vector, np.float32) for vector in frame[column]]
        lengths = sorted({len(vector) for vector in rows})
    except (TypeError, ValueError) as error:
        msg = f"Cannot take {str(path)!r} as embeddings: the column {column!r} holds no vectors of numbers."
        raise InputError(msg, remedy="Leave the file out of {paths}.", argument="paths") from error
    if len(lengths) > 1:
        msg = f"Cannot take {str(path)!r} as embeddings: vectors of {lengths[:2]} numbers are in one file."
        raise InputError(msg, remedy="Leave the file out of {paths}.", argument="paths")
    return np.stack(rows) if rows else np.empty((0, 0), "f4")


def _without_vectors(frame: Any) -> Any:
    """Return the other columns of a table, with the dates as "time"."""
    frame = frame.drop(columns=[*_VECTORS, *frame.attrs.get("bands", ())], errors="ignore")
    date_column = next((name for name in _TIMES if name in frame.columns), None)
    if date_column is not None and "time" not in frame.columns:
        times = pd.to_datetime(frame[date_column], utc=True, errors="coerce", format="mixed").dt.tz_localize(None)
        frame["time"] = times.astype("datetime64[ns]")
    return frame
