"""Convert stored labels to class codes, multi-hot vectors or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from geoxt.datasets.assets import FETCH_AGAIN, HDF5Array, Table
from geoxt.datasets.spec import Spec
from geoxt.errors import LabelError, ReadError
from geoxt.legend import Legend


def read_label(value: Any, asset: Table | HDF5Array, legend: Legend | None, path: str) -> Any:
    """Convert a stored label to a class code (int), a float32 number or a multi-hot vector (classes,) of uint8.

    Raises
    ------
    LabelError
        If the label is not a class of the dataset.
    ReadError
        If a numeric label is not a number.
    """
    match asset.label_kind:
        case "number":
            try:
                return np.float32(value)
            except (TypeError, ValueError) as error:
                msg = f"Cannot read the number {value!r} in {path!r}: {error}."
                raise ReadError(msg, remedy=FETCH_AGAIN) from error
        case "onehot":
            row = np.asarray(value)
            if legend is None or row.shape != (len(legend),) or (row != 0).sum() != 1:
                msg = f"Cannot determine the class of {path!r}: {row.tolist()} is not a one-hot vector of its classes."
                raise LabelError(msg, remedy=FETCH_AGAIN)
            return legend.codes[int(row.argmax())]
        case "class":
            return class_of(value, legend, path, getattr(asset, "class_names", {}))
        case "multilabel":
            assert legend is not None
            multi_hot = np.zeros(len(legend), np.uint8)
            for name in value if isinstance(value, list) else str(value).split(";"):
                class_name = getattr(asset, "class_names", {}).get(name, name)
                if class_name is not None:
                    multi_hot[legend.codes.index(class_of(class_name, legend, path, {}))] = 1
            return multi_hot
        case _:
            msg = f"Cannot read a label of kind {asset.label_kind!r} in {path!r}."
            raise ReadError(msg, remedy="Set label_kind to number, onehot, class or multilabel in the spec.")


def class_of(value: Any, legend: Legend | None, path: str, names: Mapping[str, str | None]) -> int:
    """Return the code of a class, given its name or its code."""
    text = str(names.get(str(value), str(value))).replace("_", " ").strip()
    if legend is not None and text in legend.names:
        return legend.codes[legend.names.index(text)]
    if legend is not None and text.lstrip("-").isdigit() and int(text) in legend.codes:
        return int(text)
    class_names = "none" if legend is None else ", ".join(legend.names[:8]) + (", …" if len(legend) > 8 else "")
    msg = f"Cannot map the class {value!r} of {path!r} to a code: the classes of the dataset are {class_names}."
    raise LabelError(msg, remedy="Remove the file, or fetch the dataset again with force=True.")


def folder_label(spec: Spec, text: str, path: str) -> int:
    """Return the class code of the `{label}` field of a path."""
    return class_of(spec.class_names.get(text, text), spec.classes, path, {})
