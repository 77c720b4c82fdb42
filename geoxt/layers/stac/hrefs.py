"""Checks of asset hrefs: absolute, and remote if the item is remote, unless the caller trusts the catalog."""

from __future__ import annotations

import re

import pystac

from geoxt.errors import InputError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.remote import is_remote

_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip|7z|rar)/\{?")
_REMOTE = re.compile(
    r"(?:(?:zip|tar|gzip)\+)?(?:https?|ftp|s3|gs|gcs|az|abfss?|oss|swift)://|/vsi(?:curl|curl_streaming)/(?:https?|ftp)://"
    r"|/vsi(?:s3|gs|az|adls|oss|swift|webhdfs)(?:_streaming)?/",
    re.IGNORECASE,
)
_VRT = re.compile(r"\.vrt(?:$|[?#}/!])|<VRTDataset|^vrt://", re.IGNORECASE)


def require_href(item: pystac.Item, key: str, *, trust: bool) -> None:
    """Raise if an asset's href is relative without a base, or leaves a remote catalog for local files or VRTs.

    The assets of an item whose address is remote are remote files, and no VRT, whose sources may be local files.

    Parameters
    ----------
    item
        The item.
    key
        Key of its asset.
    trust
        Whether items of a remote catalog may refer to local files and to VRTs.

    Raises
    ------
    InputError
        If the address is relative and the item has none; or local, or a VRT, without trust.
    """
    asset, address = item.assets[key], item.get_self_href()
    href = asset.href
    if address is not None and is_remote(address):
        if trust:
            return
        reason = _reason(href, asset.media_type or "")
        if reason is not None:
            problem = f"Cannot open asset {key!r} of item {item.id!r} of the remote catalog {redact_url(address)!r}:"
            problem += f" its href {_short(href)!r} {reason}."
            remedy = "Pass {trust:True} if the catalog may refer to files of this machine."
            raise InputError(problem, remedy=remedy, value=key, argument="trust")
    elif address is None and not _REMOTE.match(href) and pystac.utils.make_absolute_href(href, "/") != href:
        problem = f"Cannot find asset {key!r} of item {item.id!r}: its href {_short(href)!r} is relative,"
        problem += " and the item has no self href."
        raise InputError(problem, remedy="Pass the item's file, or call item.set_self_href(…) first.")


def _reason(href: str, media_type: str) -> str | None:
    """Return why an address is refused; `None` for a remote file."""
    if _VRT.search(href) or "vrt" in media_type.lower():
        return "is a VRT, whose sources may be local files"
    inner = href
    while (prefix := _ARCHIVE.match(inner)) is not None:
        inner = inner[prefix.end() :]
    return None if _REMOTE.match(inner) else "is not a remote address"


def _short(href: str) -> str:
    text = redact_url(href)
    return text if len(text) <= 200 else f"{text[:200]}…"
