"""Find the files of an asset by its path templates, grouped by sample."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from geoxt.datasets.arrays import rows_of
from geoxt.datasets.assets import Asset, Boxes, HDF5Array, Table
from geoxt.template import Template, Value

Key = tuple[Value, ...]
"""Values of the fields that identify a sample."""
Slot = tuple[Value | None, Value | None]
"""Time and band of a file; `None` if its path lacks the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFiles:
    """The files of an asset."""

    names: tuple[str, ...]
    """Fields that identify a sample."""
    rows: dict[Key, dict[Slot, str] | None]
    """Paths below the root by time and band, per sample; `None` if the template determines them."""


def find_asset(asset: Asset, root: Path, listed: Callable[[str], None]) -> AssetFiles:
    """Return the files of an asset; folders whose file names are determined by their path are not listed."""
    folder = folder_of(asset)
    if folder is not None:
        rows: dict[Key, dict[Slot, str] | None] = {
            tuple(fields[name] for name in asset.names): None for _, fields in folder.below(root, listed=listed)
        }
        return AssetFiles(names=asset.names, rows=rows)
    files: dict[Key, dict[Slot, str] | None] = {}
    for template in asset.templates:
        for path, fields in template.below(root, listed=listed):
            key = tuple(fields[name] for name in asset.names)
            slots = files.setdefault(key, {})
            assert slots is not None
            slots.setdefault((fields.get("time"), fields.get("band")), path)
    if isinstance(asset, HDF5Array):
        return _by_row(asset, root, files)
    return AssetFiles(names=asset.names, rows=files)


def _by_row(asset: HDF5Array, root: Path, files: dict[Key, dict[Slot, str] | None]) -> AssetFiles:
    rows: dict[Key, dict[Slot, str] | None] = {}
    for key, slots in files.items():
        path = next(iter((slots or {}).values()))
        rows |= dict.fromkeys(((*key, row) for row in range(rows_of(root / path, asset.key))), slots)
    return AssetFiles(names=(*asset.names, "row"), rows=rows)


def is_shared(asset: Asset) -> bool:
    """Whether a file of the asset holds rows of many samples."""
    return isinstance(asset, Boxes) or (isinstance(asset, Table) and bool(asset.columns))


@lru_cache(maxsize=256)
def _cut(pattern: str, *, full: bool) -> Template | None:
    """Return the template without its last path levels without fields; `None` if every level has a field."""
    levels = re.split(r"/(?![^{}]*\})", pattern)
    names = set(Template(pattern).names) - {"band"}
    for count in range(1, len(levels)):
        if full and names <= set(Template("/".join(levels[:count])).names):
            return Template("/".join(levels[:count]))
    return None


def folder_of(asset: Asset) -> Template | None:
    """Return the template of the folder of a sample's files if the folder's path determines the file names.

    Otherwise, such as for paths with a time or an ignored field, return `None`: the folder has to be listed.
    """
    if len(asset.templates) > 1 or not asset.names:
        return None
    pattern = asset.templates[0].pattern
    open_names = "{_" in pattern or "**" in pattern or "time" in asset.templates[0].names
    needs_choice = "band" in asset.templates[0].names and not asset.templates[0].choices("band")
    return _cut(pattern, full=not open_names and not needs_choice)
