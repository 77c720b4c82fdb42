"""Labels that stand in tables, JSON files or rows of arrays -> a class, several classes or a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoxt.datasets.assets import Array as ArrayAsset
from geoxt.datasets.assets import Table
from geoxt.datasets.spec import Spec
from geoxt.errors import LabelError, ReadError
from geoxt.legend import Legend


def read_label(value: Any, asset: Table | ArrayAsset, legend: Legend | None, path: str) -> Any:
    """Return what a stored value means: an int, a float32 number, or uint8 (classes,) with ones for what is there.

    Raises
    ------
    LabelError
        Where it is no class of the dataset.
    ReadError
        Where it is no number.
    """
    match asset.gives:
        case "number":
            try:
                return np.float32(value)
            except (TypeError, ValueError) as error:
                msg = f"Cannot read the number {value!r} in {path!r}: {error}. Fetch the dataset again."
                raise ReadError(msg) from error
        case "onehot":
            row = np.asarray(value)
            if legend is None or row.shape != (len(legend),) or (row != 0).sum() != 1:
                msg = f"Cannot tell the class of {path!r}: {row.tolist()} is not one of its classes. Fetch it again."
                raise LabelError(msg)
            return legend.codes[int(row.argmax())]
        case "class":
            return class_of(value, legend, path, getattr(asset, "renames", {}))
        case "classes":
            assert legend is not None
            hot = np.zeros(len(legend), np.uint8)
            for name in value if isinstance(value, list) else str(value).split(";"):
                given = getattr(asset, "renames", {}).get(name, name)
                if given is not None:
                    hot[legend.codes.index(class_of(given, legend, path, {}))] = 1
            return hot
        case _:
            msg = f"Cannot read a label of kind {asset.gives!r} in {path!r}: write gives= in the spec."
            raise ReadError(msg)


def class_of(value: Any, legend: Legend | None, path: str, names: Mapping[str, str | None]) -> int:
    """Return the code of a class by its name, or by the code itself."""
    text = str(names.get(str(value), str(value))).replace("_", " ").strip()
    if legend is not None and text in legend.names:
        return legend.codes[legend.names.index(text)]
    if legend is not None and text.lstrip("-").isdigit() and int(text) in legend.codes:
        return int(text)
    known = "none" if legend is None else ", ".join(legend.names[:8]) + (", …" if len(legend) > 8 else "")
    msg = f"Cannot tell the class {value!r} of {path!r}: the dataset has {known}. Remove it, or fetch it again."
    raise LabelError(msg)


def folder_label(spec: Spec, text: str, path: str) -> int:
    """Return the code of the class that `{label}` in a path says."""
    return class_of(spec.labels.get(text, text), spec.classes, path, {})
