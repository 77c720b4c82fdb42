"""Change detection on two Landsat scenes of Taizhou: siamese networks against a threshold of the change vector.

    python benchmarks/change.py --out change        # trains missing runs, writes results/change.md

Both methods use one layer, standardized per date by the pixels of the training half. The western half is for training,
the eastern half for testing; 20 columns (600 m) between them are excluded. Scores are of the labeled test pixels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import report
import xarray as xr
from rasterio.errors import NotGeoreferencedWarning

from geoxt import bridge
from geoxt.cli.experiment import experiment_command
from geoxt.grid import grid_of
from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.legend import Legend
from geoxt.samplers import Region
from geoxt.splits import Split, by_region
from geoxt.trainers import WindowDataModule

SCENES = {"2000TM": "2000-03-17", "2003TM": "2003-02-06"}
"""Acquisition dates by file, from the headers."""
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
CLASSES = Legend((0, 1), ("unchanged", "changed"), ("#d0d0d0", "#d01c1c"))
UNKNOWN = 255
BUFFER = 10
"""Columns excluded from each half at their boundary."""
CONFIG = Path(__file__).with_name("change.yaml")
MEASURES = ("precision", "recall", "F1", "IoU", "accuracy")

Values = npt.NDArray[np.float64]
Classes = npt.NDArray[np.bool_]


class TaizhouDataModule(WindowDataModule):
    """Training windows of both dates in the western half; the eastern half is the test part.

    Parameters
    ----------
    folder
        Folder of `2000TM`, `2003TM`, `change.bmp` and `unchanged.bmp`.
    size, batch_size, length, seed
        As for `WindowDataModule`.
    """

    def __init__(self, folder: str, *, size: int = 64, batch_size: int = 16, length: int = 320, seed: int = 0) -> None:
        data, split = read(Path(folder))
        super().__init__(data, split, size=size, batch_size=batch_size, length=length, seed=seed, times=True)


def read(folder: Path) -> tuple[xr.Dataset, Split]:
    """Return `image` (time, band, y, x), standardized per date, and `mask` (y, x), and their split."""
    scenes = [open_cogs(folder / name).assign_coords(band=list(BANDS)) for name in SCENES]
    split = halves(scenes[0])
    date_statistics = [bridge.statistics(scene, split.train, percentiles=()) for scene in scenes]
    scenes = [standardize(scene, m.mean, m.std) for scene, m in zip(scenes, date_statistics, strict=True)]
    dates = xr.DataArray(np.array(list(SCENES.values()), "datetime64[ns]"), dims="time", name="time")
    image = xr.concat(scenes, dates)
    changed, unchanged = (bitmap(folder / f"{name}.bmp") for name in ("change", "unchanged"))
    codes = np.select([changed, unchanged], [1, 0], UNKNOWN).astype("uint8")
    mask = xr.DataArray(codes, dims=("y", "x"), attrs={**CLASSES.attrs(), "_FillValue": UNKNOWN})
    return xr.Dataset({"image": image, "mask": mask}), split


def halves(layer: xr.DataArray) -> Split:
    """Return the western half for training and the eastern half for testing, without a validation part."""
    left, bottom, right, top = grid_of(layer).boundingbox.bbox
    middle, buffer = (left + right) / 2, BUFFER * grid_of(layer).resolution.x
    west, east = (left, bottom, middle - buffer, top), (middle + buffer, bottom, right, top)
    return by_region(layer, train=west, test=east)


def standardize(scene: xr.DataArray, mean: Sequence[float], std: Sequence[float]) -> xr.DataArray:
    """Return a lazy scene standardized per band."""
    by_band = {"dims": "band", "coords": {"band": scene["band"]}}
    centered = scene.astype("float32") - xr.DataArray(np.array(mean), **by_band)
    return (centered / xr.DataArray(np.array(std), **by_band)).astype("float32")


def bitmap(path: Path) -> Classes:
    """Return the mask of nonzero pixels of an image without georeference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read(1) > 0


def magnitude(image: xr.DataArray) -> Values:
    """Return the magnitude of the change vector per pixel (y, x)."""
    values = image.to_numpy().astype("float64")
    return np.sqrt(((values[1] - values[0]) ** 2).sum(axis=0))


def otsu(values: Values, bins: int = 1024) -> float:
    """Return the threshold of maximum between-class variance (Otsu 1979).

    References
    ----------
    https://doi.org/10.1109/TSMC.1979.4310076
    """
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = counts.sum() - below
    sums = (counts * centres).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.nanargmax(between)])


def best_threshold(values: Values, truth: Classes) -> float:
    """Return the threshold with the highest F1."""
    order = np.argsort(-values)
    true_positives = truth[order].cumsum()
    f1 = 2 * true_positives / (np.arange(1, len(values) + 1) + truth.sum())
    return float(values[order][f1.argmax()])


def measure(predicted: Classes, truth: Classes) -> dict[str, float]:
    """Return precision, recall, F1 and IoU of change, and overall accuracy."""
    true_positives, positives, changed = (predicted & truth).sum(), predicted.sum(), truth.sum()
    return {
        "precision": float(true_positives / max(positives, 1)),
        "recall": float(true_positives / changed),
        "F1": float(2 * true_positives / (positives + changed)),
        "IoU": float(true_positives / (positives + changed - true_positives)),
        "accuracy": float((predicted == truth).mean()),
    }


@dataclass(frozen=True)
class LabeledPixels:
    """Labeled pixels of one half."""

    inside: Classes
    """Mask of labeled pixels, (y, x)."""
    changed: Classes
    """Whether each labeled pixel changed, (pixel,)."""

    @classmethod
    def of(cls, mask: xr.DataArray, region: Region) -> LabeledPixels:
        """Return the labeled pixels of a region."""
        codes, inside = mask.to_numpy(), np.zeros(mask.shape, bool)
        for window in region:
            inside[window.row : window.row + window.height, window.col : window.col + window.width] = True
        inside &= codes != UNKNOWN
        return cls(inside, codes[inside] == 1)


def thresholds(data: xr.Dataset, train: LabeledPixels, test: LabeledPixels) -> dict[str, dict[str, float]]:
    """Return the scores of change vector analysis on the test half, by method of the threshold."""
    magnitudes = magnitude(data["image"])
    west = magnitudes[:, : magnitudes.shape[1] // 2 - BUFFER]
    values = {
        "CVA, Otsu's threshold": otsu(west.ravel()),
        "CVA, best threshold of the training half": best_threshold(magnitudes[train.inside], train.changed),
    }
    return {
        name: measure(magnitudes[test.inside] > value, test.changed) | {"threshold": value}
        for name, value in values.items()
    }


def networks(data: xr.Dataset, test: LabeledPixels, out: Path) -> dict[str, list[dict[str, float]]]:
    """Return the scores of each run on the test half, by model."""
    scores: dict[str, list[dict[str, float]]] = {}
    for path in sorted((out / "runs").glob("*/result.json")):
        run = json.loads(path.read_text())
        codes = predict(data["image"], path.with_name("best.ckpt")).to_numpy()
        run_scores = measure(codes[test.inside] == 1, test.changed)
        run_scores |= {"seconds": run["seconds"], "seed": run["seed"]}
        scores.setdefault(run["config"]["model"], []).append(run_scores)
    return scores


def write(baselines: dict, models: dict, test: LabeledPixels) -> Path:
    """Write the results."""
    rows = [[name, "", *_percent(scores), ""] for name, scores in baselines.items()]
    for model, runs in sorted(models.items(), reverse=True):
        cells = [f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
                 for values in ([run[key] for run in runs] for key in MEASURES)]  # fmt: skip
        minutes = statistics.fmean(run["seconds"] for run in runs) / 60
        rows.append([f"`{model}`", str(len(runs)), *cells, f"{minutes:.1f}"])
        rows += [[f"`{model}`, seed {run['seed']}", "", *_percent(run), ""] for run in runs]
    pixels, changed = test.changed.size, int(test.changed.sum())
    values = ", ".join(f"{scores['threshold']:.2f}" for scores in baselines.values())
    about = (
        "Landsat scenes of 2000-03-17 and 2003-02-06, six bands, 400 x 400 px. The models are trained in the western "
        "half for a fixed number of epochs, and scored on the labeled pixels of the eastern half: "
        f"{pixels:,} pixels, {changed:,} of them changed. {2 * BUFFER} columns between the halves are excluded. All "
        'scores in percent; precision, recall, F1 and IoU are of the class "changed". Mean ± sample standard deviation '
        "(n - 1) over seeds."
    )
    vectors = (
        "Change vector analysis (CVA) applies a threshold to the magnitude of the difference of the two dates, each "
        "band of each date standardized to mean 0 and standard deviation 1 over the training half; the thresholds are "
        f"{values}. The networks are trained on the same bands, as configured in [change.yaml](../change.yaml)."
    )
    title = "# Change detection on Taizhou"
    command = "`python benchmarks/change.py --out change`. " + report.machine("torch", "rasterio")
    table = report.table(["method", "seeds", *MEASURES, "minutes per run"], rows)
    return report.write("change.md", [title, command, about, table, vectors])


def _percent(scores: dict[str, float]) -> list[str]:
    return [f"{100 * scores[key]:.1f}" for key in MEASURES]


def main() -> None:
    """Train, score and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/change-taizhou"))
    parser.add_argument("--out", type=Path, default=Path("change"), help="folder of the experiment")
    args = parser.parse_args()
    data, split = read(args.data)
    test, train = (LabeledPixels.of(data["mask"], region) for region in (split.test, split.train))
    baselines = thresholds(data, train, test)
    for name, scores in baselines.items():
        print(name, {key: round(value, 4) for key, value in scores.items()})
    experiment_command(["--config", str(CONFIG), "--out", str(args.out)])
    print(write(baselines, networks(data, test, args.out), test).read_text())


if __name__ == "__main__":
    main()
