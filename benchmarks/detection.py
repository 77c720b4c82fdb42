"""Detection on whole scenes: Faster and Mask R-CNN with four bands, their things merged across windows or left alone.

    python benchmarks/detection.py --out detection      # makes scenes, trains both, writes results/detection.md

Trained on windows of some scenes, scored on others as wholes: a thing that windows cut has to be found once. Beside
them stand the same windows without merging, and a classifier of single pixels whose connected parts are the things.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import report
import shapely
import torch
import xarray as xr
from affine import Affine
from detection_scenes import BANDS, CLASSES, LARGEST, RESOLUTION, write_scene
from rasterio.features import geometry_mask, rasterize, shapes
from scipy.cluster.vq import kmeans
from scipy.ndimage import gaussian_filter

from geoxt.bridge import WindowDataset
from geoxt.grid import grid_of
from geoxt.inference import detect
from geoxt.layers import open_cogs, open_vector
from geoxt.layers.vector.open import features
from geoxt.metrics.detection import AveragePrecision
from geoxt.samplers import RandomSampler
from geoxt.trainers import Recipe, SampleDataModule, Task, fit

SIZE, OVERLAP, SIDE = 128, 48, 640
TRAINING, HELD_OUT = 4, 2
"""Numbers of scenes; one more is for validation."""
SURE, FOUND = 0.5, 0.5
"""Score from which a thing counts as found, and overlap with the true one."""
OPTIONS = {
    "encoder": "resnet10t",
    "width": 64,
    "sizes": [8, 16, 32, 64, 128],
    "min_size": SIZE,
    "max_size": SIZE,
    "rpn_pre_nms_top_n_train": 400,
    "rpn_post_nms_top_n_train": 150,
    "rpn_batch_size_per_image": 128,
    "box_batch_size_per_image": 32,
}
MODELS = {"faster_rcnn": "detection", "mask_rcnn": "instance-segmentation"}
EPOCHS = {"faster_rcnn": 8, "mask_rcnn": 6}
WINDOWS, BATCH, SEED = 320, 8, 0

Frame = geopandas.GeoDataFrame


@dataclass(frozen=True)
class Place:
    """A scene and what stands in it."""

    image: xr.DataArray
    """Bands (band, y, x), lazy."""
    mask: xr.DataArray
    """The things' classes, lazy."""
    truth: Frame
    """The instances."""

    @classmethod
    def of(cls, folder: Path, name: str, side: int, seed: int) -> Place:
        """Make a scene, and open its files."""
        image, things = write_scene(folder, name, side, seed)
        layer = open_cogs(image)
        return cls(layer, open_vector(things, like=layer, column="class", classes=CLASSES), geopandas.read_file(things))


class Windows:
    """Random windows of scenes, with boxes, labels and masks of the things in each; kept in memory.

    Parameters
    ----------
    places
        The scenes.
    count
        Number of windows, as many of each scene.
    seed
        Of the windows.
    """

    bands, classes = BANDS, CLASSES

    def __init__(self, places: Sequence[Place], count: int, seed: int) -> None:
        self.samples = []
        for number, place in enumerate(places):
            windows = RandomSampler(place.image, size=SIZE, length=count // len(places), seed=seed + number)
            images = WindowDataset(place.image, windows)
            self.samples += [self._sample(place, images, window) for window in windows]

    def _sample(self, place, images, window):
        found = features(place.mask, window)
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        seen = np.flatnonzero((sides >= 3).all(axis=1))
        masks = [geometry_mask([found.geometry[one]], (SIZE, SIZE), Affine.identity(), invert=True) for one in seen]
        return {
            "image": next(iter(images[window].values())),
            "boxes": torch.from_numpy(found.boxes[seen]).float(),
            "labels": torch.from_numpy(found.codes[seen]),
            "masks": torch.from_numpy(np.array(masks, bool).reshape(-1, SIZE, SIZE)),
        }

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]


def train(model: str, learn: Windows, check: Windows, out: Path) -> dict:
    """Train a detector, unless an earlier run has, and return what it took."""
    done = out / f"{model}.json"
    if done.exists():
        return json.loads(done.read_text())
    data = SampleDataModule(learn, check, batch_size=BATCH, seed=SEED)
    task = Task(data.card(model=model, task=MODELS[model], **OPTIONS), Recipe(lr=1e-3), seed=SEED)
    start = time.process_time()
    history = fit(task, data, epochs=EPOCHS[model], seed=SEED, checkpoint=out / f"{model}.ckpt", progress="lines")
    took = {"cpu": time.process_time() - start, "val": max(one["val/map50"] for one in history)}
    done.write_text(json.dumps(took))
    return took


def whole(image: xr.DataArray, model: Path, *, agnostic: bool = False) -> Frame:
    """Return the detections of a scene, merged across its windows."""
    return detect(image, model, size=SIZE, overlap=OVERLAP, score=0.05, batch_size=4, agnostic=agnostic)


def piecewise(image: xr.DataArray, model: Path, overlap: int) -> Frame:
    """Return the detections of each window of a scene, not merged."""
    step, side = SIZE - overlap, image.sizes["y"]
    starts = sorted({min(start, side - SIZE) for start in range(0, side - overlap, step)})
    parts = [image.isel(y=slice(row, row + SIZE), x=slice(col, col + SIZE)) for row in starts for col in starts]
    found = [detect(part, model, size=SIZE, overlap=0, score=0.05) for part in parts]
    return pd.concat([one for one in found if len(one)], ignore_index=True)


class Spectra:
    """A detector that learns no shapes: pixels by the nearest mean spectrum, their connected parts.

    Parameters
    ----------
    places
        Scenes whose pixels give the means: one for each class, nine (by k-means) for what is none.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        pixels = np.concatenate([_smoothed(place.image).reshape(4, -1).T for place in places])
        codes = np.concatenate([place.mask.to_numpy().ravel() for place in places])
        rest = kmeans(pixels[codes == 0][::97], 9, seed=SEED)[0]
        self.means = np.concatenate([rest, [pixels[codes == code].mean(axis=0) for code in (1, 2, 3)]])
        self.codes = np.array([0] * len(rest) + [1, 2, 3], "uint8")

    def __call__(self, image: xr.DataArray) -> Frame:
        """Return the parts of a scene, the larger the surer."""
        values = _smoothed(image)
        nearest = np.argmin([((values - mean[:, None, None]) ** 2).sum(axis=0) for mean in self.means], axis=0)
        codes = self.codes[nearest]
        parts = shapes(codes, mask=codes > 0, transform=grid_of(image).affine)
        known = [(shapely.geometry.shape(shape), int(code)) for shape, code in parts]
        known = [(shape, code) for shape, code in known if shape.area >= 30]
        area = np.array([shape.area for shape, _ in known])
        columns = {"score": area / (area + 30), "code": [code for _, code in known]}
        return Frame(columns, geometry=[shape for shape, _ in known], crs="EPSG:32632")


def _smoothed(image: xr.DataArray) -> np.ndarray:
    return gaussian_filter(image.to_numpy().astype("float32"), (0, 1, 1))


def in_pixels(frame: Frame, image: xr.DataArray) -> np.ndarray:
    """Return outlines in pixels of a scene (x is the column)."""
    return frame.geometry.affine_transform((~grid_of(image).affine).to_shapely()).to_numpy()


def tensors(outlines: np.ndarray, labels: Sequence[int], scores: Sequence[float] | None = None) -> dict:
    """Return instances as torchvision targets."""
    boxes = torch.from_numpy(shapely.bounds(outlines).reshape(-1, 4)).float()
    masks = [rasterize([one], (SIDE, SIDE)) for one in outlines]
    found = {"boxes": boxes, "labels": torch.tensor(list(labels), dtype=torch.int64)}
    found["masks"] = torch.from_numpy(np.array(masks, "uint8").reshape(-1, SIDE, SIDE))
    return found | ({"scores": torch.tensor(list(scores))} if scores is not None else {})


def measure(found: Sequence[Frame], places: Sequence[Place]) -> dict[str, float]:
    """Return average precision of boxes and of masks, and how many of the cut things are found once."""
    tallies = {"box": AveragePrecision(len(CLASSES)), "mask": AveragePrecision(len(CLASSES), masks=True)}
    counts = {"once": 0, "several": 0, "cut": 0, "false": 0}
    for frame, place in zip(found, places, strict=True):
        mine, true = in_pixels(frame, place.image), in_pixels(place.truth, place.image)
        labels = [CLASSES.index(kind) + 1 for kind in place.truth["class"]]
        said, known = tensors(mine, frame["code"], frame["score"]), tensors(true, labels)
        for tally in tallies.values():
            tally.update([said], [known])
        for name, one in counted(said, known).items():
            counts[name] += one
    tables = {name: tally.compute() for name, tally in tallies.items()}
    halves = {f"{name} mAP50": float(table[:, 0].nanmean()) for name, table in tables.items()}
    return halves | {f"{name} mAP": float(table.nanmean()) for name, table in tables.items()} | counts


def counted(said: dict, known: dict) -> dict[str, int]:
    """Count the true things that an edge of abutting windows cuts: those found once, and those found more than once.

    A find of any class stands on a thing where the two boxes share half of the smaller one. A thing is found once where
    one find alone stands on it, of its class and with an overlap of one half. What is found but no thing is false.
    """
    sure = said["scores"] >= SURE
    first, second = (shapely.box(*boxes.double().numpy().T) for boxes in (said["boxes"][sure], known["boxes"]))
    shared = shapely.area(shapely.intersection(first[:, None], second[None]))
    small = np.minimum(shapely.area(first)[:, None], shapely.area(second)[None])
    union = shapely.area(first)[:, None] + shapely.area(second)[None] - shared
    alike = (said["labels"][sure][:, None] == known["labels"][None]).numpy()
    upon, same = shared >= small / 2, alike & (shared >= FOUND * union)
    ends = (known["boxes"] / SIZE).floor().numpy()
    cut = (ends[:, :2] != ends[:, 2:]).any(axis=1)
    once, several = (upon.sum(axis=0) == 1) & same.any(axis=0), upon.sum(axis=0) > 1
    return {
        "once": int((once & cut).sum()),
        "several": int((several & cut).sum()),
        "cut": int(cut.sum()),
        "false": int((~same.any(axis=1)).sum()),
    }


def write(rows: dict[str, dict], took: dict[str, dict], places: Sequence[Place]) -> Path:
    """Write the results."""
    keys = ["box mAP50", "box mAP", "mask mAP50", "mask mAP"]
    head = ["method", *keys, "cut things found once", "more than once", "false finds"]
    lines = []
    for name, one in rows.items():
        cells = [f"{100 * one[key]:.1f}" if "mask" not in key or _has_masks(name) else "" for key in keys]
        lines.append([name, *cells, f"{one['once']} of {one['cut']}", str(one["several"]), str(one["false"])])
    number = sum(len(place.truth) for place in places)
    about = (
        f"Made-up scenes of {SIDE} x {SIDE} pixels of {RESOLUTION:g} m in four bands ({', '.join(BANDS)}), with "
        "houses, tanks and ponds on fields. Houses and tanks have the same colours and differ in shape; lanes have "
        "these colours too, and shades differ from ponds in infrared alone: neither is a thing. "
        f"{TRAINING} scenes to learn from ({WINDOWS} windows of {SIZE} px), one to choose the epoch, "
        f"{HELD_OUT} held out ({number} things of up to {LARGEST} px), scored as wholes."
    )
    methods = (
        f"`detect` runs windows of {SIZE} px that overlap by {OVERLAP} and merges finds of one class, or any "
        "(`agnostic=True`). Beside it stand the same model and windows with all that each finds, and abutting windows. "
        "The classifier takes each pixel to the nearest of 12 mean spectra; connected pixels are a thing."
    )
    measures = (
        "All in percent, average precision as COCO has it (at an overlap of 0.5, and over 0.5 to 0.95), of finds with "
        f"a score from 0.05. Counts are of finds with a score from {SURE:g}: things that an edge of abutting windows "
        "cuts, found by one find of their class, or by several of any; and finds that are no thing."
    )
    spent = "; ".join(f"`{name}` {one['cpu'] / 60:.1f} CPU minutes" for name, one in took.items())
    trained = f"Trained by `geoxt.trainers` from random weights (ResNet-10, one seed): {spent}."
    ran = "`python benchmarks/detection.py --out detection`. " + report.machine("torch", "torchvision", "timm")
    table = report.table(head, lines)
    return report.write("detection.md", ["# Detection on whole scenes", ran, about, table, methods, measures, trained])


def _has_masks(name: str) -> bool:
    return "faster" not in name


def main() -> None:
    """Make scenes, train, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("detection"), help="folder of scenes and checkpoints")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    learn = [Place.of(args.out, f"learn-{number}", SIDE, number) for number in range(TRAINING)]
    check = Place.of(args.out, "check", SIDE, TRAINING)
    held = [Place.of(args.out, f"held-{number}", SIDE, 100 + number) for number in range(HELD_OUT)]
    windows, few = Windows(learn, WINDOWS, SEED), Windows([check], 16, SEED)
    spectra = Spectra(learn[:1])
    rows = {"nearest spectrum, connected pixels": measure([spectra(place.image) for place in held], held)}
    took = {}
    for model in MODELS:
        took[model] = train(model, windows, few, args.out)
        path = args.out / f"{model}.ckpt"
        ways = {
            "`detect`": whole,
            "`detect(agnostic=True)`": partial(whole, agnostic=True),
            "each window's finds": partial(piecewise, overlap=OVERLAP),
            "abutting windows": partial(piecewise, overlap=0),
        }
        for way, run in ways.items():
            rows[f"`{model}`, {way}"] = measure([run(place.image, path) for place in held], held)
            print(model, way, rows[f"`{model}`, {way}"], flush=True)
    print(write(rows, took, held).read_text())


if __name__ == "__main__":
    main()
