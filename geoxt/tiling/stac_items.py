"""STAC collection of a tiled map, and the item of each map tile, with the projection and classification extensions."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.crs import crs_text
from geoxt.grid import grid_of, window_grid
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.mlm import classes_of, to_stac
from geoxt.source import is_categorical, nodata_of
from geoxt.source.embedding_attrs import to_stac as to_stac_embedding
from geoxt.storage import atomic_write
from geoxt.tiling.map_tile import MapTile
from geoxt.tiling.tile_states import now
from geoxt.types import SomePath

COLLECTION, MODEL = "collection.json", "model.json"
"""Files of the collection, and of the model's item (MLM)."""
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def tile_item(
    tile: MapTile, path: Path, layer: xr.DataArray, *, datetimes: tuple[str, str] | None, has_model: bool
) -> dict[str, Any]:
    """Return the STAC item of a map tile.

    Parameters
    ----------
    tile
        Map tile.
    path
        Path of its COG, beside which the item is stored.
    layer
        The map.
    datetimes
        First and last time of the map's input; by default the item has the present time.
    has_model
        Whether `model.json` exists in the folder of the collection.
    """
    assert tile.window is not None
    grid = window_grid(grid_of(layer), tile.window)
    times = (
        {"datetime": now()}
        if datetimes is None
        else {"datetime": None, "start_datetime": datetimes[0], "end_datetime": datetimes[1]}
    )
    classes = _classes(layer)
    embedding, embedding_links = to_stac_embedding(layer)
    collection = {"href": f"../{COLLECTION}", "type": "application/json"}
    links = [{"rel": rel, **collection} for rel in ("root", "parent", "collection")]
    if has_model:
        links.append({"rel": "derived_from", "href": f"../{MODEL}", "type": "application/geo+json", "title": "Model"})
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_PROJECTION, *([_CLASSIFICATION] if classes else [])],
        "id": tile.name,
        "collection": path.parents[1].absolute().name,
        "geometry": shapely.geometry.mapping(shapely.set_precision(tile.geometry, 1e-9)),
        "bbox": [round(float(value), 9) for value in shapely.bounds(tile.geometry)],
        "properties": {**times, "created": now(), **_projection(grid), **embedding},
        "links": links + embedding_links,
        "assets": {
            "map": {
                "href": f"./{path.name}",
                "type": _COG,
                "roles": ["data"],
                "bands": _bands(layer),
                **({"classification:classes": classes} if classes else {}),
            }
        },
    }


def _projection(grid: GeoBox) -> dict[str, Any]:
    text = crs_text(grid.crs)
    code = {"proj:code": text} if ":" in text and "[" not in text else {"proj:code": None, "proj:wkt2": text}
    return {**code, "proj:shape": list(grid.shape), "proj:transform": list(grid.affine)[:6]}


def _bands(layer: xr.DataArray) -> list[dict[str, Any]]:
    """Return name, data type and nodata value of each band; JSON has no NaN."""
    nodata = nodata_of(layer)
    stated: dict[str, Any] = {}
    if nodata is not None:
        stated["nodata"] = nodata if np.isfinite(nodata) else str(float(nodata))  # "nan", as STAC 1.1 defines
    count = layer.sizes.get("band", 1)
    if "band" in layer.dims and "band" in layer.coords:
        names = [str(name) for name in layer["band"].values]
    elif count == 1:
        names = ["map" if layer.name is None else str(layer.name)]
    else:
        names = [str(index) for index in range(1, count + 1)]
    return [{"name": name, "data_type": layer.dtype.name, **stated} for name in names]


def _classes(layer: xr.DataArray) -> list[dict[str, Any]]:
    legend = Legend.of(layer) if is_categorical(layer) else None
    return classes_of(legend.codes, legend.names, legend.colors) if legend else []


def write_model(folder: Path, card: Card, path: SomePath) -> None:
    """Write the item of a model's file (MLM)."""
    href = os.path.relpath(path, folder) if Path(path).exists() else str(path)
    write_json(folder / MODEL, to_stac(card, href=Path(href).as_posix()))


def write_collection(
    folder: Path, names: Sequence[str], bounds: Sequence[float], datetimes: tuple[str, str] | None, *, title: str
) -> None:
    """Write the STAC collection of the finished map tiles."""
    links: list[dict[str, str]] = [{"rel": "root", "href": f"./{COLLECTION}", "type": "application/json"}]
    if (folder / MODEL).exists():
        links.append({"rel": "derived_from", "href": f"./{MODEL}", "type": "application/geo+json", "title": "Model"})
    links += [{"rel": "item", "href": f"./tiles/{name}.json", "type": "application/geo+json"} for name in names]
    collection: Mapping[str, Any] = {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": folder.absolute().name,
        "description": title,
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(bounds)]},
            "temporal": {"interval": [list(datetimes) if datetimes else [now(), None]]},
        },
        "links": links,
    }
    write_json(folder / COLLECTION, collection)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file; it is complete or absent."""
    with atomic_write(path, fsync=False) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
