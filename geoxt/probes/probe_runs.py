"""Probes of several encoders on one dataset, with a result file for each encoder and a report of all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geoxt.inference.devices import SomeDevice
from geoxt.probes.encoders import FrozenEncoder, features, half_resolution, open_encoder, reverse_bands, translate
from geoxt.probes.labeled_images import PARTS, LabeledImages
from geoxt.probes.probe_report import markdown
from geoxt.probes.protocols import ProbeOptions, blocked_parts, few_shot, fit_probes, random_parts, scores
from geoxt.trainers.loop.results import load_result, lock_folder, to_json, write_text
from geoxt.types import Array, SomePath

TABLE, REPORT = "results.md", "results.json"


def run_probes(
    models: Sequence[str],
    data: LabeledImages,
    out: SomePath,
    *,
    options: ProbeOptions | None = None,
    batch_size: int = 128,
    device: SomeDevice = "auto",
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score frozen encoders by k-nearest neighbors and linear probes, or resume an interrupted run.

    Parameters
    ----------
    models
        Encoders: names of pretrained weights, `geoxt.models.weights.names()`; paths of geoxt checkpoints; names of
        architectures with random weights, `geoxt.models.names()`, such as `"rcf"`; or `"pixels"`, the mean of each
        band in 16 x 16 cells.
    data
        Images, as `open_images` returns them.
    out
        Folder of the results: `results.md`, `results.json`, and a file per finished encoder in `encoders`, which is not
        computed again.
    options
        Options of the protocols.
    batch_size
        Images per forward pass.
    device
        Device of the encoders, as for `geoxt.predict`; of several devices the first.
    log
        Function that prints a line for each encoder.

    Returns
    -------
    dict
        Contents of `results.json`. For each encoder: `scores` of the test part with bootstrap 95 % intervals,
        `few_shot`, `splits` (the accuracy of random and spatially blocked splits) and `robustness` (the accuracy on
        changed test images).

    Raises
    ------
    InputError
        If a model is unknown or does not fit the images, or `out` holds the result of another configuration.
    OutputError
        If results cannot be written, or another run is writing there.

    Notes
    -----
    Classifiers are fitted to the training and validation part; the validation part chooses C. Nearest neighbors use
    Euclidean distances between features that are not scaled; the linear probe scales them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from geoxt import probes
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, gray in (("forest", 40), ("water", 90)):
    ...     (folder / name).mkdir()
    ...     for number in range(10):
    ...         Image.new("L", (8, 8), gray + number).save(folder / name / f"{number}.png")
    >>> data = probes.open_images(str(folder), fractions=(0.6, 0.2, 0.2))
    >>> options = probes.ProbeOptions(Cs=(0.1, 1.0), shots=(2,), n_repeats=1)
    >>> report = probes.run_probes(["pixels"], data, folder / "results", options=options)
    >>> report["encoders"][0]["scores"]["knn"]
    {'accuracy': 1.0, 'interval': [1.0, 1.0], 'n': 4}
    """
    protocol = options or ProbeOptions()
    folder = Path(out)
    protocol.shots_of(np.unique(data.labels[data.parts["train"]], return_counts=True)[1].min())  # raises if too many
    with lock_folder(folder):
        encoders = [open_encoder(name, data, seed=protocol.seed) for name in models]  # raises before the first result
        results = [_result(encoder, data, folder, protocol, batch_size, device, log) for encoder in encoders]
        parts = {part: len(data.parts[part]) for part in PARTS}
        dataset = {"name": data.name, "split": data.split, "images": parts, "classes": list(data.classes)}
        report = {"dataset": dataset, "options": to_json(protocol), "encoders": results}
        write_text(folder / REPORT, json.dumps(report, indent=2) + "\n")
        write_text(folder / TABLE, markdown(report))
    return report


def _result(
    encoder: FrozenEncoder,
    data: LabeledImages,
    folder: Path,
    options: ProbeOptions,
    batch_size: int,
    device: SomeDevice,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Return the result of an encoder, read from its file if it is finished."""
    path = folder / "encoders" / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', encoder.name)}.json"
    config = {"encoder": encoder.describe(), "dataset": data.describe(), "options": to_json(options)}
    result = load_result(path, config)
    if result is None:
        log(f"probe     {encoder.name}")
        path.parent.mkdir(exist_ok=True)
        result = {"config": config, **_probe(encoder, data, options, {"batch_size": batch_size, "device": device})}
        write_text(path, json.dumps(result) + "\n")
    accuracy = {name: f"{score['accuracy']:.4f}" for name, score in result["scores"].items()}
    log(f"finished  {encoder.name}: {', '.join(f'{name} {text}' for name, text in accuracy.items())}")
    return {**result["config"]["encoder"], **{name: result[name] for name in result if name != "config"}}


def _probe(
    encoder: FrozenEncoder, data: LabeledImages, options: ProbeOptions, batches: Mapping[str, Any]
) -> dict[str, Any]:
    """Return scores, few-shot curve, splits and robustness of an encoder."""
    rows = features(encoder, data, np.arange(len(data.labels)), **batches)
    test = data.parts["test"]
    estimators = fit_probes(rows, data.labels, data.parts, options)
    base = scores(estimators, rows[test], data.labels[test], options)
    changes: dict[str, dict[str, Any]] = {
        f"shift by {options.shift} px": {"perturb": translate(options.shift)},
        "bands reversed": {"perturb": reverse_bands},
        "half resolution": {"perturb": half_resolution},
        "each image standardized": {"standardize": True},
    }
    if len(encoder.positions) == 1:
        del changes["bands reversed"]
    robustness = {
        name: scores(estimators, features(encoder, data, test, **change, **batches), data.labels[test], options)
        for name, change in changes.items()
    }
    return {
        "features": rows.shape[1],
        "scores": base,
        "few_shot": few_shot(rows, data.labels, data.parts, options),
        "splits": _splits(rows, data, base, options),
        "robustness": robustness,
    }


def _splits(rows: Array, data: LabeledImages, base: Mapping[str, Any], options: ProbeOptions) -> dict[str, Any]:
    """Return the scores of the published, a random and a spatially blocked split, or why a split is not possible."""
    result: dict[str, Any] = {data.split: dict(base)}
    if data.split != "random":
        parts = random_parts(data, options)
        estimators = fit_probes(rows, data.labels, parts, options)
        result["random"] = scores(estimators, rows[parts["test"]], data.labels[parts["test"]], options)
    blocked = blocked_parts(data, options)
    if isinstance(blocked, str):
        return {**result, "blocked": {"not_possible": blocked}}
    parts, blocks = blocked
    estimators = fit_probes(rows, data.labels, parts, options)
    test = parts["test"]
    return {**result, "blocked": scores(estimators, rows[test], data.labels[test], options, groups=blocks[test])}
