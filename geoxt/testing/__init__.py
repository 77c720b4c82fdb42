"""Generated rasters, worlds and STAC catalogs for tests, examples and the demo."""

from __future__ import annotations

from geoxt.testing.cogs import distinct, make_grid, make_layer, write_bands, write_cog
from geoxt.testing.sentinel2_scenes import make_sentinel2
from geoxt.testing.stac import Band, Category, make_item, write_catalog, write_items
from geoxt.testing.world import World, make_world

__all__ = [
    "Band",
    "Category",
    "World",
    "distinct",
    "make_grid",
    "make_item",
    "make_layer",
    "make_sentinel2",
    "make_world",
    "write_bands",
    "write_catalog",
    "write_cog",
    "write_items",
]
