"""Detection on whole scenes: Faster and Mask R-CNN with four bands, with and without merging across windows.

    python benchmarks/detection.py --out detection      # writes scenes, trains both models, writes results/detection.md

Trained on windows of training scenes, scored on whole test scenes: an instance cut by window edges must be detected
once. Baselines: the same windows without merging, and a pixel classifier with connected components as instances.
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
from detection_scenes import BANDS, CLASSES, MAX_EXTENT, RESOLUTION, write_scene
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
"""Numbers of training and test scenes; one more scene is for validation."""
MIN_SCORE, MIN_IOU = 0.5, 0.5
"""Score threshold and IoU threshold of a counted detection."""
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
class LabeledScene:
    """A scene and its instances."""

    image: xr.DataArray
    """Bands (band, y, x), lazy."""
    mask: xr.DataArray
    """Class codes of the instances, lazy."""
    truth: Frame
    """Polygons of the instances."""

    @classmethod
    def of(cls, folder: Path, name: str, side: int, seed: int) -> LabeledScene:
        """Write a scene, and open its files."""
        image, instances = write_scene(folder, name, side, seed)
        layer = open_cogs(image)
        return cls(
            layer, open_vector(instances, like=layer, column="class", classes=CLASSES), geopandas.read_file(instances)
        )


class Windows:
    """Random windows of scenes with boxes, labels and masks of their instances, held in memory.

    Parameters
    ----------
    scenes
        The scenes.
    count
        Total number of windows, equal for each scene.
    seed
        Seed of the sampler.
    """

    bands, classes = BANDS, CLASSES

    def __init__(self, scenes: Sequence[LabeledScene], count: int, seed: int) -> None:
        self.samples = []
        for number, scene in enumerate(scenes):
            windows = RandomSampler(scene.image, size=SIZE, length=count // len(scenes), seed=seed + number)
            images = WindowDataset(scene.image, windows)
            self.samples += [self._sample(scene, images, window) for window in windows]

    def _sample(self, scene, images, window):
        instances = features(scene.mask, window)
        sides = instances.boxes[:, 2:] - instances.boxes[:, :2]
        visible = np.flatnonzero((sides >= 3).all(axis=1))
        masks = [geometry_mask([instances.geometry[i]], (SIZE, SIZE), Affine.identity(), invert=True) for i in visible]
        return {
            "image": next(iter(images[window].values())),
            "boxes": torch.from_numpy(instances.boxes[visible]).float(),
            "labels": torch.from_numpy(instances.codes[visible]),
            "masks": torch.from_numpy(np.array(masks, bool).reshape(-1, SIZE, SIZE)),
        }

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict:
        return self.samples[index]


def train(model: str, learn: Windows, check: Windows, out: Path) -> dict:
    """Train a detector unless a checkpoint exists, and return CPU seconds and the best validation score."""
    done = out / f"{model}.json"
    if done.exists():
        return json.loads(done.read_text())
    data = SampleDataModule(learn, check, batch_size=BATCH, seed=SEED)
    task = Task(data.card(model=model, task=MODELS[model], **OPTIONS), Recipe(lr=1e-3), seed=SEED)
    start = time.process_time()
    history = fit(task, data, epochs=EPOCHS[model], seed=SEED, checkpoint=out / f"{model}.ckpt", progress="lines")
    training = {"cpu": time.process_time() - start, "val": max(epoch["val/map50"] for epoch in history)}
    done.write_text(json.dumps(training))
    return training


def detect_scene(image: xr.DataArray, model: Path, *, class_agnostic: bool = False) -> Frame:
    """Return the detections of a scene, merged across its windows."""
    return detect(
        image, model, size=SIZE, overlap=OVERLAP, score_threshold=0.05, batch_size=4, class_agnostic=class_agnostic
    )


def piecewise(image: xr.DataArray, model: Path, overlap: int) -> Frame:
    """Return the detections of each window of a scene without merging."""
    step, side = SIZE - overlap, image.sizes["y"]
    starts = sorted({min(start, side - SIZE) for start in range(0, side - overlap, step)})
    parts = [image.isel(y=slice(row, row + SIZE), x=slice(col, col + SIZE)) for row in starts for col in starts]
    detections = [detect(part, model, size=SIZE, overlap=0, score_threshold=0.05) for part in parts]
    return pd.concat([frame for frame in detections if len(frame)], ignore_index=True)


class SpectralDetector:
    """Detector by nearest mean spectrum per pixel and connected components.

    Parameters
    ----------
    scenes
        Scenes of the mean spectra: one per class, and nine (by k-means) for the background.
    """

    def __init__(self, scenes: Sequence[LabeledScene]) -> None:
        pixels = np.concatenate([_smoothed(scene.image).reshape(4, -1).T for scene in scenes])
        codes = np.concatenate([scene.mask.to_numpy().ravel() for scene in scenes])
        background = kmeans(pixels[codes == 0][::97], 9, seed=SEED)[0]
        self.means = np.concatenate([background, [pixels[codes == code].mean(axis=0) for code in (1, 2, 3)]])
        self.codes = np.array([0] * len(background) + [1, 2, 3], "uint8")

    def __call__(self, image: xr.DataArray) -> Frame:
        """Return connected components of a scene, scored by area."""
        values = _smoothed(image)
        nearest = np.argmin([((values - mean[:, None, None]) ** 2).sum(axis=0) for mean in self.means], axis=0)
        codes = self.codes[nearest]
        parts = shapes(codes, mask=codes > 0, transform=grid_of(image).affine)
        polygons = [(shapely.geometry.shape(shape), int(code)) for shape, code in parts]
        polygons = [(shape, code) for shape, code in polygons if shape.area >= 30]
        area = np.array([shape.area for shape, _ in polygons])
        columns = {"score": area / (area + 30), "code": [code for _, code in polygons]}
        return Frame(columns, geometry=[shape for shape, _ in polygons], crs="EPSG:32632")


def _smoothed(image: xr.DataArray) -> np.ndarray:
    return gaussian_filter(image.to_numpy().astype("float32"), (0, 1, 1))


def in_pixels(frame: Frame, image: xr.DataArray) -> np.ndarray:
    """Return polygons in pixels of a scene (x is the column)."""
    return frame.geometry.affine_transform((~grid_of(image).affine).to_shapely()).to_numpy()


def tensors(polygons: np.ndarray, labels: Sequence[int], scores: Sequence[float] | None = None) -> dict:
    """Return instances as torchvision targets."""
    boxes = torch.from_numpy(shapely.bounds(polygons).reshape(-1, 4)).float()
    masks = [rasterize([polygon], (SIDE, SIDE)) for polygon in polygons]
    target = {"boxes": boxes, "labels": torch.tensor(list(labels), dtype=torch.int64)}
    target["masks"] = torch.from_numpy(np.array(masks, "uint8").reshape(-1, SIDE, SIDE))
    return target | ({"scores": torch.tensor(list(scores))} if scores is not None else {})


def measure(detections: Sequence[Frame], scenes: Sequence[LabeledScene]) -> dict[str, float]:
    """Return average precision of boxes and masks, and counts of cut instances detected once."""
    tallies = {"box": AveragePrecision(len(CLASSES)), "mask": AveragePrecision(len(CLASSES), masks=True)}
    counts = {"once": 0, "several": 0, "cut": 0, "false": 0}
    for frame, scene in zip(detections, scenes, strict=True):
        polygons, true = in_pixels(frame, scene.image), in_pixels(scene.truth, scene.image)
        labels = [CLASSES.index(kind) + 1 for kind in scene.truth["class"]]
        predicted, target = tensors(polygons, frame["code"], frame["score"]), tensors(true, labels)
        for tally in tallies.values():
            tally.update([predicted], [target])
        for name, count in count_cut_instances(predicted, target).items():
            counts[name] += count
    tables = {name: tally.compute() for name, tally in tallies.items()}
    halves = {f"{name} mAP50": float(table[:, 0].nanmean()) for name, table in tables.items()}
    return halves | {f"{name} mAP": float(table.nanmean()) for name, table in tables.items()} | counts


def count_cut_instances(predicted: dict, target: dict) -> dict[str, int]:
    """Count the instances cut by edges of abutting windows that are detected once, and more than once.

    A detection of any class covers an instance if the intersection is at least half of the smaller box. An instance is
    detected once if exactly one detection covers it, with its class and an IoU of at least one half. Detections without
    such an instance are false.
    """
    confident = predicted["scores"] >= MIN_SCORE
    first, second = (
        shapely.box(*boxes.double().numpy().T) for boxes in (predicted["boxes"][confident], target["boxes"])
    )
    shared = shapely.area(shapely.intersection(first[:, None], second[None]))
    small = np.minimum(shapely.area(first)[:, None], shapely.area(second)[None])
    union = shapely.area(first)[:, None] + shapely.area(second)[None] - shared
    same_class = (predicted["labels"][confident][:, None] == target["labels"][None]).numpy()
    covers, matches = shared >= small / 2, same_class & (shared >= MIN_IOU * union)
    ends = (target["boxes"] / SIZE).floor().numpy()
    cut = (ends[:, :2] != ends[:, 2:]).any(axis=1)
    once, several = (covers.sum(axis=0) == 1) & matches.any(axis=0), covers.sum(axis=0) > 1
    return {
        "once": int((once & cut).sum()),
        "several": int((several & cut).sum()),
        "cut": int(cut.sum()),
        "false": int((~matches.any(axis=1)).sum()),
    }


def write(rows: dict[str, dict], training: dict[str, dict], scenes: Sequence[LabeledScene]) -> Path:
    """Write the results."""
    keys = ["box mAP50", "box mAP", "mask mAP50", "mask mAP"]
    head = ["method", *keys, "cut instances detected once", "more than once", "false detections"]
    lines = []
    for name, scores in rows.items():
        cells = [f"{100 * scores[key]:.1f}" if "mask" not in key or _has_masks(name) else "" for key in keys]
        lines.append(
            [name, *cells, f"{scores['once']} of {scores['cut']}", str(scores["several"]), str(scores["false"])]
        )
    number = sum(len(scene.truth) for scene in scenes)
    about = (
        f"Synthetic scenes of {SIDE} x {SIDE} pixels of {RESOLUTION:g} m in four bands ({', '.join(BANDS)}), with "
        "houses, tanks and ponds on fields. Houses and tanks have equal colors and differ in shape; lanes have "
        "these colors too, and shades differ from ponds in infrared only: both are distractors. "
        f"{TRAINING} training scenes ({WINDOWS} windows of {SIZE} px), one validation scene to select the epoch, "
        f"{HELD_OUT} test scenes ({number} instances of up to {MAX_EXTENT} px), scored as whole scenes."
    )
    methods = (
        f"`detect` runs windows of {SIZE} px with {OVERLAP} px overlap and merges detections of one class, or of any "
        "(`class_agnostic=True`). Baselines: the same windows without merging, and abutting windows. "
        "The classifier assigns each pixel to the nearest of 12 mean spectra; connected components are instances."
    )
    measures = (
        "Average precision as in COCO (at IoU 0.5, and over 0.5 to 0.95), in percent, of detections with "
        f"a score of at least 0.05. Counts are of detections with a score of at least {MIN_SCORE:g}: instances cut by "
        "edges of abutting windows that one detection of their class or several detections cover; and false detections."
    )
    spent = "; ".join(f"`{name}` {run['cpu'] / 60:.1f} CPU minutes" for name, run in training.items())
    trained = f"Trained by `geoxt.trainers` from random weights (ResNet-10, one seed): {spent}."
    ran = "`python benchmarks/detection.py --out detection`. " + report.machine("torch", "torchvision", "timm")
    table = report.table(head, lines)
    return report.write("detection.md", ["# Detection on whole scenes", ran, about, table, methods, measures, trained])


def _has_masks(name: str) -> bool:
    return "faster" not in name


def main() -> None:
    """Write scenes, train, score and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("detection"), help="folder of scenes and checkpoints")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    learn = [LabeledScene.of(args.out, f"learn-{number}", SIDE, number) for number in range(TRAINING)]
    check = LabeledScene.of(args.out, "check", SIDE, TRAINING)
    test_scenes = [LabeledScene.of(args.out, f"held-{number}", SIDE, 100 + number) for number in range(HELD_OUT)]
    windows, validation_windows = Windows(learn, WINDOWS, SEED), Windows([check], 16, SEED)
    spectra = SpectralDetector(learn[:1])
    rows = {
        "nearest spectrum, connected components": measure([spectra(scene.image) for scene in test_scenes], test_scenes)
    }
    training = {}
    for model in MODELS:
        training[model] = train(model, windows, validation_windows, args.out)
        path = args.out / f"{model}.ckpt"
        ways = {
            "`detect`": detect_scene,
            "`detect(class_agnostic=True)`": partial(detect_scene, class_agnostic=True),
            "windows without merging": partial(piecewise, overlap=OVERLAP),
            "abutting windows": partial(piecewise, overlap=0),
        }
        for way, run in ways.items():
            rows[f"`{model}`, {way}"] = measure([run(scene.image, path) for scene in test_scenes], test_scenes)
            print(model, way, rows[f"`{model}`, {way}"], flush=True)
    print(write(rows, training, test_scenes).read_text())


if __name__ == "__main__":
    main()
