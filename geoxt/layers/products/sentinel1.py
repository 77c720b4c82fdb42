"""Sentinel-1: C-band radar, terrain corrected (RTC) and as ground range (GRD)."""

from __future__ import annotations

from geoxt.layers.products.catalogs import earth_search, planetary_computer
from geoxt.layers.products.product import Band, Product
from geoxt.template import Template

_LICENSE = "Copernicus Sentinel Data Terms"
_C_BAND = 299_792_458 / 5.405e9 * 1e6
"""Wavelength in free space, in micrometres: the speed of light over 5.405 GHz."""


def _radar(name: str) -> Band:
    low = name.lower()
    return Band(name=name, common=low, wavelength=round(_C_BAND), resolution=10, files=(name, low), assets=(low,))


_RADAR = tuple(_radar(name) for name in ("HH", "HV", "VV", "VH"))
_GRD_SCENE = (
    r"S1{mission:[A-D]}_{mode:IW|EW|SM|WV|S[1-6]}_{type:GRD|SLC|RAW|OCN}{res:[FHM_]}_{level:[012]}{class:S|A}"
    r"{pol:SH|SV|DH|DV|HH|HV|VV|VH}_{date:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}"
    r"_{orbit:\d{6}}_{take:[0-9A-F]{6}}_{uid:[0-9A-F]{4}}"
)
_GRD_FILE = (
    r"s1{mission:[a-d]}-{mode:iw|ew|s[1-6]}-grd-{band:hh|hv|vv|vh}-{date:%Y%m%dt%H%M%S}-{stop:%Y%m%dt%H%M%S}"
    r"-{orbit:\d{6}}-{take:[0-9a-f]{6}}-{n:3d}.{_ext:tif|tiff}"
)
_RTC_FILE = (
    r"S1{mission:[A-D]}_{mode:SM|IW|EW|WV}_{date:%Y%m%dT%H%M%S}_{polarization:[DS][HV]}{orbit:P|R|O}_RTC{spacing:\d{2}}"
    r"_{package:G}_{backscatter:g|s}{scale:p|d|a}{mask:u|w}{filter:n|f}{area:e|c}{matching:d|m}"
    r"_{product:[0-9A-Z]{4}}_{band:HH|HV|VV|VH}.{_ext:tif|tiff}"
)

RTC = Product(
    name="sentinel1",
    title="Sentinel-1 RTC (gamma0, linear power unless its file name says otherwise)",
    kind="image",
    bands=_RADAR,
    default_bands=("VV", "VH"),
    files=(Template(_RTC_FILE),),
    nodata=0,  # of ASF's files; unverified
    dtypes=(("*", "float32"),),
    collections=(planetary_computer("sentinel-1-rtc", nodata=-32768),),
    mission=("2014-04-03", None),  # unverified
    license=_LICENSE,
    cite="https://sentiwiki.copernicus.eu/web/s1-mission",
)
GRD = Product(
    name="sentinel1_grd",
    title="Sentinel-1 GRD (amplitude, placed by ground control points)",
    kind="image",
    bands=_RADAR,
    default_bands=("VV", "VH"),
    files=(Template(_GRD_FILE),),
    scenes=(Template(_GRD_SCENE), Template(f"{_GRD_SCENE}.SAFE")),
    nodata=0,
    dtypes=(("*", "uint16"),),
    collections=(planetary_computer("sentinel-1-grd"), earth_search("sentinel-1-grd", paid=True)),
    mission=("2014-04-03", None),  # unverified
    license=_LICENSE,
    cite="https://sentiwiki.copernicus.eu/web/s1-mission",
)
PRODUCTS = (RTC, GRD)
