"""Maps of large areas as one job: map tiles with a manifest, written by any number of processes and resumable."""

from geoxt.tiling.manifest import read_manifest
from geoxt.tiling.tile_estimate import TileEstimate, estimate_tiles
from geoxt.tiling.tiled_map import to_tiles

__all__ = ["TileEstimate", "estimate_tiles", "read_manifest", "to_tiles"]
