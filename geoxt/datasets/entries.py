"""Index entries: fields and file paths of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geoxt.datasets.assets import Asset
from geoxt.datasets.find_files import Slot
from geoxt.datasets.rasters import Crop
from geoxt.template import Fields, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Fields and file paths of a sample."""

    fields: Fields
    """Field values by name."""
    files: Mapping[str, Mapping[Slot, str] | None]
    """Paths below the root by asset, then by time and band; `None` if the template determines them."""
    listed: str | None = None
    """Split in the list files."""
    problem: str | None = None
    """Description of missing files; `None` if none is missing."""
    crop: Crop | None = None
    """Window of the images, if samples are windows."""

    def paths(self, key: str, asset: Asset) -> dict[Slot, str]:
        """Return the paths of an asset by time and band, below the root."""
        slots = self.files[key]
        if slots is not None:
            return dict(slots)
        template = asset.templates[0]
        fields = {name: self.fields[name] for name in asset.names}
        if "band" not in template.names:
            return {(None, None): template.fill(fields)}
        return {(None, band): template.fill({**fields, "band": band}) for band in template.choices("band")}


def name_of(fields: Mapping[str, Value]) -> str:
    """Return the name of a sample for messages, such as `split=train/place=s000`."""
    return "/".join(f"{name}={value}" for name, value in fields.items())
