"""Open the image and label files of a command."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from geoxt.alignment import intersection
from geoxt.cli.errors import FILES, replaced_remedy
from geoxt.cli.open_images import open_images
from geoxt.layers import open_cogs


def open_image_and_labels(
    image: Sequence[str], labels: str | None, *, product: str | None, crs: str | None = None
) -> xr.Dataset:
    """Return a Dataset of the image and, unless `labels` is `None`, the aligned labels as "mask"."""
    with replaced_remedy(f"Pass IMAGE files {FILES}.", flags=("product", "crs")):
        layer = open_images(image, product=product, crs=crs, name="image")
    if labels is None:
        return xr.Dataset({"image": layer})
    with replaced_remedy(f"Pass {{labels}} {FILES}."):
        codes = open_cogs(labels, categorical=True, resampling="nearest", name="mask")
    return intersection(image=layer, mask=codes, grid="image")
