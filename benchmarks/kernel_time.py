"""CPU seconds in the kernel and in user code of `fit`, `predict`, `score` and a loader, by the thresholds of malloc.

    python benchmarks/kernel_time.py          # about 3 minutes on two cores; writes results/kernel_time.md

Each measurement is a process, and the two settings alternate. Data are generated, and weights are random.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import report
import torch
import xarray as xr
from PIL import Image

from geoxt import cli
from geoxt.bridge import loader
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.models import Card, Network
from geoxt.models.network import save_checkpoint
from geoxt.samplers import RandomSampler
from geoxt.testing import make_grid
from geoxt.trainers import SampleDataModule, Task, fit, score_images

ROUNDS, SIDE, CHIPS = 2, 1024, 64
COLORS = ("#0000ff", "#00ff00", "#ff0000")


def network(task: str, model: str) -> Network:
    """Return a model of three bands and classes with random weights."""
    return Network(
        Card(
            task=task, model=model, bands=("red", "green", "blue"), mean=(128.0,) * 3, std=(60.0,) * 3,
            codes=(0, 1, 2), names=("a", "b", "c"), colors=COLORS, size=(64, 64),
        )
    )  # fmt: skip


def prepare_predict(_: Path) -> Callable[[], object]:
    """Return a prediction of 1 Mpx by a U-Net (ResNet-18)."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype="uint8")
    layer = xr.DataArray(
        pixels, {"band": ["red", "green", "blue"], **coordinates(make_grid((SIDE, SIDE)))}, ("band", "y", "x")
    )
    return predict(layer, network("segmentation", "unet"), device="cpu").compute


def prepare_cli(folder: Path) -> Callable[[], object]:
    """Return `geoxt predict` of a file of 1 Mpx by a U-Net."""
    save_checkpoint(network("segmentation", "unet"), folder / "unet.ckpt")
    pixels = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype="uint8")
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(
        folder / "scene.tif", "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", tiled=True,
        crs="EPSG:32632", transform=transform,
    ) as file:  # fmt: skip
        file.write(pixels)
        file.descriptions = ("red", "green", "blue")
    arguments = ["predict", str(folder / "scene.tif"), "--model", str(folder / "unet.ckpt")]
    return partial(cli.main, [*arguments, "--out", str(folder / "map.tif"), "--device", "cpu"])


def prepare_score(folder: Path) -> Callable[[], object]:
    """Return scoring of chips of 64 px by EfficientNet-Lite0, averaged over eight flips and rotations."""
    rng = np.random.default_rng(0)
    for index in range(CHIPS):
        path = folder / "chips" / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype="uint8")).save(path)
    return partial(score_images, folder / "chips", network("classification", "timm/tf_efficientnet_lite0"), size=112,
                   device="cpu")  # fmt: skip


def prepare_fit(_: Path) -> Callable[[], object]:
    """Return a training of six batches of eight images of 128 px by a U-Net."""
    samples = [{"image": 255 * torch.rand(3, 128, 128), "mask": torch.randint(0, 3, (128, 128))} for _ in range(48)]
    data = SampleDataModule(samples, batch_size=8)
    return partial(fit, Task(network("segmentation", "unet").card), data, epochs=1, accelerator="cpu")


def prepare_loader(folder: Path) -> Callable[[], object]:
    """Return the second epoch of a loader of 256 windows of 256 px of an uncompressed file with six bands."""
    profile = {"driver": "GTiff", "width": 2048, "height": 2048, "count": 6, "dtype": "uint16", "tiled": True,
               "blockxsize": 512, "blockysize": 512, "crs": "EPSG:32632"}  # fmt: skip
    with rasterio.open(
        folder / "scene.tif", "w", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), **profile
    ) as file:
        file.write(np.random.default_rng(0).integers(1, 9_999, (6, 2048, 2048), dtype="uint16"))
    layer = open_cogs(folder / "scene.tif")
    batches = loader(layer, RandomSampler(layer, size=256, length=256, seed=0), batch_size=16)
    epoch = partial(deque, batches, maxlen=0)
    epoch()
    return epoch


def prepare_read(folder: Path) -> Callable[[], object]:
    """Return bare reads of as many bytes from a file in memory as the loader's epoch reads, by two threads."""
    (folder / "bytes").write_bytes(os.urandom(50_000_000))
    size, threads, memory = 1_120_000, 2, memoryview(bytearray(b"1") * 100_000_000)

    def read(thread: int) -> None:
        with (folder / "bytes").open("rb", buffering=0) as file:
            for index in range(525 // threads):
                start = (index * threads + thread) % 80 * size
                os.preadv(file.fileno(), [memory[start : start + size]], index * 7_654_321 % 48_000_000)

    return lambda: deque(ThreadPoolExecutor(threads).map(read, range(threads)), maxlen=0)


PARTS = {
    "`predict`, U-Net, 1 Mpx": prepare_predict,
    "`geoxt predict`, U-Net, 1 Mpx": prepare_cli,
    f"`score_images`, EfficientNet-Lite0, {CHIPS} chips": prepare_score,
    "`fit`, U-Net, 6 batches of 8": prepare_fit,
    "`loader`, uncompressed, second epoch": prepare_loader,
    "`os.preadv` of as many bytes": prepare_read,
}


def measure(part: str) -> dict[str, float]:
    """Return CPU seconds and page faults of a part in this process."""
    with tempfile.TemporaryDirectory() as folder:
        run = PARTS[part](Path(folder))
        before = resource.getrusage(resource.RUSAGE_SELF)
        run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    fields = {"user": "ru_utime", "kernel": "ru_stime", "faults": "ru_minflt"}
    return {name: getattr(after, field) - getattr(before, field) for name, field in fields.items()}


def in_process(part: str, mallopt: str) -> dict[str, float]:
    """Return the figures of a part in a new process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    run = subprocess.run(  # noqa: S603
        [sys.executable, __file__, part], env=environment | {"GEOXT_MALLOPT": mallopt}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if run.returncode:
        raise RuntimeError(run.stderr[-2000:])
    result: dict[str, float] = json.loads(run.stdout.strip().splitlines()[-1])
    print(part, mallopt, {name: round(value, 1) for name, value in result.items()}, flush=True)
    return result


def main() -> None:
    """Measure all parts, and write the results."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
        return
    rows = []
    for part in PARTS:
        runs = [(mallopt, in_process(part, mallopt)) for _ in range(ROUNDS) for mallopt in ("0", "1")]
        for mallopt, title in (("0", "glibc's"), ("1", "geoxt's")):
            figures = [figure for setting, figure in runs if setting == mallopt]
            user, kernel, faults = (np.mean([f[name] for f in figures]) for name in ("user", "kernel", "faults"))
            ratios = ", ".join(f"{f['kernel'] / f['user']:.0%}" for f in figures)
            rows.append([part, title, f"{user:.1f}", f"{kernel:.1f}", ratios, f"{faults / 1e6:.2f}"])
    head = ["part", "thresholds", "user (s)", "kernel (s)", "kernel/user, by run", "page faults (million)"]
    about = "`python benchmarks/kernel_time.py`: CPU seconds by `getrusage`, means of the runs. glibc's thresholds are "
    about += f"those of `GEOXT_MALLOPT=0`, geoxt's the default. {report.machine('torch')}"
    print(report.write("kernel_time.md", ["# Time in the kernel", about, report.table(head, rows)]))


if __name__ == "__main__":
    main()
