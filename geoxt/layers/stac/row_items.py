"""STAC items of the rows of a table, without parsing each row: rows of equal structure are parsed once.

Rows have one structure if the same fields are present and the fields that bands are parsed from are equal. Of each
structure, pystac parses one row, with the migration of former versions and extensions. All its rows are then read from
the columns if that gives the same item for the parsed row; else, each is parsed. Geometries and assets are converted
only when they are used: most assets never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
import shapely

from geoxt.errors import GeoxtError
from geoxt.layers.stac.layouts import FIELDS_READ, PROPERTIES_READ, fields_text
from geoxt.layers.stac.parquet import FIELDS, SIDES, dict_rows, geometries_of, json_box, to_json
from geoxt.types import Array

if TYPE_CHECKING:
    import pyarrow as pa

_VERSIONS = {None, "1.0.0", "1.1.0"}
"""Versions of STAC whose fields, except for extensions, pystac leaves unchanged."""
_ASSET_FIELDS = ("href", "type", "title", "description", "roles")
"""Fields of an asset that pystac has as attributes."""
_ABSOLUTE = r"^(https?://|s3://|gs://)[^\\]*$"
_ABSOLUTE_OR_LOCAL = r"^(https?://|s3://|gs://|/)[^\\]*$"
STRUCTURE = FIELDS_READ | {"type", "roles"}
"""Fields of assets that are equal in all rows of one structure."""
_POLYGON = 3
"""Number of the type in shapely."""


class _ParseRowsError(Exception):
    """Rows that cannot be read from columns, and are parsed one by one."""


_UNREADABLE = (
    _ParseRowsError, AttributeError, KeyError, OverflowError, TypeError, ValueError, GeoxtError,
    shapely.errors.ShapelyError,
)  # fmt: skip
"""Errors of reading columns, after which rows are parsed one by one: that decides which row has an error."""


class RowItem(pystac.Item):
    """An item of a row of a table."""

    def __init__(self, *, address: str | None, shape: bytes | None, is_box: bool | None, **fields: Any) -> None:
        # without that of pystac.Item, which would take most of the time to open a table
        self.links, self.extra_fields, self.collection = [], {}, None
        self.__dict__.update(fields)
        self.is_box = is_box
        self.fields_text = ""
        self._address, self.wkb = address, shape

    def get_self_href(self) -> str | None:
        """Return the address of the table, if that is remote."""
        return self._address

    @property
    def geometry(self) -> dict[str, Any] | None:
        """The geometry as GeoJSON."""
        return geometries_of([self.wkb])[0]

    @geometry.setter
    def geometry(self, value: dict[str, Any] | None) -> None:
        raise AttributeError(f"Cannot set the geometry of an item of a table to {value!r}.")


def row_items(
    batch: pa.RecordBatch, parse: Callable[[Mapping[str, Any]], pystac.Item], *, address: str | None = None
) -> Iterator[pystac.Item]:
    """Yield the items of the rows of a table, in order.

    Parameters
    ----------
    batch
        Rows of a stac-geoparquet file.
    parse
        Parser of a row as a dict in JSON.
    address
        Self href of the items; hrefs are then relative to it, as are local paths.
    """
    items: list[pystac.Item | None] = [None] * batch.num_rows
    for rows in _groups(batch):
        part = batch if len(rows) == batch.num_rows else batch.take(rows)
        for row, row_item in zip(rows.tolist(), _items_of_group(part, parse, address), strict=False):
            items[row] = row_item
    unread_rows = [row for row, item in enumerate(items) if item is None]
    dicts = dict_rows(batch.take(unread_rows)) if unread_rows else iter(())
    for item in items:
        yield parse(next(dicts)) if item is None else item


def _groups(batch: pa.RecordBatch) -> list[Array]:
    """Return the rows of each structure; none if nearly all rows differ, or columns are of unusual types."""
    import pyarrow as pa

    types = {name: batch.schema.field(name).type for name in ("assets", "geometry")}
    if not pa.types.is_struct(types["assets"]) or not pa.types.is_binary(types["geometry"]):
        return []
    columns = [
        (batch[name], name in {"stac_version", "stac_extensions", "deprecated", *PROPERTIES_READ})
        for name in batch.schema.names
        if name != "assets"
    ]
    for asset in batch["assets"].flatten():
        if not pa.types.is_struct(asset.type):
            return []
        names = [asset.type.field(i).name for i in range(asset.type.num_fields)]
        read = [name in STRUCTURE for name in names]
        columns += [(asset, False), *zip(asset.flatten(), read, strict=True)]
    codes: list[Array] = []
    for column, is_read in columns:
        if column.null_count not in {0, len(column)}:
            codes.append(np.asarray(column.is_valid()).astype(np.int64))
        if is_read and not _is_constant(column):
            numbers: dict[str, int] = {}
            codes.append(np.array([numbers.setdefault(repr(v), len(numbers)) for v in column.to_pylist()]))
    if not codes:
        return [np.arange(batch.num_rows)]
    _, group = np.unique(np.stack(codes, 1), axis=0, return_inverse=True)
    count = int(group.max()) + 1
    if count > 1 + batch.num_rows // 8:
        return []
    order = np.argsort(group.ravel(), kind="stable")
    return np.split(order, np.cumsum(np.bincount(group.ravel()))[:-1])


def _is_constant(column: Any) -> bool:
    """Return whether all values of a column are equal, and none is NaN."""
    return bool(column.slice(1).equals(column[:-1]) and column[:1].equals(column[:1]))


def _items_of_group(
    part: pa.RecordBatch, parse: Callable[[Mapping[str, Any]], pystac.Item], address: str | None
) -> list[RowItem]:
    """Return the items of rows of one structure; empty if the rows have to be parsed one by one."""
    names = [name for name in part.schema.names if part[name].null_count < part.num_rows]
    version = part["stac_version"][0].as_py() if "stac_version" in names else None
    if part["assets"].null_count or "deprecated" in names or version not in _VERSIONS:
        return []
    try:
        assets = {
            field.name: _AssetColumns(column, address)
            for field, column in zip(part.schema.field("assets").type, part["assets"].flatten(), strict=True)
            if column.null_count < len(column)
        }
        properties = {name: _values(part[name]) for name in names if name not in FIELDS}
        with_code = [table for table in (properties, *(a.columns for a in assets.values())) if "proj:epsg" in table]
        if any("proj:code" in table for table in with_code):
            return []  # pystac compares them
        sample = parse(next(dict_rows(part.slice(0, 1))))
        tables = (sample.properties, *(a.extra_fields for a in sample.assets.values()))
        if with_code and not any("proj:epsg" in table for table in tables):
            if "proj:epsg" in properties:
                properties["proj:code"] = _codes_of(properties.pop("proj:epsg"))
            for columns in assets.values():
                columns.move_epsg()
        items = _build(part, properties, assets, sample, address)
    except _UNREADABLE:
        return []
    return items if repr(_content(items[0])) == repr(_content(sample)) else []


def _build(
    part: pa.RecordBatch,
    properties: Mapping[str, list[Any]],
    assets: Mapping[str, _AssetColumns],
    sample: pystac.Item,
    address: str | None,
) -> list[RowItem]:
    moments = {text: pystac.utils.str_to_datetime(text) for text in {*properties.get("datetime", ())}}
    keys = tuple(properties)
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*properties.values(), strict=True)]
    rows = rows or [{} for _ in range(part.num_rows)]
    shapes = part["geometry"].to_pylist()
    columns = zip(
        part["id"].to_pylist(), _collections(part), rows, _boxes(part), shapes, _are_boxes(shapes), strict=True
    )
    result = []
    for row, (item_id, collection, fields, box, shape, is_box) in enumerate(columns):
        fields.setdefault("datetime", None)
        result.append(
            RowItem(
                address=address, shape=shape, is_box=is_box, id=str(item_id), collection_id=collection,
                properties=fields, bbox=box, datetime=moments.get(fields["datetime"]),
                stac_extensions=sample.stac_extensions,
            )
        )  # fmt: skip
        result[-1].__dict__["assets"] = RowAssets(assets, row, result[-1])
    text = fields_text(result[0])
    for item in result:
        item.fields_text = text
    return result


def _content(item: pystac.Item) -> tuple[Any, ...]:
    """Return all of an item."""
    assets = [
        (key, a.href, a.title, a.description, a.media_type, a.roles, a.extra_fields) for key, a in item.assets.items()
    ]
    position = item.collection_id, item.geometry, item.bbox, item.datetime, item.get_self_href()
    return item.id, *position, item.properties, item.stac_extensions, item.extra_fields, assets


class _AssetColumns:
    """Assets of one key, of rows of one structure.

    Raises
    ------
    _ParseRowsError
        If an href is missing, or relative.
    """

    def __init__(self, column: Any, address: str | None) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        fields = {f.name: values for f, values in zip(column.type, column.flatten(), strict=True)}
        self.columns = {name: values for name, values in fields.items() if values.null_count < len(values)}
        hrefs, pattern = self.columns.get("href"), _ABSOLUTE_OR_LOCAL if address is None else _ABSOLUTE
        if hrefs is None or not (pa.types.is_string(hrefs.type) or pa.types.is_large_string(hrefs.type)):
            raise _ParseRowsError
        if not pc.all(pc.match_substring_regex(hrefs, pattern), skip_nulls=False).as_py():
            raise _ParseRowsError
        self._shared = {
            name: to_json(values[0].as_py())
            for name, values in self.columns.items()
            if name != "href" and (name in STRUCTURE or _is_constant(values))
        }
        self._codes: list[str] | None = None
        self._varying: dict[str, list[Any]] | None = None

    def move_epsg(self) -> None:
        """Replace the former field of the EPSG code by the present one."""
        if "proj:epsg" in self.columns:
            self._codes = _codes_of(self.columns.pop("proj:epsg").to_pylist())

    def asset(self, row: int) -> pystac.Asset:
        """Return the asset of a row."""
        if self._varying is None:  # once for all rows: of most keys, no asset is opened
            self._varying = {name: _values(v) for name, v in self.columns.items() if name not in self._shared}
            if self._codes is not None:
                self._varying["proj:code"] = self._codes
        varying, shared = self._varying, self._shared
        values = {name: varying[name][row] if name in varying else shared[name] for name in (*self.columns, *varying)}
        href, media_type, title, description, roles = (values.pop(name, None) for name in _ASSET_FIELDS)
        return pystac.Asset(href, title, description, media_type, roles, values)


class RowAssets(Mapping[str, pystac.Asset]):
    """Assets of an item by key, made when they are read.

    Parameters
    ----------
    columns
        Assets of all rows of the item's structure.
    row
        Position of the item among them.
    item
        The item.
    """

    __slots__ = ("_assets", "_columns", "_item", "_row")

    def __init__(self, columns: Mapping[str, _AssetColumns], row: int, item: RowItem) -> None:
        self._columns, self._row, self._item = columns, row, item
        self._assets: dict[str, pystac.Asset] = {}

    def __getitem__(self, key: str) -> pystac.Asset:
        """Return the same object at each call."""
        asset = self._assets.get(key)
        if asset is None:
            asset = self._assets[key] = self._columns[key].asset(self._row)
            asset.set_owner(self._item)
        return asset

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __contains__(self, key: object) -> bool:
        return key in self._columns


def _codes_of(numbers: Sequence[Any]) -> list[str]:
    """Return EPSG codes as pystac writes them."""
    if not all(numbers):
        raise _ParseRowsError
    return [f"EPSG:{number}" for number in numbers]


def _values(column: Any) -> list[Any]:
    """Return the values of a column in JSON; equal texts, times and constant values are one object."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_temporal(column.type):
        encoded = column.dictionary_encode()
        texts = list(map(to_json, encoded.dictionary.to_pylist()))
        return [None if i is None else texts[i] for i in encoded.indices.to_pylist()]
    if _is_constant(column):
        return [to_json(column[0].as_py())] * len(column)
    return list(map(to_json, column.to_pylist()))


def _collections(part: pa.RecordBatch) -> list[str | None]:
    names = _values(part["collection"]) if "collection" in part.schema.names else [None] * part.num_rows
    if not all(name is None or isinstance(name, str) for name in {*names}):
        raise _ParseRowsError
    return names


def _boxes(part: pa.RecordBatch) -> list[list[float] | None]:
    import pyarrow as pa

    column = part["bbox"] if "bbox" in part.schema.names else pa.nulls(part.num_rows)
    if pa.types.is_struct(column.type) and not column.null_count:
        sides = [column.field(name) for name in SIDES]
        if not any(side.null_count for side in sides) and all(pa.types.is_floating(side.type) for side in sides):
            boxes: list[list[float] | None] = np.stack([np.asarray(side, float) for side in sides], 1).tolist()
            return boxes
    return list(map(json_box, column.to_pylist()))


def _are_boxes(shapes: Sequence[bytes | None]) -> list[bool | None]:
    """Return which geometries are a ring of four corners along their bounds; `None` if the ring has to be examined."""
    geometries: Array = np.asarray(shapely.from_wkb(np.array([*shapes, None], object)))[:-1]
    rings = (shapely.get_type_id(geometries) == _POLYGON) & ~shapely.has_z(geometries)
    rings &= (shapely.get_num_interior_rings(geometries) == 0) & (shapely.get_num_coordinates(geometries) == 5)
    result = np.full(len(shapes), None, object)
    x, y = shapely.get_coordinates(geometries[rings]).reshape(-1, 5, 2).T
    (ax, bx, cx, dx, ex), (ay, by, cy, dy, ey) = x, y
    upright = (ax == bx) & (by == cy) & (cx == dx) & (dy == ay)
    level = (ay == by) & (bx == cx) & (cy == dy) & (dx == ax)
    result[rings] = (ax == ex) & (ay == ey) & (upright | level)
    boxes: list[bool | None] = result.tolist()
    return boxes
