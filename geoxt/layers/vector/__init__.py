"""Layers from vector files: features and their classes."""
