"""One sample before it is read: its fields, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoxt.datasets.assets import Asset
from geoxt.datasets.find_files import Slot
from geoxt.datasets.rasters import Crop
from geoxt.template import Fields, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One sample: what it is called, and its files."""

    fields: Fields
    """Fields by name."""
    files: Mapping[str, Mapping[Slot, str] | None]
    """By asset: paths below the root by time and band; `None` where the template gives them."""
    listed: str | None = None
    """Split that the lists say."""
    crop: Crop | None = None
    """What of its images it is, where samples are windows of large ones."""

    def paths(self, key: str, asset: Asset) -> dict[Slot, str]:
        """Return the paths of an asset by time and band, below the root."""
        slots = self.files[key]
        if slots is not None:
            return dict(slots)
        template = asset.templates[0]
        own = {name: self.fields[name] for name in asset.names}
        if "band" not in template.names:
            return {(None, None): template.fill(own)}
        return {(None, band): template.fill({**own, "band": band}) for band in template.choices("band")}


def name_of(fields: Mapping[str, Value]) -> str:
    """Return the name of a sample, for messages."""
    return "/".join(f"{name}={value}" for name, value in fields.items())
