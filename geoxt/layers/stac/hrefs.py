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


_STORAGE = "xarray:storage_options"
_ANONYMOUS = frozenset({"endpoint_url", "client_kwargs", "config_kwargs"})
"""Options of fsspec that send requests to another server, and with them credentials unless `anon` is set."""
_HARMLESS = frozenset({"anon", "requester_pays", "account_name", "credential", "sas_token", "use_ssl"})


def require_href(item: pystac.Item, key: str, *, trust: bool) -> None:
    """Raise if an asset's href is relative without a base, or refers from a remote catalog to a local file or a VRT.

    Assets of items with a remote address must be remote files, and not VRTs, whose sources may be local files.

    Parameters
    ----------
    item
        The item.
    key
        Key of its asset.
    trust
        Whether items of a remote catalog may refer to local files and to VRTs, and state any option of fsspec.

    Raises
    ------
    InputError
        If the href is relative and the item has no address; or, without trust, if the href is local or a VRT, or the
        asset has unsafe options of fsspec.
    """
    asset, address = item.assets[key], item.get_self_href()
    href = asset.href
    if address is not None and is_remote(address):
        problem = None if trust else untrusted_reason(item, key)
        if problem is not None:
            remedy = "Pass {trust:True} if the catalog may refer to files of this machine."
            raise InputError(problem, remedy=remedy, value=key, argument="trust")
    elif address is None and not _REMOTE.match(href) and pystac.utils.make_absolute_href(href, "/") != href:
        problem = f"Cannot find asset {key!r} of item {item.id!r}: its href {_short(href)!r} is relative,"
        problem += " and the item has no self href."
        raise InputError(problem, remedy="Pass the item's file, or call item.set_self_href(…) first.")


def untrusted_reason(item: pystac.Item, key: str) -> str | None:
    """Return the reason not to open an asset without trust; `None` for a safe asset or a local item."""
    asset, address = item.assets[key], item.get_self_href()
    if address is None or not is_remote(address):
        return None
    href, options = asset.href, asset.extra_fields.get(_STORAGE)
    reason = _reason(href, asset.media_type or "")
    text = f"its href {_short(href)!r} {reason}"
    if reason is None and not _is_harmless(options):
        text = f"its {_STORAGE} {sorted(options) if isinstance(options, dict) else options!r} may send credentials of "
        text += "this machine to another server"
    elif reason is None:
        return None
    return f"Cannot open asset {key!r} of item {item.id!r} of the remote catalog {redact_url(address)!r}: {text}."


def _is_harmless(options: object) -> bool:
    """Return whether options of fsspec read no local file and send no credentials to a server of the catalog."""
    if options is None:
        return True
    if not isinstance(options, dict):
        return False
    anonymous = options.get("anon") is True or options.get("token") == "anon"
    unknown = options.keys() - _HARMLESS - (_ANONYMOUS if anonymous else set())
    return not unknown - {"token"} and options.get("token", "anon") == "anon"


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
