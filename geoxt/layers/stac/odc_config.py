"""Configurations for odc-stac: the metadata that a catalog lacks, by collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geoxt.errors import InputError

StacConfig = Mapping[str, Any]
"""Metadata that a catalog lacks, in the form of odc-stac's `stac_cfg`."""


def odc_config(stac_cfg: StacConfig | None) -> dict[str, Any]:
    """Return a configuration for odc-stac without grids, and without float32 as the default data type."""
    config = dict(stac_cfg or {})
    for name, value in config.items():
        if not isinstance(value, Mapping):
            problem = f"Cannot read stac_cfg: its entry {name!r} is {value!r}, not a mapping."
            raise InputError(problem, remedy="Pass {stac_cfg:{COLLECTION: {'assets': …}}}.", argument="stac_cfg")
    if "assets" in config or "aliases" in config:
        config = {"*": config}
    config.setdefault("*", {})
    return {name: _without_assumptions(value, default=name == "*") for name, value in config.items()}


def _without_assumptions(config: Mapping[str, Any], *, default: bool) -> dict[str, Any]:
    result = {**config, "ignore_proj": True}
    if default or "assets" in config:
        assets = dict(config.get("assets", {}))
        result["assets"] = {**assets, "*": {"data_type": None, **assets.get("*", {})}}
    return result


def config_of(config: Mapping[str, Any], collection: str | None) -> Mapping[str, Any]:
    """Return the configuration of a collection, with the default of all collections."""
    return {**config["*"], **config.get(collection or "", {})}
