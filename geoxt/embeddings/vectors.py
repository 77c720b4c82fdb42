"""Vectors of embeddings as rows, with their components in the order of the bands of a layer or index."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from geoxt.errors import InputError, NodataWarning
from geoxt.inference.model_bands import Bands, bands_of
from geoxt.layers.products.embeddings import ALPHAEARTH
from geoxt.source.embedding_attrs import identity_of, require_equal_embeddings
from geoxt.tables import extract
from geoxt.tables.layer_values import embedding_attrs
from geoxt.trees import SomeData, layers_of
from geoxt.types import Floats


def require_dequantized(data: SomeData, argument: str) -> None:
    """Raise if layers hold the int8 of AlphaEarth as stored, whose angles are not those of its vectors.

    Raises
    ------
    InputError
        If a layer of int8 has names of bands of AlphaEarth, and states no model.
    """
    names = {band.name for band in ALPHAEARTH.bands}
    for layer in layers_of(data).values():
        if "data_type" in identity_of(layer) and set(bands_of(layer) or ("",)) <= names:
            msg = f"Cannot compare the int8 of {layer.name!r}: their bands are those of AlphaEarth, whose files hold "
            msg += "quantized numbers."
            remedy = f"Pass {{{argument}}} opened with open_cogs(..., product='alphaearth'), which dequantizes."
            raise InputError(msg, remedy=remedy, value="int8", argument=argument)


def band_order(bands: Bands, names: Bands, titles: tuple[str, str], argument: str) -> list[int] | slice:
    """Return the position in `names` of each of `bands`; all in their order if either is unknown or lengths differ.

    Raises
    ------
    InputError
        If names differ.
    """
    if bands is None or names is None or len(bands) != len(names) or list(bands) == list(names):
        return slice(None)
    other = [name for name in names if name not in bands]
    if other or len(set(names)) < len(names):
        msg = f"Cannot match bands by name: {titles[1]} has {(other or list(names))[:4]}, {titles[0]} has "
        msg += f"{list(bands)[:4]}."
        remedy = f"Pass {{{argument}}} with equal names of bands."
        raise InputError(msg, remedy=remedy, value=other, argument=argument)
    return [list(names).index(name) for name in bands]


def vectors_of(data: SomeData | None, vectors: Any, bands: Bands, owner: str) -> tuple[list[str], Floats]:
    """Return names and numbers (n, bands) of vectors, in the order of `bands` if both have names.

    Parameters
    ----------
    data
        Layer at whose points vectors are extracted; `None` for an index.
    vectors
        As for `similar`.
    bands
        Names of the bands of the layer or index.
    owner
        "the layer" or "the index", for errors.
    """
    if hasattr(vectors, "columns"):
        return _of_table(data, vectors, bands, owner)
    names: Bands = None
    if isinstance(vectors, xr.DataArray) and "band" in vectors.dims:
        names = bands_of(vectors)
        if data is not None:
            require_equal_embeddings(embedding_attrs(data), identity_of(vectors), (owner, "the vectors"))
        vectors = vectors.transpose(..., "band").to_numpy().reshape(-1, vectors.sizes["band"])
    elif isinstance(vectors, pd.Series) and not isinstance(vectors.index, pd.RangeIndex):
        names = [str(name) for name in vectors.index]
    try:
        rows = np.atleast_2d(np.asarray(vectors, np.float64))
    except (TypeError, ValueError) as error:
        msg = f"Cannot take {type(vectors).__name__} as vectors of numbers."
        raise InputError(msg, remedy="Pass {vectors} (n, bands).", argument="vectors") from error
    if rows.ndim != 2:
        msg = f"Cannot take an array of {rows.ndim} dimensions as vectors."
        raise InputError(msg, remedy="Pass {vectors} (n, bands).", value=rows.shape, argument="vectors")
    order = band_order(bands, names, (owner, "the vectors"), "vectors")
    return [str(number) for number in range(len(rows))], rows[..., order]


def _of_table(data: SomeData | None, table: Any, bands: Bands, owner: str) -> tuple[list[str], Floats]:
    if "bands" not in table.attrs and bands is not None and set(bands) <= set(table.columns):
        columns = list(bands)
    else:
        if "bands" not in table.attrs:
            if data is None or not hasattr(table, "geom_type"):
                msg = "Cannot compare with points: their vectors are not known."
                remedy = "Pass {vectors}, the table of geoxt.extract(layer, points)."
                raise InputError(msg, remedy=remedy, argument="vectors")
            table = extract(data, table)
        columns = list(table.attrs["bands"])
        missing = [name for name in columns if name not in table.columns]
        if missing:
            msg = f"Cannot take vectors of the table: it has no column {', '.join(map(repr, missing[:4]))}."
            raise InputError(msg, remedy="Pass {vectors} with all bands.", value=missing, argument="vectors")
    if data is not None:
        require_equal_embeddings(embedding_attrs(data), table.attrs, (owner, "the vectors"))
    values = table[columns]
    valid = values.notna().all(axis=1).to_numpy()
    if not valid.any():
        msg = f"Cannot compare pixels with vectors: all of {len(table)} points lie on nodata or outside the layer."
        raise InputError(msg, remedy="Pass {vectors} of valid pixels.", argument="vectors")
    if not valid.all():
        text = f"{int((~valid).sum())} of {len(table)} vectors have bands without a value and are left out."
        warnings.warn(text, NodataWarning, stacklevel=4)
    order = band_order(bands, columns, (owner, "the table"), "vectors")
    return [str(label) for label in table.index[valid]], values.to_numpy(np.float64)[valid][:, order]
