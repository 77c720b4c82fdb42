"""The version of geoxt, read by the package, its CLI and the build."""

__version__ = "0.1.0"
