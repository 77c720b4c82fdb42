"""Search of the most similar embeddings of layers and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.embeddings.vectors import band_order, require_dequantized, vectors_of
from geoxt.errors import InputError, ReadError, optional_import
from geoxt.grid import pix2wld
from geoxt.inference.model_bands import Bands, bands_of
from geoxt.source import view_of
from geoxt.source.embedding_attrs import NAMES, common_embedding_attrs, identity_of, require_equal_embeddings
from geoxt.storage import atomic_write
from geoxt.tables.layer_values import embedding_attrs
from geoxt.trees import layers_of
from geoxt.types import Array, Floats, SomePath
from geoxt.windows import Window

_BLOCK = 512
"""Side in pixels of the blocks in which layers are read."""
_ROWS = 2**16
"""Number of vectors per matrix product."""
_LINKS = 32
"""Neighbors of each vector in the graph of an approximate index."""
_FORMAT = 1
"""Version of the files of an index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """Entries of one source."""

    name: str
    """Name of the source."""
    rows: pd.DataFrame
    """Other columns of each entry: those of a table, or node, time, row and column of a pixel."""
    grid: GeoBox | None = None
    """Grid of pixels; `None` for a table."""

    def at(self, positions: Array, gpd: Any) -> Any:
        """Return the entries at positions as a GeoDataFrame."""
        rows = self.rows.iloc[positions]
        if self.grid is None:
            return rows
        centers = rows["col"].to_numpy() + 0.5, rows["row"].to_numpy() + 0.5
        points = shapely.points(*pix2wld(self.grid, *centers))
        return gpd.GeoDataFrame(rows.drop(columns=["row", "col"]), geometry=points, crs=self.grid.crs)


class VectorIndex:
    """Unit vectors of embeddings with their positions; `build_index` makes it, `open_index` opens a saved one."""

    def __init__(
        self, entries: list[_Entries], vectors: Floats, attrs: Mapping[str, str], bands: Bands, graph: Any = None
    ) -> None:
        self.attrs = dict(attrs)
        self._bands = bands
        self._entries = entries
        self._starts = np.cumsum([0, *(len(part.rows) for part in entries)])
        self._vectors = vectors
        self._graph = graph

    def __len__(self) -> int:
        """Return the number of vectors."""
        return len(self._vectors)

    def save(self, path: SomePath) -> None:
        """Write the index to a folder, for `open_index`.

        Parameters
        ----------
        path
            Folder, which is replaced if it exists: vectors as `.npy`, the other columns as Parquet, the graph of faiss.

        Raises
        ------
        OSError
            If the folder cannot be written; nothing at `path` changes.

        Examples
        --------
        >>> index.save("archive.index")  # doctest: +SKIP
        """
        grids = [part.grid for part in self._entries]
        sources = [
            {"name": part.name, "grid": None if g is None else [list(g.shape), list(g.affine[:6]), str(g.crs)]}
            for part, g in zip(self._entries, grids, strict=True)
        ]
        with atomic_write(path) as folder:
            folder.mkdir()
            np.save(folder / "vectors.npy", self._vectors)
            for number, part in enumerate(self._entries):
                rows = part.rows.copy(deep=False)
                rows.attrs = {}
                rows.to_parquet(folder / f"rows-{number}.parquet")
            if self._graph is not None:
                import faiss

                faiss.write_index(self._graph, str(folder / "graph.faiss"))
            document = {"format": _FORMAT, "attrs": self.attrs, "bands": self._bands, "sources": sources}
            (folder / "index.json").write_text(json.dumps(document), encoding="utf-8")

    def search(self, vectors: Any, k: int = 10) -> Any:
        """Return the k most similar entries of each vector.

        Parameters
        ----------
        vectors
            Array (bands,) or (n, bands), or a table of `geoxt.extract` or `read_parquet`. Columns of a table, the index
            of a Series and the coordinate band of a DataArray are matched to the bands of the index by name, other
            arrays by position. Rows of a table with NaN are left out, with a warning.
        k
            Number of entries for each vector.

        Returns
        -------
        geopandas.GeoDataFrame
            k rows for each vector, the most similar first: "query" (position of the vector, or index of its row),
            "similarity" (cosine, -1 to 1), "source" (name of the layer or table), the other columns of a table, "node"
            and "time" of a pixel, and the center of the pixel or the geometry of the table's row, in the CRS of the
            first source.

        Raises
        ------
        InputError
            If vectors differ in length or names of bands from those of the index, are zero, or are of another model or
            version; or if k is not an integer from 1 to the number of entries.
        """
        with optional_import("geopandas", "vector", "search embeddings"):
            import geopandas as gpd
        names, queries = vectors_of(None, vectors, self._bands, "the index")
        attrs = identity_of(vectors) if isinstance(vectors, xr.DataArray) else getattr(vectors, "attrs", {})
        require_equal_embeddings(self.attrs, attrs, ("the index", "the vectors"))
        lengths = np.linalg.norm(queries, axis=1, keepdims=True)
        if queries.shape[1] != self._vectors.shape[1] or not (np.isfinite(lengths) & (lengths > 0)).all():
            msg = f"Cannot search {len(queries)} vectors of {queries.shape[1]} numbers: the index holds vectors of "
            msg += f"{self._vectors.shape[1]}, and none may be zero or infinite."
            raise InputError(msg, remedy="Pass {vectors} (n, bands).", value=queries.shape, argument="vectors")
        if not _is_integer(k) or not 1 <= k <= len(self):
            msg = f"Cannot find {k} entries in an index of {len(self)}."
            raise InputError(msg, remedy="Pass {k} from 1 to that number.", value=k, argument="k")
        similarity, positions = self._nearest((queries / lengths).astype(np.float32), k)
        part_of = np.searchsorted(self._starts, positions.ravel(), side="right") - 1
        crs = self._entries[0].at(np.array([0]), gpd).crs
        parts = []
        for number in np.unique(part_of):
            indices = np.flatnonzero(part_of == number)
            rows = self._entries[number].at(positions.ravel()[indices] - self._starts[number], gpd)
            parts.append(rows.to_crs(crs).assign(source=self._entries[number].name, _order=indices))
        table = pd.concat(parts).sort_values("_order").drop(columns="_order").reset_index(drop=True)
        table = table.assign(query=np.repeat(names, k), similarity=similarity.ravel())
        others = [name for name in table.columns if name not in {"query", "similarity", "source"}]
        return gpd.GeoDataFrame(table[["query", "similarity", "source", *others]], geometry="geometry", crs=crs)

    def _nearest(self, queries: Floats, k: int) -> tuple[Floats, Array]:
        """Return similarity and position (n, k) of the nearest vectors, the most similar first."""
        if self._graph is not None:
            self._graph.hnsw.efSearch = max(4 * k, 64)
            similarity, positions = self._graph.search(queries, k)
            return np.clip(similarity, -1, 1), positions
        similarity, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for start in range(0, len(self._vectors), _ROWS):
            products = queries @ self._vectors[start : start + _ROWS].T
            ranks = np.broadcast_to(np.arange(start, start + products.shape[1]), products.shape)
            similarity, positions = np.hstack([similarity, products]), np.hstack([positions, ranks])
            if similarity.shape[1] > k:
                nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
                similarity, positions = (np.take_along_axis(a, nearest, axis=1) for a in (similarity, positions))
        order = np.lexsort((positions, -similarity), axis=1)
        similarity, positions = (np.take_along_axis(a, order, axis=1) for a in (similarity, positions))
        return np.clip(similarity, -1, 1), positions


def build_index(data: Any, *, method: Literal["exact", "hnsw"] = "exact", step: int = 1) -> VectorIndex:
    """Return an index of embeddings, for the search of the most similar ones by cosine similarity.

    Parameters
    ----------
    data
        Layer or tree of embeddings, a table of `geoxt.extract` or `read_parquet`; a list of these, or a mapping of
        names to them. Each valid pixel or row is an entry; those of length zero are left out. Bands are matched by
        name, in the order of the first source; bands without names by position.
    method
        "exact" compares all vectors. "hnsw" is the approximate index of faiss (extra `search`), a graph of neighbors
        which is faster for many vectors, and misses some of the nearest ones.
    step
        Distance in pixels between the entries of layers.

    Returns
    -------
    VectorIndex
        `index.search(vectors, k)` returns a GeoDataFrame, `index.save(path)` writes the index to disk. It holds the
        vectors as float32, in memory: 256 bytes for each entry of 64 bands. Layers are read in blocks.

    Raises
    ------
    InputError
        If sources differ in bands, model or version, or none has a valid vector.

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> values = np.array([[[3.0, 1.0]], [[0.0, 1.0]]], "float32")
    >>> layer = make_layer(values, bands=["a", "b"], left=0, top=10, resolution=10)
    >>> result = build_index({"2020": layer}).search([1.0, 1.0], k=1)
    >>> round(float(result.similarity[0]), 3), result.source[0], result.geometry[0].coords[0]
    (1.0, '2020', (15.0, 5.0))
    """
    if not _is_integer(step) or step < 1:
        msg = f"Cannot index pixels at a distance of {step!r}."
        raise InputError(msg, remedy="Pass {step} of 1 or more.", value=step, argument="step")
    if isinstance(data, (xr.DataArray, xr.Dataset, xr.DataTree)) or hasattr(data, "columns"):
        data = [data]
    sources = data if isinstance(data, Mapping) else _sources_by_name(data)
    attrs = common_embedding_attrs({repr(name): _attrs(source) for name, source in sources.items()})
    entries: list[_Entries] = []
    vectors: list[Floats] = []
    bands: list[tuple[str, int]] = []
    all_names: Bands = None
    for name, source in sources.items():
        for part, values, names in (
            _of_table(name, source) if hasattr(source, "columns") else _of_layers(name, source, step)
        ):
            all_names = names if all_names is None else all_names
            rows = values[:, band_order(all_names, names, ("the first source", f"source {name!r}"), "data")]
            lengths = np.linalg.norm(rows, axis=1)
            valid = np.isfinite(lengths) & (lengths > 0)
            entries.append(_Entries(name=part.name, rows=part.rows[valid], grid=part.grid))
            vectors.append((rows[valid] / lengths[valid, None]).astype(np.float32))
            bands.append((name, rows.shape[1]))
    if not sum(map(len, vectors)):
        msg = "Cannot build an index: no vector is valid."
        raise InputError(msg, remedy="Pass {data} with valid pixels.", argument="data")
    other = next(((name, length) for name, length in bands if length != bands[0][1]), None)
    if other is not None:
        msg = f"Cannot index vectors of {bands[0][1]} numbers ({bands[0][0]!r}) and {other[1]} ({other[0]!r})."
        raise InputError(msg, remedy="Pass {data} of one model.", argument="data")
    nonempty = [number for number, rows in enumerate(vectors) if len(rows)]
    model_attrs = {name: str(attrs[name]) for name in NAMES if name in attrs}
    all_vectors = np.concatenate([vectors[n] for n in nonempty])
    graph = _graph_of(all_vectors) if method == "hnsw" else None
    return VectorIndex([entries[n] for n in nonempty], all_vectors, model_attrs, all_names, graph)


def open_index(path: SomePath) -> VectorIndex:
    """Open an index that `VectorIndex.save` wrote; vectors of an exact one are read during a search.

    Parameters
    ----------
    path
        Folder.

    Raises
    ------
    ReadError
        If it is no index, is damaged, or was written by another version.
    MissingDependency
        If the index is approximate, and faiss is not installed.

    Examples
    --------
    >>> index = geoxt.embeddings.open_index("archive.index")  # doctest: +SKIP
    """
    with optional_import("geopandas", "vector", "open an index of embeddings"):
        import geopandas as gpd
    folder = Path(path)
    try:
        document = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        entries = []
        for number, source in enumerate(document["sources"] if document["format"] == _FORMAT else ()):
            grid, file = source["grid"], folder / f"rows-{number}.parquet"
            rows = gpd.read_parquet(file) if grid is None else pd.read_parquet(file)
            box = None if grid is None else GeoBox(tuple(grid[0]), Affine(*grid[1]), grid[2])
            entries.append(_Entries(name=source["name"], rows=rows, grid=box))
        if vectors.ndim != 2 or sum(len(part.rows) for part in entries) != len(vectors):
            raise ValueError("its files do not belong together, or are of another version")  # noqa: TRY301
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"Cannot open the index {str(folder)!r}: {error}."
        raise ReadError(problem, remedy="Build it again by build_index and save it.", value=str(folder)) from error
    graph = None
    if (folder / "graph.faiss").exists():
        with optional_import("faiss", "search", "open an approximate index"):
            import faiss
        graph = faiss.read_index(str(folder / "graph.faiss"))
    return VectorIndex(entries, vectors, document["attrs"], document.get("bands"), graph)


def _graph_of(vectors: Any) -> Any:
    """Return the graph of neighbors of vectors."""
    with optional_import("faiss", "search", "build an approximate index"):
        import faiss
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors)
    return graph


def _sources_by_name(data: Sequence[Any]) -> dict[str, Any]:
    """Return sources by the names of layers, or by their positions if names are absent or repeated."""
    names = [getattr(source, "name", None) for source in data]
    unique = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    return {str(names[n]) if unique else str(n): source for n, source in enumerate(data)}


def _attrs(source: Any) -> Mapping[Any, Any]:
    return source.attrs if hasattr(source, "columns") else embedding_attrs(source)


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _of_table(name: str, table: Any) -> list[tuple[_Entries, Any, Bands]]:
    bands = list(table.attrs.get("bands", ()))
    if not bands or not hasattr(table, "crs") or not set(bands) <= set(table.columns):
        msg = f"Cannot index the table {name!r}: it states no columns of bands, or has no geometries."
        raise InputError(msg, remedy="Pass {data}, a table of geoxt.extract or read_parquet.", argument="data")
    return [(_Entries(name=name, rows=table.drop(columns=bands)), table[bands].to_numpy(np.float64), bands)]


def _of_layers(name: str, data: Any, step: int) -> list[tuple[_Entries, Any, Bands]]:
    """Return the valid pixels of each layer, read block by block."""
    require_dequantized(data, "data")
    parts = []
    for node, layer in layers_of(data).items():
        view = view_of(layer)
        times = layer["time"].to_numpy() if "time" in layer.coords else None
        dated = times is not None and "time" in layer.dims
        rows, vectors = [], []
        height, width = view.grid.shape
        side = -(-_BLOCK // step) * step
        for top in range(0, height, side):
            for left in range(0, width, side):
                window = Window(top, left, min(side, height - top), min(side, width - left))
                values, valid = (array[..., ::step, ::step] for array in view.read(window))
                number, row, col = np.nonzero(valid.all(axis=1))
                vectors.append(np.moveaxis(values, 1, -1)[number, row, col].astype(np.float32))
                rows.append(np.c_[number, top + row * step, left + col * step].astype(np.int32))
        pixels = np.concatenate(rows)
        columns: dict[str, Any] = {"node": node} if node else {}
        columns |= {"time": np.asarray(times)[pixels[:, 0]]} if dated else {}
        frame = pd.DataFrame(columns | {"row": pixels[:, 1], "col": pixels[:, 2]}, index=range(len(pixels)))
        parts.append((_Entries(name=name, rows=frame, grid=view.grid), np.concatenate(vectors), bands_of(layer)))
    return parts
