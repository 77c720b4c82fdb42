"""Archives as people write them down: an address, and below it names with their checksums, sizes and folders."""

from __future__ import annotations

import re
from typing import Any

from geoxt.datasets.spec import Archive
from geoxt.errors import InputError

_KINDS = {"md5": r"[0-9a-f]{32}", "sha256": r"[0-9a-f]{64}", "size": r"\d+"}
_PART = re.compile(r"(.+\.(?:tar|tgz|tar\.gz|zip))[a-z]{2}")


def hosted(at: str, files: str, *, into: str = "", prefix: str = "") -> tuple[Archive, ...]:
    """Return the archives that stand at one address.

    Parameters
    ----------
    at
        Address of the folder that has them; or of any of them, with `{}` for its name.
    files
        Names, each with what is known of it behind it, in any order: MD5 and SHA-256 (told by their length), bytes, and
        paths below the root that it makes (those with a slash). Blanks and new lines stand between all of these.
    into
        Folder below the root that they are extracted in.
    prefix
        Stands before their names below the root, where those at the address say too little.

    Examples
    --------
    >>> hosted("https://example.org/ponds", "ponds.zip 900150983cd24fb0d6963f7d28e17f72 5120 ponds/")[0].holds
    ('ponds/',)
    """
    found: list[dict[str, Any]] = []
    for word in files.split():
        kind = next((kind for kind, form in _KINDS.items() if re.fullmatch(form, word)), None)
        if kind is None and "/" not in word:
            found.append({"file": word, "holds": ()})
        elif not found:
            msg = f"Cannot tell of which archive {word!r} is: no name stands before it. Write the name first."
            raise InputError(msg)
        elif kind is None:
            found[-1]["holds"] += (word,)
        else:
            found[-1][kind] = int(word) if kind == "size" else word
    whole = at if "{}" in at else f"{at}/{{}}"
    return tuple(_archive(whole.replace("{}", one["file"]), into, prefix, **one) for one in found)


def _archive(url: str, into: str, prefix: str, *, file: str, **known: Any) -> Archive:
    part = _PART.fullmatch(file)
    return Archive(file=f"{prefix}{file}", url=url, into=into, join=part[1] if part else None, **known)
