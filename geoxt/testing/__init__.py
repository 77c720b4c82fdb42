"""Generated rasters, worlds and catalogs, for tests and for the demo. Needs nothing but geoxt's own dependencies."""

from __future__ import annotations

from geoxt.testing.cogs import distinct, make_grid, write_bands, write_cog
from geoxt.testing.stac import Band, Category, make_item, write_catalog, write_items
from geoxt.testing.world import World, make_world

__all__ = [
    "Band",
    "Category",
    "World",
    "distinct",
    "make_grid",
    "make_item",
    "make_world",
    "write_bands",
    "write_catalog",
    "write_cog",
    "write_items",
]
