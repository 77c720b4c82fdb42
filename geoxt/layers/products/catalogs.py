"""STAC catalogs that serve known products."""

from __future__ import annotations

from geoxt.layers.products.product import Collection


def planetary_computer(name: str, *files: str, nodata: float | None = None) -> Collection:
    """Return a collection of Microsoft's Planetary Computer; `files` are its bands by name in file names."""
    return Collection(
        id=name,
        catalog="Planetary Computer",
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        files=files or ("*",),
        access="planetary-computer",
        nodata=nodata,
    )


def earth_search(name: str, *files: str, paid: bool = False, harmonised: str | None = None) -> Collection:
    """Return a collection of Element 84's Earth Search; `paid` if its bucket has requester pays."""
    return Collection(
        id=name,
        catalog="Earth Search",
        url="https://earth-search.aws.element84.com/v1",
        files=files or ("*",),
        access="requester-pays" if paid else None,
        harmonised=harmonised,
    )


def usgs(name: str, *files: str) -> Collection:
    """Return a collection of USGS LandsatLook."""
    return Collection(
        id=name, catalog="USGS LandsatLook", url="https://landsatlook.usgs.gov/stac-server", files=files or ("*",)
    )
