"""Regions: parts of one or several grids, from which samplers draw and into which splits divide."""
