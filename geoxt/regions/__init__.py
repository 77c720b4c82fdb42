"""Regions: the part of a grid that samplers draw from and that splits divide."""
