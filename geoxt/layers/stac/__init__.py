"""Layers from STAC: sources, filters, bands and scenes."""
