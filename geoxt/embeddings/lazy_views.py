"""Lazy layers computed from embeddings: cosine similarity, change, principal components and clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from geoxt.embeddings.vectors import require_dequantized, vectors_of
from geoxt.errors import GridError, InputError, optional_import
from geoxt.grid import grid_of, pixel_offset
from geoxt.inference import predict
from geoxt.inference.model_bands import bands_of, common_bands
from geoxt.legend import Legend
from geoxt.samplers import RandomSampler
from geoxt.source import nodata_of, view_of
from geoxt.source.embedding_attrs import identity_of, require_equal_embeddings
from geoxt.trees import SomeData, layers_of
from geoxt.types import Array, Floats

_WINDOWS, _SIDE = 64, 32
"""Number and side, in pixels, of the windows from which a sample of pixels is drawn."""


class _Similarity(nn.Module):
    """Cosine similarity of images (N, C, H, W) to vectors (K, C): (N, K, H, W)."""

    def __init__(self, vectors: Floats) -> None:
        super().__init__()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.register_buffer("vectors", torch.from_numpy(unit.astype(np.float32)))

    def forward(self, images: Tensor) -> Tensor:
        """Return the similarity; NaN for zero vectors."""
        products = torch.einsum("kc,nchw->nkhw", self.vectors, images)
        return (products / images.norm(dim=1, keepdim=True)).clamp(-1, 1)


class _Change(nn.Module):
    """One minus the cosine similarity of the first and the second half of the channels: (N, 1, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the change, 0 to 2; NaN for zero vectors."""
        before, after = images.chunk(2, dim=1)
        product = (before * after).sum(1, keepdim=True)
        norms = before.norm(dim=1, keepdim=True) * after.norm(dim=1, keepdim=True)
        return 1 - (product / norms).clamp(-1, 1)


def similar(data: SomeData, vectors: Any, *, chunks: int | None = None) -> Any:
    """Return the cosine similarity of each pixel of a layer to vectors.

    Parameters
    ----------
    data
        Layer of embeddings, or of other bands; or a tree of these.
    vectors
        Array (bands,) or (n, bands); a table of `geoxt.extract`; or a GeoDataFrame of points, at which vectors are
        extracted. Columns of a table, the index of a Series and the coordinate band of a DataArray are matched to the
        bands of the layer by name, other arrays by position. Rows of a table with NaN are left out, with a warning. For
        one vector of a class pass the mean of its rows: `table.groupby("class")[table.attrs["bands"]].mean()`.
    chunks
        As for `geoxt.predict`.

    Returns
    -------
    xarray.DataArray or xarray.DataTree
        Lazy, float32 (band, y, x), a band per vector named by its position or the index of its row; -1 to 1. NaN for
        pixels that are not valid, or zero in all bands. `similarity.max("band")` is that to the most similar vector.

    Raises
    ------
    InputError
        If vectors differ from the bands in length or names, are not numbers, are zero or all NaN, or are of another
        model or version; if the layer holds AlphaEarth's int8 as stored, or int8 of no stated model beside vectors of a
        stated one; or if layers of a tree differ in the names or order of their bands.

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> values = np.array([[[3.0, 1.0]], [[0.0, 1.0]]], "float32")
    >>> layer = make_layer(values)
    >>> similar(layer, [2.0, 0.0]).to_numpy().round(3)
    array([[[1.   , 0.707]]], dtype=float32)
    """
    names, rows = vectors_of(data, vectors, common_bands(layers_of(data).values(), "data"), "the layer")
    require_dequantized(data, "data")
    bands = {layer.sizes.get("band", 1) for layer in layers_of(data).values()}
    lengths = np.linalg.norm(rows, axis=1)
    if bands != {rows.shape[1]} or not (np.isfinite(lengths) & (lengths > 0)).all():
        reason = "some are zero or not finite" if bands == {rows.shape[1]} else f"the layer has {sorted(bands)} bands"
        msg = f"Cannot compare pixels with {len(rows)} vectors of {rows.shape[1]} numbers: {reason}."
        raise InputError(msg, remedy="Pass {vectors} (n, bands).", value=rows.shape, argument="vectors")
    legend = Legend(tuple(range(len(names))), tuple(names))
    return predict(data, _Similarity(rows), output="values", overlap=0, chunks=chunks, legend=legend)


def change(before: xr.DataArray, after: xr.DataArray, *, chunks: int | None = None) -> xr.DataArray:
    """Return the change between two layers of embeddings: 1 minus the cosine similarity of each pixel.

    Parameters
    ----------
    before, after
        Layers of one model on one grid, with equal bands and one time step each.
    chunks
        As for `geoxt.predict`.

    Returns
    -------
    xarray.DataArray
        Lazy, float32 (y, x): 0 for equal directions, 2 for opposite ones; NaN where either layer is not valid.

    Raises
    ------
    GridError
        If the grids differ, or a layer has several time steps.
    InputError
        If bands, nodata values, or the attributes model, version, patch_size or normalization differ; or if a layer
        holds AlphaEarth's int8 as stored.

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> values = np.array([[[3.0, 1.0]], [[0.0, 1.0]]], "float32")
    >>> layer = make_layer(values)
    >>> change(layer, layer[::-1]).to_numpy().round(3)
    array([[1., 0.]], dtype=float32)
    """
    steps = [layer.sizes.get("time", 1) for layer in (before, after)]
    if steps != [1, 1]:
        msg = f"Cannot compute change between layers of {steps[0]} and {steps[1]} time steps."
        raise GridError(msg, remedy="Select one of each with isel(time=0).")
    before, after = (layer.isel(time=0) if "time" in layer.dims else layer for layer in (before, after))
    grids = grid_of(before), grid_of(after)
    if pixel_offset(*grids) != (0, 0) or grids[0].shape != grids[1].shape:
        raise GridError("Cannot compute change between layers on two grids.", remedy="Align one: align(after, before).")
    require_equal_embeddings(identity_of(before), identity_of(after), ("the first layer", "the second layer"))
    require_dequantized(before, "before")
    counts = before.sizes.get("band", 1), after.sizes.get("band", 1)
    names = bands_of(before) or counts[0], bands_of(after) or counts[1]
    if counts[0] != counts[1] or (isinstance(names[0], list) and isinstance(names[1], list) and names[0] != names[1]):
        msg = f"Cannot compute change: the bands are {names[0]} and {names[1]}."
        raise InputError(msg, remedy="Select equal bands, in one order.", value=names[1], argument="after")
    nodata = nodata_of(before), nodata_of(after)
    if str(nodata[0]) != str(nodata[1]):  # NaN does not equal NaN
        msg = f"Cannot compute change: the nodata values are {nodata[0]} and {nodata[1]}."
        raise InputError(msg, remedy="Mask both with where(), which sets NaN.", argument="after")
    unnamed = [
        layer.drop_vars([name for name, coord in layer.coords.items() if "band" in coord.dims]).rename(before.name)
        for layer in (before, after)
    ]
    both = xr.concat(unnamed, "band", coords="minimal", compat="override", join="override")
    predicted = predict(both, _Change(), output="values", overlap=0, chunks=chunks)
    return predicted.isel(band=0, drop=True).rename("change")


def pca(data: SomeData, *, n_components: int = 3, seed: int = 0, chunks: int | None = None) -> Any:
    """Return the principal components of the bands of a layer, scaled to 0 to 1, such as for a false-color image.

    Parameters
    ----------
    data
        Layer of embeddings, or of other bands; or a tree of these.
    n_components
        Number of components.
    seed
        Seed of the sample of pixels to which components are fitted.
    chunks
        As for `geoxt.predict`.

    Returns
    -------
    xarray.DataArray or xarray.DataTree
        Lazy, float32 (band, y, x): the 2nd and 98th percentile of the sample are 0 and 1, values beyond are clipped;
        NaN for pixels that are not valid. The sample, some thousand pixels, is read at once.

    Raises
    ------
    InputError
        If the sample has fewer valid pixels, or the layer fewer bands, than components.

    Examples
    --------
    >>> from geoxt.testing import distinct, make_layer
    >>> values = distinct((4, 40, 50), "float32")
    >>> layer = make_layer(values)
    >>> pca(layer, n_components=1)["band"].to_numpy().tolist()
    ['PC1']
    """
    with optional_import("scikit-learn", "assess", "compute principal components"):
        from sklearn.decomposition import PCA
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import MinMaxScaler
    sample = sample_pixels(data, seed)
    if not 1 <= n_components <= min(sample.shape):
        msg = f"Cannot compute {n_components} components of {sample.shape[0]} valid pixels and {sample.shape[1]} bands."
        raise InputError(msg, remedy="Pass a smaller {n_components}.", value=n_components, argument="n_components")
    components = PCA(n_components, random_state=seed).fit(sample)
    limits = np.quantile(components.transform(sample), [0.02, 0.98], axis=0)
    scale = MinMaxScaler(clip=True).fit(limits)
    legend = Legend(tuple(range(n_components)), tuple(f"PC{number + 1}" for number in range(n_components)))
    view = Pipeline([("pca", components), ("scale", scale)])
    return predict(data, view, chunks=chunks, legend=legend)


def kmeans(data: SomeData, *, n_clusters: int = 8, seed: int = 0, chunks: int | None = None) -> Any:
    """Return the cluster of each pixel, by k-means on a sample of pixels.

    Parameters
    ----------
    data
        Layer of embeddings, or of other bands; or a tree of these. Bands are not scaled.
    n_clusters
        Number of clusters.
    seed
        Seed of the sample, and of the initial clusters.
    chunks
        As for `geoxt.predict`.

    Returns
    -------
    xarray.DataArray or xarray.DataTree
        Lazy (y, x), codes 0 to n_clusters - 1, with a legend; nodata (`_FillValue`) for pixels that are not valid: 255,
        or n_clusters if there are more than 255 clusters.

    Raises
    ------
    InputError
        If the sample has fewer valid pixels than clusters.

    Examples
    --------
    >>> from geoxt.testing import distinct, make_layer
    >>> values = distinct((4, 40, 50), "float32")
    >>> layer = make_layer(values)
    >>> np.unique(kmeans(layer, n_clusters=3)).tolist()
    [0, 1, 2]
    """
    with optional_import("scikit-learn", "assess", "compute clusters"):
        from sklearn.cluster import KMeans
    sample = sample_pixels(data, seed)
    if not 1 <= n_clusters <= len(sample):
        msg = f"Cannot form {n_clusters} clusters of {len(sample)} valid pixels."
        raise InputError(msg, remedy="Pass a smaller {n_clusters}.", value=n_clusters, argument="n_clusters")
    clusters = KMeans(n_clusters, n_init=4, random_state=seed).fit(sample)
    return predict(data, clusters, chunks=chunks)


def sample_pixels(data: SomeData, seed: int) -> Array:
    """Return the valid pixels (n, bands) of windows at random positions, float32.

    Raises
    ------
    InputError
        If none of them is valid, or nodes of a tree differ in the names or order of their bands.
    """
    common_bands(layers_of(data).values(), "data")
    views = {node: view_of(layer) for node, layer in layers_of(data).items()}
    side = min(_SIDE, *(length for view in views.values() for length in view.grid.shape))
    pixels: list[Array] = []
    for window in RandomSampler(data, size=side, length=_WINDOWS, seed=seed):
        values, valid = views[window.node].read(window)
        pixels.append(np.moveaxis(values, 1, -1)[valid.all(axis=1)].astype(np.float32))
    sample = np.concatenate(pixels)
    if not len(sample):
        msg = f"Cannot fit to a sample of pixels: none is valid in {_WINDOWS} windows of {side} pixels."
        raise InputError(msg, remedy="Pass {data} with valid pixels.", argument="data")
    return sample
