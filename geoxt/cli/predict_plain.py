"""`geoxt predict` of images without georeference: a table of classes, or a folder of PNG masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from geoxt.errors import InputError, OutputError, optional_import
from geoxt.inference.image_tables import classify_images, image_files, segment_images
from geoxt.models.network import Network
from geoxt.storage import atomic_write
from geoxt.types import Array
from geoxt.writers.staging import require_writable


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    with optional_import("pyarrow", "vector", "write Parquet"):
        table.to_parquet(path, index=False)


TABLES: Mapping[str, Callable[[pd.DataFrame, Path], Any]] = {
    ".csv": lambda table, path: table.to_csv(path, index=False),
    ".parquet": _write_parquet,
}
"""Writer of a table by file extension."""


def is_plain(out: str) -> bool:
    """Return whether an output path is a table or a folder."""
    suffix = Path(out).suffix.lower()
    return suffix in TABLES or suffix == "" or (Path(out).is_dir() and suffix != ".zarr")


def predict_plain(images: Sequence[str], path: str, network: Network, options: Mapping[str, Any]) -> Path:
    """Write the classes or masks of images, and return the path of the table or folder.

    Parameters
    ----------
    images
        Image files, patterns or folders.
    path
        Path of a table, or folder of masks.
    network
        Network of the model.
    options
        Size, overlap and number of tiles per batch, device and precision, as for `geoxt.predict`.

    Raises
    ------
    InputError
        If the model's task does not fit the output, or an image does not fit the model.
    OutputError
        If the output cannot be written, or would replace an image.
    """
    out, files = Path(path), image_files(images)
    write = TABLES.get(out.suffix.lower())
    if write is None:
        return _write_masks(out, files, network, {k: v for k, v in options.items() if k != "blend"})
    if network.card.task == "segmentation":
        msg = f"Cannot write masks to {path!r}: it is a table."
        raise InputError(msg, remedy="Pass {out}, a folder.", value=path, argument="out")
    require_writable(out)
    names = ("batch_size", "device", "precision", "compile")
    table = classify_images(files, network, **{name: options[name] for name in names if name in options})
    with atomic_write(out) as temporary:
        write(table, temporary)
    return out


def _write_masks(out: Path, files: list[str], network: Network, options: Mapping[str, Any]) -> Path:
    if network.card.task in ("classification", "multilabel", "regression"):
        msg = f"Cannot write {str(out)!r}: the output of the model is a table."
        remedy = f"Pass {{out}} with an extension of {', '.join(TABLES)}."
        raise InputError(msg, remedy=remedy, value=str(out), argument="out")
    targets = _targets(out, files)
    for name, mask in segment_images(files, network, **options):
        target = targets[name]
        require_writable(target)
        with atomic_write(target) as temporary:
            _write_png(mask, temporary, network.card.legend.colormap())
    return out


def _targets(out: Path, files: list[str]) -> dict[str, Path]:
    """Return the path of each mask: that of its image below their common folder, with the extension .png."""
    resolved = {file: Path(file).resolve() for file in files}
    root = Path(commonpath([path.parent for path in resolved.values()]))
    targets = {file: (out / path.relative_to(root)).with_suffix(".png") for file, path in resolved.items()}
    used: dict[Path, str] = {}
    for file, target in targets.items():
        if target.resolve() in resolved.values():
            msg = f"Cannot write the mask {str(target)!r}: it is one of the images."
            raise OutputError(msg, remedy="Pass another {out}.", value=str(out))
        if target in used:
            msg = f"Cannot write one mask for both {used[target]!r} and {file!r}: {str(target)!r}."
            raise OutputError(msg, remedy="Pass images whose names differ without extension.", value=file)
        used[target] = file
    return targets


def _write_png(mask: Array, path: Path, colormap: Mapping[int, tuple[int, ...]]) -> None:
    """Write class codes as a PNG with a palette; codes over 255 as 16 bits, without one."""
    if mask.min() < 0 or mask.max() > np.iinfo("uint16").max:
        msg = f"Cannot write the codes {mask.min()} to {mask.max()} as PNG."
        raise InputError(msg, remedy="Train with class codes of 0 to 65535.")
    dtype = "uint8" if mask.max() <= np.iinfo("uint8").max else "uint16"
    height, width = mask.shape
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="PNG", count=1, height=height, width=width, dtype=dtype) as file:
            file.write(mask.astype(dtype), 1)
            if dtype == "uint8":
                file.write_colormap(1, {code: color for code, color in colormap.items() if code < 256})
