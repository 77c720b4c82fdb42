"""Markdown tables of probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_NAMES = {"knn": "kNN", "linear": "linear probe"}


def markdown(report: Mapping[str, Any]) -> str:
    """Return a report as Markdown tables; accuracies in percent."""
    dataset, options, encoders = report["dataset"], report["options"], report["encoders"]
    images = ", ".join(f"{count:,} {part}" for part, count in dataset["images"].items())
    header = ["encoder", "normalization", "features", f"kNN (k = {options['n_neighbors']})", "linear probe", "C"]
    rows = [
        [
            encoder["model"],
            encoder["normalization"],
            encoder["features"],
            _interval(encoder["scores"]["knn"]),
            _interval(encoder["scores"]["linear"]),
            f"{encoder['scores']['linear']['C']:g}",
        ]
        for encoder in encoders
    ]
    about = f"{dataset['name']}: {len(dataset['classes'])} classes, {dataset['split']} split: {images} images."
    sections = [
        f"{about} Accuracy on the test images in percent, with bootstrap 95 % intervals.",
        _table(header, rows),
        *_few_shot(encoders),
        "### Splits",
        _by_encoder(encoders, "splits", _interval),
        "### Robustness",
        "Classifiers fitted to features of unchanged images, test images changed.",
        _by_encoder(encoders, "robustness", _interval),
    ]
    dropped = [encoder for encoder in encoders if encoder["bands_dropped"]]
    sections += [f"{e['model']} does not use the bands {', '.join(e['bands_dropped'])}." for e in dropped]
    return "\n\n".join(sections) + "\n"


def _few_shot(encoders: Sequence[Mapping[str, Any]]) -> list[str]:
    curves = {encoder["model"]: encoder["few_shot"] for encoder in encoders}
    points: Sequence[Any] = next(iter(curves.values()), [])
    if not points:
        return []
    header = ["encoder", "classifier", *(f"{point['shots']} per class" for point in points)]
    rows = [
        [model, title, *(_deviation(point[name]) for point in curve)]
        for model, curve in curves.items()
        for name, title in _NAMES.items()
    ]
    about = (
        f"Mean ± sample standard deviation (n - 1) over {points[0]['n_repeats']} random draws of the training images."
    )
    return ["### Few-shot curves", about, _table(header, rows)]


def _by_encoder(encoders: Sequence[Mapping[str, Any]], key: str, cell: Callable[[Any], str]) -> str:
    """Return a table of encoders and classifiers by name of a score."""
    columns = list(dict.fromkeys(name for encoder in encoders for name in encoder[key]))
    rows = []
    for encoder in encoders:
        for name, title in _NAMES.items():
            entries = [encoder[key].get(column, {}) for column in columns]
            cells = [
                cell(entry[name]) if name in entry else f"not possible: {entry.get('not_possible', 'one band')}"
                for entry in entries
            ]
            rows.append([encoder["model"], title, *cells])
    return _table(["encoder", "classifier", *columns], rows)


def _interval(score: Mapping[str, Any]) -> str:
    low, high = score["interval"]
    return f"{100 * score['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _deviation(score: Mapping[str, Any]) -> str:
    return f"{100 * score['mean']:.1f}" + ("" if score["std"] is None else f" ± {100 * score['std']:.1f}")


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
