"""Every error and warning of geoxt: what a user can mend, what a file or an output refused."""

from __future__ import annotations


class GeoxtError(Exception):
    """Base of all errors raised on purpose by geoxt."""


class InputError(GeoxtError, ValueError):
    """An argument or a layer that the caller can mend."""


class CRSError(InputError):
    """A coordinate reference system is missing, or several disagree."""


class GridError(InputError):
    """Coordinates or a grid that are not regular, or do not fit the request."""


class OverlapError(InputError):
    """Layers or regions that have no place in common."""


class LabelError(InputError):
    """Class codes, names or colours that contradict each other or the pixels."""


class ReadError(GeoxtError, OSError):
    """A file that could not be opened or read."""


class OutputError(GeoxtError, OSError):
    """An output that could not be written."""


class MissingDependency(GeoxtError, ImportError):
    """An optional package that this part of geoxt needs."""


class GeoxtWarning(UserWarning):
    """Base of all warnings issued by geoxt."""


class ReadWarning(GeoxtWarning):
    """A scene that could not be read and was taken as nodata on request."""


class DatasetWarning(GeoxtWarning):
    """A dataset on disk that is not the whole of what was released."""


class LabelWarning(GeoxtWarning):
    """Labels of no class, which are left out."""
