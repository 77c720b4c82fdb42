"""Scenes as a table of columns, in which a pickle is a tenth as large as one of an object per scene and asset."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from geoxt.source.scene_assets import Asset, QualityBand, Scene

_TEMPLATE_FIELDS = tuple(f.name for f in fields(Asset) if f.name != "href")
_BY_IDENTITY = {"grid", "array"}
"""Fields whose values are slow to hash or unhashable."""
_BY_TEXT = {"nodata", "extra_nodata", "scale", "offset"}
"""Fields of numbers: 0, 0.0 and -0.0 are equal, and NaN is not."""


class SceneTable:
    """Scenes that pickle as columns; repeated values and the common parts of addresses are stored once.

    Parameters
    ----------
    scenes
        Scenes of a mosaic.
    """

    __slots__ = ("__weakref__", "scenes")

    def __init__(self, scenes: tuple[Scene, ...]) -> None:
        self.scenes = scenes

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the columns of the table."""
        return _from_columns, _columns(self.scenes)


_tables: WeakValueDictionary[int, SceneTable] = WeakValueDictionary()


def table_of(scenes: tuple[Scene, ...]) -> SceneTable:
    """Return the table of scenes: one object while it is used, so that a pickle of several mosaics holds it once.

    Parameters
    ----------
    scenes
        Scenes of a mosaic.
    """
    table = _tables.get(id(scenes))
    if table is None:
        table = _tables[id(scenes)] = SceneTable(scenes)
    return table


def _columns(scenes: Sequence[Scene]) -> tuple[Any, ...]:
    """Return the arguments of `_from_columns`."""
    templates: dict[object, int] = {}
    unique: list[dict[str, Any]] = []
    hrefs: list[str] = []
    numbers: list[int] = []

    def add(asset: Asset | None) -> None:
        if asset is None:
            numbers.append(-1)
            return
        values = {name: getattr(asset, name) for name in _TEMPLATE_FIELDS}
        key = tuple([
            id(value) if name in _BY_IDENTITY else repr(value) if name in _BY_TEXT else value
            for name, value in values.items()
        ])  # fmt: skip
        number = templates.setdefault(key, len(unique))
        if number == len(unique):
            unique.append(values)
        numbers.append(number)
        hrefs.append(asset.href)

    for scene in scenes:
        for asset in scene.assets:
            add(asset)
        for band in scene.quality:
            add(band.asset)
    geometries = {scene.geometry: None for scene in scenes}
    indices = dict(zip(geometries, range(len(geometries)), strict=True))
    return (
        unique,
        np.array(numbers, np.int32),
        _pack_texts(hrefs),
        _repeated([(len(scene.assets), tuple(band.excluded for band in scene.quality)) for scene in scenes]),
        _pack_texts([scene.id for scene in scenes]),
        _pack_times([scene.start for scene in scenes]),
        _pack_times([scene.end for scene in scenes]),
        _repeated([scene.cloud_cover for scene in scenes]),
        (list(geometries), np.array([indices[scene.geometry] for scene in scenes], np.int32)),
    )


def _from_columns(
    templates: Sequence[dict[str, Any]],
    numbers: np.ndarray,
    hrefs: Any,
    shapes: Any,
    ids: Any,
    starts: Any,
    ends: Any,
    cloud_covers: Any,
    geometries: tuple[Sequence[bytes | None], np.ndarray],
) -> SceneTable:
    names = iter(_texts(hrefs))
    assets: Iterator[Asset | None] = (
        None if number < 0 else Asset(href=next(names), **templates[number]) for number in numbers.tolist()
    )
    values, indices = geometries
    rows = zip(
        _texts(ids), _values(shapes), _times(starts), _times(ends), _values(cloud_covers), indices.tolist(), strict=True
    )
    scenes = []
    for scene_id, (count, excluded), start, end, cloud_cover, index in rows:
        bands = tuple([next(assets) for _ in range(count)])
        quality = [(next(assets), triples) for triples in excluded]
        scenes.append(
            Scene(
                id=scene_id,
                assets=bands,
                start=start,
                end=end,
                cloud_cover=cloud_cover,
                quality=tuple([QualityBand(asset=a, excluded=t) for a, t in quality if a is not None]),
                geometry=values[index],
            )
        )
    return table_of(tuple(scenes))


def _pack_texts(texts: list[str]) -> Any:
    """Return texts compressed; as a list if one holds the separator, or a character that UTF-8 lacks."""
    try:
        joined = "\0".join(texts)
        encoded = joined.encode()
    except (TypeError, UnicodeEncodeError):
        return texts
    return texts if joined.count("\0") != len(texts) - 1 else zlib.compress(encoded, 1)


def _texts(packed: Any) -> list[str]:
    return packed if isinstance(packed, list) else zlib.decompress(packed).decode().split("\0")


def _pack_times(times: list[np.datetime64 | None]) -> Any:
    """Return times as an array, NaT for `None`; as a list if they differ in their unit or one is NaT."""
    units = {None if time is None else "NaT" if np.isnat(time) else time.dtype for time in times}
    kinds = units - {None}
    if len(kinds) != 1 or "NaT" in kinds:
        return _repeated(times)
    return np.array([np.datetime64("NaT") if time is None else time for time in times], kinds.pop())


def _times(packed: Any) -> Sequence[np.datetime64 | None]:
    if not isinstance(packed, np.ndarray):
        return _values(packed)
    return [None if missing else time for time, missing in zip(packed, np.isnat(packed).tolist(), strict=True)]


def _repeated(values: list[Any]) -> Any:
    """Return the value and its count if all values are one object or equal tuples, else the list."""
    first = values[0] if values else None
    same = bool(values) and all(value is first or (value == first and type(value) is tuple) for value in values)
    return (first, len(values)) if same else values


def _values(packed: Any) -> list[Any]:
    return packed if isinstance(packed, list) else [packed[0]] * packed[1]
